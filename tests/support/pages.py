"""What a page holds, as a browser would read it, and a run and codes to make pages of."""

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amplify_motion_tokenizer import MotionCodes
from amplify_motion_tokenizer.codes.reading import write_codes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import save_checkpoint
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from tests.support.tracked import clip_record_of, random_windows

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """Elements, texts and addresses of a page; closing tags that do not fit are an error."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.text = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(self.text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside != "style":
            (self.scripts if inside == "script" else self.words).append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def told(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def addresses(self) -> list[str]:
        named = ("src", "href", "srcset", "poster", "action", "data", "xlink:href")
        return [found[name] for _, found in self.elements for name in named if name in found]


def content_of(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def write_run(folder: Path, config: Config, names: tuple[str, ...] = ("a", "b")) -> Path:
    """A run that has trained nothing: its checkpoint, and a log whose numbers are known."""
    from torch.utils.tensorboard import SummaryWriter

    torch.manual_seed(0)
    save_checkpoint(
        folder / "best.pth",
        model=build_model(config).state_dict(),
        config=config,
        track_settings=None,
        metrics={},
        training=None,
    )
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step, loss in enumerate((3.0, 1.5, 2.25), 1):
            writer.add_scalar("val/loss", loss, 10 * step)
            writer.add_scalar("train/loss", 2 * loss, 10 * step)
        for name in names:
            writer.add_image(f"val_tracks/{name}", np.full((30, 40, 3), 200, np.uint8), 30, dataformats="HWC")
    return folder


def write_tracks_of(folder: Path, config: Config, names: tuple[str, ...]) -> Path:
    """Tracks whose points move steadily, 8 windows a clip."""
    for seed, name in enumerate(names):
        with TrackFileWriter(folder / f"{name}.hdf5", clip_record_of(config), (48, 64)) as writer:
            for window in random_windows(config, 8, seed, (48, 64)):
                writer.append(window)
            writer.finish(num_frames=20, windows_dropped=0)
    return folder


def made_up_codes(ids: Any, clip: str = "clip", stride: int = 2, **meta: Any) -> MotionCodes:
    """Codes (S, d) of a tokenizer that is not at hand: 20 ids, windows of 6 frames at 10 a second."""
    ids = torch.as_tensor(ids, dtype=torch.int64)
    starts = stride * torch.arange(len(ids))
    first = starts.double() / 10
    return MotionCodes(
        ids=ids,
        starts=starts,
        seconds=torch.stack([first, first + 0.5], dim=1),
        step_seconds=torch.full((len(ids),), 0.1, dtype=torch.float64),
        source_frames=torch.stack([starts, starts + 5], dim=1),
        valid_steps=torch.full((len(ids),), 5),
        motion_energy=torch.linspace(0.01, 0.02, len(ids)),
        visible_share=torch.ones(len(ids)),
        clip=clip,
        meta={
            "format_version": 1, "model": "keypoint", "codebook_size": 20, "fsq_levels": [5, 4],
            "sequence_length": 6, "tracked_length": 6, "window_stride": stride, "num_codes": ids.shape[1],
            "checkpoint": "theirs.pth", "checkpoint_sha256": "0" * 64, "config_hash": "1" * 64, "fps": 10.0,
            "saved": [], "source": f"{clip}.mp4", **meta,
        },
    )  # fmt: skip


def write_made_up(path: Path, *clips: MotionCodes) -> Path:
    write_codes(path, clips)
    return path
