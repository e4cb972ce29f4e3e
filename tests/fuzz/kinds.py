"""The table of what is fuzzed: good files, how one is changed, and what reads it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import binary_changes as binary
from tests.fuzz import changes, folder_readers, folder_seeds, readers, seeds
from tests.fuzz.changes import Change
from tests.fuzz.readers import Read


@dataclass(frozen=True)
class FileKind:
    """A kind of input."""

    make: Callable[[Path], None]
    """Writes good files into a folder."""
    ways: dict[str, tuple[Change, ...]]
    """By the end of a file's name the changes of it; one is drawn. Other files stay as they are."""
    read: Read
    share: float
    """Of all inputs."""
    alone: bool = False
    """Whether only the changed file is there, as the good ones are independent of each other."""

    def change(self, rng: random.Random, files: dict[str, bytes], folder: Path) -> None:
        """Writes the files into ``folder``, one of them changed."""
        names = sorted(name for name in files if self._ways_of(name))
        chosen = rng.choice(names)
        for name, content in files.items():
            if self.alone and name != chosen:
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            way = rng.choice(self._ways_of(name)) if name == chosen else None
            if way is hdf5:
                path.write_bytes(content)
                binary.change_hdf5(rng, path)
            else:
                path.write_bytes(content if way is None else way(rng, content))

    def _ways_of(self, name: str) -> tuple[Change, ...]:
        return next((ways for ending, ways in self.ways.items() if name.endswith(ending)), ())


def hdf5(rng: random.Random, data: bytes) -> bytes:
    """Stands for ``change_hdf5``, which works on a file."""
    raise AssertionError("an HDF5 file is changed where it lies")


BYTES, JSON, TEXT = changes.change_bytes, changes.change_json, changes.change_text
WORDS = binary.change_words


def yaml(rng: random.Random, data: bytes) -> bytes:
    """Changes values of a YAML file, or its text."""
    import yaml as library

    if rng.random() < 0.4:
        return TEXT(rng, data)
    tree = changes.change_tree(rng, library.safe_load(data))
    try:
        return library.dump(tree, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (library.YAMLError, RecursionError):
        return TEXT(rng, data)


def bomb(rng: random.Random, data: bytes) -> bytes:
    """Aliases that stand for many values, up to billions, in one of the file's own keys or a new one."""
    import yaml as library

    width, levels = rng.randrange(2, 12), rng.randrange(2, 14)
    lines = [f"a0: &a0 [{', '.join(['1'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    section, keys = rng.choice([(name, part) for name, part in library.safe_load(data).items() if part])
    key = rng.choice([*keys, "x"]) if isinstance(keys, dict) else "x"
    return f"{chr(10).join(lines)}\n{section}: {{{key}: *a{levels - 1}}}\n".encode()


KINDS = {
    "config": FileKind(
        seeds.config, {".yaml": (yaml,) * 6 + (TEXT,) * 3 + (bomb,)}, readers.config, 0.15, alone=True
    ),
    "tracks": FileKind(seeds.tracks, {".hdf5": (hdf5, hdf5, hdf5, BYTES, WORDS)}, readers.tracks, 0.15),
    "small_tracks": FileKind(
        seeds.small_tracks, {".hdf5": (hdf5, hdf5, hdf5, BYTES, WORDS)}, readers.tracks, 0.1, alone=True
    ),
    "pt": FileKind(
        seeds.windows,
        {".pt": (binary.change_torch, BYTES, binary.change_zip), ".json": (JSON,)},
        readers.tracks, 0.05,
    ),
    "pack": FileKind(
        seeds.pack, {".json": (JSON,), ".npy": (binary.change_npy,)}, readers.packs, 0.1
    ),
    "checkpoint": FileKind(
        seeds.checkpoints,
        {".pth": (binary.change_torch,) * 4 + (BYTES, binary.change_zip)},
        readers.checkpoint, 0.06,
    ),
    "shipped": FileKind(
        seeds.transform, {".safetensors": (binary.change_safetensors,)}, readers.checkpoint, 0.05
    ),
    "hub": FileKind(
        seeds.hub, {".safetensors": (binary.change_safetensors,), ".json": (JSON,)}, readers.checkpoint, 0.04
    ),
    "codes": FileKind(
        seeds.codes,
        {
            ".json": (JSON,), ".jsonl": (JSON,), ".npz": (binary.change_npz,),
            ".parquet": (binary.change_parquet,), ".safetensors": (binary.change_safetensors,),
        },
        readers.codes, 0.15, alone=True,
    ),
    "manifest": FileKind(seeds.manifest, {".jsonl": (JSON, JSON, TEXT)}, readers.manifest, 0.06),
    "segments": FileKind(
        seeds.segments,
        {".json": (JSON,), ".jsonl": (JSON,), ".parquet": (binary.change_parquet,)}, readers.segments, 0.06,
    ),
    "lerobot": FileKind(
        seeds.lerobot,
        {
            "info.json": (JSON,), "episodes/chunk-000/file-000.parquet": (binary.change_parquet,),
            ".mp4": (BYTES,),
        },
        readers.lerobot, 0.03,
    ),
    "libero": FileKind(seeds.libero, {".hdf5": (hdf5, hdf5, BYTES, WORDS)}, readers.libero, 0.03),
    "video": FileKind(
        seeds.videos, {f".{ending}": (BYTES,) for ending in seeds.VIDEOS}, readers.videos, 0.05, alone=True
    ),
    "images": FileKind(seeds.images, {"": (BYTES,)}, readers.images, 0.02),
    "index": FileKind(folder_seeds.index, {".json": (JSON,)}, folder_readers.index, 0.04),
    "search": FileKind(
        folder_seeds.searched, {".npy": (binary.change_npy,), ".yaml": (yaml,)}, folder_readers.searched, 0.04
    ),
    "amplify": FileKind(
        folder_seeds.amplify,
        {"plain.pth": (binary.change_torch, binary.change_zip), "foreign.pth": (binary.change_zip, BYTES)},
        readers.checkpoint, 0.04, alone=True,
    ),
    "reproduction": FileKind(
        folder_seeds.reproduction,
        {".yaml": (yaml,), ".pth": (binary.change_torch,)}, readers.checkpoint, 0.04,
    ),
    "outputs": FileKind(
        folder_seeds.outputs,
        {
            ".yaml": (yaml,), ".jsonl": (JSON, TEXT), ".json": (JSON,), ".parquet": (binary.change_parquet,),
        },
        folder_readers.outputs, 0.03,
    ),
    "preprocessed": FileKind(
        folder_seeds.preprocessed,
        {"tracks/config.yaml": (yaml,), ".jsonl": (JSON, TEXT), ".hdf5": (hdf5, BYTES, WORDS)},
        folder_readers.preprocessed, 0.02,
    ),
    "run": FileKind(
        folder_seeds.run, {".pth": (binary.change_torch,), "": (BYTES,)}, folder_readers.training_run, 0.01
    ),
    "labels": FileKind(
        folder_seeds.labels,
        {"s.json": (JSON,), ".csv": (TEXT, BYTES), ".parquet": (binary.change_parquet,)},
        folder_readers.labels, 0.04,
    ),
    "export": FileKind(
        folder_seeds.exported,
        {"info.json": (JSON,), "stats.json": (JSON,), ".parquet": (binary.change_parquet,)},
        folder_readers.exported, 0.03,
    ),
    "lock": FileKind(folder_seeds.lock, {".owner": (JSON,)}, folder_readers.lock, 0.02),
}  # fmt: skip
