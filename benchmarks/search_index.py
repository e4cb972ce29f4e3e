"""How fast search is in many windows, and how much of the nearest a graph finds.

    python -m benchmarks.search_index [--windows 100000 1000000] [--queries 50] [--markdown]

Windows are mixtures of the vectors of two of some thousand windows of made-up motion each, and a little
noise, in clips of 100 that do not overlap. Both ways look for the ten nearest moments of single windows.
Recall is the share of the exact search's ten that the graph's are. Times are of the process's CPU, so of all
its threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer.codes.motion_vectors import motion_vectors
from amplify_motion_tokenizer.codes.search import Places, nearest, query_moment
from amplify_motion_tokenizer.codes.search_index import ClipPlaces, write_index
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.evaluation.tables import lines, markdown
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows

MADE_UP, NOISE, GRID, LENGTH, OF_CLIP, FOUND = 2000, 0.01, 20, 16, 100, 10


def made_up_vectors(count: int) -> NDArray[np.float32]:
    """(count, K) vectors of made-up windows, each in frames of its own shape."""
    found = []
    for first in range(0, count, 250):
        made = synthetic_windows(min(250, count - first), 0, first, GRID, LENGTH)
        start = made.tracks_xy_px[:, :1]
        moves = fill_lost(made.tracks_xy_px - start, made.visibility > 0)
        tracks = (start + moves) / made.sizes.amin(dim=1).float()[:, None, None, None]
        found.append(motion_vectors(tracks, (1, 1)))
    return np.concatenate(found)


def mixtures(of: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """(count, K) random mixtures of two vectors each."""
    rng = np.random.default_rng(seed)
    found = np.empty((count, of.shape[1]), np.float32)
    for first in range(0, count, 1 << 16):
        part = found[first : first + (1 << 16)]
        one, other = of[rng.integers(len(of), size=(2, len(part)))]
        share = rng.random((len(part), 1), np.float32)
        part[:] = share * one + (1 - share) * other
        part += NOISE * rng.standard_normal(part.shape, np.float32)
    return found


def clips_of(count: int) -> dict[str, Places]:
    """Places of ``count`` windows, ``OF_CLIP`` a clip, end to end."""
    starts = torch.arange(OF_CLIP) * LENGTH
    frames = torch.stack([starts, starts + LENGTH - 1], dim=1)
    none, meta = torch.zeros_like(starts), {"tracked_length": LENGTH}
    return {
        str(number): ClipPlaces(str(number), starts, frames.double() / 20, frames, none, meta)
        for number in range(count // OF_CLIP)
    }


def measured(folder: Path, vectors: NDArray[np.float32], queries: int) -> list[str]:
    """A row of the table."""
    clips = clips_of(len(vectors))
    record = {"source_hash": "0" * 16, "windows": len(vectors), "tracked_length": LENGTH, "graph": True}
    began = time.process_time()
    index = write_index(folder, clips, vectors, record | {"checkpoint_sha256": None})
    built = time.process_time() - began
    rng = np.random.default_rng(1)
    times, recalls = [[0.0], [0.0]], []
    for clip in rng.choice(len(clips), queries, replace=False).tolist():
        moments = []
        for way, graph in enumerate((None, index.graph)):
            began = time.process_time()
            query = query_moment(index.clips, str(clip), float(index.clips[str(clip)].seconds[7, 0]), 0)
            found = nearest(index.clips, index.vectors, query, FOUND, graph)
            times[way].append(time.process_time() - began)
            moments.append({(moment.clip, moment.rows) for moment in found})
        recalls.append(len(moments[0] & moments[1]) / FOUND)
    exact, approximate = (1000 * float(np.median(each[1:])) for each in times)
    (own,) = folder.iterdir()
    sizes = [f"{(own / name).stat().st_size / 1e6:.0f}" for name in ("vectors.npy", "graph.usearch")]
    return [
        f"{len(vectors):,}", f"{built:.0f}", *sizes, f"{exact:.1f}", f"{approximate:.1f}",
        f"{np.mean(recalls):.3f}",
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--made-up", type=int, default=MADE_UP)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    of = made_up_vectors(arguments.made_up)
    rows = [["windows", "built s", "vectors MB", "graph MB", "exact ms", "graph ms", "recall of 10"]]
    for count in arguments.windows:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(Path(folder), mixtures(of, count, 0), arguments.queries))
    print((markdown if arguments.markdown else lines)(rows, 1))


if __name__ == "__main__":
    main()
