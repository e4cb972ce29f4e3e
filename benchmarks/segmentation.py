"""How well clips are cut where the motion changes, from codes, from tracks and without either.

    python -m benchmarks.segmentation [--clips 100] [--phases 5] [--tuned-on 24] [--real CLIPS] [--markdown]

Each clip is one scene in which a camera does one thing after another: nothing is to be seen of a boundary but
the motion. They are tracked by the embedded tracker, windows 4 frames apart. Every curve has its threshold
chosen on clips of other seeds, for the best F1 within half a second. Printed is F1 of boundaries within some
seconds, each matched once; within half a second counted as both ends of every segment; and F1 of segments
that share half and three quarters of what they cover with a true one. With --real there is a second table, of
pieces of videos joined one after the other, with the same thresholds.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer import MotionCodes, Tokenizer, load_tokenizer
from amplify_motion_tokenizer.codes.change_points import change_of_histograms, change_points, histograms
from amplify_motion_tokenizer.codes.given import given_tracks
from amplify_motion_tokenizer.codes.motion_vectors import half_vectors
from amplify_motion_tokenizer.codes.segmentation import Change, Rules, Segment, change_of, segments_of
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.data.inputs import encoder_input
from amplify_motion_tokenizer.evaluation.boundaries import (
    LEAST_IOUS,
    TOLERANCES_S,
    Matched,
    boundary_scores,
    segment_scores,
)
from amplify_motion_tokenizer.evaluation.plain_coders import PcaCoder, made_up_components
from amplify_motion_tokenizer.evaluation.tables import lines, markdown
from amplify_motion_tokenizer.trackers.windows import SEEN
from benchmarks.search_copies import read
from benchmarks.support.measuring import frame_size
from benchmarks.support.moving_windows import FPS, GRID, LENGTH, Video, tracked
from benchmarks.support.phases import phased_scene

Floats = NDArray[np.float64]
Scores = dict[str, Matched]

STRIDE = 4
LAG = LENGTH // STRIDE
TEST_SEED = 100
THRESHOLDS = [round(0.1 * step, 1) for step in range(1, 19)]
"""Of changes from 0 to 2; of other curves the quantiles of their values are tried."""
QUANTILES = np.linspace(0.4, 0.98, 24)
PENALTIES = [0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0]
AROUND = 8
"""Frames before and after a place whose optical flow is compared."""
PIECES, PIECE_FRAMES = 4, (24, 41)
"""Of a joined clip, and frames of each, the last not included."""


class Phased(NamedTuple):
    """A clip whose phases are known."""

    codes: Mapping[str, MotionCodes]
    """By the tokenizer's name."""
    digits: Mapping[str, Floats]
    """(S, any) digits by their levels: of each tokenizer, and ``<name> before rounding``."""
    tracks: Mapping[str, Tensor]
    """(S, T, N, 2) by what they are of: tracks, codes decoded."""
    flow: Change
    """How the mean optical flow changes, in octaves, of at most two."""
    size: tuple[int, int]
    truth: list[Segment]

    @property
    def places(self) -> MotionCodes:
        """Codes that say where windows are."""
        return self.codes["codec"]


class Makers(NamedTuple):
    """What codes are made with."""

    tokenizers: Mapping[str, Tokenizer]
    pca: PcaCoder


Cut = Callable[[Phased, float], list[Segment]]
"""Cuts a clip by a threshold."""


def phased(video: Video, begins: Sequence[int], makers: Makers) -> Phased:
    """A clip (F, H, W, 3) whose phases after the first begin at frames ``begins``."""
    size = video.shape[1], video.shape[2]
    windows = tracked(video, STRIDE)
    seen = windows.visibility >= SEEN
    start = windows.tracks_xy_px[:, :1]
    codes, digits = {}, {}
    for name, tokenizer in makers.tokenizers.items():
        config = tokenizer.config
        codes[name] = tokenizer.encode_tracks(
            windows.tracks_xy_px, windows.visibility, size=size, fps=FPS, starts=windows.starts
        )
        levels = torch.tensor(config.model.fsq_levels)
        view = given_tracks(windows.tracks_xy_px, windows.visibility, size, config)
        with torch.no_grad():
            before = tokenizer.encode(encoder_input([view], config).velocities)
        told = tokenizer.digits(codes[name].ids) + 0.5
        for key, each in ((name, told), (f"{name} before rounding", before)):
            digits[key] = (each / levels).flatten(1).double().numpy()
    sizes = torch.tensor([size]).expand(len(seen), 2)
    tracks = {name: makers.tokenizers[name].decode(each)[0] for name, each in codes.items()}
    tracks["PCA"] = makers.pca(windows.tracks_xy_px, seen, sizes)
    tracks["tracks"] = start + fill_lost(windows.tracks_xy_px - start, seen)
    end = float(codes["codec"].seconds[:, 1].max())
    edges = [0.0, *(begin / FPS for begin in begins), end]
    truth = [Segment(*pair) for pair in zip(edges, edges[1:], strict=False)]
    return Phased(codes, digits, tracks, flow_change(video), size, truth)


