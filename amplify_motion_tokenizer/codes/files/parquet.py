"""Codes as Parquet: a row for each window of every clip, or with ``per_view`` for each window and view.

The schema's metadata holds, under ``motion_codes``, a JSON object that says all that is needed to read the
rows: ``run`` and, for each clip, ``clips``, which together are ``meta`` of its codes, and ``views``.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.codes.files.base import (
    COLUMNS,
    CodeFormat,
    check_meta,
    checked_codes,
    damaged,
    missing,
)
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import CODE_TABLE
from amplify_motion_tokenizer.files import atomic_path
from amplify_motion_tokenizer.foreign_json import parse_json
from amplify_motion_tokenizer.foreign_parquet import read_table

_KEY = b"motion_codes"

_WRONG_COLUMNS = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError)
"""What arrays of other types and lengths raise."""
_ROWS = 1 << 14
"""Rows that are gathered before they are written."""


class _Parquet(CodeFormat):
    name = "parquet"
    ending = ".parquet"
    table = CODE_TABLE

    def check_available(self) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError(
                "Parquet needs pyarrow, which is not installed; pip install 'pyarrow>=17' "
                "(or this package with the extra parquet)"
            )

    def write(self, path: Path, clips: Iterable[MotionCodes]) -> None:
        self.check_available()
        import pyarrow as pa
        import pyarrow.parquet as pq

        metas: dict[str, Mapping[str, Any]] = {}
        shapes: dict[str, list[int]] = {}
        for codes in clips:  # the schema, which begins the file, tells of all clips
            metas[codes.clip] = codes.meta
            shapes = shapes or _shapes(codes)
        told = {_KEY: json.dumps(_description(metas, shapes))}
        schema = _schema(shapes).with_metadata(told)
        waiting: list[Any] = []
        with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for codes in clips:
                waiting.append(_rows(codes, schema))
                if sum(len(rows) for rows in waiting) >= _ROWS:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
            if waiting:
                writer.write_table(pa.concat_tables(waiting))

    def read(self, path: Path) -> list[MotionCodes]:
        self.check_available()
        import pyarrow as pa

        try:
            table = read_table(path)
            told = parse_json((table.schema.metadata or {})[_KEY], finite=True)
            run, metas = dict(told["run"]), dict(told["clips"])
            shapes = {name: told.get(key) for name, key in _SHAPE_KEYS.items()}
            metas = {str(name): {**run, **own} for name, own in metas.items()}
        except FileNotFoundError as error:
            raise missing(path, error) from None
        except KeyError:
            raise damaged(path, f"its schema does not say under {_KEY.decode()} how to read it") from None
        except (OSError, ValueError, TypeError) as error:
            raise damaged(path, error) from None
        try:
            columns, names = _columns(table, shapes), table["clip"].cast(pa.string()).to_pylist()
        except (*_WRONG_COLUMNS, pa.ArrowException) as error:
            raise damaged(path, f"its columns are not as they should be: {error}") from None
        spans, first = {}, 0
        for name, rows in groupby(names):
            count = sum(1 for _ in rows)
            if name not in metas or name in spans:
                raise damaged(path, f"rows of {name} are told of nowhere, or in two places")
            spans[name], first = slice(first, first + count), first + count
        nowhere = slice(0, 0)
        return [
            _clip(columns, spans.get(name, nowhere), name, check_meta(own, str(path)), str(path))
            for name, own in metas.items()
        ]


def _views(meta: Mapping[str, Any]) -> list[str]:
    """The views of which a window has rows: each, or all of them together."""
    views = [str(view) for view in meta.get("views", [])]
    return views if meta.get("per_view") else ["+".join(views)]


_SHAPE_KEYS = {"latents": "latent_shape", "camera": "camera_shape", "camera_ids": "camera_ids_shape"}
"""Columns that not all tables have, to the keys of the schema's metadata that tell the shape of a row."""


