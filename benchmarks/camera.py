"""How well the camera's motion is found, what taking it out saves, and what that costs.

    python -m benchmarks.camera [--scenes 6] [--size 240x320] [--cases pan shake ...] [--markdown]

Scenes are rendered with a camera that is known, and things before it that cover some share of the picture.
Windows of 16 frames begin every 8 of 48. Three tables, in pixels of 480 rows:

1. Error of the camera on the query grid, of true tracks and of the embedded tracker's: median and 95th
   percentile over frames, share of frames whose camera is not known and share that is wrong by 2 pixels and
   more; at the end the median error of a plain camera: the median move of the points that are seen.
2. What codes keep of clips whose camera shakes: labels at the edge of a window of 15 pixels, and the root
   mean square error of all that moves, with the camera's motion left in and taken out; "labels" is a model
   that tells each label of that window right.
3. CPU milliseconds of a window.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.data.camera import cameras_of, without_camera
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.evaluation.tables import lines, markdown
from amplify_motion_tokenizer.geometry import (
    beyond_wnorm,
    integrate_velocities,
    labels_from_wnorm,
    px_from_labels,
    query_grid,
    tracks_to_velocities,
)
from amplify_motion_tokenizer.homographies import projected
from amplify_motion_tokenizer.trackers.windows import SEEN
from benchmarks.support.camera_scenes import CASES, SHAKEN, camera_scene
from benchmarks.support.measuring import frame_size
from benchmarks.support.moving_windows import FPS, GRID, LENGTH, Tracked, tracked

FRAMES, STRIDE = 48, 8
ROWS = 480
"""Rows of the frame in whose pixels errors are told."""
WIDTH = 15
"""W of a model with a window of classes."""
WRONG_PX = 2.0


class Known(NamedTuple):
    """Windows of scenes, whose camera is known."""

    true: ViewTracks
    """True tracks."""
    found: ViewTracks
    """The embedded tracker's."""
    camera: Tensor
    """(B, T, 3, 3) float64, the true maps."""
    share: float
    """Share of the points that are not on the background."""


