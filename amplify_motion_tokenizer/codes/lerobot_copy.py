"""Copies a LeRobotDataset v3 with the motion codes of its episodes as features of every frame.

``video.lerobot`` owns the layout. Letters: F frames of an episode, d ids of a window, D numbers of an id's
vector.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.lerobot_subtasks import SUBTASK, subtasks, write_subtasks
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.damaged_files import DamagedError
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.files import failure_named, read_json, sync, unfinished_folder
from amplify_motion_tokenizer.foreign_json import parse_json
from amplify_motion_tokenizer.foreign_parquet import check_values, damage_told
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.video.lerobot import (
    DATA,
    EPISODES,
    INFO,
    STATS,
    LeRobotDataset,
    episode_name,
    parquet,
    read_dataset,
)

TOKENS, VALID, LATENTS = "motion_tokens", "motion_tokens_valid", "motion_latents"
"""The features: ids (d,) int64 of the window that begins at a frame; whether one does, bool; and the ids'
vectors (d * D,) float32, one after another."""

NO_TOKEN = -1
"""Stands for each id of a frame at which no window begins."""

_TOLD = (
    "model", "checkpoint", "checkpoint_sha256", "fsq_levels", "codebook_size", "fps", "sequence_length",
    "tracked_length", "window_stride",
)  # fmt: skip
"""What the copy says of how its tokens were made, by the names of ``MotionCodes.meta``."""

_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


class Copied(NamedTuple):
    """What a copy holds."""

    episodes: int
    frames: int
    windows: int
    """Frames at which a window begins."""


Columns = dict[str, NDArray[Any]]
"""The values of a feature, by its name, for every frame."""


def copy_with_codes(
    dataset: Path,
    codes: MotionCodeSet,
    output: Path,
    segments: Mapping[str, Sequence[Segment]] | None = None,
) -> Copied:
    """Writes a copy of ``dataset`` with the features ``motion_tokens`` and ``motion_tokens_valid``.

    ``motion_latents`` come with them where codes hold latents, and ``subtask_index`` with segments. What is
    not changed, as videos are not, is linked where the file system allows it, else copied. The copy appears
    whole, or not at all.

    Args:
        dataset: folder of a LeRobotDataset v3.
        codes: of its episodes, made with ``video.source: lerobot``.
        output: a folder that is not there yet.
        segments: of the episodes, from ``read_segments``; an episode without any is one segment.

    Raises:
        UsageError: ``output`` exists or cannot be written; the data set is damaged or has such features
            already; or codes are of other episodes, or of other frames, than it has.
    """
    if output.exists():
        raise UsageError(f"{output} exists; choose another name, nothing is overwritten")
    data = read_dataset(dataset)
    added = (TOKENS, VALID, LATENTS) if segments is None else (TOKENS, VALID, LATENTS, SUBTASK)
    twice = [name for name in added if name in data.info["features"]]
    if twice:
        raise UsageError(
            f"{dataset / INFO}: has the feature {twice[0]} already; export to the data set without"
        )
    _check_episodes(data, codes)
    columns = _columns(data, codes)
    if segments is not None:
        _check_segments(segments, codes)
        for index, each in columns.items():
            each[SUBTASK] = subtasks(segments.get(episode_name(index), ()), len(each[VALID]), data.fps)
    with failure_named(output), unfinished_folder(output) as folder:
        folder.mkdir(parents=True)
        _write(data, codes, columns, folder)
        if segments is not None:
            write_subtasks(folder, max(int(each[SUBTASK].max()) for each in columns.values()) + 1)
        folder.rename(output)
        sync(output.parent)
    windows = sum(int(each[VALID].sum()) for each in columns.values())
    return Copied(len(columns), sum(len(each[VALID]) for each in columns.values()), windows)


def _columns(data: LeRobotDataset, codes: MotionCodeSet) -> dict[int, Columns]:
    """The features of every frame of every episode, by its index; too short episodes have no window."""
    none = _without_windows(next(iter(codes.values())))
    lengths = {episode["episode_index"]: episode["length"] for episode in data.episodes}
    return {
        index: frames_of(codes.get(episode_name(index), none), length) for index, length in lengths.items()
    }


def _without_windows(codes: MotionCodes) -> MotionCodes:
    """``codes`` of a clip that has no windows."""
    parts = {each.name: getattr(codes, each.name) for each in dataclasses.fields(codes)}
    none: dict[str, Any] = {name: part[:0] for name, part in parts.items() if isinstance(part, torch.Tensor)}
    return dataclasses.replace(codes, **none)


def frames_of(codes: MotionCodes, length: int) -> Columns:
    """The features of every frame of an episode of ``length`` frames.

    Raises:
        UsageError: codes tell of frames that it does not have.
    """
    starts, ends = codes.source_frames.numpy().T
    if len(codes) and not (starts.min() >= 0 and ends.max() < length):
        raise UsageError(
            f"codes of {codes.clip} tell of frames {starts.min()} to {ends.max()}, and the episode has "
            f"{length}; make codes of this data set with --video.source lerobot"
        )
    # Where frames were repeated to reach a rate, several windows begin at one: the first is taken.
    frames, rows = np.unique(starts, return_index=True)
    tokens = np.full((length, codes.ids.shape[1]), NO_TOKEN, np.int64)
    valid = np.zeros(length, bool)
    tokens[frames], valid[frames] = codes.ids.numpy()[rows], True
    found: Columns = {TOKENS: tokens, VALID: valid}
    if codes.latents is not None:
        vectors = codes.latents.flatten(1).numpy()
        found[LATENTS] = np.zeros((length, vectors.shape[1]), np.float32)
        found[LATENTS][frames] = vectors[rows]
    return found


def _check_segments(segments: Mapping[str, Sequence[Segment]], codes: MotionCodeSet) -> None:
    other = sorted(set(segments) - set(codes))
    if other:
        raise UsageError(
            f"segments are of {other[0]}, of which there are no codes; expected those of episodes, such as "
            f"{next(iter(codes))}: make them with motion-tokenizer segment --codes {codes.path}"
        )


def _check_episodes(data: LeRobotDataset, codes: MotionCodeSet) -> None:
    lengths = {episode_name(episode["episode_index"]): episode["length"] for episode in data.episodes}
    other = sorted(set(codes) - set(lengths))
    meta = next((each.meta for each in codes.values()), None)
    missing = [
        name
        for name, length in lengths.items()
        if name not in codes and (meta is None or not _too_short(length, data.fps, meta))
    ]
    if missing or other:
        found = f"lack {missing[0]} (and {len(missing) - 1} more)" if missing else f"are of {other[0]} too"
        raise UsageError(
            f"{codes.path}: codes {found}; expected the {len(lengths)} episodes of {data.root}: make "
            "them with motion-tokenizer infer --video.source lerobot"
        )


def _too_short(length: int, fps: float, meta: Mapping[str, Any]) -> bool:
    """Whether an episode has not even one window: inference makes no codes of it."""
    tracked = int((length - 1) / fps * float(meta.get("fps") or fps) + 1e-6) + 1
    return tracked < int(meta["tracked_length"])


def _write(data: LeRobotDataset, codes: MotionCodeSet, columns: Mapping[int, Columns], folder: Path) -> None:
    features = _features(next(iter(columns.values())), codes)
    stats = {
        index: {name: _stats(values) for name, values in each.items()} for index, each in columns.items()
    }
    changed = {data.root / INFO, data.root / STATS}
    for source, add in ((DATA, _add_columns(columns)), (EPISODES, _add_stats(stats))):
        files = sorted((data.root / source).glob("*/*.parquet"))
        changed.update(files)
        with Progress(len(files), "file") as progress:
            for file in progress.each(files):
                _rewrite(file, folder / file.relative_to(data.root), add, features)
    _check_rows(data, columns, folder)
    info = read_json(data.root / INFO)
    info["features"] |= features
    _write_json(folder / INFO, info)
    if (data.root / STATS).is_file():
        whole = {name: np.concatenate([each[name] for each in columns.values()]) for name in features}
        told = {name: _stats(values) for name, values in whole.items()}
        _write_json(folder / STATS, read_json(data.root / STATS) | told)
    for file in sorted(path for path in data.root.rglob("*") if path.is_file() and path not in changed):
        _link(file, folder / file.relative_to(data.root))


def _check_rows(data: LeRobotDataset, columns: Mapping[int, Columns], folder: Path) -> None:
    """Refuses a data set that does not have a row for every frame: some would have no codes."""
    files = (folder / DATA).glob("*/*.parquet")
    found = sum(parquet().read_metadata(file).num_rows for file in files)
    wanted = sum(len(each[VALID]) for each in columns.values())
    if found != wanted:
        raise UsageError(
            f"{data.root / DATA}: has rows of {found} frames, expected {wanted}, as {EPISODES} says; get the "
            "data set again, whole"
        )


def _features(first: Columns, codes: MotionCodeSet) -> dict[str, Any]:
    """What ``INFO`` says of the features; of the tokens also how to read them."""
    meta = next(iter(codes.values())).meta
    told = {key: meta[key] for key in _TOLD if key in meta}
    shapes = {name: list(values.shape[1:]) or [1] for name, values in first.items()}
    found: dict[str, Any] = {
        name: {"dtype": str(first[name].dtype), "shape": shape, "names": None}
        for name, shape in shapes.items()
    }
    found[TOKENS]["names"] = [f"code_{number}" for number in range(shapes[TOKENS][0])]
    found[TOKENS]["info"] = {"motion_tokenizer": told, "no_token": NO_TOKEN}
    return found


def _rewrite(source: Path, target: Path, add: Any, features: Mapping[str, Any]) -> None:
    """A Parquet file with more columns, in the same row groups, which are read one at a time."""
    module = parquet()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _opened(source) as file:
        writer = None
        for number in range(file.num_row_groups):
            table = add(_row_group(file, number, source), source)
            with _damage_named(source):
                schema = _with_features(table.schema, features)
            writer = writer or module.ParquetWriter(target, schema, compression="snappy", use_dictionary=True)
            writer.write_table(table.cast(schema))
        if writer is None:
            raise UsageError(f"{source}: holds no rows; get the data set again")
        writer.close()
    sync(target)


@contextmanager
def _opened(source: Path) -> Iterator[Any]:
    """The Parquet file ``source`` of the data set, open."""
    with _damage_named(source), damage_told():
        file = parquet().ParquetFile(source)
        check_values(file.metadata, source.stat().st_size)
    with file:
        yield file


def _row_group(file: Any, number: int, source: Path) -> Any:
    with _damage_named(source), damage_told():
        return file.read_row_group(number)


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:  # DamagedError is one
        raise UsageError(f"{source}: cannot be read as Parquet ({error}); get the data set again") from None


def _with_features(schema: Any, features: Mapping[str, Any]) -> Any:
    """``schema`` whose note for the library ``datasets``, where it has one, tells of the new columns too."""
    told = dict(schema.metadata or {})
    if b"huggingface" not in told or not set(features) & set(schema.names):
        return schema
    note = parse_json(told[b"huggingface"])
    try:
        known = note.get("info", {}).get("features", {})
        lists = next((each["_type"] for each in known.values() if "length" in each), "List")
    except (AttributeError, KeyError, TypeError):
        raise DamagedError("its note for the library datasets is of another form") from None
    for name, feature in features.items():
        value = {"dtype": feature["dtype"], "_type": "Value"}
        (length,) = feature["shape"]
        known[name] = value if length == 1 else {"feature": value, "length": length, "_type": lists}
    told[b"huggingface"] = json.dumps(note).encode()
    return schema.with_metadata(told)


def _add_columns(columns: Mapping[int, Columns]) -> Any:
    """Adds the features to rows of frames, by their episode and their place in it."""

    def add(table: Any, source: Path) -> Any:
        import pyarrow as pa

        places = [_whole(table, name, source) for name in ("episode_index", "frame_index")]
        try:
            rows = {
                name: np.stack(
                    [columns[episode][name][frame] for episode, frame in zip(*places, strict=True)]
                )
                for name in next(iter(columns.values()))
            }
        except (KeyError, IndexError):
            raise UsageError(
                f"{source}: has frames of episodes, or past their length, that {EPISODES} does not know; get "
                "the data set again"
            ) from None
        for name, values in rows.items():
            kind = pa.from_numpy_dtype(values.dtype)
            if values.ndim == 1 or values.shape[1] == 1:
                column = pa.array(values.reshape(-1), kind)
            else:
                column = pa.FixedSizeListArray.from_arrays(
                    pa.array(values.reshape(-1), kind), values.shape[1]
                )
            table = table.append_column(name, column)
        return table

    return add


def _add_stats(stats: Mapping[int, Mapping[str, Mapping[str, list[float]]]]) -> Any:
    """Adds the features' statistics to rows of episodes, where these have statistics."""

    def add(table: Any, source: Path) -> Any:
        import pyarrow as pa

        episodes = _whole(table, "episode_index", source)
        kept = {name.rpartition("/")[2] for name in table.schema.names if name.startswith("stats/")}
        for name in next(iter(stats.values())) if kept else ():
            for key in stats[int(episodes[0])][name]:
                if key in kept:
                    values = [stats[int(episode)][name][key] for episode in episodes]
                    kind = pa.list_(pa.int64() if key == "count" else pa.float64())
                    table = table.append_column(f"stats/{name}/{key}", pa.array(values, kind))
        return table

    return add


def _whole(table: Any, name: str, source: Path) -> NDArray[np.int64]:
    if name not in table.schema.names:
        raise UsageError(f"{source}: lacks the column {name}; get the data set again")
    found = table.column(name).to_numpy()
    if found.dtype.kind not in "iu":
        raise UsageError(
            f"{source}: {name} are {found.dtype}, expected whole numbers; get the data set again"
        )
    return np.asarray(found, np.int64)


def _stats(values: NDArray[Any]) -> dict[str, list[float]]:
    """Statistics of a feature as stored, over frames: each a list of as many numbers as the feature has."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    found |= {key: np.quantile(rows, share, axis=0) for key, share in _QUANTILES.items()}
    return {key: each.tolist() for key, each in found.items()} | {"count": [len(rows)]}


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8")
    sync(path)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
