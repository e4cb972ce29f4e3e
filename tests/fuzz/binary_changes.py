"""Changes of HDF5, torch, numpy, safetensors and Parquet files that keep them readable by their libraries."""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from tests.fuzz.changes import change_bytes, change_tree, hostile

ARRAY_WAYS = 12


def change_array(rng: random.Random, array: NDArray[Any]) -> NDArray[Any]:
    """An array of another type or shape, or with values that cannot be."""
    way, array = rng.randrange(ARRAY_WAYS), np.array(array)
    if way == 0 and array.dtype.kind in "iufbc":
        return array.astype(
            rng.choice(("i1", "i8", "f2", "f8", "?", "u1", "c8", "S4", ">f4", ">i8", "u8")), copy=False
        )
    if way == 1:
        return array.reshape(-1)
    if way == 2:
        return array[: rng.randrange(len(array) + 1)] if array.ndim and len(array) else array
    if way == 3:
        return np.array(rng.choice((0, -1.5, np.nan)))
    if way == 4:
        return np.zeros((0, *array.shape[1:]), array.dtype)
    if way == 5:
        return np.moveaxis(array, 0, -1) if array.ndim > 1 else array[None]
    if way == 6:
        return np.concatenate([array, array]) if array.ndim else array
    if not array.size or array.dtype.kind not in "iufb":
        return np.array(["x"], "S1")
    with np.errstate(all="ignore"):
        value = rng.choice((np.nan, np.inf, -np.inf, -1.0, 1e30, 0.0, 2.0**62, -(2.0**62), 1e-30))
        flat = array.reshape(-1)
        flat[rng.randrange(flat.size) if way < 10 else slice(None)] = np.array(value).astype(array.dtype)
    return flat.reshape(array.shape)


def change_hdf5(rng: random.Random, path: Path) -> None:
    """Changes attributes, arrays and links of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            names: list[str] = ["/"]
            file.visit(names.append)
            name = rng.choice(names)
            item = file[name]
            if len(item.attrs) and rng.random() < 0.5:
                _change_attribute(rng, item.attrs)
            elif name != "/":
                _change_item(rng, file, name, item)


HEAD_BYTES = 2**15
"""Where the libraries' own structures lie in the small files of the harness."""


def change_words(rng: random.Random, data: bytes) -> bytes:
    """Other words in an HDF5 file's structures: addresses of other parts or of themselves, lengths of 0."""
    content = bytearray(data)
    words = min(len(content), HEAD_BYTES) // 8
    for _ in range(rng.choice((1, 1, 1, 2))):
        at = 8 * rng.randrange(words)
        other = content[8 * (place := rng.randrange(words)) :][:8]
        numbers = (0, at, 8, 8 * place, 2**64 - 1, 2**64 - 16, 2**63, rng.randrange(len(content)))
        made = [struct.pack("<Q", number) for number in numbers]
        content[at : at + 8] = rng.choice([bytes(other), bytes(other), *made])
    return bytes(content)


def _change_attribute(rng: random.Random, attributes: Any) -> None:
    name = rng.choice(sorted(attributes))
    if rng.random() < 0.2:
        del attributes[name]
        return
    old = attributes[name]
    if isinstance(old, str) and old.startswith("{") and rng.random() < 0.8:
        attributes[name] = json.dumps(change_tree(rng, json.loads(old)))
        return
    try:
        attributes[name] = rng.choice(
            (
                hostile(rng),
                np.float32(np.nan),
                h5py.Empty("f4"),
                np.void(b"\0\1"),
                [1.0, 2.0, 3.0],
                b"\xff\xfe",
                2**63 - 1,
            )
        )
    except (TypeError, ValueError, OverflowError, KeyError):  # HDF5 holds no such value
        attributes[name] = -1


