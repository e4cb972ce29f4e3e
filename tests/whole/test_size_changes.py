"""Clips whose pictures change their size, as where a phone was turned, from video to codes and drawings."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer import load_checkpoint, tokenize_folder
from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.draw import draw_tracked
from amplify_motion_tokenizer.evaluation.drawn_view import Style
from amplify_motion_tokenizer.files import read_json
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.reading import open_video
from tests.support.checkpoints import save_native
from tests.support.render_clips import join_packets, write_moving
from tests.support.run_scripts import manifest_of

WIDE, HIGH = (96, 160), (160, 96)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 12 frames at 10 fps in which the picture moves by 2 px a frame."""
    folder = tmp_path_factory.mktemp("parts")
    write_moving(folder / "wide.mkv", WIDE, 12)
    write_moving(folder / "high.mkv", HIGH, 12, seed=1)
    return folder


@pytest.fixture
def turned(parts: Path, tmp_path: Path) -> Path:
    """A folder with one clip, turned in its middle."""
    (tmp_path / "in").mkdir()
    join_packets(tmp_path / "in" / "call.mkv", parts / "wide.mkv", parts / "high.mkv")
    return tmp_path / "in"


@pytest.fixture
def config(tiny: Config) -> Config:
    return validate(dataclasses.replace(tiny, video=dataclasses.replace(tiny.video, size=None)))


def tracks_of(path: Path, view: str = "default") -> tuple[dict[str, np.ndarray], dict[str, object]]:
    with h5py.File(path) as file:
        group = file["root"][view]
        return {name: group[name][:] for name in group}, {**file["root"].attrs, **group.attrs}


def test_each_size_has_its_file_with_the_motion_that_is_there(
    turned: Path, parts: Path, tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    assert preprocess_folder(turned, tmp_path / "out", config).exit_status == 0
    assert preprocess_folder(parts, tmp_path / "alone", config).exit_status == 0
    told = manifest_of(tmp_path / "out")["call"]
    assert (told["output"], told["other_sizes"]) == ("call.hdf5", ["call.size2.hdf5"])
    assert (told["frames"], told["windows"]) == (24, 8)
    assert told["parts"]["default"][1]["source_frame"] == 12
    assert told["parts"]["default"][1]["size"] == list(HIGH)
    (said,) = (record.getMessage() for record in caplog.records if "change their size" in record.getMessage())
    assert "call.mkv" in said and "call.size2.hdf5" in said
    for name, alone, size, first in (("call", "wide", WIDE, 0), ("call.size2", "high", HIGH, 12)):
        rows, attributes = tracks_of(tmp_path / "out" / f"{name}.hdf5")
        expected, _ = tracks_of(tmp_path / "alone" / f"{alone}.hdf5")
        assert (attributes["height"], attributes["width"]) == size
        assert (attributes["source_height"], attributes["source_width"]) == size
        # T = 6, stride 2: windows start anew with the part.
        starts = [first + start for start in (0, 2, 4, 6)]
        assert rows["start_frame"].tolist() == starts
        assert rows["source_frame"].tolist() == [[start + k for k in range(6)] for start in starts]
        np.testing.assert_allclose(rows["start_time"], np.array(starts) / 10, atol=2e-3)
        for array in ("tracks", "vis"):
            np.testing.assert_array_equal(rows[array], expected[array])
        seen = (rows["vis"][:, 1:] >= 0.5) & (rows["vis"][:, :-1] >= 0.5)
        np.testing.assert_allclose(np.median(np.diff(rows["tracks"], axis=1)[seen], axis=0), (2, 0), atol=0.1)


def test_readers_find_both_as_clips(turned: Path, tmp_path: Path, config: Config) -> None:
    preprocess_folder(turned, tmp_path / "out", config)
    found = find_tracks(tmp_path / "out")
    assert {name: clip.sizes for name, clip in found.items()} == {"call": [WIDE], "call.size2": [HIGH]}


@pytest.mark.parametrize("output_format", ["hdf5", "pt"])
def test_a_clip_is_done_when_all_its_files_are(
    turned: Path, tmp_path: Path, config: Config, output_format: str
) -> None:
    out = tmp_path / "out"

    def run() -> tuple[int, int]:
        summary = preprocess_folder(turned, out, config, output_format=output_format)
        assert summary.failed == 0
        return summary.done, summary.skipped

    assert run() == (1, 0)
    whole = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".hdf5", ".pt")}
    assert len(whole) == {"hdf5": 2, "pt": 8}[output_format]
    assert run() == (0, 1)
    ending = {"hdf5": ".hdf5", "pt": ".windows.json"}[output_format]
    for lost in ("call", "call.size2"):
        (out / f"{lost}{ending}").unlink()
        assert run() == (1, 0)
        assert whole == {p.name: p.read_bytes() for p in out.iterdir() if p.suffix in (".hdf5", ".pt")}
    (out / f"call.size2{ending}").write_bytes(b"x")
    assert run() == (1, 0) and run() == (0, 1)


