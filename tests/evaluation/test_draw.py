"""The draw command: frames, colours at known pixels, and the bar of the gate."""

import dataclasses
import shutil
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.draw import BAR_PX, DROPPED, KEPT, NONE, NOW, draw_tracked
from amplify_motion_tokenizer.evaluation.drawn_view import Style
from amplify_motion_tokenizer.evaluation.overlay import colours_by_position, draw_tracks
from amplify_motion_tokenizer.letterbox import content_norm_from_px, letterbox, source_from_letterbox_px
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.pixels import resize
from amplify_motion_tokenizer.video.reading import open_video
from tests.support.run_scripts import manifest_of, run_process

FRAMES = 16


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 16 frames at 10 fps: one pans, one stands still for 9 frames first."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    video, _ = render_clip("pan", 3, (96, 128), FRAMES)
    write_clip(folder / "sub" / "pan.mp4", video, 10)
    rolled = [np.roll(video[0], 6 * max(0, index - 8), axis=1) for index in range(FRAMES)]
    write_clip(folder / "starts.mp4", np.stack(rolled), 10)
    return folder


def with_video(config: Config, **values: object) -> Config:
    return validate(dataclasses.replace(config, video=dataclasses.replace(config.video, **values)))


def gated(config: Config) -> Config:
    gate = dataclasses.replace(config.tracking.gate, enable=True)
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, gate=gate))


def tracks_of(path: Path, row: int = 0, view: str = "default") -> tuple[np.ndarray, np.ndarray]:
    file = TrackFile(path, [view])
    with file.open() as opened:
        ((tracks, visibility),) = file.read(opened, [row])
    return tracks[0], visibility[0]


def read_png(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def read_mp4(path: Path) -> tuple[np.ndarray, float]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames), capture.get(cv2.CAP_PROP_FPS)


def pixels(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    columns, rows = np.rint(xy).astype(int).T
    return image[rows, columns]


def shown(xy_px: np.ndarray, width: int) -> np.ndarray:
    """Positions in frames ``width`` wide of the clips here, in the 640 x 480 that are drawn."""
    return (xy_px + 0.5) * 640 / width - 0.5


def distance(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(int) - other).mean())


def test_the_command_draws_every_frame(videos: Path, tmp_path: Path, tiny: Config) -> None:
    preprocess_folder(videos, tmp_path / "tracks", with_video(tiny, size=None))
    line = [
        "-m",
        "amplify_motion_tokenizer",
        "draw",
        "--tracks",
        tmp_path / "tracks",
        "--input",
        videos,
    ]
    result = run_process(sys.executable, *line, "--output", tmp_path / "drawn", "--trail", 2)
    assert result.status == 0, result.err
    assert "2 done (4 windows)" in result.out
    frames, fps = read_mp4(tmp_path / "drawn" / "sub" / "pan.mp4")
    assert frames.shape == (FRAMES, 480 + BAR_PX, 640, 3) and fps == 10

    with open_video(videos / "sub" / "pan.mp4", with_video(tiny, size=None).video) as video:
        sources = [resize(frame.rgb, (480, 640)) for frame in video]
    tracks, visibility = tracks_of(tmp_path / "tracks" / "sub" / "pan.hdf5", row=3)
    colours = colours_by_position(tracks[0] / [128, 96])
    # Windows 0 and 6 are a chain; frame 10 is the fifth of the second one.
    expected = draw_tracks(sources[10], shown(tracks[2:5], 128), visibility[2:5] >= 0.5, colours, oldest=0.2)
    lines = (expected != sources[10]).any(axis=-1)
    assert distance(frames[10, :480][lines], expected[lines]) < 25, "lossy, but these lines at these places"
    assert distance(frames[10, :480][lines], sources[10][lines]) > 35
    assert distance(frames[10, :480][~lines], sources[10][~lines]) < 8
    # No window starts late enough to cover the frames after the chain.
    assert distance(frames[14, :480], sources[14]) < 6
    assert not list((tmp_path / "drawn").rglob(".*"))


