"""Every file name that the product writes, and how files are told apart by name alone.

The names of tracks are their formats' own (``tracks.formats``).

Commands ask it what a folder holds, so it imports neither torch nor a file format.

Checkpoints of a run::

    last.pth              the newest state
    step_N.pth            states before it: what last.pth was at step N
    best.pth              state of the lowest validation loss so far
    epoch_N.pth           state at the end of epoch N, counted from 1
    step_N.optimizer.pth  the optimiser's state at step N, which only older runs kept in a file of its own
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal


def is_clip_name(name: str) -> bool:
    """Whether files named after a clip of that name are below the folder that they are written into.

    A clip's name is its path below the input folder, without the ending; one that comes out of somebody
    else's file may be anything.
    """
    parts = name.split("/")
    lone = all(part not in ("", ".", "..") for part in parts)
    return lone and "\0" not in name and name == name.encode("utf-8", "replace").decode("utf-8", "replace")


OUTPUT_CONFIG = "config.yaml"
"""The resolved config in every output folder."""
MANIFEST = "manifest.jsonl"
"""One line per clip in every output folder that is made clip by clip."""

LOCK, LOCK_OWNER = ".lock", ".lock.owner"
"""Are in an output folder while a run has it: what the system locks, and whose it is."""

SHARDS = ".shards"
"""The folder, within an output folder, of what is single shards' own until merged (``jobs.shards``)."""

TRACK_INDEX = ".tracks.json"
"""What the track files of a large folder say of themselves (``tracks.folder_index``)."""

PACK_INDEX = "pack.json"
"""Written last into a pack: a folder without it is no pack."""

CODES = "codes.jsonl"
"""The codes of all clips of a folder."""
CODE_TABLE = "codes.parquet"
"""The codes of all clips of a folder, as Parquet."""
SEARCH_INDEX = "search_index"
"""The folder, within a folder of codes, of what search keeps of them; beside a file the end of its name."""
CHECKPOINT_RECORD = "checkpoint.yaml"
"""Says in a folder of codes, beside the config, which checkpoint made them: name and SHA-256."""
SCENES = "scenes.yaml"
"""Says in a folder of rendered clips, and in the folder of their true tracks, how they were rendered."""
DECODED = "decoding.yaml"
"""Says in a folder of tracks and drawings that were decoded from codes, from which codes."""
DRAWINGS = "drawings.yaml"
"""Says in a folder of drawings what was drawn, and how."""

LAST, BEST = "last.pth", "best.pth"
_NUMBERED = {
    "step": re.compile(r"step_(\d+)\.pth"),
    "epoch": re.compile(r"epoch_(\d+)\.pth"),
    "optimizer": re.compile(r"step_(\d+)\.optimizer\.pth"),
}


def unfinished_name(clip: str) -> str:
    """File name of the codes so far of a clip that is being worked on; ``clip`` stands for its name."""
    return f"unfinished-{clip}.jsonl"


def epoch_name(epoch: int) -> str:
    """File name of the checkpoint kept at the end of ``epoch``, counted from 1."""
    return f"epoch_{epoch}.pth"


def step_name(step: int) -> str:
    """File name of the state at ``step``, an older one than ``last.pth``, to resume from."""
    return f"step_{step}.pth"


def optimizer_name(step: int) -> str:
    """File name of the optimiser's state at ``step``."""
    return f"step_{step}.optimizer.pth"


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run, sorted by name; empty where there is no such folder."""
    return sorted(path for path in folder.glob("*.pth") if _is_checkpoint(path.name))


def numbers_of(kind: Literal["step", "epoch", "optimizer"], folder: Path) -> list[int]:
    """N of the files of a kind in ``folder``, the highest first."""
    names = (_NUMBERED[kind].fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(match[1]) for match in names if match), reverse=True)


def _is_checkpoint(name: str) -> bool:
    return name in (LAST, BEST) or any(_NUMBERED[kind].fullmatch(name) for kind in ("step", "epoch"))


def is_pack(folder: Path) -> bool:
    """Whether ``folder`` holds a pack."""
    return (folder / PACK_INDEX).is_file()


def holds_drawings(folder: Path) -> bool:
    """Whether ``draw`` or ``decode`` made ``folder``, by its mark: this is asked of every input folder."""
    return any((folder / mark).is_file() for mark in (DRAWINGS, DECODED))
