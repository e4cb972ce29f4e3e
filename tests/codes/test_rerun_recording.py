"""Recordings for Rerun, read back with its SDK: frames, points, codes, segments, and what is refused."""

import colorsys
import dataclasses
import json
import shutil
import sys
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, decode_tracks, load_tokenizer, read_codes
from amplify_motion_tokenizer.codes.code_strip import code_colours
from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.codes.reading import write_codes
from amplify_motion_tokenizer.codes.rerun_file import Recording
from amplify_motion_tokenizer.commands.draw import main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.errors import TokenizerError, UsageError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from tests.support.rerun_reader import Logged, at, picture, read_recording, rgb

FRAMES, LENGTH, STRIDE, SIZE = 26, 16, 4, (96, 128)
SEGMENTS = {"pan": [(0.0, 0.42), (0.42, 0.8)], "sub/zoom": [(0.1, 0.5), (0.9, 1.25)]}


@dataclasses.dataclass(frozen=True)
class Made:
    """A clip that pans and one in a subfolder that zooms, with tracks, codes of the codec, and segments."""

    folder: Path

    def arguments(self, **other: object) -> list[str]:
        given = {
            "tracks": self.folder / "tracks",
            "input": self.folder / "videos",
            "codes": self.folder / "codes",
            "segments": self.folder / "segments.json",
            **other,
        }
        return [
            str(each) for name, value in given.items() if value is not None for each in (f"--{name}", value)
        ]

    def tracks(self, clip: str = "pan", row: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Positions (T, N, 2) in Rerun's pixels of the source's frames, and visibility."""
        with h5py.File(self.folder / "tracks" / f"{clip}.hdf5") as file:
            view = file["root/default"]
            across = SIZE[1] / view.attrs["width"]
            return (view["tracks"][row] + 0.5) * across, view["vis"][row]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("rerun")
    for seed, (name, kind) in enumerate({"pan": "pan", "sub/zoom": "zoom"}.items()):
        path = folder / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, render_clip(kind, seed, SIZE, FRAMES)[0], 20)
    checkpoint = load_checkpoint("default")
    config = overridden(checkpoint, {"tracking.window_stride": STRIDE, "tracking.num_workers": 1})
    assert preprocess_folder(folder / "videos", folder / "tracks", config).failed == 0
    assert tokenize_folder(folder / "videos", folder / "codes", checkpoint, config).failed == 0
    named = ("start_seconds", "end_seconds")
    clips = {
        clip: [dict(zip(named, each, strict=True)) for each in pairs] for clip, pairs in SEGMENTS.items()
    }
    (folder / "segments.json").write_text(json.dumps({"clips": clips}))
    return Made(folder)


@pytest.fixture(scope="module")
def recorded(made: Made) -> Logged:
    pytest.importorskip("rerun")
    assert main(made.arguments(rerun=made.folder / "out.rrd", trail=2)) == 0
    assert not list(made.folder.glob(".*"))
    return read_recording(made.folder / "out.rrd")


def read_mp4(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_every_frame_is_there_at_its_time(made: Made, recorded: Logged) -> None:
    for clip in SEGMENTS:
        entity = f"/{clip}/default/image"
        blobs = recorded[entity]["EncodedImage:blob"]
        assert sorted(blobs) == list(range(FRAMES))
        np.testing.assert_allclose([blobs[frame][0] for frame in range(FRAMES)], np.arange(FRAMES) / 20)
        frames = read_mp4(made.folder / "videos" / f"{clip}.mp4")
        for frame in (0, 7, 25):
            shown = picture(recorded, entity, frame)
            assert shown.shape == (*SIZE, 3)
            assert np.abs(shown.astype(int) - frames[frame]).mean() < 8
        assert np.abs(picture(recorded, entity, 0).astype(int) - frames[25]).mean() > 10


def test_points_are_where_the_tracks_are(made: Made, recorded: Logged) -> None:
    tracks, visibility = made.tracks()
    entity = "/pan/default/points"
    assert sorted(recorded[entity]["Points2D:positions"]) == list(range(LENGTH))
    assert list(recorded[entity]["Clear:is_recursive"]) == [LENGTH], "no point stays after the window"
    # A rainbow by the rows where points start, from red to 300 degrees; half as bright where hidden.
    hues = tracks[0, :, 1] / SIZE[0] * 300 / 360
    bright = np.array([colorsys.hsv_to_rgb(hue, 1, 1) for hue in hues]) * 255
    for frame in (0, 9, 15):
        found = at(recorded, entity, "Points2D:positions", frame)
        np.testing.assert_allclose(found, tracks[frame], atol=1e-3)
        assert at(recorded, entity, "Points2D:keypoint_ids", frame).tolist() == list(range(400))
        colours = rgb(at(recorded, entity, "Points2D:colors", frame))
        expected = bright * np.where(visibility[frame] >= 0.5, 1, 0.5)[:, None]
        np.testing.assert_allclose(colours, expected, atol=9)
    lines = at(recorded, "/pan/default/trails", "LineStrips2D:strips", 9)
    np.testing.assert_allclose(lines, tracks[8:10].swapaxes(0, 1), atol=1e-3)
    assert sorted(recorded["/pan/default/trails"]["LineStrips2D:strips"]) == list(range(1, LENGTH))


def test_decoded_points_are_what_the_codes_tell(made: Made, recorded: Logged) -> None:
    ids = read_codes(made.folder / "codes")["sub/zoom"].ids[0]
    tracks = decode_tracks(load_tokenizer("default", device="cpu"), ids, (240, 320)).numpy()
    entity = "/sub/zoom/default/decoded/points"
    for frame in (0, 5, 15):
        found = at(recorded, entity, "Points2D:positions", frame)
        np.testing.assert_allclose(found, (tracks[frame] + 0.5) * 128 / 320, atol=2e-3)
    true = made.tracks("sub/zoom")[0][15]
    assert np.abs(at(recorded, entity, "Points2D:positions", 15) - true).max() > 0.1
    lines = at(recorded, "/sub/zoom/default/decoded/trails", "LineStrips2D:strips", 5)
    np.testing.assert_allclose(lines, (tracks[4:6].swapaxes(0, 1) + 0.5) * 128 / 320, atol=2e-3)


def test_codes_are_there_when_their_windows_begin(made: Made, recorded: Logged) -> None:
    codes = read_codes(made.folder / "codes")["pan"]
    entity = "/pan/codes/ids"
    assert sorted(recorded[entity]["Scalars:scalars"]) == [0, 4, 8]
    for row, frame in enumerate((0, 4, 8)):
        assert recorded[entity]["Scalars:scalars"][frame][0] == pytest.approx(frame / 20)
        assert at(recorded, entity, "Scalars:scalars", frame).tolist() == codes.ids[row].tolist()
        colours = rgb(at(recorded, entity, "SeriesPoints:colors", frame))
        assert (colours == code_colours(codes.ids[row].numpy())).all()
        energy = at(recorded, "/pan/codes/motion_energy", "Scalars:scalars", frame)
        assert energy == pytest.approx(codes.motion_energy[row].item())
        text = at(recorded, "/pan/codes/text", "TextDocument:text", frame)[0]
        assert " ".join(map(str, codes.ids[row].tolist())) in text
        assert f"source frames {frame} to {frame + 15}" in text and f"{frame / 20:.2f} to" in text
    # The last window ends with frame 23.
    assert at(recorded, "/pan/codes/text", "TextDocument:text", 24).tolist() == ["no window"]
    assert sorted(recorded["/pan/codes/text"]["TextDocument:text"]) == [0, 4, 8, 24]


def test_segments_are_states(recorded: Logged) -> None:
    states = {
        clip: {frame: (second, value[0]) for frame, (second, value) in each["StateChange:state"].items()}
        for clip in SEGMENTS
        if (each := recorded[f"/{clip}/segments"])
    }
    assert states["pan"] == {
        0: (0.0, "0: 0.00 to 0.42 s"),
        9: (0.42, "1: 0.42 to 0.80 s"),
        16: (0.8, ""),
    }
    assert states["sub/zoom"] == {
        2: (0.1, "0: 0.10 to 0.50 s"),
        10: (0.5, ""),
        18: (0.9, "1: 0.90 to 1.25 s"),
        25: (1.25, ""),
    }


def test_lost_points_are_left_out_and_hidden_ones_dim(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    shutil.copy(made.folder / "tracks" / "pan.hdf5", tmp_path / "pan.hdf5")
    with h5py.File(tmp_path / "pan.hdf5", "a") as file:
        file["root/default/tracks"][0, 3:, 5] = np.nan
        file["root/default/vis"][0, 3:, 5] = 0
        file["root/default/vis"][0, :, 0] = 0.4
        file["root/default/vis"][0, :, 1] = 1
    line = made.arguments(tracks=tmp_path / "pan.hdf5", codes=None, segments=None, rerun=tmp_path / "out.rrd")
    assert main([*line, "--every", "5", "--starts", "0"]) == 0
    found, entity = read_recording(tmp_path / "out.rrd"), "/pan/default/points"
    numbers = [row * 20 + column for row in (0, 5, 10, 15) for column in (0, 5, 10, 15)]
    assert at(found, entity, "Points2D:keypoint_ids", 2).tolist() == numbers
    assert at(found, entity, "Points2D:keypoint_ids", 3).tolist() == [each for each in numbers if each != 5]
    assert len(at(found, "/pan/default/trails", "LineStrips2D:strips", 3)) == len(numbers) - 1
    positions = at(found, entity, "Points2D:positions", 3)
    np.testing.assert_allclose(positions[1], made.tracks()[0][3, 10], atol=1e-3)
    colours, radii = (at(found, entity, f"Points2D:{name}", 2) for name in ("colors", "radii"))
    assert (rgb(colours)[0] == rgb(colours)[1] // 2).all() and rgb(colours)[1].max() == 255
    assert 0 < -radii[0] < -radii[1], "in units of the screen"
    assert not [each for each in found if "codes" in each or "decoded" in each or "segments" in each]


def test_letterboxed_frames_of_several_views_fit(made: Made, tmp_path: Path, tiny: Config) -> None:
    pytest.importorskip("rerun")
    (tmp_path / "input").mkdir()
    for view, clip in (("front", "pan"), ("wrist", "sub/zoom")):
        shutil.copy(made.folder / "videos" / f"{clip}.mp4", tmp_path / "input" / f"a b_{view}.mp4")
    files = {view: f"{{clip}}_{view}.mp4" for view in ("wrist", "front")}
    video = dataclasses.replace(tiny.video, size=(70, 65))
    tracking = dataclasses.replace(tiny.tracking, view_files=files)
    config = validate(dataclasses.replace(tiny, tracking=tracking, video=video))
    preprocess_folder(tmp_path / "input", tmp_path / "tracks", config)
    line = made.arguments(tracks=tmp_path / "tracks", input=tmp_path / "input", codes=None, segments=None)
    assert main([*line, "--rerun", str(tmp_path / "out.rrd"), "--trail", "0"]) == 0
    found = read_recording(tmp_path / "out.rrd")
    assert not [each for each in found if "trails" in each]
    for view in files:
        entity = f"/a\\ b/{view}/points"
        with h5py.File(tmp_path / "tracks" / "a b.hdf5") as file:
            group = file["root"][view]
            tracks, pad, scale = group["tracks"][0, 2], group.attrs["pad"], group.attrs["scale"]
        expected = (tracks - pad[::-1] + 0.5) / scale
        # Of 20 frames a second 10 were tracked.
        np.testing.assert_allclose(at(found, entity, "Points2D:positions", 4), expected, atol=1e-3)
        assert picture(found, f"/a\\ b/{view}/image", 4).shape == (*SIZE, 3)
        assert sorted(found[f"/a\\ b/{view}/image"]["EncodedImage:blob"]) == list(range(0, FRAMES, 2))


def test_large_frames_are_shrunk(made: Made, tmp_path: Path, tiny: Config) -> None:
    pytest.importorskip("rerun")
    write_clip(tmp_path / "videos" / "pan.mp4", render_clip("pan", 1, (600, 400), 10)[0], 10)
    preprocess_folder(tmp_path / "videos", tmp_path / "tracks", tiny)
    line = made.arguments(tracks=tmp_path / "tracks", input=tmp_path / "videos", codes=None, segments=None)
    assert main([*line, "--rerun", str(tmp_path / "out.rrd"), "--output", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / "pan.mp4").is_file()
    found = read_recording(tmp_path / "out.rrd")
    assert picture(found, "/pan/default/image", 0).shape == (480, 320, 3)
    with h5py.File(tmp_path / "tracks" / "pan.hdf5") as file:
        view = file["root/default"]
        expected = (view["tracks"][0, 1] + 0.5) * 320 / view.attrs["width"]
    np.testing.assert_allclose(at(found, "/pan/default/points", "Points2D:positions", 1), expected, atol=0.01)


def test_codes_of_other_windows_are_shown_where_they_are(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    codes = read_codes(made.folder / "codes")["pan"]
    columns = {
        each.name: getattr(codes, each.name)[1:]
        for each in dataclasses.fields(MotionCodes)
        if isinstance(getattr(codes, each.name), torch.Tensor)
    }
    write_codes(tmp_path / "late.jsonl", MotionCodes(**columns, clip="pan", meta=codes.meta))
    line = made.arguments(codes=tmp_path / "late.jsonl", segments=None, rerun=tmp_path / "out.rrd")
    (tmp_path / "codes").mkdir()
    for name in ("checkpoint.yaml", "config.yaml"):
        shutil.copy(made.folder / "codes" / name, tmp_path / name)
    assert main(line) == 0
    found = read_recording(tmp_path / "out.rrd")
    for part in ("", "decoded/"):  # the windows that both have
        assert sorted(found[f"/pan/default/{part}points"]["Points2D:positions"]) == list(range(4, 20))
    assert sorted(found["/sub/zoom/default/points"]["Points2D:positions"]) == list(range(16))
    assert "/sub/zoom/codes/ids" not in found


def test_a_clip_that_fails_stops_no_other(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("rerun")
    shutil.copytree(made.folder / "videos", tmp_path / "videos")
    late = {"clips": {"pan": [{"start_seconds": 2.0, "end_seconds": 3.0}]}}
    (tmp_path / "late.json").write_text(json.dumps(late))
    line = made.arguments(segments=tmp_path / "late.json", rerun=tmp_path / "out.rrd")
    assert main(line) == 3
    assert "pan.mp4: ends at 1.25 s, before its segment at 2.00 s begins" in caplog.text
    before = (tmp_path / "out.rrd").read_bytes()
    assert len(read_recording(tmp_path / "out.rrd")["/sub/zoom/default/image"]["EncodedImage:blob"]) == FRAMES
    shutil.copy(tmp_path / "videos" / "pan.mp4", tmp_path / "videos" / "sub" / "zoom.mp4")
    write_clip(tmp_path / "videos" / "pan.mp4", render_clip("pan", 9, SIZE, FRAMES)[0], 20)
    with pytest.raises(UsageError, match=r"out\.rrd: none of its clips could be recorded; what was there"):
        main([*line, "--input", str(tmp_path / "videos")])
    assert "was tracked from a file of" in caplog.text
    assert (tmp_path / "out.rrd").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"out.rrd", "videos", "late.json"}


def refused(line: list[str]) -> str:
    with pytest.raises(TokenizerError) as told:
        main(line)
    return str(told.value)


def test_bad_input_is_told_in_a_line(made: Made, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    out = tmp_path / "out.rrd"
    assert "expected a file name that ends in .rrd" in refused(made.arguments(rerun=tmp_path / "pan.mp4"))
    (tmp_path / "other.json").write_text((made.folder / "segments.json").read_text().replace("pan", "x"))
    other = {"clips": {"x": [{"start_seconds": 0, "end_seconds": 1}]}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    told = refused(made.arguments(rerun=out, segments=tmp_path / "other.json"))
    assert "holds segments of none of the clips (clips: pan, sub/zoom; segments: x)" in told
    codes = read_codes(made.folder / "codes")["pan"]
    write_codes(tmp_path / "x.jsonl", dataclasses.replace(codes, clip="x"))
    for name in ("checkpoint.yaml", "config.yaml"):
        shutil.copy(made.folder / "codes" / name, tmp_path / name)
    told = refused(made.arguments(rerun=out, codes=tmp_path / "x.jsonl"))
    assert "holds codes of none of the clips" in told
    write_codes(
        tmp_path / "x.jsonl",
        dataclasses.replace(codes, meta={**codes.meta, "checkpoint_sha256": "00", "checkpoint": "best.pth"}),
    )
    told = refused(made.arguments(rerun=out, codes=tmp_path / "x.jsonl"))
    assert "was made with best.pth" in told and "give that file as --checkpoint" in told
    assert "cannot be written" in refused(made.arguments(rerun=made.folder / "segments.json" / "a.rrd"))
    assert not out.exists()


def test_a_flag_that_would_do_nothing_is_refused(made: Made, tmp_path: Path) -> None:
    assert "give --output FOLDER, --rerun FILE.rrd, or both" in refused(
        made.arguments(codes=None, segments=None)
    )
    told = refused(made.arguments(output=tmp_path / "drawn"))
    assert "--codes is drawn in a recording; give --rerun FILE.rrd, too" in told
    told = refused(made.arguments(codes=None, checkpoint="codec", rerun=tmp_path / "out.rrd"))
    assert "--checkpoint is the tokenizer of codes; give --codes, too" in told


def test_without_the_sdk_a_line_tells_how_to_get_it(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = made.arguments(rerun=tmp_path / "out.rrd")
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert "--rerun needs rerun-sdk, which is not installed; pip install 'rerun-sdk>=" in refused(line)
    old = type(sys)("rerun")
    old.__version__ = "0.20.3"
    monkeypatch.setitem(sys.modules, "rerun", old)
    assert "or later, found 0.20.3; pip install" in refused(line)
    assert not list(tmp_path.iterdir())


def test_a_writer_that_stops_is_told() -> None:
    class Stream:
        def flush(self) -> None:
            raise RuntimeError("File-writer thread shut down prematurely")

    with pytest.raises(UsageError, match=r"out\.rrd: cannot be written \(File-writer thread shut down"):
        Recording(None, Stream(), Path("out.rrd")).flush()