def _change_item(rng: random.Random, file: h5py.File, name: str, item: Any) -> None:
    way = rng.randrange(14)
    huge = isinstance(item, h5py.Dataset) and item.nbytes > 2**24  # declared by an earlier change
    if isinstance(item, h5py.Dataset) and way < 7 and not huge:
        try:
            changed = change_array(rng, item[()])
            del file[name]
            file[name] = changed
        except (TypeError, ValueError):
            file.require_group(name)
        return
    if name not in file:
        return
    del file[name]
    if way == 8:
        file[name] = h5py.SoftLink(rng.choice(("/nowhere", "/", name, "/root")))
    elif way == 9:
        file[name] = h5py.ExternalLink("elsewhere.hdf5", "/")
    elif way == 10:
        file.create_group(name)
    elif way == 11:
        shape = rng.choice(
            ((10**9, 6, 9, 2), (10**9,), (2**40, 6, 9), (3, 10**6, 10**6, 2), (10**9, 10**9, 10**9, 10**9))
        )
        file.create_dataset(
            name, shape, "f4", chunks=tuple(min(side, 4) for side in shape), fillvalue=rng.choice((0, np.nan))
        )
    elif way == 12:
        layout = h5py.VirtualLayout((4, 6, 9, 2), "f4")
        layout[:] = h5py.VirtualSource("elsewhere.hdf5", "x", (4, 6, 9, 2))
        file.create_virtual_dataset(name, layout)
    elif way == 13:
        file[name] = file["/root"] if "root" in file else file["/"]


def hostile_leaf(rng: random.Random) -> Any:
    """A tensor or plain value that no weight is."""
    way = rng.randrange(16)
    if way > 8:
        return hostile(rng)
    tensors: list[Callable[[], Any]] = [
        lambda: torch.full((3, 4), float("nan")),
        lambda: torch.zeros(2, 2, dtype=torch.int64),
        lambda: torch.zeros(0),
        lambda: torch.zeros(1).expand(10**9),
        lambda: torch.zeros(2, dtype=torch.complex64),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.empty(4, device="meta"),
        lambda: torch.zeros(3, dtype=torch.float8_e4m3fn),
        lambda: torch.ones(2, requires_grad=True),
    ]
    return tensors[way]()


def change_tensor(rng: random.Random, value: torch.Tensor) -> Any:
    """A tensor with values, a type or a shape that do not fit."""
    if rng.random() < 0.2:
        return hostile_leaf(rng)
    if value.dtype not in (torch.float32, torch.float64, torch.int64, torch.int32):
        return value[:0]
    return torch.from_numpy(np.ascontiguousarray(_numbers(change_array(rng, value.detach().numpy()))))


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    native = array.dtype.newbyteorder("=")
    return array.astype(native if native.kind in "iufbc" and native != np.dtype("u8") else "f4", copy=False)