def _shapes(codes: MotionCodes) -> dict[str, list[int]]:
    """Shape of a row's latents (d, D), camera (V, t, 4, 2) and camera_ids (d,), where ``codes`` have them."""
    rows = len(_views(codes.meta))
    columns = {name: getattr(codes, name) for name in _SHAPE_KEYS}
    return {
        name: [column.shape[1] // rows, *column.shape[2:]]
        for name, column in columns.items()
        if column is not None
    }


def _schema(shapes: Mapping[str, list[int]]) -> Any:
    import pyarrow as pa

    columns = {
        "clip": pa.string(),
        "view": pa.string(),
        "part": pa.int32(),
        "start_frame": pa.int64(),
        "source_frame": pa.int64(),
        "end_source_frame": pa.int64(),
        "start_seconds": pa.float64(),
        "end_seconds": pa.float64(),
        "step_seconds": pa.float64(),
        "valid_steps": pa.int32(),
        "ids": pa.list_(pa.int32()),
        "motion_energy": pa.float32(),
        "visible_share": pa.float32(),
    }
    for name, shape in shapes.items():
        kind = pa.float32() if COLUMNS[name].is_floating_point else pa.int32()
        columns[name] = pa.list_(kind, math.prod(shape))
    return pa.schema(columns.items())


def _rows(codes: MotionCodes, schema: Any) -> Any:
    import pyarrow as pa

    views, windows = _views(codes.meta), len(codes)

    def column(values: Tensor) -> Any:
        repeated = values.numpy().repeat(len(views))
        gone = np.isnan(repeated) if repeated.dtype.kind == "f" else repeated < 0
        return pa.array(repeated, mask=gone)

    found: dict[str, Any] = {
        "clip": [codes.clip] * (windows * len(views)),
        "view": views * windows,
        "part": column(codes.parts).cast(pa.int32()),
        "start_frame": column(codes.starts),
        "source_frame": column(codes.source_frames[:, 0]),
        "end_source_frame": column(codes.source_frames[:, 1]),
        "start_seconds": column(codes.seconds[:, 0]),
        "end_seconds": column(codes.seconds[:, 1]),
        "step_seconds": column(codes.step_seconds),
        "valid_steps": column(codes.valid_steps).cast(pa.int32()),
        "ids": list(codes.ids.numpy().astype(np.int32).reshape(windows * len(views), -1)) if windows else [],
        "motion_energy": column(codes.motion_energy),
        "visible_share": column(codes.visible_share),
    }
    for name in _SHAPE_KEYS:
        values = getattr(codes, name)
        if (values is not None) != (name in schema.names):
            has = f"has no {name}, and others have" if values is None else f"has {name}, and others have none"
            raise UsageError(f"the clip {codes.clip} {has}; save them of all clips")
        if values is not None:
            kind = schema.field(name).type
            flat = pa.array(values.numpy().ravel()).cast(kind.value_type)
            found[name] = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    arrays = [
        pa.array(found[field.name], field.type) if isinstance(found[field.name], list) else found[field.name]
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _description(metas: Mapping[str, Mapping[str, Any]], shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """``meta`` of all clips, what they have in common told once."""
    first = next(iter(metas.values()), {})
    common = {
        key: value
        for key, value in first.items()
        if all(key in meta and meta[key] == value for meta in metas.values())
    }
    own = {
        clip: {key: value for key, value in meta.items() if key not in common} for clip, meta in metas.items()
    }
    told = {key: shapes.get(name) for name, key in _SHAPE_KEYS.items() if name == "latents" or name in shapes}
    return {"run": common, "clips": own, **told}


def _columns(table: Any, shapes: Mapping[str, list[int] | None]) -> dict[str, NDArray[Any]]:
    """The columns as arrays, with NaN or -1 for null."""
    rows = table.num_rows

    def column(name: str, dtype: type) -> NDArray[Any]:
        unknown = np.nan if np.issubdtype(dtype, np.floating) else -1
        values = table[name].combine_chunks().fill_null(unknown)
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype)

    def pair(one: str, other: str, dtype: type) -> NDArray[Any]:
        return np.stack([column(one, dtype), column(other, dtype)], axis=1)

    ids = table["ids"].combine_chunks()
    widths = np.unique(np.diff(ids.offsets.to_numpy()))
    if len(widths) > 1:
        raise ValueError(f"ids are {widths.tolist()} a row")
    found = {
        "ids": ids.flatten().to_numpy().astype(np.int64).reshape(rows, widths[0] if rows else 0),
        "starts": column("start_frame", np.int64),
        "seconds": pair("start_seconds", "end_seconds", np.float64),
        "step_seconds": column("step_seconds", np.float64),
        "source_frames": pair("source_frame", "end_source_frame", np.int64),
        "valid_steps": column("valid_steps", np.int64),
        "motion_energy": column("motion_energy", np.float32),
        "visible_share": column("visible_share", np.float32),
    }
    for name, shape in shapes.items():
        if shape is not None and name in table.column_names:
            values = table[name].combine_chunks().flatten().to_numpy()
            dtype = np.float32 if COLUMNS[name].is_floating_point else np.int64
            found[name] = values.astype(dtype, copy=False).reshape(rows, *shape)
    return found


def _clip(
    columns: Mapping[str, NDArray[Any]], span: slice, clip: str, meta: dict[str, Any], where: str
) -> MotionCodes:
    """The rows ``span``, V of each window in the order of the views."""
    views = len(_views(meta))
    found: dict[str, Tensor] = {}
    for name, column in columns.items():
        own = column[span]
        if name in ("ids", *_SHAPE_KEYS):
            windows = len(own) // views
            own = own.reshape(windows, views * own.shape[1], *own.shape[2:])
        else:
            own = own[::views]
        found[name] = torch.from_numpy(own.copy())
    if not len(found["ids"]):
        found["ids"] = found["ids"].new_empty(0, int(meta.get("num_codes", 0)))
    return checked_codes(found, clip, meta, where)


FORMAT = _Parquet()