def flow_change(video: Video) -> Change:
    """How the mean length of Farneback's optical flow changes from ``AROUND`` frames to the next as many."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]
    means = np.array(
        [
            np.linalg.norm(
                cv2.calcOpticalFlowFarneback(
                    one, two, np.zeros((*one.shape, 2), np.float32), 0.5, 3, 15, 3, 5, 1.2, 0
                ),
                axis=2,
            ).mean()
            for one, two in zip(gray, gray[1:], strict=False)
        ]
    )
    sums = np.r_[0, np.cumsum(means)]
    at = np.arange(AROUND, len(means) - AROUND + 1)
    before, after = sums[at] - sums[at - AROUND], sums[at + AROUND] - sums[at]
    octaves = np.abs(np.log2((after + 0.25) / (before + 0.25)))
    return Change(at / FPS, np.minimum(octaves, 2))


def rendered(seed: int, phases: int, size: tuple[int, int], makers: Makers) -> Phased:
    scene, begins = phased_scene((seed,), size, phases)
    return phased(scene.render(), begins, makers)


def joined(videos: Sequence[Video], seed: int, size: tuple[int, int], makers: Makers) -> Phased:
    """Pieces of videos, each of another than the one before, cut to the middle of ``size``."""
    rng = np.random.default_rng(seed)
    pieces: list[Video] = []
    last = -1
    for _ in range(PIECES):
        last = int(rng.choice([number for number in range(len(videos)) if number != last]))
        length = int(rng.integers(*PIECE_FRAMES))
        begin = int(rng.integers(len(videos[last]) - length + 1))
        pieces.append(np.stack([_cropped(frame, size) for frame in videos[last][begin : begin + length]]))
    begins = np.cumsum([len(piece) for piece in pieces])[:-1].tolist()
    return phased(np.concatenate(pieces), begins, makers)


def _cropped(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    scale = max(want / have for want, have in zip(size, frame.shape[:2], strict=True))
    height, width = (round(side * scale) for side in frame.shape[:2])
    grown = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return np.asarray(grown[top : top + size[0], left : left + size[1]], np.uint8)


Curve = Callable[[Phased], Change]


def within(of: str, clip: Phased) -> Change:
    """What ``segment`` goes by: the halves of each window."""
    before, after = half_vectors(clip.tracks[of], clip.size)
    return change_of(clip.places, np.linalg.norm(after - before, axis=1).astype(np.float64))


def adjoining(vectors: Callable[[Phased], Floats], clip: Phased) -> Change:
    """Root mean square difference of the numbers of windows and of those that begin where they end."""
    found, seconds = vectors(clip), clip.places.seconds.numpy()
    energy = np.sqrt(np.square(found[LAG:] - found[:-LAG]).mean(axis=1))
    return Change((seconds[:-LAG, 1] + seconds[LAG:, 0]) / 2, energy)


def velocities(of: str, clip: Phased) -> Floats:
    """(S, any) mean velocity of windows over 4 x 4 fields, in shorter sides of the frame a step."""
    tracks = clip.tracks[of]
    return _fields((tracks[:, -1] - tracks[:, 0]) / (LENGTH - 1) / min(clip.size))


def velocities_within(of: str, clip: Phased) -> Change:
    """Root mean square difference of the mean velocities of a window's halves."""
    tracks, half = clip.tracks[of], (LENGTH - 1) // 2
    change = (tracks[:, 2 * half] - 2 * tracks[:, half] + tracks[:, 0]) / half / min(clip.size)
    return change_of(clip.places, np.sqrt(np.square(_fields(change)).mean(axis=1)))


def _fields(moves: Tensor) -> Floats:
    """(S, any) means of moves (S, N, 2) over 4 x 4 fields of the frame."""
    fields = moves.view(len(moves), GRID, GRID, 2).permute(0, 3, 1, 2)
    return torch.nn.functional.adaptive_avg_pool2d(fields, 4).flatten(1).double().numpy()


def speed(clip: Phased) -> Change:
    """How much the speed of all points changes between the halves of a window, in octaves, of at most two."""
    tracks, half = clip.tracks["tracks"], (LENGTH - 1) // 2
    moves = [tracks[:, half] - tracks[:, 0], tracks[:, 2 * half] - tracks[:, half]]
    first, second = ((move.square().sum(dim=-1).mean(dim=-1).sqrt() + 0.25).log2() for move in moves)
    return change_of(clip.places, (second - first).abs().clamp(max=2).double().numpy())


def _kept(curve: Curve) -> Curve:
    """The curve, reckoned once for each clip."""
    known: dict[int, Change] = {}

    def kept(clip: Phased) -> Change:
        if id(clip) not in known:
            known[id(clip)] = curve(clip)
        return known[id(clip)]

    return kept


def by(curve: Curve, clip: Phased, threshold: float) -> list[Segment]:
    return segments_of(clip.places, curve(clip), Rules(least_change=threshold))


