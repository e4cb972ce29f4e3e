"""How well search by motion finds windows of the same kind of motion in other clips.

    python -m benchmarks.search [--seeds 3 4 5 6] [--speeds 1 2] [--frames 40] [--stride 8] [--ids 4 8 16]

Rendered clips of every kind, of another scene each, so of another appearance and direction, at one and two
times the speed, are tracked by the embedded tracker. Each window is a query, and the windows of all other
clips are ranked. Relevant are windows of the query's motion class; in the second half of the table windows of
its class and direction (pan left, zoom in). Printed are means over queries: mAP, how often the first is
relevant, and the share of relevant ones among the first ten.

Compared are the shipped tokenizers' codes, also their first ids alone; digits and ids of the codec without
decoding; PCA codes of as many bits; displacements without codes, whole, averaged as the vectors of the codes
are, and rounded to as many bits as the codes have; and a random order.
"""

import argparse
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer import decode_tracks, load_tokenizer
from amplify_motion_tokenizer.codes.motion_vectors import motion_vectors
from amplify_motion_tokenizer.codes.tracks import encode_tracks
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.evaluation.plain_coders import PcaCoder, made_up_components
from amplify_motion_tokenizer.evaluation.tables import lines, markdown
from amplify_motion_tokenizer.trackers.windows import SEEN
from benchmarks.support.measuring import frame_size
from benchmarks.support.moving_windows import GRID, LENGTH, MovingWindows, moving_windows

Floats = NDArray[np.float32]

BITS_OF_ID = 11
"""Of the shipped tokenizers, and of the PCA coder's ids."""
FIRST = 10
MEASURES = ("mAP", "first", "of 10")


def between(vectors: Floats, order: float = 2) -> Floats:
    """(S, S) distances of vectors (S, K)."""
    found = torch.from_numpy(vectors)
    return np.asarray(torch.cdist(found, found, p=order).numpy())


def variants(
    windows: MovingWindows, size: tuple[int, int], ids: Sequence[int]
) -> Iterator[tuple[str, str, Floats]]:
    """(name, bits of a window, (S, S) distances) of everything that is compared."""
    for shipped in ("transform", "codec"):
        tokenizer = load_tokenizer(shipped, "cpu")
        codes = encode_tracks(tokenizer, windows.tracks_xy_px, windows.visibility, size)
        for count in ids:
            tracks = decode_tracks(tokenizer, codes[:, :count], size)
            yield f"{shipped}'s codes", str(BITS_OF_ID * count), between(motion_vectors(tracks, size))
    bits = str(BITS_OF_ID * codes.shape[1])
    levels = torch.tensor(tokenizer.config.model.fsq_levels)
    digits = (tokenizer.digits(codes) / levels).flatten(1).numpy()
    yield "codec's digits by their levels", bits, between(digits, order=1)
    yield "codec's ids, share of equal ones", bits, (codes[:, None] != codes).float().mean(dim=2).numpy()
    seen, sizes = windows.visibility >= SEEN, torch.tensor([size]).expand(len(codes), 2)
    components = made_up_components(GRID, LENGTH)
    for count in ids:
        tracks = PcaCoder(components, count)(windows.tracks_xy_px, seen, sizes)
        yield "PCA codes", str(BITS_OF_ID * count), between(motion_vectors(tracks, size))
    start = windows.tracks_xy_px[:, :1]
    moves = fill_lost(windows.tracks_xy_px - start, seen)
    vectors = motion_vectors(start + moves, size)
    yield "tracks, averaged", str(32 * vectors.shape[1]), between(vectors)
    yield (
        "tracks, averaged, rounded to bits",
        bits,
        between(rounded(moves, size, BITS_OF_ID * codes.shape[1])),
    )
    whole = (moves[:, 1:] / min(size)).flatten(1).numpy()
    yield "tracks, every point and step", str(32 * whole.shape[1]), between(whole)
    yield "random order", "0", np.random.default_rng(0).random((len(codes), len(codes)), np.float32)


def rounded(moves_px: Tensor, size: tuple[int, int], bits: int) -> Floats:
    """Vectors of mean moves over 2 x 2 fields of the frame and as many stretches of time as ``bits`` allow.

    Numbers are told in 11 bits each, evenly over a quarter of the shorter side to either side of 0.

    Args:
        moves_px: (S, T, N, 2) displacements since frame 0.
        size: (height, width) of the frames in pixels.
        bits: of a window.
    """
    steps = bits // BITS_OF_ID // 8
    side = math.isqrt(moves_px.shape[2])
    fields = moves_px[:, 1:].reshape(len(moves_px), -1, side, side, 2).permute(0, 4, 1, 2, 3) / min(size)
    pooled = torch.nn.functional.adaptive_avg_pool3d(fields, (steps, 2, 2)).flatten(1)
    cells = 2**BITS_OF_ID / 0.5
    numbers = (pooled.clamp(-0.25, 0.25) * cells).round() / cells
    length = numbers.norm(dim=1, keepdim=True)
    return np.asarray((numbers / length.clamp(min=1e-9) * (length / (length + 1 / 480))).numpy())


def scores(distances: Floats, clips: NDArray[np.int64], labels: NDArray[np.str_]) -> list[float]:
    """``MEASURES`` of ranking, for each window, the windows of other clips by distance."""
    found = []
    for query, row in enumerate(distances):
        others = clips != clips[query]
        relevant = (labels[others] == labels[query])[np.argsort(row[others], kind="stable")]
        if relevant.any():
            precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
            found.append([precision[relevant].mean(), relevant[0], relevant[:FIRST].mean()])
    return [float(value) for value in np.mean(found, axis=0)]


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
    windows = moving_windows(
        arguments.size, arguments.seeds, arguments.speeds, arguments.frames, arguments.stride
    )
    clips = windows.clips.numpy()
    labels = [np.array(windows.classes), np.array(windows.directed)]
    counts = " and ".join(str(len(set(names.tolist()))) for names in labels)
    found = f"{len(clips)} windows of {len(set(clips.tolist()))} clips"
    print(f"{found}; {counts} classes, without and with direction\n")
    rows = [["vectors of", "bits", *MEASURES, *(f"{name}, directed" for name in MEASURES)]]
    for name, bits, distances in variants(windows, arguments.size, arguments.ids):
        numbers = [value for names in labels for value in scores(distances, clips, names)]
        rows.append([name, bits, *(f"{value:.3f}" for value in numbers)])
    print((markdown if arguments.markdown else lines)(rows, names=1))


if __name__ == "__main__":
    main()
