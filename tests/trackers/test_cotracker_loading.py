"""Where CoTracker's code and weights come from, and what is recorded of them."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer.config import Config, CoTrackerConfig, TrackingConfig, changes, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import TrackerError, UsageError
from amplify_motion_tokenizer.trackers import make_tracker, record_weights
from amplify_motion_tokenizer.trackers.cotracker.loading import HUB_REF, load_predictor
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from tests.support.cotracker_double import hubconf
from tests.support.run_scripts import TINY, files_below, render

DOUBLE = Path(hubconf.__file__).parent
ENTRY = "cotracker3_offline"


@pytest.fixture
def local(tmp_path):
    """A config of a checkout with weights; nothing else can be reached."""
    shutil.copytree(DOUBLE, tmp_path / "repo")
    torch.save(hubconf.Model().state_dict(), tmp_path / "weights.pth")
    return CoTrackerConfig(checkout=str(tmp_path / "repo"), weights=str(tmp_path / "weights.pth"))


def config_of(settings, entry=ENTRY):
    return Config(tracking=TrackingConfig(tracker=entry, device="cpu", cotracker=settings))


def failure(settings, match, entry=ENTRY):
    with pytest.raises(TrackerError, match=match) as caught:
        load_predictor(entry, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_local_files_need_no_network(local, asked):
    tracker = make_tracker(config_of(local))
    assert tracker.name == ENTRY and not asked
    # A fork's entry has a name of its own.
    assert make_tracker(config_of(local, "cotracker_of_a_fork")).name == "cotracker_of_a_fork"


def test_without_network_the_keys_are_named(asked):
    message = failure(CoTrackerConfig(), "no CoTracker code and weights from facebookresearch")
    assert "tracking.cotracker.checkout" in message and "tracking.cotracker.weights" in message
    assert "scaled_offline.pth" in message and "git clone" in message
    assert f"facebookresearch/co-tracker/zipball/{HUB_REF}" in asked[-1]


def test_each_entry_names_its_own_weights():
    assert "scaled_online.pth" in failure(CoTrackerConfig(), "no network", "cotracker3_online")
    assert "cotracker2.pth" in failure(CoTrackerConfig(), "no network", "cotracker2")
    assert "huggingface" not in failure(CoTrackerConfig(), "no network", "cotracker_of_a_fork")


def test_missing_pieces(local, tmp_path):
    def fails(match, **changed):
        return failure(dataclasses.replace(local, **changed), match)

    assert "hubconf.py" in fails("tracking.cotracker.checkout = ", checkout=str(tmp_path))
    fails("no CoTracker weights .*no network.*tracking.cotracker.weights", weights=None)
    fails("tracking.cotracker.weights = .* is not a file", weights=str(tmp_path / "none.pth"))
    message = failure(local, "tracking.tracker = 'cotracker4' is no entry of .*hubconf.py", "cotracker4")
    assert "cotracker3_offline, cotracker3_online, cotracker2" in message
    match = "parts .interp_shape, support_grid_size, model, model.fnet, model.updateformer missing"
    failure(local, match, "cotracker_without_parts")

    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    assert "other" in fails("not a state dict of cotracker3", weights=str(tmp_path / "other.pth"))
    torch.save(torch.zeros(1), tmp_path / "tensor.pth")
    fails("not a state dict of cotracker3", weights=str(tmp_path / "tensor.pth"))
    torch.save(hubconf.Model(), tmp_path / "pickled.pth")
    needs = fails("not a state dict of cotracker3", weights=str(tmp_path / "pickled.pth"))
    assert f"it needs more than tensors and plain values ({hubconf.__name__}.Model)" in needs
    assert "weights_only" not in needs
    for content in (b"<html>not found</html>", b"hello" * 1000):
        (tmp_path / "damaged.pth").write_bytes(content)
        told = fails("not a state dict of cotracker3", weights=str(tmp_path / "damaged.pth"))
        assert "weights_only" not in told and "arbitrary" not in told

    (tmp_path / "repo" / "hubconf.py").write_text("import no_such_package_of_cotracker")
    fails("cannot be imported: .*no_such_package_of_cotracker")


def test_weights_are_known_by_their_values(local, tmp_path):
    def settled(settings):
        config = config_of(settings)
        return record_weights(config, make_tracker(config))

    first = settled(local)
    assert len(first.tracking.cotracker.weights_sha256) == 64
    state = hubconf.Model().state_dict()
    torch.save({"model": state}, tmp_path / "moved.pth")
    moved = dataclasses.replace(first.tracking.cotracker, weights=str(tmp_path / "moved.pth"))
    assert track_settings(settled(moved)) == track_settings(first)

    state["updateformer.weight"] += 1
    torch.save(state, tmp_path / "weights.pth")
    (change,) = changes(track_settings(first), track_settings(settled(local)))
    assert change.startswith("tracking.cotracker.weights_sha256 ")
    with pytest.raises(TrackerError, match=r"weights_sha256 = .*, but the weights of cotracker3_offline"):
        settled(first.tracking.cotracker)

    flow = Config()
    assert record_weights(flow, make_tracker(flow)) == flow


def test_speed_and_place_are_not_part_of_what_tracks_are(local):
    base = track_settings(config_of(local))
    same = {"checkout": "elsewhere", "weights": "moved.pth", "window_batch_size": 8, "compile": True}
    assert track_settings(config_of(dataclasses.replace(local, **same))) == base
    assert track_settings(config_of(dataclasses.replace(local, autocast="bf16"))) != base


def test_a_folder_is_redone_for_other_weights_only(local, tmp_path):
    render(tmp_path / "videos" / "a.mp4")

    def run(weights):
        settings = dataclasses.replace(local, weights=str(weights))
        tiny = config_from_dict(TINY, "in the tests")
        tracking = dataclasses.replace(tiny.tracking, tracker=ENTRY, device="cpu", cotracker=settings)
        config = dataclasses.replace(tiny, tracking=tracking)
        return preprocess_folder(tmp_path / "videos", tmp_path / "tracks", config)

    assert run(local.weights).exit_status == 0
    before = files_below(tmp_path / "tracks", "*.hdf5")
    assert len(before) == 1
    moved = shutil.copy(local.weights, tmp_path / "moved.pth")
    assert run(moved).exit_status == 0 and files_below(tmp_path / "tracks", "*.hdf5") == before
    state = torch.load(moved, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, moved)
    with pytest.raises(UsageError, match=r"the tracks of another run \(tracking.cotracker.weights_sha256 "):
        run(moved)
