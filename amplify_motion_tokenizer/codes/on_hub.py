"""Writes a tokenizer as a folder of the Hugging Face Hub, and uploads it there."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.hub import library
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_checkpoint, plain_content
from amplify_motion_tokenizer.models.hub_folder import PICTURE, model_card, write_folder
from amplify_motion_tokenizer.models.shipped import FOLDER


class OnHub:
    """What ``Tokenizer`` offers of the Hub's conventions."""

    model: MotionTokenizer
    config: Config
    _checkpoint: Checkpoint

    def save_pretrained(
        self,
        folder: str | Path,
        name: str | None = None,
        licence: str | None = None,
        picture: str | Path | None = None,
    ) -> list[Path]:
        """Writes ``model.safetensors``, ``config.json`` and a model card, ``README.md``, into ``folder``.

        Args:
            folder: made where it is not there; files of these names are replaced.
            name: what the card says to load: ``user/name`` on the Hub; None: the folder.
            licence: an identifier that the Hub knows, such as mit, for the card; None: it says nothing.
            picture: a PNG for the card, such as the curve that ``evaluate tokenizer --picture`` draws.

        Returns:
            The files.

        Raises:
            UsageError: the folder cannot be written, or the picture cannot be read.
        """
        config, made = self._checkpoint.config, self._checkpoint
        content = plain_content(config, made.track_settings, made.metrics) | self._identity()
        facts = _facts(self.model, config) | {"trained on": _data(self.model, made)}
        card = model_card(name or str(folder), content, facts, licence, picture is not None)
        pictures = {} if picture is None else {PICTURE: _read(Path(picture))}
        return write_folder(Path(folder), self.model.state_dict(), content, card, pictures)

    def _identity(self) -> dict[str, str]:
        """By what the copy's codes are those of the original; empty where the weights have changed since."""
        if not self._checkpoint.path.is_file():
            return {}
        before, now = load_checkpoint(self._checkpoint.path).model, self.model.state_dict()
        same = before.keys() == now.keys() and all(
            torch.equal(before[key].to(value.dtype), value.cpu()) for key, value in now.items()
        )
        return {"copy_of": self._checkpoint.sha256} if same else {}

    def push_to_hub(
        self,
        name: str,
        licence: str | None = None,
        picture: str | Path | None = None,
        private: bool | None = None,
        message: str | None = None,
    ) -> str:
        """Uploads what ``save_pretrained`` writes to the Hugging Face Hub; returns its address there.

        Args:
            name: ``user/name``, made where it is not there.
            licence: as for ``save_pretrained``.
            picture: as there.
            private: whether a new one is seen by its owner alone; None: as the Hub does by default.
            message: of the commit.

        Raises:
            UsageError: huggingface_hub is not installed.
            huggingface_hub.errors.HfHubHTTPError: no such permission, or the Hub cannot be reached.
        """
        api = library("to upload to").HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, name, licence, picture)
            done = api.upload_folder(
                repo_id=name, folder_path=folder, commit_message=message or "Upload a motion tokenizer"
            )
        return str(done.commit_url)


def _facts(model: MotionTokenizer, config: Config) -> dict[str, str]:
    """What the model card tells of a tokenizer."""
    bits = model.num_codes * math.log2(model.codebook_size)
    grid = config.data.grid_size
    levels = list(config.model.fsq_levels)
    return {
        "model": config.model.name,
        "codes of a window": f"{model.num_codes} ids of {model.codebook_size}, {bits:.0f} bits",
        "FSQ levels": str(levels),
        "window": f"{config.tracked_length} frames, {config.num_points} points (a grid of {grid} x {grid})",
        "frames a second": str(config.video.target_fps or "as the source has them"),
        "views": ", ".join(config.data.views),
        "reference size in pixels": str(config.data.reference_size),
    }


def _data(model: MotionTokenizer, checkpoint: Checkpoint) -> str:
    """What a tokenizer was trained on, as far as its file says."""
    if model.trained_by is None:
        return "nothing: it works by formula"
    if checkpoint.path.parent == FOLDER:
        return "made-up motion, as the package ships it"
    words = {"synthetic": "made-up motion", "both": "tracks of videos and made-up motion"}
    return words.get(checkpoint.config.data.source, "tracks of videos")


def _read(picture: Path) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise UsageError(f"{picture}: cannot be read ({error.strerror}); give a PNG") from None