@pytest.mark.parametrize("output_format", ["hdf5", "pt"])
def test_files_of_sizes_that_are_no_more_go(
    turned: Path, parts: Path, tmp_path: Path, config: Config, output_format: str
) -> None:
    preprocess_folder(turned, tmp_path / "out", config, output_format=output_format)
    assert any("size2" in path.name for path in (tmp_path / "out").iterdir())
    shutil.copy(parts / "wide.mkv", turned / "call.mkv")
    preprocess_folder(turned, tmp_path / "out", config, output_format=output_format)
    assert not any("size2" in path.name for path in (tmp_path / "out").iterdir())
    assert "other_sizes" not in manifest_of(tmp_path / "out")["call"]


def test_the_clips_own_file_comes_last(
    turned: Path, tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a run that is killed between the two leaves a clip that is not done."""
    there: list[list[str]] = []
    leave = TrackFileWriter.__exit__

    def watched(self: TrackFileWriter, *ending: object) -> None:
        there.append(sorted(path.name for path in (tmp_path / "out").glob("[!.]*.hdf5")))
        leave(self, *ending)  # type: ignore[arg-type]

    monkeypatch.setattr(TrackFileWriter, "__exit__", watched)
    preprocess_folder(turned, tmp_path / "out", config)
    assert there == [[], ["call.size2.hdf5"]]


def test_a_clip_of_the_same_name_is_not_written_over(
    turned: Path, parts: Path, tmp_path: Path, config: Config
) -> None:
    shutil.copy(parts / "wide.mkv", turned / "call.size2.mkv")
    with pytest.raises(UsageError, match=r"clips named call and call\.size2, .*rename one"):
        preprocess_folder(turned, tmp_path / "out", config)
    preprocess_folder(turned / "call.size2.mkv", tmp_path / "out", config)
    other = (tmp_path / "out" / "call.size2.hdf5").read_bytes()
    assert preprocess_folder(turned / "call.mkv", tmp_path / "out", config).failed == 1
    assert "is there for another clip" in manifest_of(tmp_path / "out")["call"]["error"]
    assert (tmp_path / "out" / "call.size2.hdf5").read_bytes() == other
    assert not (tmp_path / "out" / "call.hdf5").exists()


def test_a_clip_may_get_another_container(turned: Path, tmp_path: Path, config: Config) -> None:
    preprocess_folder(turned, tmp_path / "out", config)
    with (turned / "call.mkv").open("ab") as file:
        file.write(bytes(100))
    (turned / "call.mkv").rename(turned / "call.webm")
    assert preprocess_folder(turned, tmp_path / "out", config).done == 1
    assert preprocess_folder(turned, tmp_path / "out", config).skipped == 1


def test_names_that_only_look_alike_are_as_good_as_any(parts: Path, tmp_path: Path, config: Config) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.size2", "b", "b.size2x", "size2"):
        shutil.copy(parts / "wide.mkv", tmp_path / "in" / f"{name}.mkv")
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", config).done == 4
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", config).skipped == 4
    assert draw_tracked(tmp_path / "out", tmp_path / "in", tmp_path / "drawn", Style()).done == 4


def test_a_part_too_short_for_a_window_has_no_file_and_fails_nothing(
    parts: Path, tmp_path: Path, config: Config
) -> None:
    """A call begins with a few small pictures, and later shows some of a third size."""
    (tmp_path / "in").mkdir()
    short = [write_moving(tmp_path / f"{side}.mkv", (side, side), 4) for side in (48, 64)]
    join_packets(tmp_path / "in" / "call.mkv", short[0], parts / "wide.mkv", short[1], parts / "high.mkv")
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", config).exit_status == 0
    told = manifest_of(tmp_path / "out")["call"]
    assert told["other_sizes"] == ["call.size2.hdf5", "call.size3.hdf5"]
    shapes = {name: clip.num_windows for name, clip in find_tracks(tmp_path / "out").items()}
    assert shapes == {"call": 0, "call.size2": 4, "call.size3": 4}
    join_packets(tmp_path / "in" / "call.mkv", *short)
    assert preprocess_folder(tmp_path / "in", tmp_path / "out", config).failed == 1
    error = manifest_of(tmp_path / "out")["call"]["error"]
    assert "has 4 frames at 10 fps in the longest of its 2 parts" in error


def test_a_size_that_comes_back_goes_on_in_its_file(parts: Path, tmp_path: Path, config: Config) -> None:
    (tmp_path / "in").mkdir()
    wide, high = parts / "wide.mkv", parts / "high.mkv"
    join_packets(tmp_path / "in" / "call.mkv", wide, high, wide)
    preprocess_folder(tmp_path / "in", tmp_path / "out", config)
    rows, _ = tracks_of(tmp_path / "out" / "call.hdf5")
    assert rows["start_frame"].tolist() == [0, 2, 4, 6, 24, 26, 28, 30]
    np.testing.assert_array_equal(rows["tracks"][:4], rows["tracks"][4:])


def test_of_several_views_it_counts_what_they_show_together(
    turned: Path, parts: Path, tmp_path: Path, config: Config
) -> None:
    views = tmp_path / "views"
    (views / "one").mkdir(parents=True)
    shutil.copy(turned / "call.mkv", views / "one" / "hand.mkv")
    join_packets(views / "one" / "top.mkv", parts / "wide.mkv", parts / "wide.mkv")
    files = {"hand": "{clip}/hand.mkv", "top": "{clip}/top.mkv"}
    config = dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, view_files=files))
    assert preprocess_folder(views, tmp_path / "out", validate(config)).exit_status == 0
    for name, size, starts in (("one", WIDE, [0, 2, 4, 6]), ("one.size2", HIGH, [12, 14, 16, 18])):
        path = tmp_path / "out" / f"{name}.hdf5"
        sizes = {view: tuple(tracks_of(path, view)[1]["source_size"]) for view in files}
        assert sizes == {"hand": size, "top": WIDE}
        assert all(tracks_of(path, view)[0]["start_frame"].tolist() == starts for view in files)


def test_frames_come_with_the_size_of_their_pictures(turned: Path, tiny: Config) -> None:
    with open_video(turned / "call.mkv", tiny.video) as video:
        frames = list(video)
    assert [frame.source_size for frame in frames] == [WIDE] * 12 + [HIGH] * 12
    assert [frame.rgb.shape for frame in frames] == [(48, 80, 3)] * 12 + [(80, 48, 3)] * 12
    assert video.info_of(HIGH).size == (80, 48) and video.info.size == (48, 80)


def test_codes_are_of_every_part(turned: Path, parts: Path, tmp_path: Path, config: Config) -> None:
    save_native(tmp_path / "c.pth", config)
    checkpoint = load_checkpoint(tmp_path / "c.pth")
    for folder, source in (("out", turned), ("alone", parts)):
        assert tokenize_folder(source, tmp_path / folder, checkpoint, config, ["latents"]).exit_status == 0
    found = read_json(tmp_path / "out" / "call.json")
    wide, high = (read_json(tmp_path / "alone" / f"{name}.json") for name in ("wide", "high"))
    assert found["codes"] == wide["codes"] + high["codes"]
    assert found["start_frames"] == wide["start_frames"] + [12 + start for start in high["start_frames"]]
    assert found["source_frames"] == found["start_frames"]
    assert found["meta"]["tracked_size"] == list(WIDE)
    assert found["meta"]["size_changes"] == [{"start_frame": 12, "tracked_size": list(HIGH)}]
    assert "size_changes" not in wide["meta"]
    assert found["meta"]["format_version"] == 1
    (clip,) = read_codes(tmp_path / "out").values()
    assert len(clip) == 8
    # Of stored tracks, which are in a file for each size, the same windows have the same codes.
    preprocess_folder(turned, tmp_path / "tracks", config)
    assert tokenize_folder(tmp_path / "tracks", tmp_path / "stored", checkpoint, config).exit_status == 0
    stored = [read_json(tmp_path / "stored" / f"{name}.json") for name in ("call", "call.size2")]
    for key in ("codes", "start_frames", "source_frames", "motion_energy"):
        assert stored[0][key] + stored[1][key] == found[key]


def test_drawings_are_of_each_size(turned: Path, tmp_path: Path, config: Config) -> None:
    preprocess_folder(turned, tmp_path / "out", config)
    video_config = dataclasses.replace(config.video, target_fps=None)
    for tracks, names in (
        (tmp_path / "out", ("call", "call.size2")),
        (tmp_path / "out" / "call.size2.hdf5", ("call.size2",)),
    ):
        drawn = tmp_path / f"drawn{len(names)}"
        assert draw_tracked(tracks, turned, drawn, Style()).failed == 0
        assert {path.stem for path in drawn.glob("*.mp4")} == set(names)
        for name in names:
            with open_video(drawn / f"{name}.mp4", video_config) as video:
                frames = list(video)
            # At least 480 rows of picture, and 8 of the bar.
            assert video.info.size == ((488, 800) if name == "call" else (488, 288))
            assert len(frames) == 12
