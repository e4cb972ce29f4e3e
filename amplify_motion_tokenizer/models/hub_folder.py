"""A tokenizer as a folder of the Hugging Face Hub, or one like it here.

``model.safetensors`` is a file as the package ships them, whole by itself; ``config.json`` says the same
plain values to people and to the Hub, and ``README.md`` is the model card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from amplify_motion_tokenizer.errors import CheckpointError, UsageError
from amplify_motion_tokenizer.files import atomic_path, read_json, write_json, write_text
from amplify_motion_tokenizer.hub import folder_of, is_name
from amplify_motion_tokenizer.models.shipped import write_shipped

WEIGHTS, CONFIG, CARD, PICTURE = "model.safetensors", "config.json", "README.md", "curve.png"


def weights_of(path: Path) -> Path | None:
    """The file of weights of a folder, or of a name on the Hub; None where ``path`` is neither.

    Raises:
        CheckpointError: the name cannot be fetched, or holds no tokenizer.
    """
    folder = path
    if is_name(path):
        folder = folder_of(str(path), "model", (WEIGHTS, CONFIG), CheckpointError)
        if not (folder / WEIGHTS).is_file():
            raise CheckpointError(f"{path}: holds no {WEIGHTS} on the Hub; expected a motion tokenizer")
    return folder / WEIGHTS if (folder / WEIGHTS).is_file() else None


def check_config(weights: Path, content: Mapping[str, Any]) -> None:
    """Refuses a ``config.json`` beside ``weights`` that was changed: the weights' own one is what counts.

    Raises:
        CheckpointError: it says something else than ``content``, or is damaged.
    """
    path = weights.with_name(CONFIG)
    if weights.name != WEIGHTS or not path.is_file():
        return
    try:
        found = read_json(path)
    except UsageError as error:
        raise CheckpointError(str(error)) from None
    if found.get("config") != content.get("config"):
        raise CheckpointError(
            f"{path}: says something else than {WEIGHTS}, which is what counts; save the tokenizer again, or "
            "remove it"
        )


def write_folder(
    folder: Path,
    model: Mapping[str, Tensor],
    content: Mapping[str, Any],
    card: str,
    pictures: Mapping[str, bytes],
) -> list[Path]:
    """Writes weights, plain values, model card and pictures into ``folder``; returns the files.

    Raises:
        UsageError: the folder cannot be written.
    """
    write_shipped(folder / WEIGHTS, model, content)
    write_json(folder / CONFIG, {"model_type": content["config"]["model"]["name"], **content})
    write_text(folder / CARD, card)
    for name, content_of in pictures.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content_of)
    return [folder / name for name in (WEIGHTS, CONFIG, CARD, *pictures)]


def model_card(
    name: str, content: Mapping[str, Any], facts: Mapping[str, str], licence: str | None, picture: bool
) -> str:
    """The model card: how to use it, what it takes and gives, its metrics, its config.

    Args:
        name: what ``load_tokenizer`` is to be given: ``user/name``, or the folder.
        content: as for ``write_folder``.
        facts: what the tokenizer is, by the words for it.
        licence: an identifier that the Hub knows, such as mit; None: nothing is said.
        picture: whether ``PICTURE`` is there to be shown.
    """
    head = ["library_name: amplify-motion-tokenizer", "tags: [motion-tokenizer, robotics, video, fsq]"]
    head += [f"license: {licence}"] if licence else []
    told = "\n".join(f"| {words} | {value} |" for words, value in facts.items())
    metrics = "\n".join(f"| {key} | {value:.5g} |" for key, value in sorted(content["metrics"].items()))
    measured = f"## Metrics\n\n| metric | value |\n|---|---|\n{metrics}\n\n" if metrics else ""
    curve = f"![Rate and distortion]({PICTURE})\n\n" if picture else ""
    config = json.dumps(content["config"], indent=1)
    return (
        "---\n" + "\n".join(head) + "\n---\n\n# Motion tokenizer\n\n"
        "Turns videos, or point tracks, into a few discrete motion codes, and codes back into tracks.\n\n"
        "```python\nfrom amplify_motion_tokenizer import load_tokenizer\n\n"
        f'tokenizer = load_tokenizer("{name}")\n'
        'codes = tokenizer.encode_video("clip.mp4")  # ids (windows, d)\n'
        "tracks, visible = tokenizer.decode(codes)\n```\n\n"
        f"| | |\n|---|---|\n{told}\n\n{measured}{curve}## Settings\n\n```json\n{config}\n```\n"
    )