def test_the_picture_shows_the_points_where_they_start(videos: Path, tmp_path: Path, tiny: Config) -> None:
    preprocess_folder(videos, tmp_path / "tracks", tiny)
    draw_tracked(tmp_path / "tracks", videos, tmp_path / "drawn", Style())
    image = read_png(tmp_path / "drawn" / "sub" / "pan.png")
    assert image.shape == (480 + BAR_PX, 640, 3)
    tracks, _ = tracks_of(tmp_path / "tracks" / "sub" / "pan.hdf5")
    assert (pixels(image, shown(tracks[0], 64)) == colours_by_position(tracks[0] / [64, 48])).all()
    draw_tracked(tmp_path / "tracks", videos, tmp_path / "thin", Style(every=2))
    thin = read_png(tmp_path / "thin" / "sub" / "pan.png")
    same = (pixels(thin, shown(tracks[0], 64)) == pixels(image, shown(tracks[0], 64))).all(axis=1)
    assert same.tolist() == [True, False, True, False, False, False, True, False, True]


def test_a_hidden_point_is_drawn_as_such(videos: Path, tmp_path: Path, tiny: Config) -> None:
    preprocess_folder(videos, tmp_path / "tracks", with_video(tiny, size=None))
    path = tmp_path / "tracks" / "sub" / "pan.hdf5"
    with h5py.File(path, "a") as file:
        file["root/default/vis"][:, :, 4] = 0.4
    draw_tracked(path, videos, tmp_path / "drawn", Style(trail=0))
    image = read_png(tmp_path / "drawn" / "sub" / "pan.png")
    tracks, _ = tracks_of(path)
    colours = colours_by_position(tracks[0] / [128, 96])
    matching = (pixels(image, shown(tracks[0], 128)) == colours).all(axis=1)
    assert np.flatnonzero(~matching).tolist() == [4]
    draw_tracked(path, videos, tmp_path / "lenient", Style(min_visibility=0.3))
    image = read_png(tmp_path / "lenient" / "sub" / "pan.png")
    assert (pixels(image, shown(tracks[0], 128)) == colours).all()


