"""How well search by motion finds windows of the same kind of motion in other clips.

    python -m benchmarks.search [--seeds 3 4 5 6] [--speeds 1 2] [--frames 40] [--stride 8] [--ids 4 8 16]

Rendered clips of every kind, of another scene each, so of another appearance, direction and camera path, at
one and two times the speed, are tracked by the embedded tracker. Each window is a query, and the windows of
all other clips are ranked. Relevant are windows of the query's motion class; in the second half of a table
windows of its class and direction (pan left, zoom in). Printed are means over queries: mAP, how often the
first is relevant, and the share of relevant ones among the first ten. The second table has the same of whole
clips, whose windows are compared one by one in order, as search does with a query of several. The third has
mAP, and how often the first is relevant, by class.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer.evaluation.tables import lines, markdown
from benchmarks.support.compared_vectors import Coders, Compared, Floats, compared
from benchmarks.support.measuring import frame_size
from benchmarks.support.moving_windows import moving_windows

FIRST = 10
MEASURES = ("mAP", "first", "of 10")

BY_CLASS = (
    "codec's codes", "transform's codes", "PCA codes", "tracks, averaged",
    "velocities, averaged, rounded to bits", "random order",
)  # fmt: skip
"""What the table by class has, of all its bits."""


def scores_by_query(
    distances: Floats, clips: NDArray[np.int64], labels: NDArray[np.str_]
) -> dict[int, list[float]]:
    """``MEASURES`` of ranking, for each window, the windows of other clips by distance.

    A query of which no other clip is relevant has none.
    """
    found = {}
    for query, row in enumerate(distances):
        others = clips != clips[query]
        relevant = (labels[others] == labels[query])[np.argsort(row[others], kind="stable")]
        if relevant.any():
            precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
            found[query] = [
                float(value) for value in (precision[relevant].mean(), relevant[0], relevant[:FIRST].mean())
            ]
    return found


def scores(distances: Floats, clips: NDArray[np.int64], labels: NDArray[np.str_]) -> list[float]:
    """Means of ``scores_by_query``."""
    return [
        float(value) for value in np.mean(list(scores_by_query(distances, clips, labels).values()), axis=0)
    ]


def of_clips(distances: Floats, clips: NDArray[np.int64]) -> Floats:
    """(C, C) means of the distances of windows in the same place of two clips of as many."""
    count = len(np.unique(clips))
    windows = len(clips) // count
    pairs = distances.reshape(count, windows, count, windows)
    return np.asarray(np.einsum("awbw->ab", pairs) / windows)


Print = Callable[[list[list[str]], int], str]


def by_class(ways: Sequence[Compared], clips: NDArray[np.int64], labels: NDArray[np.str_]) -> list[list[str]]:
    """Rows of the table by class."""
    chosen = [max((way for way in ways if way.name == name), key=lambda way: way.bits) for name in BY_CLASS]
    rows = [["class", "windows", *(f"{way.name}{end}" for way in chosen for end in (", mAP", ", first"))]]
    found = [scores_by_query(way.to(way), clips, labels) for way in chosen]
    for label in sorted(set(labels.tolist())):
        queries = np.flatnonzero(labels == label).tolist()
        numbers = [
            f"{np.mean([own[query][measure] for query in queries]):.2f}"
            for own in found
            for measure in (0, 1)
        ]
        rows.append([label, str(len(queries)), *numbers])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5, 6])
    parser.add_argument("--speeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--size", type=frame_size, default=(240, 320))
    parser.add_argument("--ids", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    told: Print = markdown if arguments.markdown else lines
    windows = moving_windows(
        arguments.size, arguments.seeds, arguments.speeds, arguments.frames, arguments.stride
    )
    clips = windows.clips.numpy()
    labels = [np.array(windows.classes), np.array(windows.directed)]
    ways = compared(windows.tracks_xy_px, windows.visibility, arguments.size, Coders.shipped(arguments.ids))
    counts = " and ".join(str(len(set(names.tolist()))) for names in labels)
    firsts = np.unique(clips, return_index=True)[1]
    print(f"{len(clips)} windows of {len(firsts)} clips; {counts} classes, without and with direction\n")
    head = ["vectors of", "bits", *MEASURES, *(f"{name}, directed" for name in MEASURES)]
    for whole in (False, True):
        rows = [[("whole clips, " if whole else "") + head[0], *head[1:]]]
        for way in ways:
            distances = of_clips(way.to(way), clips) if whole else way.to(way)
            places = firsts if whole else np.arange(len(clips))
            numbers = [value for names in labels for value in scores(distances, clips[places], names[places])]
            rows.append([way.name, str(way.bits), *(f"{value:.3f}" for value in numbers)])
        print(told(rows, 1) + "\n")
    print(told(by_class(ways, clips, labels[0]), 1))


if __name__ == "__main__":
    main()