def windows_of(case: str, scenes: int, size: tuple[int, int]) -> Known:
    grid, parts, shares = query_grid("row_major", GRID, size), [], []
    for seed in range(scenes):
        scene = camera_scene(case, (seed,), size, FRAMES)
        found = tracked(scene.render(), STRIDE)
        truth = [scene.truth(grid, start, LENGTH) for start in found.starts]
        tracks, visible = (torch.from_numpy(np.stack(column)).float() for column in zip(*truth, strict=True))
        camera = torch.from_numpy(np.stack([scene.camera(start, LENGTH) for start in found.starts]))
        parts.append((tracks, visible, found.tracks_xy_px, found.visibility, camera))
        middle = [start * scene.exposures + scene.exposures // 2 for start in found.starts]
        shares += [float((scene.top_layer(grid.astype(float), at) != 0).mean()) for at in middle]
    tracks, visible, found_tracks, confidence, camera = (torch.cat(part) for part in zip(*parts, strict=True))
    return Known(
        ViewTracks(tracks, visible, size),
        ViewTracks(found_tracks, confidence, size),
        camera,
        float(np.mean(shares)),
    )


def plain_camera(view: ViewTracks) -> Tensor:
    """(B, T, 3, 3): everything moves as the median of the points that are seen."""
    moves = view.tracks_xy_px - view.tracks_xy_px[:, :1]
    seen = (view.visibility >= SEEN)[..., None] & moves.isfinite()
    shift = torch.where(seen, moves, torch.nan).nanmedian(dim=2).values
    maps = torch.eye(3, dtype=torch.float64).repeat(*shift.shape[:2], 1, 1)
    maps[..., :2, 2] = shift
    return maps


def errors_px(found: Tensor, true: Tensor, size: tuple[int, int]) -> NDArray[np.float64]:
    """Mean distance on the query grid of each frame but the first, in pixels of ROWS rows; NaN: not known."""
    grid = torch.from_numpy(query_grid("row_major", GRID, size)).double()
    off = (projected(found, grid) - projected(true, grid)).norm(dim=-1).mean(dim=-1)[:, 1:]
    return np.asarray((off * (ROWS / size[0])).flatten().numpy())


def limits(cases: Sequence[str], scenes: int, size: tuple[int, int]) -> list[list[str]]:
    """Table 1."""
    heads = ["median", "95 %", "unknown", "wrong"]
    rows = [
        ["case", "other points", *(f"{of} {head}" for of in ("true", "tracked") for head in heads), "plain"]
    ]
    for case in cases:
        known = windows_of(case, scenes, size)
        row = [case, f"{known.share:.0%}"]
        for view in (known.true, known.found):
            off = errors_px(cameras_of(view.tracks_xy_px, view.visibility), known.camera, size)
            unknown = float(np.isnan(off).mean())
            ranked = np.quantile(off[~np.isnan(off)], [0.5, 0.95]) if unknown < 1 else [np.nan, np.nan]
            wrong = float((off >= WRONG_PX).mean())
            row += [f"{ranked[0]:.2f}", f"{ranked[1]:.2f}", f"{unknown:.0%}", f"{wrong:.0%}"]
        plain = errors_px(plain_camera(known.found), known.camera, size)
        rows.append([*row, f"{np.nanmedian(plain):.2f}"])
    return rows


def by_labels(view: ViewTracks, size: tuple[int, int]) -> tuple[Tensor, float]:
    """Tracks (B, T, N, 2) by the right label of each step, and the share of labels at the window's edge."""
    velocities = tracks_to_velocities(view.tracks_xy_px, view.size, {"shorter": ROWS}, WIDTH)
    moves = px_from_labels(labels_from_wnorm(velocities, WIDTH), WIDTH) * (min(size) / ROWS)
    seen = view.visibility >= SEEN
    steps = seen[:, 1:] & seen[:, :-1]
    return integrate_velocities(view.tracks_xy_px[:, 0], moves), float(
        beyond_wnorm(velocities)[steps].float().mean()
    )


def kept(cases: Sequence[str], scenes: int, size: tuple[int, int]) -> list[list[str]]:
    """Table 2, of the embedded tracker's tracks."""
    names = ("transform", "codec")
    rows = [
        ["case", "camera", "unknown", "labels at the edge", *(f"{name} px" for name in ("labels", *names))]
    ]
    for case in cases:
        view = windows_of(case, scenes, size).found
        apart = without_camera(view)
        assert apart.camera is not None
        known = apart.camera[..., 2, 2].isfinite()
        counted = (view.visibility >= SEEN) & known[..., None]
        for camera, given in (("keep", view), ("remove", apart)):
            tracks, edge = by_labels(given, size)
            if camera == "remove":
                tracks = projected(apart.camera, tracks).float()
            made = [tracks, *(_decoded(name, view, size, camera) for name in names)]
            off = [(each - view.tracks_xy_px).square().sum(dim=-1)[counted].mean().sqrt() for each in made]
            unknown = "-" if camera == "keep" else f"{1 - known.float().mean():.1%}"
            told = [f"{float(each) * ROWS / size[0]:.2f}" for each in off]
            rows.append([case if camera == "keep" else "", camera, unknown, f"{edge:.1%}", *told])
    return rows


def _decoded(name: str, view: ViewTracks, size: tuple[int, int], camera: str) -> Tensor:
    tokenizer = load_tokenizer(name, "cpu", {"data.camera": camera})
    codes = tokenizer.encode_tracks(view.tracks_xy_px, view.visibility, size=size, fps=FPS)
    return tokenizer.decode(codes)[0]


def cost(scenes: int, size: tuple[int, int]) -> list[list[str]]:
    """Table 3."""
    videos = [camera_scene("six, 30%", (seed,), size, FRAMES).render() for seed in range(scenes)]
    began = time.process_time()
    found: list[Tracked] = [tracked(video, STRIDE) for video in videos]
    spent = {"tracking, a window every 8 frames": time.process_time() - began}
    tracks = torch.cat([each.tracks_xy_px for each in found])
    visible = torch.cat([each.visibility for each in found])
    view = ViewTracks(tracks, visible, size)
    jobs: dict[str, Callable[[], object]] = {
        "the camera, found and taken out": lambda: without_camera(view),
        "the plain camera": lambda: plain_camera(view),
    }
    for name in ("codec", "transform"):
        tokenizer = load_tokenizer(name, "cpu")
        jobs[f"ids of the {name}"] = lambda own=tokenizer: own.encode_tracks(  # type: ignore[misc]
            tracks, visible, size=size, fps=FPS
        )
    for name, job in jobs.items():
        job()
        times = []
        for _ in range(3):
            began = time.process_time()
            job()
            times.append(time.process_time() - began)
        spent[name] = min(times)
    least = spent["the camera, found and taken out"]
    rows = [["", "ms a window", "to the camera's"]]
    return rows + [[n, f"{1000 * s / len(tracks):.2f}", f"{s / least:.2f}"] for n, s in spent.items()]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--size", type=frame_size, default=(240, 320))
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES), metavar="CASE")
    parser.add_argument("--shaken", nargs="*", choices=list(CASES), default=list(SHAKEN), metavar="CASE")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    show, size, scenes = markdown if arguments.markdown else lines, arguments.size, arguments.scenes
    tables = [
        limits(arguments.cases, scenes, size),
        kept(arguments.shaken, scenes, size),
        cost(scenes, size),
    ]
    names = [1, 2, 1]
    print("\n\n".join(itertools.starmap(show, zip(tables, names, strict=True))))


if __name__ == "__main__":
    main()
