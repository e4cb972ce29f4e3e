"""Segments of episodes as LeRobot keeps subtasks: an index for every frame, and a table of their names.

``LeRobotDataset`` of lerobot 0.4 reads ``meta/subtasks.parquet`` and gives each item its ``subtask``; later
ones keep the index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.files import sync
from amplify_motion_tokenizer.video.lerobot import parquet

SUBTASK = "subtask_index"
"""The feature: which segment of its episode a frame is in, int64, from 0 on."""

_TABLE = "meta/subtasks.parquet"

_NAME = "subtask"


def subtasks(segments: Sequence[Segment], length: int, fps: float) -> NDArray[np.int64]:
    """(length,) the segment of each frame; one between two, or past the last one, is in the one before."""
    starts = [segment.start_s for segment in segments[1:]]
    seconds = np.arange(length) / fps
    return np.searchsorted(np.array(starts), seconds + 1e-9, side="right").astype(np.int64)


def write_subtasks(folder: Path, count: int) -> None:
    """Writes the table of ``count`` names, "segment 0" and so on, below the folder of a data set."""
    import pyarrow as pa

    names = [f"segment {number}" for number in range(count)]
    table = pa.table({SUBTASK: pa.array(range(count), pa.int64()), _NAME: names})
    # For pandas, with which lerobot reads it: names are the index.
    kinds = ((SUBTASK, "int64", "int64"), (_NAME, "unicode", "object"))
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in kinds
    ]
    note = {"index_columns": [_NAME], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    path = folder / _TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet().write_table(table.replace_schema_metadata({"pandas": json.dumps(note)}), path)
    sync(path)
