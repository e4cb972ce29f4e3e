"""How well and how fast the trackers follow rendered scenes whose true tracks are known.

    python -m benchmarks.tracking [--kinds pan zoom] [--seeds 0 1] [--steps 1 4] [--trackers ...] [--mp4]
    python -m benchmarks.tracking --input FOLDER    # real clips: there and back again

Clips are rendered in memory; with --mp4 they are written as ``scenes`` writes them and read again, so that
compression is in them. At frame step 4 every fourth frame is tracked, so motion is four times as
fast. Besides the embedded tracker with each of its presets there are pyramidal Lucas-Kanade, a plain
tracker to measure against, and the prediction that nothing moves. Numbers are means over clips of
TAP-Vid's metrics; speeds are per second of processor time of this process, that is, of one core.

The tracks of real clips are not known. There, windows are tracked to their last frame, and from where
their points ended up back to the first: how far they end from where they began is printed, over points
that are seen at the end of both ways.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import Config, FlowConfig, VideoConfig
from amplify_motion_tokenizer.errors import TokenizerError
from amplify_motion_tokenizer.evaluation.tapvid import count_tracks, mean_metrics, no_motion
from amplify_motion_tokenizer.geometry import inside, query_grid
from amplify_motion_tokenizer.scenes import KINDS, Scene, render_clip, write_clip
from amplify_motion_tokenizer.trackers import PointTracker
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.windows import SEEN, FrameWindow, WindowTracks, iter_windows
from amplify_motion_tokenizer.video.clips import Frame
from amplify_motion_tokenizer.video.reading import open_video
from amplify_motion_tokenizer.video.sources import find_clips, open_views, tracked_views
from benchmarks.support.chained import PRESETS, OtherFlowTracker
from benchmarks.support.measuring import frame_size

COLUMNS = {
    "delta_avg": "9.3f",
    "occlusion_accuracy": "10.3f",
    "average_jaccard": "6.3f",
    "mean_error_px": "9.3f",
    "windows_per_cpu_s": "10.1f",
    "frames_per_cpu_s": "9.1f",
}
"""What is printed, and how."""


class LucasKanade(PointTracker):
    """Pyramidal Lucas-Kanade (Bouguet 2001) from frame to frame, with a forward-backward check.

    A point is lost for the rest of its window once it leaves the frame, or a step forth and back ends
    more than a pixel from where it began.
    """

    name = "lucas_kanade"

    def track(
        self, windows: Iterable[FrameWindow], queries_xy_px: NDArray[np.float32]
    ) -> Iterator[WindowTracks]:
        for window in windows:
            greys: list[Any] = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in window.frames]
            tracks = np.repeat(queries_xy_px[None], len(greys), axis=0)
            seen = np.repeat(inside(queries_xy_px, greys[0].shape)[None], len(greys), axis=0)
            for step, (before, after) in enumerate(zip(greys, greys[1:], strict=False), start=1):
                tracks[step], kept = self._step(before, after, tracks[step - 1])
                seen[step] = seen[step - 1] & kept & inside(tracks[step], after.shape)
            yield WindowTracks(window.start, window.time_s, tracks, seen.astype(np.float32))

    def _step(
        self, before: NDArray[np.uint8], after: NDArray[np.uint8], xy: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        there, found, _ = _optical_flow(before, after, xy[:, None])
        back, found_back, _ = _optical_flow(after, before, there)
        near = np.linalg.norm(back[:, 0] - xy, axis=-1) < 1
        return there[:, 0], near & (found[:, 0] == 1) & (found_back[:, 0] == 1)


def _optical_flow(before: NDArray[np.uint8], after: NDArray[np.uint8], xy: NDArray[np.float32]) -> Any:
    # OpenCV's stubs know no points that are yet to be found.
    find: Any = cv2.calcOpticalFlowPyrLK
    return find(before, after, xy, None, winSize=(21, 21), maxLevel=4)


def _flow(preset: str) -> FlowTracker:
    return OtherFlowTracker(FlowConfig(), preset)


TRACKERS: dict[str, Callable[[], PointTracker]] = {
    **{f"flow {name}": partial(_flow, name) for name in PRESETS},
    "lucas-kanade": LucasKanade,
}
STILL = "no motion"


@dataclasses.dataclass(frozen=True)
class Clip:
    """A rendered clip at one frame step, cut into windows, with the truth of each."""

    kind: str
    frames: int
    windows: list[FrameWindow]
    queries: NDArray[np.float32]
    tracks: NDArray[np.float64]
    visible: NDArray[np.bool_]


@dataclasses.dataclass
class Result:
    """What one tracker did on the clips of one kind."""

    videos: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    windows: int = 0
    frames: int = 0

    def row(self) -> dict[str, float]:
        seconds = self.seconds or np.nan
        speeds = {"windows_per_cpu_s": self.windows / seconds, "frames_per_cpu_s": self.frames / seconds}
        return mean_metrics(self.videos) | speeds

    def __add__(self, other: "Result") -> "Result":
        return Result(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def make_clips(arguments: argparse.Namespace, step: int) -> Iterator[Clip]:
    for kind in arguments.kinds:
        for seed in arguments.seeds:
            video, scene = render_clip(kind, seed, arguments.size, arguments.frames * step)
            video = through_mp4(video[::step]) if arguments.mp4 else video[::step]
            yield cut(kind, video, scene, step, arguments)


def through_mp4(video: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, video, 20)
        with open_video(path, VideoConfig(size=None)) as frames:
            return np.stack([frame.rgb for frame in frames])


def cut(kind: str, video: NDArray[np.uint8], scene: Scene, step: int, arguments: argparse.Namespace) -> Clip:
    queries = query_grid("row_major", arguments.grid, arguments.size)
    frames = (Frame(rgb, index / 20) for index, rgb in enumerate(video))
    windows = list(iter_windows(frames, arguments.length, arguments.stride))
    truth = [scene.truth(queries, window.start * step) for window in windows]
    rows = slice(0, arguments.length * step, step)
    tracks, visible = (np.stack([part[rows] for part in column]) for column in zip(*truth, strict=True))
    return Clip(kind, len(video), windows, queries, tracks, visible)


def score(clip: Clip, xy_px: NDArray[np.floating], seen: NDArray[np.bool_]) -> dict[str, float]:
    size = clip.windows[0].frames[0].shape[:2]
    return count_tracks(xy_px, seen, clip.tracks, clip.visible, size).metrics()


def run(clip: Clip, tracker: PointTracker) -> Result:
    begin = time.process_time()
    tracked = list(tracker.track(clip.windows, clip.queries))
    seconds = time.process_time() - begin
    seen = np.stack([window.visibility for window in tracked]) >= SEEN
    metrics = score(clip, np.stack([window.tracks_xy_px for window in tracked]), seen)
    return Result([metrics], seconds, len(tracked), clip.frames)


def benchmark(arguments: argparse.Namespace) -> dict[int, dict[str, dict[str, Result]]]:
    """Results by frame step, tracker and kind."""
    results: dict[int, dict[str, dict[str, Result]]] = {}
    for step in arguments.steps:
        table = results[step] = {name: {} for name in (*arguments.trackers, STILL)}
        for clip in make_clips(arguments, step):
            found = {name: run(clip, TRACKERS[name]()) for name in arguments.trackers}
            found[STILL] = Result([score(clip, *no_motion(clip.tracks))], 0.0, len(clip.windows), clip.frames)
            for name, result in found.items():
                table[name][clip.kind] = table[name].get(clip.kind, Result()) + result
    return results


def rows(table: dict[str, dict[str, Result]]) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(kind, tracker, numbers), all kinds together last."""
    for kind in next(iter(table.values())):
        yield from ((kind, name, kinds[kind].row()) for name, kinds in table.items())
    for name, kinds in table.items():
        yield "all", name, sum(kinds.values(), start=Result()).row()


