"""Segments of clips on disk, as JSON: ours, and the shapes of other annotations of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amplify_motion_tokenizer.codes.files.parquet import FORMAT as PARQUET
from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.damaged_files import DamagedError
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import is_clip_name
from amplify_motion_tokenizer.files import write_json
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular
from amplify_motion_tokenizer.foreign_parquet import read_rows

_START, _END = "start_seconds", "end_seconds"

_STARTS = (_START, "start_sec", "start_s", "start_time", "start")
_ENDS = (_END, "end_sec", "end_s", "end_time", "end")
_NAMES = ("clip", "id", "video_id", "episode_id", "episode", "video", "name")
_LISTS = ("segments", "annotations", "subtasks")
"""Keys, the first that is there counts: of a segment's seconds, a row's clip, its list of segments."""

_EXPECTED = (
    f'expected {{"clips": {{name: [{{"{_START}", "{_END}"}}]}}}}, or a list or lines of rows with an id and '
    "segments of start_sec and end_sec, as WGO-Bench has"
)


def write_segments(
    path: Path,
    segments: Mapping[str, Sequence[Segment]],
    clusters: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Writes ``{"clips": {name: [{"start_seconds": 0.0, "end_seconds": 1.5}, ...]}}``.

    Args:
        path: the file.
        segments: of each clip.
        clusters: of each clip, a number for each segment, told as ``"cluster"``.

    Raises:
        UsageError: ``path`` cannot be written.
    """
    clips = {name: [{_START: start, _END: end} for start, end in each] for name, each in segments.items()}
    for name, numbers in (clusters or {}).items():
        for segment, number in zip(clips[name], numbers, strict=True):
            segment["cluster"] = number
    write_json(path, {"clips": clips})


def read_segments(path: Path) -> dict[str, list[Segment]]:
    """Segments of clips: in order, none before another has ended.

    Read are JSON and JSON lines of these shapes: what ``write_segments`` wrote; a mapping of clips' names to
    lists of segments, or to rows; a list or lines of rows, or one row, each with a name (clip, id, video_id,
    episode_id, episode, video, name) and a list (segments, annotations, subtasks); ``{"rows": [{"row":
    row}, ...]}``, as a server of WGO-Bench's rows answers. Rows may also be a Parquet file's. Times are
    seconds: start_seconds, start_sec, start_s, start_time or start, and the same of the end.

    Raises:
        UsageError: the file is missing, damaged, or of another form, and says which clip is at fault; or it
            is Parquet, and pyarrow is missing.
    """
    clips = _by_clip(_content(path), path)
    if not clips:
        raise UsageError(f"{path}: holds no segments; {_EXPECTED}")
    bad = next((name for name in clips if not is_clip_name(name)), None)
    if bad is not None:
        raise UsageError(f"{path}: has a clip named {bad!r:.200}; expected a path below a folder")
    return {name: _segments(path, name, each) for name, each in clips.items()}


def _content(path: Path) -> Any:
    """What is in a JSON file; or a list, of what is in the lines of one or of the rows of a Parquet file."""
    if path.suffix == ".parquet":
        return _rows(path)
    try:
        text = read_regular(path).decode("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a JSON file of segments") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not JSON; {_EXPECTED}") from None
    try:
        return parse_json(text)
    except ValueError as error:
        fault = error
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        if len(lines) > 1:
            return [parse_json(line) for line in lines]
    except ValueError as error:
        fault = error
    raise UsageError(f"{path}: is not JSON ({fault}); {_EXPECTED}")


def _rows(path: Path) -> list[dict[str, Any]]:
    """Names and lists of segments in a Parquet file; columns of bytes, such as videos, are not read."""
    PARQUET.check_available()
    import pyarrow as pa

    told = (pa.types.is_binary, pa.types.is_large_binary)

    def wanted(schema: Any) -> list[str]:
        return [
            name
            for name in schema.names
            if name in _NAMES + _LISTS and not any(kind(schema.field(name).type) for kind in told)
        ]

    try:
        return read_rows(path, wanted)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    except DamagedError as error:
        raise UsageError(f"{path}: is damaged or no Parquet ({error})") from None


def _by_clip(content: Any, path: Path) -> dict[str, Any]:
    """Lists of segments by clip, of any shape that ``read_segments`` reads."""
    if isinstance(content, Mapping):
        if isinstance(content.get("clips"), Mapping):
            content = content["clips"]
        elif isinstance(content.get("rows"), list):
            content = [row.get("row") if isinstance(row, Mapping) else row for row in content["rows"]]
        elif any(isinstance(content.get(key), list) for key in _LISTS) and _first(content, _NAMES):
            content = [content]
    if isinstance(content, Mapping):
        return {str(name): _listed(own) if isinstance(own, Mapping) else own for name, own in content.items()}
    if not isinstance(content, list):
        raise UsageError(f"{path}: holds no segments; {_EXPECTED}")
    found: dict[str, Any] = {}
    for number, row in enumerate(content, start=1):
        name = str(_first(row, _NAMES) or "") if isinstance(row, Mapping) else ""
        if not name:
            raise UsageError(f"{path}: row {number} does not name its clip; {_EXPECTED}")
        if name in found:
            raise UsageError(f"{path}: has two rows of the clip {name}; give one of each")
        found[name] = _listed(row)
    return found


def _listed(row: Mapping[str, Any]) -> Any:
    return next((row[key] for key in _LISTS if key in row), None)


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((row[key] for key in keys if isinstance(row.get(key), str | int)), None)


def _second(segment: Mapping[str, Any], keys: Sequence[str]) -> float:
    return float(next(segment[key] for key in keys if key in segment))


def _segments(path: Path, clip: str, found: Any) -> list[Segment]:
    try:
        segments = [Segment(_second(each, _STARTS), _second(each, _ENDS)) for each in found]
    except (TypeError, KeyError, ValueError, StopIteration, OverflowError, AttributeError):
        raise UsageError(
            f"{path}: segments of {clip} are not a list of {_START} and {_END} in seconds; write them so"
        ) from None
    edges = np.array(segments, np.float64).reshape(-1)
    if not np.isfinite(edges).all() or (np.diff(edges) < -1e-6).any():
        raise UsageError(
            f"{path}: segments of {clip} overlap, run backwards or are no numbers; expected them in order"
        )
    return segments
