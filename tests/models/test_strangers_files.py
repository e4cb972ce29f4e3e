"""A stranger's checkpoint or track file decides no code, no path, no network place, nothing of training."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.codes.tokenizer import load_tokenizer
from amplify_motion_tokenizer.config import SETTINGS, Config, flatten, to_dict, unflatten
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError, TrackFileError
from amplify_motion_tokenizer.models.amplify.exchange import amplify_content
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.convert import convert
from amplify_motion_tokenizer.models.exchange import OWN_KEY
from amplify_motion_tokenizer.tracks.find import find_tracks
from tests.support.checkpoints import KEYPOINT, changed, save_native
from tests.support.configs import amplify_config
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import INFER, Run

EVIL = {
    "tracking.tracker": "cotracker3_offline",
    "tracking.cotracker.checkout": "/tmp/evil",
    "tracking.cotracker.weights": "/etc/passwd",
    "model.amplify.vision.weights": "attacker/evil",
    "training.wandb_project": "attacker",
}


def with_evil(tree: dict[str, Any]) -> dict[str, Any]:
    return unflatten(flatten(tree) | EVIL)


def native(folder: Path) -> Path:
    save_native(folder / "ours.pth", KEYPOINT)
    content = torch.load(folder / "ours.pth", weights_only=True)
    torch.save(content | {"config": with_evil(content["config"])}, folder / "ours.pth")
    return folder / "ours.pth"


def amplify(folder: Path) -> Path:
    model = save_native(folder / "ours.pth", amplify_config())
    content = amplify_content(model.state_dict(), model.config)
    own = {"config": with_evil(to_dict(model.config)), "track_settings": None, "metrics": {}}
    torch.save(content | {OWN_KEY: own}, folder / "theirs.pt")
    return folder / "theirs.pt"


def keypoint(folder: Path) -> Path:
    save_native(folder / "ours.pth", changed(KEYPOINT, model__keypoint__tokens="point_step"))
    (folder / "out").mkdir()
    convert(folder / "ours.pth", folder / "out/theirs.pth", "keypoint")
    tree = yaml.safe_load((folder / "out/config.yaml").read_text(encoding="utf-8"))
    tree[OWN_KEY]["config"] = with_evil(tree[OWN_KEY]["config"])
    (folder / "out/config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return folder / "out/theirs.pth"


@pytest.mark.parametrize("make", [native, amplify, keypoint])
def test_no_checkpoint_says_what_is_run_or_read(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = load_checkpoint(make(tmp_path))
    found = flatten(to_dict(checkpoint.config))
    assert all(found[key] is None for key, setting in SETTINGS.items() if setting.local)
    local = set(EVIL) - {"tracking.tracker"}
    assert checkpoint.not_followed == {key: EVIL[key] for key in local}
    with caplog.at_level(logging.WARNING):
        overridden(checkpoint, {})
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        f"its {key} = {EVIL[key]} is not followed, as a checkpoint must not decide what runs or is read "
        f"here; if you trust it, give --{key} {EVIL[key]}"
        for key in ("tracking.cotracker.checkout", "tracking.cotracker.weights")
    ]
    caplog.clear()
    given = {key: "mine" for key in local if key.startswith("tracking.")}
    config = overridden(checkpoint, given)
    assert config.tracking.cotracker.checkout == "mine" and not caplog.records


def test_every_place_of_code_weights_and_accounts_is_local() -> None:
    named = re.compile(r".*\.(checkout|weights|wandb_project)")
    assert {key for key in SETTINGS if named.fullmatch(key)} == {
        key for key, setting in SETTINGS.items() if setting.local
    }


def test_a_checkpoints_checkout_is_not_run(run: Run, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "hubconf.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    path = native(tmp_path)
    content = torch.load(path, weights_only=True)
    content["config"]["tracking"]["cotracker"]["checkout"] = str(evil)
    torch.save(content, path)
    write_clip(tmp_path / "clip.mp4", numbered_frames(16, texture_seed=1), 10)
    line = ["--checkpoint", path, "--input", tmp_path / "clip.mp4", "--output", tmp_path / "codes"]
    # Somewhere that is no clone of CoTracker: nothing is fetched.
    result = run(INFER, *line, "--tracking.cotracker.checkout", tmp_path / "none")
    assert result.status == 2 and "is not a clone of CoTracker" in result.err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["../{clip}.mp4", "/etc/{clip}", "a/../../{clip}.mp4", "..\\{clip}.mp4"])
def test_views_lie_below_the_input_folder(form: str) -> None:
    tree = flatten(to_dict(Config())) | {"tracking.view_files": {"front": form}}
    with pytest.raises(ConfigError, match=r"tracking\.view_files = .* below the input folder"):
        config_from_dict(unflatten(tree), "in a checkpoint")


@pytest.mark.parametrize(
    "key",
    ["training.learning_rate", "model.dropout", "tracking.cotracker.checkout", "training", "evil.key"],
)
def test_a_track_file_says_nothing_of_training(tmp_path: Path, write_tracks: Any, key: str) -> None:
    import h5py

    path = write_tracks(tmp_path / "clip.hdf5", 3)
    with h5py.File(path, "r+") as file:
        settings = file["root"].attrs["settings"]
        file["root"].attrs["settings"] = settings[:-1] + f', "{key}": 5}}'
    with pytest.raises(TrackFileError, match=rf"clip\.hdf5: its settings hold {key}, which is no setting"):
        find_tracks(tmp_path)


def test_a_shipped_tokenizer_names_nothing_outside() -> None:
    assert flatten(to_dict(load_tokenizer("default", "cpu").config))["tracking.cotracker.checkout"] is None
    assert load_checkpoint("default").not_followed == {}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model.num_layers": 1000, "model.hidden_dim": 65536}, "1000 layers of width 65536 have more than"),
        ({"model.num_layers": 100000}, "model.num_layers = 100000 is impossible; allowed: .* from 1 to 1000"),
        ({"data.sequence_length": 2**70}, "data.sequence_length = 1180591620717411303424 is impossible"),
        (
            {"data.sequence_length": 4096, "data.grid_size": 512},
            "data.grid_size = 512 is impossible; allowed",
        ),
    ],
)
def test_a_network_that_memory_has_no_room_for_is_never_made(
    tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    save_native(tmp_path / "ours.pth", KEYPOINT)
    content = torch.load(tmp_path / "ours.pth", weights_only=True)
    content["config"] = unflatten(flatten(content["config"]) | keys)
    torch.save(content, tmp_path / "ours.pth")
    with pytest.raises((CheckpointError, ConfigError), match=words):
        load_tokenizer(tmp_path / "ours.pth", "cpu")