def by_histograms(name: str, makers: Makers, clip: Phased, penalty: float) -> list[Segment]:
    codes, rules = clip.codes[name], Rules(least_change=penalty)
    rows = histograms(codes, makers.tokenizers[name])
    return segments_of(codes, change_of_histograms(codes, rows), rules, change_points(codes, rows, rules))


def scored(clips: Sequence[Phased], cut: Cut, threshold: float) -> Scores:
    found = {str(number): cut(clip, threshold) for number, clip in enumerate(clips)}
    true = {str(number): clip.truth for number, clip in enumerate(clips)}
    scores = boundary_scores(found, true)
    return {
        **scores["inner"],
        "both ends": scores["both ends"]["0.5"],
        **{f"IoU {least}": each for least, each in segment_scores(found, true).items()},
    }


def uniform(clip: Phased, every_s: float) -> list[Segment]:
    """Cuts every so many seconds."""
    end = clip.truth[-1].end_s
    edges = [*np.arange(0, end - every_s / 2, every_s).tolist(), end]
    return [Segment(*pair) for pair in zip(edges, edges[1:], strict=False)]


def ways(makers: Makers, tuning: Sequence[Phased]) -> dict[str, tuple[Cut, list[float]]]:
    """Every way to cut, and the thresholds to choose from."""
    found: dict[str, tuple[Cut, list[float]]] = {}

    def add(name: str, curve: Curve, of_change: bool = False) -> None:
        curve = _kept(curve)
        values = np.concatenate([curve(clip).energy for clip in tuning])
        tried = THRESHOLDS if of_change else np.unique(np.quantile(values, QUANTILES)).tolist()
        found[name] = functools.partial(by, curve), [value for value in tried if value > 0]

    for name in ("codec", "transform"):
        add(f"{name}'s codes, halves of windows", functools.partial(within, name), True)
    add("PCA codes of 176 bits, halves of windows", functools.partial(within, "PCA"), True)
    add("tracks, halves of windows", functools.partial(within, "tracks"), True)
    for name in ("codec", "transform"):
        for key, told in ((name, "digits"), (f"{name} before rounding", "digits before rounding")):

            def vectors(clip: Phased, key: str = key) -> Floats:
                return clip.digits[key]

            add(f"{name}'s {told}, adjoining windows", functools.partial(adjoining, vectors))
        cut = functools.partial(by_histograms, name, makers)
        found[f"{name}'s digits, change points (ruptures)"] = cut, PENALTIES
    for of, name in (("tracks", ""), ("codec", "codec's codes, "), ("transform", "transform's codes, ")):
        add(
            f"{name}velocities, adjoining windows",
            functools.partial(adjoining, functools.partial(velocities, of)),
        )
        add(f"{name}velocities, halves of windows", functools.partial(velocities_within, of))
    add("tracks, change of speed", speed, True)
    add("optical flow, change of speed", lambda clip: clip.flow, True)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--tuned-on", type=int, default=24)
    parser.add_argument("--size", type=frame_size, default=(120, 160))
    parser.add_argument("--real", type=Path, help="folder of videos to join pieces of")
    parser.add_argument("--joined", type=int, default=12, help="clips of joined pieces")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    told = markdown if arguments.markdown else lines
    tokenizers = {name: load_tokenizer(name, "cpu") for name in ("codec", "transform")}
    makers = Makers(tokenizers, PcaCoder(made_up_components(GRID, LENGTH), 16))
    tuning, clips = (
        [rendered(seed, arguments.phases, arguments.size, makers) for seed in seeds]
        for seeds in (range(arguments.tuned_on), range(TEST_SEED, TEST_SEED + arguments.clips))
    )
    every_s = float(np.mean([segment.end_s - segment.start_s for clip in tuning for segment in clip.truth]))
    chosen: dict[str, tuple[Cut, float]] = {f"a cut every {every_s:.1f} s": (uniform, every_s)}
    for name, (cut, thresholds) in ways(makers, tuning).items():
        f1 = [float(np.nan_to_num(scored(tuning, cut, threshold)["0.5"].f1)) for threshold in thresholds]
        chosen[name] = cut, thresholds[int(np.argmax(f1))]
    sets = [clips]
    if arguments.real is not None:
        videos = [read(path) for path in sorted(arguments.real.iterdir()) if path.suffix == ".mp4"]
        sets.append([joined(videos, seed, arguments.size, makers) for seed in range(arguments.joined)])
    head = ["cut by", "threshold", "true", "found", *(f"F1 in {t:g} s" for t in TOLERANCES_S), "both ends"]
    for each in sets:
        print(f"{len(each)} clips, {sum(clip.truth[-1].end_s for clip in each) / 60:.1f} minutes\n")
        rows = [[*head, *(f"IoU {least:g}" for least in LEAST_IOUS)]]
        for name, (cut, threshold) in chosen.items():
            scores = scored(each, cut, threshold)
            counts, told_f1 = scores["0.5"], [f"{score.f1:.3f}" for score in scores.values()]
            rows.append([name, f"{threshold:.2g}", str(counts.true), str(counts.found), *told_f1])
        print(told(rows, 1) + "\n")


if __name__ == "__main__":
    main()
