"""An index of codes for search: what their windows decode to, kept beside them, and a graph of near ones.

Layout of the folder ``search_index`` in a folder of codes, or ``<file>.search_index`` beside a file::

    <first 16 digits of source_hash>/
        vectors.npy    float32 (S, K)   ``motion_vectors`` of all windows, clip after clip
        windows.npy    records (S,)     ``_COLUMNS``; clip is the number of its name
        clips.npy      text (C,)        names of the clips
        graph.usearch                   with ``build_index(approximate=True)``: usearch's graph, float16
        index.yaml                      what it was built of; written last, so a folder without it is no index

Letters: S windows of all clips, C clips, K numbers of a window's vector.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.codes.made_with import tokenizer_of
from amplify_motion_tokenizer.codes.motion_vectors import CHARACTER, POOLED, STILL, all_vectors
from amplify_motion_tokenizer.codes.reading import code_files, read_codes
from amplify_motion_tokenizer.codes.search import Floats, Graph, Ints, Places
from amplify_motion_tokenizer.codes.tokenizer import load_tokenizer
from amplify_motion_tokenizer.config.loading import load_yaml
from amplify_motion_tokenizer.damaged_files import DamagedError, load_array
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import SEARCH_INDEX, is_clip_name
from amplify_motion_tokenizer.files import atomic_path, failure_named, make_output_folder, write_yaml
from amplify_motion_tokenizer.kinds import FLAG, TEXT, Kind, check_kinds, or_none, require_kinds, whole_from
from amplify_motion_tokenizer.models.torch_files import file_hash

LAYOUT = 1
"""Version of the layout and of what the vectors are, beside the numbers of ``motion_vectors`` itself."""

_VECTORS, _WINDOWS, _CLIPS, _GRAPH, _RECORD = (
    "vectors.npy", "windows.npy", "clips.npy", "graph.usearch", "index.yaml",
)  # fmt: skip

_COLUMNS = np.dtype(
    [
        ("clip", np.int32),
        ("start", np.int64),
        ("part", np.int64),
        ("begin_s", np.float64),
        ("end_s", np.float64),
        ("source_frame", np.int64),
        ("end_source_frame", np.int64),
    ]
)


@dataclass(frozen=True)
class ClipPlaces:
    """Where the windows of a clip are, as ``search.Places`` says."""

    clip: str
    starts: Tensor
    seconds: Tensor
    source_frames: Tensor
    parts: Tensor
    meta: Mapping[str, Any]

    def __len__(self) -> int:
        """S."""
        return len(self.starts)


@dataclass(frozen=True)
class SearchIndex:
    """What ``search.nearest`` needs of the codes that an index was built of."""

    clips: Mapping[str, Places]
    """Where the windows are, by clip."""
    vectors: Mapping[str, Floats]
    """(S, K) of each clip; read from the disk as they are needed."""
    graph: Graph | None
    """Of all windows, where it was built."""
    record: Mapping[str, Any]
    """What the index says of itself: codes, checkpoint, windows."""


def index_folder(codes: Path) -> Path:
    """Where the index of codes at ``codes`` is, be it a folder or a file."""
    return codes / SEARCH_INDEX if codes.is_dir() else codes.with_name(f"{codes.name}.{SEARCH_INDEX}")


def check_usearch() -> None:
    """Raises UsageError where usearch is not installed; says how to."""
    if importlib.util.find_spec("usearch") is None:
        raise UsageError(
            "an approximate index needs usearch, which is not installed; pip install 'usearch>=2.17' (or "
            "this package with the extra search), or search exactly"
        )


def source_hash(codes: Path) -> str:
    """SHA-256, in hex, of the file or files that ``read_codes`` reads there, and of how vectors are made.

    Raises:
        UsageError: as ``code_files``.
    """
    _, files = code_files(codes)
    base = codes if codes.is_dir() else codes.parent
    digest = hashlib.sha256(repr((LAYOUT, POOLED, STILL, CHARACTER)).encode())
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: cannot be read (No such file or directory); give inference's output")
        digest.update(f"{file.relative_to(base).as_posix()} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def build_index(codes: Path, checkpoint: str | Path | None = None, approximate: bool = False) -> SearchIndex:
    """Builds the index of codes and puts it beside them, in the place of an older one.

    Args:
        codes: a folder that ``infer`` wrote, or a file of codes of any format.
        checkpoint: the tokenizer of the codes; None where it came with the package.
        approximate: whether to build a graph, too, by which ``nearest`` looks at few of many windows.

    Raises:
        UsageError: codes cannot be read, are of another tokenizer, there are no windows, usearch is missing,
            or the index cannot be written.
    """
    if approximate:
        check_usearch()
    digest = source_hash(codes)
    found = read_codes(codes)
    tokenizer = tokenizer_of(found, checkpoint)
    if not any(len(clip) for clip in found.values()):
        raise UsageError(f"{codes}: holds no windows of any clip; run inference on clips that move")
    parts = all_vectors(found, tokenizer)
    first = next(iter(found.values()))
    record = {
        "layout": LAYOUT,
        "source_hash": digest,
        "codes": codes.name,
        "checkpoint": first.meta.get("checkpoint"),
        "checkpoint_sha256": first.meta.get("checkpoint_sha256"),
        "tracked_length": first.meta["tracked_length"],
        "windows": sum(len(part) for part in parts.values()),
        "graph": approximate,
    }
    vectors = np.concatenate(list(parts.values()))
    return write_index(index_folder(codes), found, vectors, record)


def write_index(
    folder: Path, clips: Mapping[str, Places], vectors: Floats, record: Mapping[str, Any]
) -> SearchIndex:
    """Writes an index in a subfolder of ``folder``, removes older ones there, and opens it.

    Args:
        folder: from ``index_folder``.
        clips: where their windows are.
        vectors: (S, K), clip after clip.
        record: as ``build_index`` makes it; ``graph`` says whether there is to be one.

    Raises:
        UsageError: it cannot be written, or usearch is missing.
    """
    own = make_output_folder(folder / str(record["source_hash"])[:16])
    _save(own / _VECTORS, np.asarray(vectors, np.float32))
    _save(own / _WINDOWS, _columns(clips))
    _save(own / _CLIPS, np.array(list(clips), str))
    if record["graph"]:
        _write_graph(own / _GRAPH, vectors)
    write_yaml(own / _RECORD, dict(record))
    if not record["graph"]:
        (own / _GRAPH).unlink(missing_ok=True)
    for other in folder.iterdir():
        if other != own and other.is_dir() and (other / _RECORD).is_file():
            shutil.rmtree(other)
    return _opened(own, exact=False)


def searchable(codes: Path, checkpoint: str | Path | None = None, exact: bool = False) -> SearchIndex:
    """The index beside codes, or what it would hold where none was built.

    Args:
        codes: a folder that ``infer`` wrote, or a file of codes of any format.
        checkpoint: the tokenizer of the codes; None where it came with the package.
        exact: whether to leave a graph out.

    Raises:
        UsageError: as ``open_index``; or codes cannot be read, or are of another tokenizer.
        CheckpointError: ``checkpoint`` cannot be read.
    """
    index = open_index(codes, exact)
    if index is None:
        found = read_codes(codes)
        return SearchIndex(found, all_vectors(found, tokenizer_of(found, checkpoint)), None, {})
    made_with = index.record.get("checkpoint_sha256")
    if checkpoint is not None and made_with not in (None, load_tokenizer(checkpoint).checkpoint_sha256):
        raise UsageError(
            f"{codes}: was made with {index.record.get('checkpoint')} (SHA-256 {made_with[:8]}...), and "
            f"--checkpoint {checkpoint} is another file; give the one that made the codes"
        )
    return index


def open_index(codes: Path, exact: bool = False) -> SearchIndex | None:
    """The index beside codes; None where none was built.

    Args:
        codes: a folder that ``infer`` wrote, or a file of codes of any format.
        exact: whether to leave a graph out.

    Raises:
        UsageError: it was built of other codes than are there now, or is damaged; it has a graph, which is
            wanted, and usearch is missing; or the codes are missing.
    """
    folder = index_folder(codes)
    digest = source_hash(codes)
    if not folder.is_dir():
        return None
    own = folder / digest[:16]
    if (own / _RECORD).is_file():
        return _opened(own, exact)
    if any((other / _RECORD).is_file() for other in folder.iterdir()):
        raise UsageError(
            f"{folder}: was built of other codes than {codes} holds now, or by another version; run search "
            "build again, or remove it to search without"
        )
    return None


def _opened(own: Path, exact: bool) -> SearchIndex:
    record = load_yaml(own / _RECORD)
    require_kinds(f"{own / _RECORD}", record, _RECORD_KINDS, UsageError)
    check_kinds(f"{own / _RECORD}", record, _RECORD_MAY, UsageError)
    try:
        vectors = load_array(own / _VECTORS, in_place=True)
        windows, named = load_array(own / _WINDOWS), load_array(own / _CLIPS)
        _check_arrays(vectors, windows, named, record["windows"])
    except (OSError, DamagedError) as error:
        raise _damaged(own, error) from None
    names = [str(name) for name in named]
    clips, ends = _clips(windows, names, {"tracked_length": record["tracked_length"]})
    by_clip = dict(zip(clips, np.split(vectors, ends[:-1]), strict=True))
    graph = _UsearchGraph(own / _GRAPH, names, ends) if record.get("graph") and not exact else None
    return SearchIndex(clips, by_clip, graph, record)


_RECORD_KINDS: dict[str, Kind] = {"windows": whole_from(1), "tracked_length": whole_from(1)}
_RECORD_MAY: dict[str, Kind] = {
    "checkpoint": or_none(TEXT),
    "checkpoint_sha256": or_none(TEXT),
    "graph": or_none(FLAG),
}


def _check_arrays(vectors: NDArray[Any], windows: NDArray[Any], names: NDArray[Any], count: int) -> None:
    """Raises DamagedError unless the arrays are of ``count`` windows, of clips that ``names`` tell."""
    shapes = vectors.ndim == 2 and windows.ndim == names.ndim == 1 and names.dtype.kind == "U"
    if not shapes or vectors.dtype != np.float32 or windows.dtype != _COLUMNS:
        raise DamagedError("its arrays are of another kind")
    if not len(vectors) == len(windows) == count:
        raise DamagedError(f"{len(vectors)} vectors of {len(windows)} windows, expected {count}")
    if len(set(names.tolist())) < len(names) or not all(map(is_clip_name, names.tolist())):
        raise DamagedError("its clips have no names of clips, or one of them twice")
    numbers = windows["clip"]
    if (np.diff(numbers) < 0).any() or not 0 <= numbers[0] <= numbers[-1] < len(names):
        raise DamagedError("its windows are of other clips")
    within = numbers[1:] == numbers[:-1]
    if (np.diff(windows["start"])[within] <= 0).any() or windows["start"].min() < 0:
        raise DamagedError("its windows do not begin one after the other")
    times = np.stack([windows["begin_s"], windows["end_s"]])
    frames = min(windows["source_frame"].min(), windows["end_source_frame"].min())
    if np.isinf(times).any() or frames < -1 or windows["part"].min() < -1:
        raise DamagedError("its windows are at times, in frames or in parts that no clip has")


def _damaged(own: Path, reason: object) -> UsageError:
    return UsageError(f"{own}: is damaged ({str(reason).splitlines()[0]:.80}); run search build again")


def _save(path: Path, array: NDArray[Any]) -> None:
    with atomic_path(path, array.nbytes) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _columns(clips: Mapping[str, Places]) -> NDArray[Any]:
    """(S,) records of ``_COLUMNS``."""
    found = np.empty(sum(map(len, clips.values())), _COLUMNS)
    first = 0
    for number, clip in enumerate(clips.values()):
        own = found[first : first + len(clip)]
        own["clip"], own["start"], own["part"] = number, clip.starts.numpy(), clip.parts.numpy()
        own["begin_s"], own["end_s"] = clip.seconds.numpy().T
        own["source_frame"], own["end_source_frame"] = clip.source_frames.numpy().T
        first += len(clip)
    return found


def _clips(
    windows: NDArray[Any], names: list[str], meta: Mapping[str, Any]
) -> tuple[dict[str, Places], Ints]:
    """Where the windows of each clip are, and the row at which each clip ends."""
    ends = np.searchsorted(windows["clip"], np.arange(len(names)), side="right")
    clips: dict[str, Places] = {}
    for name, own in zip(names, np.split(windows, ends[:-1]), strict=True):
        clips[name] = ClipPlaces(
            clip=name,
            starts=torch.from_numpy(own["start"].copy()),
            seconds=torch.from_numpy(np.stack([own["begin_s"], own["end_s"]], axis=1)),
            source_frames=torch.from_numpy(np.stack([own["source_frame"], own["end_source_frame"]], axis=1)),
            parts=torch.from_numpy(own["part"].copy()),
            meta=meta,
        )
    return clips, ends


def _write_graph(path: Path, vectors: Floats) -> None:
    check_usearch()
    from usearch.index import Index

    graph = Index(ndim=vectors.shape[1], metric="l2sq", dtype="f16")
    graph.add(np.arange(len(vectors)), np.asarray(vectors, np.float32))
    with atomic_path(path) as temporary, failure_named(path):
        graph.save(str(temporary))


class _UsearchGraph:
    """A ``search.Graph`` in a file of usearch, which is read as it is needed."""

    def __init__(self, path: Path, names: list[str], ends: Ints) -> None:
        check_usearch()
        from usearch.index import Index

        try:
            graph = Index.restore(str(path), view=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise _damaged(path.parent, error) from None
        if graph is None or len(graph) != int(ends[-1]):
            raise _damaged(path.parent, f"{path.name} does not hold its windows")
        self._graph, self._names, self._ends = graph, names, ends

    def __len__(self) -> int:
        return len(self._graph)

    def near(self, vectors: Floats, count: int) -> list[dict[str, Ints]]:
        found = []
        for keys in np.atleast_2d(self._graph.search(np.ascontiguousarray(vectors), count).keys):
            rows = np.sort(keys.astype(np.int64))
            clips = np.searchsorted(self._ends, rows, side="right")
            begins = np.r_[0, self._ends[:-1]]
            found.append(
                {self._names[clip]: rows[clips == clip] - begins[clip] for clip in np.unique(clips).tolist()}
            )
        return found
