"""infer on tracks that are stored: the codes of their videos; and several checkpoints at once."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.codes.inference import Target, tokenize_folder, tokenize_together
from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from tests.support.checkpoints import save_native
from tests.support.run_scripts import (
    CLIPS,
    INFER,
    STARTS,
    TINY,
    Run,
    Work,
    files_below,
    infer,
    manifest_of,
    preprocess,
    render,
    statuses,
)

COLUMNS = ("codes", "start_frames", "start_seconds", "step_seconds", "source_frames", "valid_steps")


def written(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return content


def check_same(folder: Path, expected: Path, columns: tuple[str, ...] = COLUMNS) -> None:
    for name in CLIPS:
        found, wanted = written(folder, name), written(expected, name)
        assert {key: found[key] for key in columns} == {key: wanted[key] for key in columns}
        assert found["meta"]["config_hash"] == wanted["meta"]["config_hash"]


def test_codes_of_track_files_are_those_of_the_videos(run: Run, work: Work, tmp_path: Path) -> None:
    result = infer(run, work, tmp_path / "codes", source=work.tracks)
    assert result.out == f"codes in {tmp_path / 'codes'}: 4 done (20 windows), 0 skipped, 0 failed\n"
    check_same(tmp_path / "codes", work.codes)
    meta = written(tmp_path / "codes", "sub/zoom")["meta"]
    video = written(work.codes, "sub/zoom")["meta"]
    own = {"source", "source_bytes", "source_fingerprint", "saved"}
    assert {key: meta[key] for key in meta.keys() - own} == {key: video[key] for key in meta.keys() - own}
    assert (meta["source"], meta["tracker"]) == ("zoom.hdf5", "flow")
    assert len((tmp_path / "codes/codes.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    before = files_below(tmp_path / "codes", "*/*.json")
    assert "0 done (0 windows), 4 skipped" in infer(run, work, tmp_path / "codes", source=work.tracks).out
    assert files_below(tmp_path / "codes", "*/*.json") == before


def test_codes_of_rounded_tracks_are_those_of_the_videos(run: Run, work: Work, tmp_path: Path) -> None:
    stored = {}
    for store in ("float32", "int16"):
        preprocess(run, work, tmp_path / store, "--tracking.store", store)
        stored[store] = find_tracks(tmp_path / store)
    for name in CLIPS:
        with stored["float32"][name].open() as one, stored["int16"][name].open() as other:
            ((exact, _),) = stored["float32"][name].read(one, list(range(5)))
            ((rounded, _),) = stored["int16"][name].read(other, list(range(5)))
        assert 0 < np.abs(exact - rounded).max() <= 1 / 64
    assert infer(run, work, tmp_path / "of_tracks", source=tmp_path / "int16").status == 0
    assert infer(run, work, tmp_path / "of_videos", "--tracking.store", "int16").status == 0
    check_same(tmp_path / "of_tracks", tmp_path / "of_videos")


def test_packs_velocity_files_and_lone_files_serve_too(run: Run, work: Work, tmp_path: Path) -> None:
    from amplify_motion_tokenizer.commands import pack

    pack.main(["--input", str(work.tracks), "--output", str(tmp_path / "pack")])
    assert infer(run, work, tmp_path / "packed", source=tmp_path / "pack").status == 0
    places = ("start_frames", "start_seconds", "step_seconds", "source_frames", "valid_steps")
    check_same(tmp_path / "packed", work.codes, places)
    equal = [
        one == other
        for name in CLIPS
        for one, other in zip(
            np.ravel(written(tmp_path / "packed", name)["codes"]),
            np.ravel(written(work.codes, name)["codes"]),
            strict=True,
        )
    ]
    assert np.mean(equal) > 0.9  # positions are rounded to 1/256 px

    assert preprocess(run, work, tmp_path / "pt", "--format", "pt").status == 0
    assert infer(run, work, tmp_path / "of_pt", source=tmp_path / "pt").status == 0
    for name in CLIPS:
        found, wanted = written(tmp_path / "of_pt", name), written(work.codes, name)
        assert {key: found[key] for key in COLUMNS} == {key: wanted[key] for key in COLUMNS}

    assert infer(run, work, tmp_path / "lone", source=work.tracks / "pan.hdf5").status == 0
    assert written(tmp_path / "lone", "pan")["codes"] == written(work.codes, "pan")["codes"]


def test_files_of_other_writers_begin_at_every_frame(run: Run, work: Work, tmp_path: Path) -> None:
    """AMPLIFY's own layout: tracks and vis alone, row t at time t."""
    with (
        h5py.File(work.tracks / "pan.hdf5") as own,
        h5py.File(tmp_path / "theirs.hdf5", "w") as theirs,
    ):
        for name in ("tracks", "vis"):
            theirs[f"root/default/{name}"] = own[f"root/default/{name}"][:]
        theirs["root/default"].attrs.update(height=48, width=64)
    assert infer(run, work, tmp_path / "codes", source=tmp_path / "theirs.hdf5").status == 0
    found = written(tmp_path / "codes", "theirs")
    assert found["codes"] == written(work.codes, "pan")["codes"]
    assert found["start_frames"] == [0, 1, 2, 3, 4]
    assert found["source_frames"] == [-1] * 5
    assert found["start_seconds"] == found["step_seconds"] == [None] * 5
    assert (found["meta"]["fps"], found["meta"]["tracker"]) == (None, None)


