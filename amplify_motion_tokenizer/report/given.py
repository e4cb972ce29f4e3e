"""What a report is of, and what it can be made from: found, read and checked before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.codes.decode_folder import clips_of_codes
from amplify_motion_tokenizer.codes.made_with import shipped_with, tokenizer_of
from amplify_motion_tokenizer.codes.reading import MotionCodeSet, holds_codes, read_codes
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer, load_tokenizer
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import BEST, LAST, OUTPUT_CONFIG, checkpoints_in, is_pack
from amplify_motion_tokenizer.jobs.output_folders import kind_of
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_checkpoint
from amplify_motion_tokenizer.tracks.stored import Clips
from amplify_motion_tokenizer.video.clips import Clip

EXPECTED = "expected the output folder of infer, a file of codes, or the output folder of train"


@dataclass(frozen=True)
class Subject:
    """What a report is of: the codes of clips, or a training run."""

    source: Path
    codes: MotionCodeSet | None
    """None for a run."""
    checkpoint: Checkpoint | None
    """The tokenizer's file, without its weights; None where it is not at hand."""
    tokenizer: Tokenizer | None
    """None where it is not at hand."""
    tracks: Path | None
    """Tracks to judge the tokenizer on."""
    videos: Mapping[str, Clip]
    """The videos of the clips of the codes, by name; empty where none are given."""
    config: Config | None
    """How codes were made; of a run its config. None where nothing says."""

    @property
    def is_run(self) -> bool:
        """Whether it is a training run."""
        return self.codes is None

    @property
    def meta(self) -> Mapping[str, Any]:
        """What all clips of the codes have in common; empty for a run."""
        return next(iter(self.codes.values())).meta if self.codes else {}

    @cached_property
    def clips(self) -> Clips | None:
        """The clips of ``tracks`` as the tokenizer takes them; None where either is missing.

        Raises:
            TrackFileError: they do not fit the tokenizer, or a file is bad.
        """
        if self.tracks is None or self.tokenizer is None:
            return None
        return load_clips(self.tracks, self.tokenizer.config)

    @property
    def no_positions(self) -> str:
        """Why ``tracks`` cannot be read as positions of clips; empty where they can, or there are none."""
        if self.tracks is not None and is_pack(self.tracks):
            return f"{self.tracks} is a pack; give the folder of track files that it was made from."
        if any(clip.stores == "velocities" for clip in (self.clips or {}).values()):
            return f"{self.tracks} holds velocities, and no positions; give track files (HDF5)."
        return ""

    def lacks(self, tracks: str = "", tokenizer: str = "") -> str:
        """What to give for a section that needs tracks and the tokenizer; says only what is missing.

        Args:
            tracks: what they are for.
            tokenizer: what it is for.
        """
        told = []
        if tokenizer and self.tokenizer is None:
            made_with = self.meta.get("checkpoint") or "the file that made these codes"
            told.append(f"Needs the tokenizer {tokenizer}: give --checkpoint {made_with}.")
        if tracks and self.tracks is None:
            told.append(f"Needs tracks {tracks}: give a folder of them with --tracks.")
        return " ".join(told)


def open_subject(
    source: Path, videos_or_tracks: Path | None, tracks: Path | None, checkpoint: str | None
) -> Subject:
    """Reads what a report is of.

    Args:
        source: a file or folder of codes, or the folder of a training run.
        videos_or_tracks: of codes the videos that they were made of; of a run tracks, as ``tracks``.
        tracks: tracks to judge the tokenizer on.
        checkpoint: the tokenizer of the codes; None where it is a shipped one.

    Raises:
        UsageError: the source is neither, or damaged; codes are of several runs, or of another checkpoint;
            the videos are of other clips.
        CheckpointError: a checkpoint cannot be read.
    """
    for path, expected in ((source, EXPECTED), (tracks, "expected a folder of tracks as --tracks")):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: does not exist; {expected}")
    if source.is_dir() and checkpoints_in(source):
        return _run(source, videos_or_tracks, tracks, checkpoint)
    if source.is_dir() and not holds_codes(source):
        raise UsageError(f"{source}: holds {kind_of(source) or 'neither codes nor checkpoints'}; {EXPECTED}")
    if source.suffix == ".pth":
        raise UsageError(f"{source}: is a checkpoint; give the folder of its run, or codes that it made")
    return _codes(source, videos_or_tracks, tracks, checkpoint)


def _run(folder: Path, given: Path | None, tracks: Path | None, checkpoint: str | None) -> Subject:
    if checkpoint is not None:
        raise UsageError(f"{folder}: is a training run, which has its own checkpoint; leave --checkpoint out")
    if given is not None and tracks is not None:
        raise UsageError(
            f"--input {given} and --tracks {tracks} both give the tracks of a run; leave one of them out"
        )
    path = checkpoint_of(folder)
    found = dataclasses.replace(load_checkpoint(path), model={}, training=None)
    tokenizer = load_tokenizer(path)
    return Subject(folder, None, found, tokenizer, given or tracks, {}, found.config)


def checkpoint_of(run: Path) -> Path:
    """The checkpoint that a run is judged by: the best, else the last, else any other one."""
    paths = {path.name: path for path in checkpoints_in(run)}
    return paths.get(BEST) or paths.get(LAST) or list(paths.values())[-1]


def _codes(source: Path, videos: Path | None, tracks: Path | None, checkpoint: str | None) -> Subject:
    codes = read_codes(source)
    if not codes:
        raise UsageError(f"{source}: holds the codes of no clip; {EXPECTED}")
    meta = next(iter(codes.values())).meta
    if checkpoint is None:
        checkpoint = shipped_with(meta.get("checkpoint_sha256"))
    tokenizer = found = None
    if checkpoint is not None:
        tokenizer = tokenizer_of(codes, checkpoint)
        found = dataclasses.replace(load_checkpoint(checkpoint), model={}, training=None)
        _check_is_of(codes, tokenizer)
    config = _config_of(source, tokenizer, meta)
    clips = {} if videos is None else clips_of_codes(codes, videos, config or _reading(Config(), meta))
    return Subject(source, codes, found, tokenizer, tracks, clips, config)


def _check_is_of(codes: MotionCodeSet, tokenizer: Tokenizer) -> None:
    """Raises UsageError for codes without a hash that cannot be of the tokenizer."""
    meta = next(iter(codes.values())).meta
    found = meta["model"], meta["codebook_size"]
    own = tokenizer.config.model.name, tokenizer.config.codebook_size
    if found != own:
        raise UsageError(
            f"{codes.path}: holds codes of a {found[0]} model with {found[1]} ids, expected {own[0]} with "
            f"{own[1]}; give --checkpoint the one that made them"
        )


def _config_of(source: Path, tokenizer: Tokenizer | None, meta: Mapping[str, Any]) -> Config | None:
    """The config beside the codes, else the tokenizer's at the codes' own rate; None where neither is."""
    path = (source if source.is_dir() else source.parent) / OUTPUT_CONFIG
    if path.is_file():
        return config_from_dict(load_yaml(path), f"in {path}")
    return None if tokenizer is None else _reading(tokenizer.config, meta)


def _reading(config: Config, meta: Mapping[str, Any]) -> Config:
    """``config`` with the frame rate that codes say."""
    fps = meta.get("fps")
    if fps is None:
        return config
    return dataclasses.replace(config, video=dataclasses.replace(config.video, target_fps=fps))
