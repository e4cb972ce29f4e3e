"""Cuts between rendered shots: where they are found, and what is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers.windows import FrameWindow, iter_windows
from amplify_motion_tokenizer.video.clips import Frame, Part
from amplify_motion_tokenizer.video.reading import open_video
from amplify_motion_tokenizer.video.shots import HELD, ShotFinder, in_shots
from amplify_motion_tokenizer.video.timing import Picture
from tests.support.render_clips import write_clip

Video = NDArray[np.uint8]
SIZE = (96, 128)


def shot(kind: str, seed: int, frames: int = 30) -> Video:
    return render_clip(kind, seed, SIZE, frames)[0]


def cuts_in(video: Video) -> list[int]:
    finder = ShotFinder((video.shape[1], video.shape[2]))
    found = [cut for frame in video for cut in finder.add(frame)]
    return [cut.number for cut in (*found, *finder.end())]


def dissolved(first: Video, second: Video, frames: int) -> Video:
    """The last ``frames`` frames of one go over into the first ones of the other, while both go on."""
    share = (np.arange(1, frames + 1) / (frames + 1))[:, None, None, None]
    mixed = np.round((1 - share) * first[-frames:] + share * second[:frames]).astype(np.uint8)
    return np.concatenate([first[:-frames], mixed, second[frames:]])


def read(path: Path, shots: str, fps: float | None = None) -> tuple[list[Frame], list[Part]]:
    config = VideoConfig(size=None, target_fps=fps, below_target_fps="repeat", shots=shots)  # type: ignore[arg-type]
    with open_video(path, config) as video:
        return list(video), video.parts


def windows(frames: Sequence[Frame]) -> list[FrameWindow]:
    return list(iter_windows(frames, 8, 3))


@pytest.mark.parametrize("fps", [30.0, 20.0])
def test_a_hard_cut_costs_no_window_on_either_side(tmp_path: Path, fps: float) -> None:
    shots = [shot("pan", 1, 31), shot("handheld", 2, 26), shot("movers", 3, 20)]
    joined = write_clip(tmp_path / "joined.mp4", np.concatenate(shots), 30)
    frames, parts = read(joined, "auto", fps)
    assert [part.source_frame for part in parts] == [0, 31, 57]
    assert [part.cut for part in parts] == ["", *["a hard cut to another shot"] * 2]
    assert parts[2].time_s == pytest.approx(57 / 30, abs=1e-3)
    alone = [read(write_clip(tmp_path / f"{n}.mp4", each, 30), "off", fps)[0] for n, each in enumerate(shots)]
    assert len(windows(frames)) == sum(len(windows(each)) for each in alone)
    for window in windows(frames):
        assert len({np.searchsorted([31, 57], at, "right") for at in window.source_frames}) == 1
    assert len(windows(read(joined, "off", fps)[0])) > len(windows(frames))


@pytest.mark.parametrize("kinds", [("still", "low_texture"), ("fast_roll", "zoom"), ("noise", "specks")])
def test_a_hard_cut_is_found_at_its_frame(kinds: tuple[str, str]) -> None:
    first, second = (shot(kind, 10 + seed) for seed, kind in enumerate(kinds))
    assert cuts_in(np.concatenate([first, second])) == [30]


@pytest.mark.parametrize(
    ("kinds", "frames"),
    [(("pan", "still"), 1), (("movers", "tilt"), 5), (("handheld", "zoom"), 12), (("movers", "pan"), 20)],
)
def test_a_dissolve_is_cut_within_it(kinds: tuple[str, str], frames: int) -> None:
    first, second = (shot(kind, 20 + seed, 40) for seed, kind in enumerate(kinds))
    (cut,) = cuts_in(dissolved(first, second, frames))
    assert 40 - frames <= cut <= 40


@pytest.mark.parametrize("pictures", [1, 2, 3, 4])
def test_a_cut_within_the_first_pictures_is_found(pictures: int) -> None:
    """As where a clip was taken from a film a little too early."""
    for first, second in (("movers", "pan"), ("still", "zoom"), ("handheld", "low_texture")):
        finder = ShotFinder(SIZE)
        video = np.concatenate([shot(first, 1, 30)[-pictures:], shot(second, 2, 20)])
        found = [cut for frame in video for cut in finder.add(frame)] + finder.end()
        assert [(cut.number, cut.cut) for cut in found] == [(pictures, "a hard cut to another shot")]


@pytest.mark.parametrize(("kind", "noise_levels"), [("movers", 14), ("tilt", 14), ("handheld", 18)])
def test_a_first_picture_that_is_coarse_is_no_shot(kind: str, noise_levels: float) -> None:
    """Calls begin with a picture of hardly any bits, which gets better with the next ones."""
    video = shot(kind, 4, 40)
    small = cv2.resize(video[0], (10, 7), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, noise_levels, video[0].shape)
    coarse = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC) + noise
    video[0] = np.clip(coarse, 0, 255).astype(np.uint8)
    assert cuts_in(video) == []


def flash(video: Video) -> Video:
    return np.concatenate([video[:15], np.minimum(video[15:17] * 3.0, 255).astype(np.uint8), video[17:]])


def dark(video: Video) -> Video:
    return np.concatenate([video[:15], np.zeros_like(video[15:21]), video[21:]])


def dimmed(video: Video) -> Video:
    return np.concatenate([video[:15], (video[15:] * 0.3).astype(np.uint8)])


def glitch(video: Video) -> Video:
    return np.concatenate([video[:15], shot("still", 99, 3), video[18:]])


def repeated(video: Video) -> Video:
    return video.repeat(2, 0)


@pytest.mark.parametrize(
    "kind",
    ["lighting", "light_bands", "fast_roll", "fast_zoom", "blur", "low_texture", "still_noisy", "mixed"],
)
def test_light_noise_and_fast_motion_are_no_cuts(kind: str) -> None:
    assert cuts_in(shot(kind, 5, 40)) == []


@pytest.mark.parametrize(
    ("kind", "event"),
    [("movers", flash), ("pan", dark), ("zoom", dimmed), ("pan", glitch), ("movers", repeated)],
)
def test_what_hides_a_shot_for_some_frames_is_no_cut(kind: str, event: Callable[[Video], Video]) -> None:
    assert cuts_in(event(shot(kind, 6))) == []


def test_black_between_two_shots_belongs_to_the_first() -> None:
    first, second = shot("pan", 7, 20), shot("movers", 8, 20)
    assert cuts_in(np.concatenate([first, np.zeros_like(first[:12]), second])) == [32]
    fade = np.linspace(1, 0, 10)[:, None, None, None]
    out, back = (first[-10:] * fade).astype(np.uint8), (second[:10] * fade[::-1]).astype(np.uint8)
    (cut,) = cuts_in(np.concatenate([first[:-10], out, back, second[10:]]))
    assert 15 <= cut <= 25


def test_bars_and_a_caption_do_not_hold_two_shots_together() -> None:
    video = np.concatenate([shot("pan", 1), shot("still", 2)])
    video[:, :14] = video[:, -14:] = 0
    video[:, 70:76, 40:80:2] = 255
    assert cuts_in(video) == [30]


def test_without_a_cut_nothing_changes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "pan.mp4", shot("pan", 3, 40), 30)
    for fps in (30.0, 20.0, 60.0):
        plain, split = read(path, "off", fps), read(path, "auto", fps)
        assert plain[1] == split[1] and len(plain[0]) == len(split[0])
        for one, other in zip(plain[0], split[0], strict=True):
            assert np.array_equal(one.rgb, other.rgb)
            assert (one.time_s, one.source_frame, one.part, one.tick) == (
                other.time_s, other.source_frame, other.part, other.tick,
            )  # fmt: skip


def test_cuts_and_pauses_are_parts_together_and_few_pictures_wait() -> None:
    video = np.concatenate([shot("pan", 1, 40), shot("movers", 2, 40), shot("still", 3, 40)])
    before = [Part(0, 0.0, SIZE, ""), Part(60, 30.0, SIZE, "a pause")]
    ahead: list[int] = []
    given = 0

    def pictures() -> Iterator[Picture]:
        nonlocal given
        for number, rgb in enumerate(video):
            given += 1
            yield Picture(number, number / 20, int(number >= 60), rgb)

    parts: list[Part] = []
    found = []
    for picture in in_shots(pictures(), lambda rgb: rgb[::2, ::2], before, parts):
        ahead.append(given - picture.number)
        found.append(picture.part)
        assert picture.rgb.shape == (48, 64, 3)
    assert [(part.source_frame, part.cut) for part in parts] == [
        (0, ""),
        (40, "a hard cut to another shot"),
        (60, "a pause"),
        (80, "a hard cut to another shot"),
    ]
    assert found == [0] * 40 + [1] * 20 + [2] * 20 + [3] * 40
    assert max(ahead) <= HELD + 1
