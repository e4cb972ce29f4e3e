"""Cuts that video.shots finds between rendered and between real shots, and what it takes for a cut.

    python -m benchmarks.shots [--sizes 120x160 240x320] [--seeds 0 1 2] [--videos DIR] [--pyscenedetect]

Each seed joins one shot of every kind, in a random order, each of another scene, 32 to 48 frames long: hard,
hard as mp4, hard of every third frame, and by dissolves of 5 to 20 frames in which both shots go on. Single
shots of all kinds, and what happens to them in benchmarks.cuts, are to have no cut. The films in DIR are
joined in pieces of 60 frames, from places in different films.
A hard cut is found at its very frame, a dissolve at one of its mixed frames or the frame on either side.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.scenes import KINDS, render_clip
from amplify_motion_tokenizer.video.reading import open_video
from amplify_motion_tokenizer.video.shots import ShotFinder
from benchmarks.cuts import EVENTS
from benchmarks.support.measuring import frame_size
from benchmarks.tracking import through_mp4

Video = NDArray[np.uint8]
Size = tuple[int, int]
Finder = Callable[[Video], list[int]]
Span = tuple[int, int]

SIZES = [(120, 160), (240, 320)]
DISSOLVES = (5, 10, 15, 20)
SHOT = (32, 49)
PIECE = 60
ALONE = 96
"""Frames of a shot in which nothing is cut."""
COVERED = "covered at once"
"""In the names of the events after which hardly anything of the shot is left to see."""


class Film(NamedTuple):
    """Shots joined, and where: for each cut the first and the last frame at which it is found."""

    video: Video
    spans: list[Span]


class Score(NamedTuple):
    """Cuts there are, those that were found, and what was found where there is none."""

    cuts: int
    found: int
    false: int

    def row(self) -> str:
        told = self.found + self.false
        recall = f"{self.found / self.cuts:.3f}" if self.cuts else "-"
        precision = f"{self.found / told:.3f}" if told and self.cuts else "-"
        return f"{self.cuts:6} {self.found:6} {self.false:6} {recall:>7} {precision:>9}"


def ours(video: Video) -> list[int]:
    finder = ShotFinder((video.shape[1], video.shape[2]))
    cuts = [cut for frame in video for cut in finder.add(frame)]
    return [cut.number for cut in (*cuts, *finder.end())]


def pyscenedetect(name: str) -> Finder:
    import scenedetect  # type: ignore[import-not-found]  # only for the comparison

    def find(video: Video) -> list[int]:
        detector = getattr(scenedetect, name)(min_scene_len=5)
        cuts = []
        for number, frame in enumerate(video):
            time = scenedetect.FrameTimecode(number, 20.0)
            cuts += detector.process_frame(time, np.ascontiguousarray(frame[..., ::-1]))
        cuts += detector.post_process(scenedetect.FrameTimecode(len(video), 20.0))
        return [cut.frame_num for cut in cuts]

    return find


def hard(shots: Sequence[Video]) -> Film:
    cuts = np.cumsum([len(shot) for shot in shots])[:-1].tolist()
    return Film(np.concatenate(shots), [(cut, cut) for cut in cuts])


def dissolved(shots: Sequence[Video], frames: int) -> Film:
    """Each shot's last ``frames`` frames are mixed with the first frames of the next."""
    video, spans = shots[0], []
    share = ((np.arange(frames) + 1) / (frames + 1))[:, None, None, None]
    for shot in shots[1:]:
        mixed = np.round((1 - share) * video[-frames:] + share * shot[:frames]).astype(np.uint8)
        begin = len(video) - frames
        spans.append((begin - 1, len(video)))
        video = np.concatenate([video[:begin], mixed, shot[frames:]])
    return Film(video, spans)


def score(films: Iterator[Film], find: Finder) -> Score:
    cuts = found = false = 0
    for film in films:
        told, left = find(film.video), list(film.spans)
        for cut in told:
            hit = next((span for span in left if span[0] <= cut <= span[1]), None)
            if hit is not None:
                left.remove(hit)
        hits = len(film.spans) - len(left)
        cuts, found, false = cuts + len(film.spans), found + hits, false + len(told) - hits
    return Score(cuts, found, false)