def there_and_back(
    windows: list[FrameWindow], grid: int, tracker: PointTracker
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """How far each point ends from its query, in pixels, (S, N), and whether it is seen at both ends."""
    queries = query_grid("row_major", grid, windows[0].frames[0].shape[:2])
    distances, seen = [], []
    for window, there in zip(windows, tracker.track(windows, queries), strict=True):
        reverse = FrameWindow(0, 0.0, window.frames[::-1])
        (back,) = tracker.track([reverse], there.tracks_xy_px[-1])
        distances.append(np.linalg.norm(back.tracks_xy_px[-1] - queries, axis=-1))
        seen.append(np.minimum(there.visibility[-1], back.visibility[-1]) >= SEEN)
    return np.stack(distances), np.stack(seen)


def report_real(arguments: argparse.Namespace) -> None:
    print("pixels from the start, median and 90th percentile, of points that the tracker sees / that all see")
    print(f"{'clip':16} {'tracker':16}  seen  median     90 %  all see  median     90 %")
    config = Config()
    for clip in find_clips(arguments.input, config, tracked_views(arguments.input, config)):
        (video,) = open_views(clip, config.video)
        with video:
            windows = list(iter_windows(video, arguments.length, arguments.stride))
        if not windows:
            print(f"{clip.name:16} is shorter than --length {arguments.length}; left out", flush=True)
            continue
        found = {
            name: there_and_back(windows, arguments.grid, TRACKERS[name]()) for name in arguments.trackers
        }
        by_all = np.logical_and.reduce([seen for _, seen in found.values()])
        for name, (distance, seen) in found.items():
            columns = [
                f"{counted.mean():5.2f} {np.median(distance[counted]):7.3f} "
                f"{np.quantile(distance[counted], 0.9):8.3f}"
                for counted in (seen, by_all)
            ]
            print(f"{clip.name:16} {name:16} {columns[0]}    {columns[1]}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 4], help="track every how many-th frame")
    parser.add_argument("--frames", type=int, default=48, help="frames of a clip that are tracked")
    parser.add_argument("--size", type=frame_size, default="480x640", help="HEIGHTxWIDTH")
    parser.add_argument("--length", type=int, default=16, help="frames of a window")
    parser.add_argument("--stride", type=int, default=16, help="frames between the starts of two windows")
    parser.add_argument("--grid", type=int, default=20, help="points on a side of the grid")
    parser.add_argument(
        "--trackers", nargs="+", choices=list(TRACKERS), default=list(TRACKERS), metavar="NAME"
    )
    parser.add_argument("--mp4", action="store_true", help="compress the rendered clips")
    parser.add_argument("--input", type=Path, help="folder of real clips")
    parser.add_argument("--json", type=Path, help="file for all the numbers")
    arguments = parser.parse_args(argv)
    if arguments.input:
        try:
            return report_real(arguments)
        except TokenizerError as error:
            parser.error(str(error))
    if arguments.frames < arguments.length:
        parser.error(f"--frames {arguments.frames} is less than a window's --length {arguments.length}")
    cv2.setNumThreads(1)
    content = []
    for step, table in benchmark(arguments).items():
        print(f"frame step {step}: {len(arguments.seeds)} clips of a kind, {arguments.frames} frames each")
        print(f"{'kind':10} {'tracker':16} delta_avg  occlusion     AJ  error px  windows/s  frames/s")
        for kind, tracker, row in rows(table):
            numbers = " ".join(format(row[name], form) for name, form in COLUMNS.items())
            print(f"{kind:10} {tracker:16} {numbers}")
            known = {name: value for name, value in row.items() if not np.isnan(value)}
            content.append({"step": step, "kind": kind, "tracker": tracker} | known)
    if arguments.json:
        arguments.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
