"""How well clips are cut where the motion changes, from codes, from tracks and without either.

    python -m benchmarks.segmentation [--clips 60] [--phases 5] [--tuned-on 24] [--size 120x160] [--markdown]

Each clip is one scene in which a camera does one thing after another: nothing is to be seen of a boundary but
the motion. They are tracked by the embedded tracker, windows 4 frames apart. Every curve has its threshold
chosen on clips of other seeds, for the best F1 within half a second. Printed is F1 of boundaries within some
seconds, each matched once, and within half a second counted as both ends of every segment.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer import MotionCodes, Tokenizer, load_tokenizer
from amplify_motion_tokenizer.codes.motion_vectors import half_vectors, motion_vectors
from amplify_motion_tokenizer.codes.segmentation import Change, Rules, Segment, change_of, segments_of
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.evaluation.boundaries import TOLERANCES_S, Matched, boundary_scores
from amplify_motion_tokenizer.evaluation.plain_coders import PcaCoder, made_up_components
from amplify_motion_tokenizer.evaluation.tables import lines, markdown
from amplify_motion_tokenizer.trackers.windows import SEEN
from benchmarks.support.measuring import frame_size
from benchmarks.support.moving_windows import FPS, GRID, LENGTH, tracked
from benchmarks.support.phases import phased_scene

Floats = NDArray[np.float64]
Scores = dict[str, dict[str, Matched]]

STRIDE = 4
TEST_SEED = 100
THRESHOLDS = [round(0.1 * step, 1) for step in range(1, 19)]
CHOSEN_AT = "0.5"


class Phased(NamedTuple):
    """A clip whose phases are known."""

    codes: MotionCodes
    """Where its windows are; its ids are of the codec."""
    tracks: Mapping[str, Tensor]
    """(S, T, N, 2) by what they are of: tracks, codes decoded."""
    truth: list[Segment]


Curve = Callable[[Phased], Change]


def phased(
    seed: int, phases: int, size: tuple[int, int], tokenizers: Mapping[str, Tokenizer], pca: PcaCoder
) -> Phased:
    scene, begins = phased_scene((seed,), size, phases)
    windows = tracked(scene.render(), STRIDE)
    seen = windows.visibility >= SEEN
    start = windows.tracks_xy_px[:, :1]
    made = {
        name: tokenizer.encode_tracks(
            windows.tracks_xy_px, windows.visibility, size=size, fps=FPS, starts=windows.starts
        )
        for name, tokenizer in tokenizers.items()
    }
    sizes = torch.tensor([size]).expand(len(seen), 2)
    tracks = {name: tokenizers[name].decode(codes)[0] for name, codes in made.items()}
    tracks["PCA"] = pca(windows.tracks_xy_px, seen, sizes)
    tracks["tracks"] = start + fill_lost(windows.tracks_xy_px - start, seen)
    end = float(made["codec"].seconds[:, 1].max())
    edges = [0.0, *(begin / FPS for begin in begins), end]
    return Phased(made["codec"], tracks, [Segment(*pair) for pair in zip(edges, edges[1:], strict=False)])


def within(of: str, size: tuple[int, int]) -> Curve:
    """What ``segment`` goes by: the halves of each window."""

    def curve(clip: Phased) -> Change:
        before, after = half_vectors(clip.tracks[of], size)
        return change_of(clip.codes, np.linalg.norm(after - before, axis=1).astype(np.float64))

    return curve


def smoothed(of: str, size: tuple[int, int]) -> Curve:
    """The same, each the mean with its two neighbours."""

    def curve(clip: Phased) -> Change:
        found = within(of, size)(clip)
        return found._replace(energy=np.convolve(np.pad(found.energy, 1, "edge"), np.ones(3) / 3, "valid"))

    return curve


def adjoining(of: str, size: tuple[int, int]) -> Curve:
    """Whole windows against those that begin where they end."""

    def curve(clip: Phased) -> Change:
        vectors, seconds = motion_vectors(clip.tracks[of], size), clip.codes.seconds.numpy()
        lag = LENGTH // STRIDE
        energy = np.linalg.norm(vectors[lag:] - vectors[:-lag], axis=1).astype(np.float64)
        return Change((seconds[:-lag, 1] + seconds[lag:, 0]) / 2, energy)

    return curve


def speed(clip: Phased) -> Change:
    """How much the speed of all points changes between the halves of a window, in octaves, of at most two."""
    tracks, half = clip.tracks["tracks"], (LENGTH - 1) // 2
    moves = [tracks[:, half] - tracks[:, 0], tracks[:, 2 * half] - tracks[:, half]]
    first, second = ((move.square().sum(dim=-1).mean(dim=-1).sqrt() + 0.25).log2() for move in moves)
    return change_of(clip.codes, (second - first).abs().clamp(max=2).double().numpy())


def scored(clips: Sequence[Phased], curve: Curve, threshold: float) -> Scores:
    rules = Rules(least_change=threshold)
    found = {str(number): segments_of(clip.codes, curve(clip), rules) for number, clip in enumerate(clips)}
    return boundary_scores(found, {str(number): clip.truth for number, clip in enumerate(clips)})


def uniform(clips: Sequence[Phased], every_s: float) -> Scores:
    """Cuts every so many seconds."""
    found = {}
    for number, clip in enumerate(clips):
        end = clip.truth[-1].end_s
        edges = [*np.arange(0, end - every_s / 2, every_s).tolist(), end]
        found[str(number)] = [Segment(*pair) for pair in zip(edges, edges[1:], strict=False)]
    return boundary_scores(found, {str(number): clip.truth for number, clip in enumerate(clips)})


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--tuned-on", type=int, default=24)
    parser.add_argument("--size", type=frame_size, default=(120, 160))
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    tokenizers = {name: load_tokenizer(name, "cpu") for name in ("codec", "transform")}
    pca, size = PcaCoder(made_up_components(GRID, LENGTH), 16), arguments.size
    tuning, clips = (
        [phased(seed, arguments.phases, size, tokenizers, pca) for seed in seeds]
        for seeds in (range(arguments.tuned_on), range(TEST_SEED, TEST_SEED + arguments.clips))
    )
    curves: dict[str, Curve] = {
        "codec's codes": within("codec", size),
        "codec's codes, smoothed": smoothed("codec", size),
        "codec's codes, adjoining windows": adjoining("codec", size),
        "transform's codes": within("transform", size),
        "PCA codes of 176 bits": within("PCA", size),
        "tracks": within("tracks", size),
        "tracks, speed alone": speed,
    }
    rows = [["cut by", "threshold", "true", "found", *(f"F1 in {t:g} s" for t in TOLERANCES_S), "both ends"]]
    every_s = float(np.mean([segment.end_s - segment.start_s for clip in tuning for segment in clip.truth]))
    rows.append(_row(f"a cut every {every_s:.1f} s", "-", uniform(clips, every_s)))
    for name, curve in curves.items():
        f1 = {threshold: scored(tuning, curve, threshold)["inner"][CHOSEN_AT].f1 for threshold in THRESHOLDS}
        best = max(f1, key=lambda threshold: np.nan_to_num(f1[threshold]))
        rows.append(_row(name, f"{best:g}", scored(clips, curve, best)))
    print((markdown if arguments.markdown else lines)(rows, 1))


def _row(name: str, threshold: str, scores: Scores) -> list[str]:
    inner = scores["inner"]
    counts = inner[CHOSEN_AT]
    f1 = [f"{each.f1:.3f}" for each in (*inner.values(), scores["both ends"][CHOSEN_AT])]
    return [name, threshold, str(counts.true), str(counts.found), *f1]


if __name__ == "__main__":
    main()
