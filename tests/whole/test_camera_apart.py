"""infer --camera: what it writes, what it refuses, and what decode makes of it."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.commands import decode
from amplify_motion_tokenizer.config.gone import known_hashes
from amplify_motion_tokenizer.config.keys import settings_hash
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.scenes import TruthWindows, write_clips
from tests.support.checkpoints import save_native
from tests.support.run_scripts import INFER, TINY, Run, Work, infer, preprocess


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True tracks of a clip whose camera goes its way before things that go theirs."""
    folder = tmp_path_factory.mktemp("scenes")
    write_clips(folder, 1, 3, (120, 160), 18, 20.0, ("mixed",), TruthWindows())
    with h5py.File(folder / "truth/000_mixed.hdf5", "a") as file:
        del file["root"].attrs["settings"]  # as of another writer; no tracker made these
    return folder / "truth"


def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "000_mixed.json").read_text(encoding="utf-8"))
    return content


def test_a_run_says_what_became_of_the_camera(run: Run, truth: Path, tmp_path: Path) -> None:
    line = ["--checkpoint", "transform", "--input", truth]
    found = {}
    flags = {"keep": (), "remove": ("--data.camera", "remove"), "both": ("--camera", "both")}
    for camera, flag in flags.items():
        result = run(INFER, *line, "--output", tmp_path / camera, *flag)
        assert result.status == 0, result.err
        found[camera] = written(tmp_path / camera)
    assert [camera for camera in found if "camera" in found[camera]] == ["remove", "both"]
    assert [camera for camera in found if "camera_codes" in found[camera]] == ["both"]
    assert found["remove"]["codes"] == found["both"]["codes"] != found["keep"]["codes"]
    with h5py.File(truth / "000_mixed.hdf5") as file:
        maps, tracks = file["root/default/camera"][:], file["root/default/tracks"][:]
    corners = np.concatenate([tracks[0, 0][[0, 19, 380, 399]], np.ones((4, 1))], axis=1)
    moved = np.einsum("stij,cj->stci", maps, corners)
    expected = (moved[..., :2] / moved[..., 2:] - corners[:, :2])[:, 1:] / 120
    assert np.abs(np.array(found["remove"]["camera"])[:, 0] - expected).max() < 0.002

    other = run(INFER, *line, "--output", tmp_path / "remove")
    assert other.status == 2
    assert "holds the codes of another run (data.camera remove -> keep)" in other.error
    told = run(INFER, *line, "--output", tmp_path / "x", "--camera", "both", "--data.camera", "remove")
    assert "--camera is both and data.camera remove; give one of them" in told.error

    # Of a lone file of codes, too, what they say of the camera is enough to read them.
    lone = tmp_path / "lone.json"
    lone.write_bytes((tmp_path / "remove/000_mixed.json").read_bytes())
    for codes, out in ((tmp_path / "remove", tmp_path / "decoded"), (lone, tmp_path / "of_lone")):
        line = ["--checkpoint", "transform", "--codes", str(codes), "--output", str(out)]
        assert decode.main(line) == 0
        with h5py.File(out / "000_mixed.hdf5") as file:
            whole = file["root/default/tracks"][:]
        moved = np.linalg.norm(tracks - tracks[:, :1], axis=-1).mean()
        assert np.linalg.norm(whole - tracks, axis=-1).mean() < 0.2 * moved


def test_each_checkpoint_takes_the_camera_as_it_was_trained(
    run: Run, work: Work, truth: Path, tmp_path: Path
) -> None:
    data = {**TINY["data"], "sequence_length": 16, "grid_size": 20}
    for name in ("keep", "remove"):
        tree = {**TINY, "data": {**data, "camera": name}}
        save_native(tmp_path / f"{name}.pth", config_from_dict(tree, "here"))
    both = ["--checkpoint", tmp_path / "keep.pth", "--checkpoint", tmp_path / "remove.pth"]
    result = run(INFER, *both, "--input", truth, "--output", tmp_path / "codes")
    assert result.status == 0, result.err
    assert "camera" not in written(tmp_path / "codes/keep")
    assert "camera" in written(tmp_path / "codes/remove")
    result = run(INFER, *both, "--input", truth, "--output", tmp_path / "kept", "--camera", "keep")
    assert "camera" not in written(tmp_path / "kept/remove")
    assert "differs from the checkpoint's training: data.camera remove -> keep" in result.err


def test_velocity_files_hold_the_camera_for_good(run: Run, work: Work, tmp_path: Path) -> None:
    assert preprocess(run, work, tmp_path / "pt", "--format", "pt").status == 0
    assert infer(run, work, tmp_path / "kept", "--camera", "keep", source=tmp_path / "pt").status == 0
    refused = infer(run, work, tmp_path / "codes", "--camera", "remove", source=tmp_path / "pt")
    assert refused.status == 2
    assert "data.camera = remove is impossible: the tracks of" in refused.err
    assert (
        "velocity files hold no positions"
        in preprocess(run, work, tmp_path / "pt2", "--format", "pt", "--data.camera", "remove").error
    )


def test_what_was_made_before_there_was_a_choice_has_its_camera() -> None:
    before = {"video.target_fps": 20.0, "data.reference_size": None}
    assert settings_hash(before) in known_hashes({**before, "data.camera": "keep"})
    assert settings_hash(before) not in known_hashes({**before, "data.camera": "remove"})