def test_one_of_several_views_is_taken_by_its_name(run: Run, work: Work, tmp_path: Path) -> None:
    with (
        h5py.File(work.tracks / "pan.hdf5") as own,
        h5py.File(tmp_path / "two.hdf5", "w") as theirs,
    ):
        for view, still in (("agentview", False), ("eye_in_hand", True)):
            tracks = own["root/default/tracks"][:]
            theirs[f"root/{view}/tracks"] = tracks[:, :1].repeat(6, axis=1) if still else tracks
            theirs[f"root/{view}"].attrs.update(height=48, width=64)
    unsaid = infer(run, work, tmp_path / "none", source=tmp_path / "two.hdf5")
    assert "lacks the view default; it holds agentview, eye_in_hand, which data.views may" in unsaid.error
    found = {}
    for view in ("agentview", "eye_in_hand"):
        result = infer(run, work, tmp_path / view, "--data.views", view, source=tmp_path / "two.hdf5")
        assert result.status == 0, result.err
        found[view] = written(tmp_path / view, "two")
        assert found[view]["meta"]["views"] == [view]
    assert min(found["agentview"]["motion_energy"]) > 0 == max(found["eye_in_hand"]["motion_energy"])
    mixed = infer(
        run, work, tmp_path / "agentview", "--data.views", "eye_in_hand", source=tmp_path / "two.hdf5"
    )
    assert mixed.status == 2
    assert "another run (data.views ['agentview'] -> ['eye_in_hand'])" in mixed.err
    two = infer(run, work, tmp_path / "two", "--data.views", "a", "b", source=tmp_path / "two.hdf5")
    assert "data.views" in two.error