def change_torch(rng: random.Random, data: bytes) -> bytes:
    """Changes what a torch file holds."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    if isinstance(content, torch.Tensor):
        changed = change_tensor(rng, content)
    else:
        changed = change_tree(rng, content, hostile_leaf)
        weights = changed.get("model") if isinstance(changed, dict) else None
        if isinstance(weights, dict) and weights and rng.random() < 0.3:
            key = rng.choice(list(weights))
            if isinstance(weights[key], torch.Tensor):
                weights[key] = change_tensor(rng, weights[key])
    into = io.BytesIO()
    try:
        torch.save(changed, into, _use_new_zipfile_serialization=rng.random() < 0.8)
    except (RuntimeError, NotImplementedError):  # torch cannot save such a tensor
        return change_bytes(rng, data)
    return into.getvalue()


def change_zip(rng: random.Random, data: bytes) -> bytes:
    """Changes an entry of a zip (.pth, .npz) and writes the archive with right checksums, or a bomb."""
    into = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(into, "w") as new:
        names = old.namelist()
        chosen, way = rng.choice(names), rng.randrange(8)
        for name in names:
            content = old.read(name)
            if name == chosen:
                if way == 0:
                    continue
                if way == 1:
                    _write_bomb(new, name)
                    continue
                content = change_bytes(rng, content)
            new.writestr(name, content)
        if way == 2:
            new.writestr("../outside", b"x")
    return into.getvalue()


BOMB_BYTES = 2**30


@cache
def _bomb() -> tuple[bytes, int]:
    """Zeros as a zip archive holds them: packed by deflate, and their checksum."""
    packer = zlib.compressobj(9, wbits=-15)
    block, sum_of_all = bytes(2**20), 0
    parts = [packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)] * (BOMB_BYTES // len(block))
    for _ in parts:
        sum_of_all = zlib.crc32(block, sum_of_all)
    return b"".join(parts) + zlib.compressobj(9, wbits=-15).flush(), sum_of_all


def _write_bomb(archive: zipfile.ZipFile, name: str) -> None:
    """Adds an entry that unfolds to ``BOMB_BYTES``; packing as many for each case would take seconds."""
    packed, sum_of_all = _bomb()
    archive.writestr(name, packed, zipfile.ZIP_STORED)
    entry = archive.getinfo(name)
    entry.compress_type, entry.file_size, entry.CRC = zipfile.ZIP_DEFLATED, BOMB_BYTES, sum_of_all


def change_npz(rng: random.Random, data: bytes) -> bytes:
    """Changes an array of a numpy archive."""
    if rng.random() < 0.25:
        return change_zip(rng, data) if rng.random() < 0.3 else change_bytes(rng, data)
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(list(arrays))
    way = rng.random()
    if way < 0.1:
        del arrays[name]
    elif arrays[name].dtype.kind == "U":
        text = str(arrays[name])
        tree = json.loads(text) if text.startswith("{") else text
        changed = json.dumps(change_tree(rng, tree)) if text.startswith("{") else str(hostile(rng))
        arrays[name] = np.array(changed.replace("\0", ""))
    else:
        arrays[name] = change_array(rng, arrays[name])
    into = io.BytesIO()
    np.savez(into, **arrays)  # type: ignore[arg-type]
    return into.getvalue()


def change_npy(rng: random.Random, data: bytes) -> bytes:
    """Changes the array or the header of an .npy file."""
    way = rng.random()
    if way < 0.3:
        return change_bytes(rng, data)
    array = np.load(io.BytesIO(data))
    if way < 0.45:
        shape = rng.choice(((10**9,), (2**62, 2), (-1,), (10**6, 10**6, 10**6), (0,), ()))
        head = {
            "descr": np.lib.format.dtype_to_descr(array.dtype),
            "fortran_order": rng.random() < 0.5,
            "shape": shape,
        }
        into = io.BytesIO()
        np.lib.format.write_array_header_1_0(into, head)  # type: ignore[arg-type]
        return into.getvalue() + array.tobytes()
    into = io.BytesIO()
    changed = (
        change_array(rng, array) if array.dtype.names is None else array[: rng.randrange(len(array) + 1)]
    )
    np.save(into, changed)
    return into.getvalue()


def change_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Changes the header or the bytes of a safetensors file."""
    if rng.random() < 0.2:
        return change_bytes(rng, data)
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    if "__metadata__" in header and rng.random() < 0.6:
        metadata = header["__metadata__"]
        name = rng.choice(list(metadata))
        try:
            metadata[name] = json.dumps(change_tree(rng, json.loads(metadata[name])))
        except ValueError:
            metadata[name] = str(hostile(rng))
    elif rng.random() < 0.3:
        body = bytearray(data[8 + size :])
        at = rng.randrange(max(1, len(body) - 4))
        body[at : at + 4] = rng.choice(
            (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\xff\xff", b"\xff\xff\x7f\x7f")
        )
        return data[: 8 + size] + bytes(body)
    else:
        header = change_tree(rng, header)
    text = json.dumps(header).encode("utf-8", errors="surrogatepass")
    length = len(text) if rng.random() < 0.95 else rng.choice((0, 2**40, 2**63))
    return struct.pack("<Q", length) + text + data[8 + size :]


def change_parquet(rng: random.Random, data: bytes) -> bytes:
    """Changes columns or metadata of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rng.random() < 0.25:
        return change_bytes(rng, data)
    table = pq.read_table(io.BytesIO(data))
    names, metadata = table.column_names, dict(table.schema.metadata or {})
    texts = [key for key, value in metadata.items() if value.startswith(b"{")]
    if texts and rng.random() < 0.4:
        key = rng.choice(texts)
        metadata[key] = json.dumps(change_tree(rng, json.loads(metadata[key]))).encode(
            "utf-8", errors="replace"
        )
    else:
        name = rng.choice(names)
        column = table[name].to_pylist()
        way = rng.randrange(5)
        at = names.index(name)
        if way == 0:
            table = table.drop_columns([name])
        elif way == 1:
            table = table.set_column(at, name, pa.nulls(len(column)))
        else:
            value = hostile(rng)
            if way == 2:
                column = [value] * len(column)
            elif column:
                column[rng.randrange(len(column))] = value
            try:
                changed = pa.array(column) if way < 4 else pa.array(column, table.schema.field(name).type)
            except (pa.ArrowException, OverflowError, TypeError, ValueError, UnicodeError):
                changed = pa.array([str(part)[:20].encode("ascii", "replace") for part in column])
            table = table.set_column(at, name, changed)
    into = io.BytesIO()
    try:
        pq.write_table(table.replace_schema_metadata(metadata), into)
    except pa.ArrowException:  # Parquet has no such column
        return change_bytes(rng, data)
    return into.getvalue()