def rendered(seed: int, size: Size, step: int = 1, more: int = 0) -> list[Video]:
    rng = np.random.default_rng([seed, *size, step])
    lengths = rng.integers(*SHOT, len(KINDS))
    kinds = rng.permutation(list(KINDS))
    return [
        render_clip(kind, (seed, index), size, (int(length) + more) * step)[0][::step]
        for index, (kind, length) in enumerate(zip(kinds, lengths, strict=True))
    ]


def films_of(size: Size, seeds: Sequence[int]) -> Iterator[tuple[str, Callable[[], Iterator[Film]]]]:
    """Names and rendered films of one size."""
    yield "hard", lambda: (hard(rendered(seed, size)) for seed in seeds)
    yield "hard, mp4", lambda: (encoded(hard(rendered(seed, size))) for seed in seeds)
    yield "hard, 3x", lambda: (hard(rendered(seed, size, 3)) for seed in seeds)
    for count in DISSOLVES:
        yield (
            f"dissolve, {count} frames",
            partial(mixed, partial(rendered, size=size, more=count), count, seeds),
        )
    yield (
        f"none, {ALONE} frames",
        lambda: (Film(render_clip(kind, seed, size, ALONE)[0], []) for kind in KINDS for seed in seeds),
    )
    for name, event in EVENTS.items():
        if COVERED not in name:
            yield f"none: {name}", partial(befallen, event, size, seeds[0])


def encoded(film: Film) -> Film:
    return Film(through_mp4(film.video), film.spans)


def mixed(shots: Callable[[int], list[Video]], count: int, seeds: Sequence[int]) -> Iterator[Film]:
    return (dissolved(shots(seed), count) for seed in seeds)


def befallen(event: Callable[[Video], Video], size: Size, seed: int) -> Iterator[Film]:
    return (Film(event(render_clip(kind, seed, size, 32)[0]), []) for kind in KINDS)


def real_films(folder: Path, seeds: Sequence[int]) -> Iterator[tuple[str, Callable[[], Iterator[Film]]]]:
    """Names and films of pieces of the films in ``folder``, all at one size."""
    config = VideoConfig(size=(180, 320), target_fps=None)
    films = []
    for path in sorted(folder.glob("*.mp4")):
        with open_video(path, config) as video:
            films.append(np.stack([frame.rgb for frame in video]))

    def pieces(seed: int) -> list[Video]:
        rng, before, found = np.random.default_rng(seed), -1, []
        for _ in range(12):
            before = int(rng.choice([each for each in range(len(films)) if each != before]))
            begin = int(rng.integers(max(1, len(films[before]) - PIECE)))
            found.append(films[before][begin : begin + PIECE])
        return found

    yield "hard", lambda: (hard(pieces(seed)) for seed in seeds)
    yield "hard, 3x", lambda: (hard([each[::3] for each in pieces(seed)]) for seed in seeds)
    for count in DISSOLVES:
        yield f"dissolve, {count} frames", partial(mixed, pieces, count, seeds)
    yield "none, whole films", lambda: (Film(film, []) for film in films)
    yield "none, 3x", lambda: (Film(film[::3], []) for film in films)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", type=frame_size, default=[(120, 160), (240, 320)], help="HEIGHTxWIDTH"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--videos", type=Path, help="folder of real films (mp4) without cuts")
    parser.add_argument("--pyscenedetect", action="store_true", help="its detectors too; needs scenedetect")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    finders: dict[str, Finder] = {"ours": ours}
    if arguments.pyscenedetect:
        finders |= {name: pyscenedetect(name) for name in ("AdaptiveDetector", "ContentDetector")}
    print(f"{'':44} {'':18} {'cuts':>6} {'found':>6} {'false':>6} {'recall':>7} {'precision':>9}")
    sets = [(f"{h}x{w}", films_of((h, w), arguments.seeds)) for h, w in arguments.sizes]
    if arguments.videos is not None:
        sets.append(("real", real_films(arguments.videos, arguments.seeds)))
    for text, kinds in sets:
        for name, films in kinds:
            for told, find in finders.items():
                print(f"{text + ' ' + name:44} {told:18} {score(films(), find).row()}", flush=True)


if __name__ == "__main__":
    main()