def test_a_bad_file_fails_alone(run: Run, work: Work, tmp_path: Path) -> None:
    shutil.copytree(work.tracks, tmp_path / "tracks")
    whole = (tmp_path / "tracks/pan.hdf5").read_bytes()
    (tmp_path / "tracks/a_cut.hdf5").write_bytes(whole[: len(whole) // 2])
    shutil.copy(tmp_path / "tracks/pan.hdf5", tmp_path / "tracks/z_other.hdf5")
    with h5py.File(tmp_path / "tracks/z_other.hdf5", "a") as file:
        settings = json.loads(file["root"].attrs["settings"]) | {"video.target_fps": 5.0}
        file["root"].attrs["settings"] = json.dumps(settings)
    shutil.copy(tmp_path / "tracks/pan.hdf5", tmp_path / "tracks/turned.hdf5")
    with h5py.File(tmp_path / "tracks/turned.hdf5", "a") as file:
        file["root/default/start_frame"][:] = STARTS[::-1]
    result = infer(run, work, tmp_path / "codes", source=tmp_path / "tracks")
    assert result.status == 3
    assert "Traceback" not in result.err
    found = statuses(tmp_path / "codes")
    assert {name for name, status in found.items() if status == "failed"} == {"a_cut", "z_other", "turned"}
    errors = {name: record.get("error", "") for name, record in manifest_of(tmp_path / "codes").items()}
    assert "a_cut.hdf5: cannot be opened as HDF5" in errors["a_cut"]
    assert "other settings than other clips of the input (video.target_fps 5.0 -> 10.0)" in errors["z_other"]
    assert "start_frame does not ascend" in errors["turned"]
    check_same(tmp_path / "codes", work.codes)


def test_tracks_that_do_not_suit_are_told(run: Run, work: Work, tmp_path: Path) -> None:
    stride = infer(run, work, tmp_path / "a", "--tracking.window_stride", 4, source=work.tracks)
    assert stride.status == 2
    assert "error: tracking.window_stride = 4 is impossible: the tracks of " in stride.err
    assert "were made with 2; leave it out" in stride.err
    shipped = run(INFER, "--input", work.tracks, "--output", tmp_path / "b")
    assert "windows of T = 6 frames and N = 9 points, expected T = 16" in shipped.error
    none = infer(run, work, tmp_path / "c", source=work.folder / "nowhere")
    assert "does not exist" in none.error
    (tmp_path / "empty").mkdir()
    assert "is empty" in infer(run, work, tmp_path / "d", source=tmp_path / "empty").error


def test_several_checkpoints_share_a_pass(run: Run, work: Work, tmp_path: Path) -> None:
    line = ["--checkpoint", work.best, "--checkpoint", work.run / "last.pth", "--output", tmp_path / "codes"]
    result = run(INFER, *line, "--input", work.videos)
    both = f"{tmp_path / 'codes/best'}, {tmp_path / 'codes/last'}"
    assert result.out == f"codes in {both}: 4 done (20 windows), 0 skipped, 0 failed\n"
    check_same(tmp_path / "codes/best", work.codes)
    last = infer(run, work, tmp_path / "alone", "--checkpoint", work.run / "last.pth", source=work.tracks)
    assert last.status == 0, last.err
    assert (tmp_path / "alone/last").is_dir()
    check_same(tmp_path / "codes/last", tmp_path / "alone/last")
    assert "4 skipped" in run(INFER, *line, "--input", work.videos).out
    again = infer(run, work, tmp_path / "codes/best")
    assert "4 skipped" in again.out  # a subfolder is a folder of codes as any other
    twice = run(INFER, "--checkpoint", work.best, *line, "--input", work.videos)
    assert "two checkpoints would share" in twice.error


TWO_VIEWS: dict[str, Any] = {
    **TINY,
    "tracking": {
        **TINY["tracking"],
        "pad_end": "repeat_last",
        "view_files": {"left": "{clip}_left.mp4", "right": "{clip}_right.mp4"},
    },
    "data": {
        **TINY["data"],
        "views": ["right", "left"],
        "reference_size": [48, 64],
        "static_filter": {"enable": False},
    },
    "model": {**TINY["model"], "num_layers": 2, "name": "amplify", "amplify": {"mlp_dim": 12}},
}


@pytest.fixture(scope="module")
def two_views(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    folder = tmp_path_factory.mktemp("views")
    for seed, view in enumerate(("left", "right")):
        render(folder / f"videos/a_{view}.mp4", "pan", seed, frames=20)
    config = config_from_dict(TWO_VIEWS, "here")
    save_native(folder / "two.pth", config)
    preprocess_folder(folder / "videos", folder / "tracks", config)
    return folder, config


def test_views_and_padded_windows_are_those_of_the_videos(
    two_views: tuple[Path, Config], tmp_path: Path
) -> None:
    folder, config = two_views
    checkpoint = load_checkpoint(folder / "two.pth")
    for source in ("videos", "tracks"):
        assert tokenize_folder(folder / source, tmp_path / source, checkpoint, config, ["latents"]).done == 1
    found, wanted = written(tmp_path / "tracks", "a"), written(tmp_path / "videos", "a")
    assert {key: found[key] for key in COLUMNS} == {key: wanted[key] for key in COLUMNS}
    assert found["valid_steps"] == [5, 5, 5, 3, 1]
    assert found["meta"]["tracked_sizes"] == {"right": [48, 64], "left": [48, 64]}
    assert len({tuple(ids) for ids in found["codes"]}) > 1


def test_checkpoints_that_track_otherwise_cannot_share_a_pass(
    two_views: tuple[Path, Config], tmp_path: Path
) -> None:
    folder, config = two_views
    other = config_from_dict({**TWO_VIEWS, "data": {**TWO_VIEWS["data"], "views": ["left", "right"]}}, "here")
    checkpoint = load_checkpoint(folder / "two.pth")
    targets = [Target(tmp_path / "a", checkpoint, config), Target(tmp_path / "b", checkpoint, other)]
    with pytest.raises(UsageError, match=r"take different tracks \(data.views \['right', 'left'\] -> "):
        tokenize_together(folder / "videos", targets)


def test_true_tracks_of_rendered_clips_have_codes(run: Run, tmp_path: Path) -> None:
    line = ["--clips", 2, "--frames", 30, "--size", "48x64", "--truth", "--stride", 4]
    line += ["--output", tmp_path / "clips"]
    assert run("amplify_motion_tokenizer/__main__.py", "scenes", *line).status == 0
    result = run(INFER, "--input", tmp_path / "clips/truth", "--output", tmp_path / "codes")
    assert result.status == 0, result.err
    assert {name: codes.starts.tolist() for name, codes in read_codes(tmp_path / "codes").items()} == {
        "000_pan": [0, 4, 8, 12], "001_zoom": [0, 4, 8, 12]
    }  # fmt: skip