def test_the_bar_marks_what_the_gate_dropped(videos: Path, tmp_path: Path, tiny: Config) -> None:
    preprocess_folder(videos, tmp_path / "tracks", gated(tiny))
    with h5py.File(tmp_path / "tracks" / "starts.hdf5") as file:
        kept = file["root/default/start_frame"][:].tolist()
    assert kept == [4, 6, 8, 10], "windows 0 to 5 and 2 to 7 lie in the still part"
    draw_tracked(tmp_path / "tracks", videos, tmp_path / "drawn", Style())
    bar = read_png(tmp_path / "drawn" / "starts.png")[-1, 20::40]  # 40 columns a frame
    fates = [DROPPED] * 4 + [NOW] + [KEPT] * 7 + [NONE] * 4
    assert [tuple(colour) for colour in bar.tolist()] == fates
    frames, _ = read_mp4(tmp_path / "drawn" / "starts.mp4")
    for index in (0, 9, 15):
        bar = frames[index, -BAR_PX // 2, 20::40].astype(int)
        expected = [*[DROPPED] * 4, *[KEPT] * 8, *[NONE] * 4]
        expected[index] = NOW
        assert np.abs(bar - expected).max() < 70


def test_letterboxed_frames_fit(videos: Path, tmp_path: Path, tiny: Config) -> None:
    config = with_video(tiny, size=(70, 65))
    preprocess_folder(videos, tmp_path / "tracks", config)
    draw_tracked(tmp_path / "tracks", videos, tmp_path / "drawn", Style())
    image = read_png(tmp_path / "drawn" / "sub" / "pan.png")
    assert image.shape == (480 + BAR_PX, 640, 3), "without the padding"
    tracks, _ = tracks_of(tmp_path / "tracks" / "sub" / "pan.hdf5")
    box = letterbox((96, 128), (70, 65))
    colours = colours_by_position(content_norm_from_px(tracks[0], box))
    places = (source_from_letterbox_px(tracks[0], box) + 0.5) * 5 - 0.5
    assert (pixels(image, places) == colours).all()


def test_views_are_drawn_each(videos: Path, tmp_path: Path, tiny: Config) -> None:
    (tmp_path / "input").mkdir()
    for view, clip in (("front", "sub/pan.mp4"), ("wrist", "starts.mp4")):
        shutil.copy(videos / clip, tmp_path / "input" / f"a_{view}.mp4")
    files = {view: f"{{clip}}_{view}.mp4" for view in ("wrist", "front")}
    tracking = dataclasses.replace(tiny.tracking, view_files=files)
    config = dataclasses.replace(tiny, tracking=tracking)
    preprocess_folder(tmp_path / "input", tmp_path / "tracks", config)
    for wrong in (videos, tmp_path / "input" / "a_front.mp4"):
        with pytest.raises(UsageError, match=r"views .*_wrist\.mp4.*; give the folder that was pre") as told:
            draw_tracked(tmp_path / "tracks", wrong, tmp_path / "drawn", Style())
        assert "tracking.view_files" not in str(told.value)
    with h5py.File(tmp_path / "tracks" / "a.hdf5", "a") as file:
        file["root/front/vis"][2] = 0
    draw_tracked(tmp_path / "tracks", tmp_path / "input", tmp_path / "drawn", Style(starts=(4,)))
    for view in files:
        image = read_png(tmp_path / "drawn" / "a" / f"{view}.png")
        tracks, _ = tracks_of(tmp_path / "tracks" / "a.hdf5", row=2, view=view)
        filled = (pixels(image, shown(tracks[0], 64)) == colours_by_position(tracks[0] / [64, 48])).all(
            axis=1
        )
        assert filled.all() if view == "wrist" else not filled.any()
        assert len(read_mp4(tmp_path / "drawn" / "a" / f"{view}.mp4")[0]) == FRAMES


def test_what_does_not_belong_together_is_told(videos: Path, tmp_path: Path, tiny: Config) -> None:
    tracks, style = tmp_path / "tracks", Style()
    preprocess_folder(videos, tracks, tiny)
    with pytest.raises(
        UsageError, match="none of its clips has tracks in .*clips: pan; tracks: starts, sub/pan"
    ):
        draw_tracked(tracks, videos / "sub", tmp_path / "drawn", style)
    with pytest.raises(UsageError, match="would be written over by drawings; choose another --output"):
        draw_tracked(tracks, videos, tracks, style)
    with pytest.raises(UsageError, match=r"starts\.mp4 would be written over"):
        draw_tracked(tracks, videos, videos, style)
    shutil.copytree(videos, tmp_path / "others")
    shutil.copy(videos / "starts.mp4", tmp_path / "others" / "sub" / "pan.mp4")
    summary = draw_tracked(tracks, tmp_path / "others", tmp_path / "drawn", style)
    assert (summary.done, summary.failed, summary.exit_status) == (1, 1, 3)
    records = manifest_of(tmp_path / "drawn")
    assert "sub/pan.hdf5: was tracked from" in records["sub/pan"]["error"]
    assert records["starts"]["status"] == "done"
    draw_tracked(tracks, videos, tmp_path / "odd", dataclasses.replace(style, starts=(3,)))
    told = "no window starts at frame 3; they start at the frames 0, 2, 4"
    assert told in (tmp_path / "odd" / "manifest.jsonl").read_text()
    with h5py.File(tracks / "starts.hdf5", "a") as file:
        del file["root"].attrs["settings"]
    with pytest.raises(TrackFileError, match="does not say how its frames were read"):
        draw_tracked(tracks, videos, tmp_path / "drawn", style)
