"""BootsTAPIR, TAPNext and AllTracker on stand-ins of their clones, with the conventions of the real code."""

import dataclasses
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config import Config, TrackingConfig, changes, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError, TrackerError
from amplify_motion_tokenizer.trackers import TRACKERS, make_tracker, record_weights
from amplify_motion_tokenizer.trackers.alltracker import given_size, whole_spans
from amplify_motion_tokenizer.trackers.windows import FrameWindow
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from tests.support.run_scripts import TINY, files_below, render
from tests.support.tracked import windows_of

SUPPORT = Path(__file__).parents[1] / "support"
SIZE = (120, 200)
QUERIES = np.float32([[12.25, 20], [180, 100.5], [130, 30], [201, 10]])
"""(x, y) pixels; the last is outside the frame."""

XY = torch.tensor([8.0, -4.0])
"""What the stand-ins move a point by, (x, y), where its window's light grows by one."""

DOUBLES = {"bootstapir": "tapnet", "tapnext": "tapnet", "alltracker": "alltracker"}
"""The stand-in that each section of settings is for, in ``tests/support``."""
STATES = {
    "bootstapir": {"speed": XY},
    "tapnext": {"speed": XY.flip(0)},  # (y, x)
    "tapnextpp": {"state_dict": {"tapnext.speed": XY.flip(0)}, "epoch": 3},
    "alltracker": {"model": {"speed": XY.repeat(2) / 2}, "global_step": 5},
    "alltracker_tiny": {"model": {"speed": XY}},
}
"""Files of weights as each tracker's authors write them."""


def section_of(name):
    return TrackingConfig(tracker=name).tracker_section


@pytest.fixture
def config(tmp_path):
    """A config of a tracker whose clone is a stand-in, with a file of weights."""

    def make(name, **changed):
        torch.save(STATES[name], tmp_path / f"{name}.pt")
        section = section_of(name)
        settings = dataclasses.replace(
            getattr(TrackingConfig(), section),
            checkout=str(
                SUPPORT / f"{section.replace('bootstapir', 'tapnet').replace('next', 'net')}_double"
            ),
            weights=str(tmp_path / f"{name}.pt"),
        )
        settings = dataclasses.replace(settings, **changed)
        return Config(tracking=TrackingConfig(tracker=name, device="cpu", **{section: settings}))

    return make


@pytest.fixture
def tracker(config):
    return lambda name, **changed: make_tracker(config(name, **changed))


def failure(config, match):
    with pytest.raises(TrackerError, match=match) as caught:
        make_tracker(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def video_of(light, size=SIZE):
    """Frames of the brightness given."""
    return [np.full((*size, 3), value, np.uint8) for value in light]


# What the models are given


@pytest.mark.parametrize("resolution", [256, 512])
def test_bootstapir_gets_queries_as_t_y_x_on_the_raster_and_frames_from_minus_1_to_1(tracker, resolution):
    made = tracker("bootstapir", window_batch_size=2, resolution=resolution)
    video = np.zeros((4, 64, 128, 3), np.uint8)
    video[..., 0] = 255
    video[:, :8, :8] = [0, 255, 51]
    list(made.track(windows_of(video, 1, 3), np.float32([[0, 0], [127, 63], [31.5, 10]])))
    ((frames, queries),) = made._model.calls
    assert frames.shape == (2, 3, resolution, resolution, 3) and frames.dtype == torch.float32
    assert frames[1, 2, 0, 0].tolist() == pytest.approx([-1, 1, -0.6])
    assert frames[1, 2, -1, -1].tolist() == [1, -1, -1]
    x, y = resolution / 128, resolution / 64
    expected = [[0, y / 2, x / 2], [0, 63.5 * y, 127.5 * x], [0, 10.5 * y, 32 * x]]
    torch.testing.assert_close(
        queries, torch.tensor([expected] * 2), msg="(t, y, x); corners at whole numbers"
    )


@pytest.mark.parametrize("resolution", [256, 512])
def test_tapnext_gets_a_frame_at_a_time_and_a_raster_of_256_for_any_resolution(tracker, resolution):
    made = tracker("tapnextpp", window_batch_size=2, resolution=resolution)
    list(made.track(windows_of(video_of([0, 255, 51, 0], (64, 128)), 1, 3), np.float32([[31.5, 10]])))
    frames, queries = zip(*made._model.calls, strict=True)
    assert [tuple(frame.shape) for frame in frames] == [(2, 1, resolution, resolution, 3)] * 3
    assert [frame[0].mean().item() for frame in frames] == pytest.approx([-1, 1, -0.6])
    assert queries[0].tolist() == [[[0, 42, 64]]] * 2 and queries[1:] == (None, None)


def test_alltracker_gets_frames_of_0_to_255_in_their_aspect(tracker):
    made = tracker("alltracker", window_batch_size=2, longer_side=100)
    list(made.track(windows_of(video_of([10, 20, 255, 40]), 1, 3), QUERIES))
    (frames,) = made._model.calls
    assert frames.shape == (2, 16, 3, 56, 96), "as many frames as it looks at together; multiples of 8"
    assert frames[0, :, 0, 5, 5].tolist() == [10, 20, *[255] * 14], "the last frame again"
    assert frames[1, :3, 2, 0, 0].tolist() == [20, 255, 40]


def test_sizes_and_spans_of_alltracker():
    assert given_size((480, 640), 512) == (384, 512)
    assert given_size((480, 854), 512) == (280, 512)  # 287.8
    assert given_size((240, 320), 512) == (384, 512), "grown, too"
    assert given_size((3, 600), 512) == (8, 512)
    assert [whole_spans(steps) for steps in (2, 16, 17, 24, 25)] == [16, 16, 24, 24, 32]


# What they give


@pytest.mark.parametrize("name", ["bootstapir", "tapnextpp", "alltracker", "alltracker_tiny"])
@pytest.mark.parametrize(("steps", "batch"), [(8, 1), (19, 3)])
def test_tracks_are_in_pixels_of_the_frames_and_visibility_is_the_authors(tracker, name, steps, batch):
    light = np.linspace(20, 220, steps + 2).astype(np.uint8)
    made = tracker(name, window_batch_size=batch)
    assert made.name == name and made.windows_ahead == batch and made.owns_device
    results = list(made.track(windows_of(video_of(light), 1, steps), QUERIES))
    assert [result.start for result in results] == [0, 1, 2]
    for start, result in enumerate(results):
        assert result.tracks_xy_px.dtype == result.visibility.dtype == np.float32
        assert (result.tracks_xy_px[0] == QUERIES).all()
        assert result.visibility[0].tolist() == [1, 1, 1, 0], "a query outside the frame is not seen"
        seen = light[start : start + steps, None] / 255.0
        gained = (seen - seen[:1])[..., None]
        if name.startswith("alltracker"):
            # The model's frames are 304 x 512. Their right half moves twice as far, the lower the other way.
            moved = gained * [8 * 200 / 512, -4 * 120 / 304] * np.float64([[1], [-2], [2], [2]])
            visibility = seen * seen / 2
        else:
            moved = 2 * gained * [8 * 200 / 256, -4 * 120 / 256]  # light of -1 to 1
            logit = 4 * (2 * seen - 1)
            visibility = 1 / (1 + np.exp(-logit))
            if name == "bootstapir":
                visibility = visibility / (1 + np.exp(-logit - 1))
        np.testing.assert_allclose(result.tracks_xy_px[1:], (QUERIES + moved)[1:], atol=1e-3)
        np.testing.assert_allclose(
            result.visibility[1:], np.broadcast_to(visibility, (steps, 4))[1:], atol=1e-5
        )


@pytest.mark.parametrize("name", ["bootstapir", "tapnextpp", "alltracker"])
def test_windows_that_overlap_or_are_padded_equal_windows_alone(tracker, name):
    video = np.random.default_rng(0).integers(0, 256, (12, 40, 60, 3), np.uint8)
    windows = list(windows_of(video, 3, 5))
    windows.append(FrameWindow(10, 0.5, [*video[10:], *[video[-1]] * 3], padding=3))
    together = tracker(name, window_batch_size=3, **({"longer_side": 64} if name == "alltracker" else {}))
    alone = tracker(name, **({"longer_side": 64} if name == "alltracker" else {}))
    results = list(together.track(windows, QUERIES[:2]))
    for window, result in zip(windows, results, strict=True):
        (expected,) = alone.track([window], QUERIES[:2])
        np.testing.assert_allclose(result.tracks_xy_px, expected.tracks_xy_px, atol=1e-4)
        np.testing.assert_allclose(result.visibility, expected.visibility, atol=1e-6)
    assert np.abs(results[0].tracks_xy_px[1:] - QUERIES[:2]).max() > 1e-3


def test_random_numbers_of_others_are_left_alone(tracker):
    made = tracker("bootstapir")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    list(made.track(windows_of(video_of([1, 2]), 1, 2), QUERIES))
    assert torch.equal(torch.rand(2), expected)


# Code and weights


def test_every_tracker_of_the_table_is_made_from_local_files(tracker, asked):
    for name in STATES:
        assert name in TRACKERS and tracker(name).name == name
    assert not asked


def test_modules_of_general_names_stay_what_they_were(tracker):
    mine = type(sys)("utils")
    sys.modules["utils"] = mine
    try:
        before = set(sys.modules)
        made = tracker("alltracker")
        assert sys.modules["utils"] is mine
        assert not [name for name in set(sys.modules) - before if name.split(".")[0] in ("nets", "utils")]
        assert not [entry for entry in sys.path if "alltracker_double" in entry]
        list(made.track(windows_of(video_of([1, 2]), 1, 2), QUERIES))
    finally:
        del sys.modules["utils"]


def test_tapnext_reads_its_authors_arrays(config, tracker, tmp_path):
    np.savez(tmp_path / "arrays.npz", **{"backbone/speed": XY.flip(0).numpy()})
    from_arrays = tracker("tapnext", weights=str(tmp_path / "arrays.npz"))
    assert from_arrays.weights_sha256 == tracker("tapnextpp").weights_sha256
    np.savez(tmp_path / "arrays.npz", other=np.zeros(2))
    failure(
        config("tapnext", weights=str(tmp_path / "arrays.npz")), "arrays.npz holds no weights of tapnext: .*"
    )


@pytest.mark.parametrize("name", list(STATES))
def test_missing_pieces_are_told_with_what_to_do(config, tmp_path, name):
    section = section_of(name)
    clone = rf"set tracking.{section}.checkout to a folder made by 'git clone https://github.com/\w+"
    failure(config(name, checkout=None), f"code is not part of this package: {clone}")
    message = failure(config(name, checkout=str(tmp_path)), f"checkout = .* is not a clone of it .*; {clone}")
    assert ("nets/alltracker.py" if section == "alltracker" else "tapnet/t") in message
    message = failure(
        config(name, weights=str(tmp_path / "none.pt")), f"tracking.{section}.weights = .* file; set"
    )
    assert "downloaded from https://" in message


@pytest.mark.parametrize("name", list(STATES))
def test_wrong_weights_are_told_with_where_the_right_ones_are(config, tmp_path, name):
    other = tmp_path / "other.pt"
    pickled = torch.nn.Linear(1, 1)
    for held in ({"other": torch.zeros(1)}, {"speed": torch.zeros(7)}, torch.zeros(1), [1], pickled):
        torch.save(held, other)
        message = failure(config(name, weights=str(other)), f"other.pt holds no weights of {name}: .*")
        assert f"https://{'huggingface.co' if 'all' in name else 'storage.googleapis.com'}/" in message
        assert ("it needs more than tensors" in message) == (held is pickled)
    other.write_bytes(b"<html>not found</html>")
    assert "weights_only" not in failure(config(name, weights=str(other)), "other.pt holds no weights")


def test_code_that_cannot_be_imported_or_does_not_fit(config, tmp_path):
    clone = tmp_path / "clone"
    (clone / "nets").mkdir(parents=True)
    module = clone / "nets/alltracker.py"
    module.write_text("import no_such_package_of_alltracker")
    message = failure(config("alltracker", checkout=str(clone)), "cannot be imported: .*no_such_package")
    assert message.endswith("pip install einops torchvision")
    for text in ("", "def Net(seqlen):\n    pass"):
        module.write_text(text)
        shutil.rmtree(clone / "nets/__pycache__", ignore_errors=True)
        failure(
            config("alltracker", checkout=str(clone)), "checkout = .* does not fit .*another version of https"
        )


def test_weights_that_are_not_named_are_downloaded_once(config, asked, monkeypatch, tmp_path):
    message = failure(
        config("bootstapir", weights=None), "no weights of BootsTAPIR from https://.*no network"
    )
    assert "Without network, set tracking.bootstapir.weights" in message
    assert asked == ["https://storage.googleapis.com/dm-tapnet/bootstap/bootstapir_checkpoint_v2.pt"]
    fetched = []

    def fetch(url, path, **_):
        fetched.append(url)
        torch.save(STATES["bootstapir"], path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    hashes = {make_tracker(config("bootstapir", weights=None)).weights_sha256 for _ in range(2)}
    assert hashes == {make_tracker(config("bootstapir")).weights_sha256} and fetched == asked


def test_weights_are_known_by_their_values(config, tmp_path):
    def settled(made):
        return record_weights(made, make_tracker(made))

    first = settled(config("bootstapir"))
    assert len(first.tracking.bootstapir.weights_sha256) == 64
    torch.save({"model": STATES["bootstapir"]}, tmp_path / "moved.pt")
    assert track_settings(
        settled(config("bootstapir", weights=str(tmp_path / "moved.pt")))
    ) == track_settings(first)
    torch.save({"speed": XY + 1}, tmp_path / "other.pt")
    found = settled(config("bootstapir", weights=str(tmp_path / "other.pt")))
    (change,) = changes(track_settings(first), track_settings(found))
    assert change.startswith("tracking.bootstapir.weights_sha256 ")
    recorded = first.tracking.bootstapir.weights_sha256
    with pytest.raises(TrackerError, match=r"weights_sha256 = .*, but the weights of bootstapir"):
        settled(config("bootstapir", weights=str(tmp_path / "other.pt"), weights_sha256=recorded))


# What is asked of them


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("bootstapir.resolution", 300, "a multiple of 8"),
        ("tapnext.resolution", 64, "at least 256"),
        ("alltracker.longer_side", 8, "at least 64"),
    ],
)
def test_sizes_that_the_models_cannot_take_are_refused(key, value, allowed):
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=f"tracking.{key} = {value} is impossible; allowed: .*{allowed}"):
        config_from_dict({"tracking": {section: {name: value}}}, "in the tests")


def test_a_full_gpu_halves_the_batch_and_names_the_section(tracker, caplog):
    made = tracker("bootstapir", window_batch_size=4)
    made._model.full_above = 1
    with caplog.at_level(logging.WARNING):
        assert len(list(made.track(windows_of(video_of(range(6)), 1, 2), QUERIES))) == 5
    assert "tracking.bootstapir.window_batch_size" in caplog.records[-1].message
    made._model.full_above = 0
    with pytest.raises(TrackerError, match="one window of 2 frames and 4 points; lower data.grid_size"):
        list(made.track(windows_of(video_of([1, 2]), 1, 2), QUERIES))


@pytest.mark.parametrize("name", ["bootstapir", "tapnextpp", "alltracker"])
@pytest.mark.parametrize("misfit", ["fewer points", "another form", "other arguments"])
def test_models_that_are_of_another_version(tracker, name, misfit):
    made = tracker(name)
    given = made._model.forward

    def fewer(video, query_points=None, **options):
        return given(video, None if query_points is None else query_points[:, :1], **options)

    made._model.forward = {
        "fewer points": fewer,
        "another form": lambda *_, **__: {},
        "other arguments": lambda frames: given(frames),
    }[misfit]
    if (name, misfit) == ("alltracker", "fewer points"):
        made._model.forward = lambda *a, **b: tuple(part[:, :1] for part in given(*a, **b)[:2])
    with pytest.raises(TrackerError, match=f"tracking.{section_of(name)}.checkout to a clone of another"):
        list(made.track(windows_of(video_of([1, 2]), 1, 2), QUERIES))


def test_models_that_give_no_number(tracker, tmp_path):
    torch.save({"speed": XY * torch.nan}, tmp_path / "nan.pt")
    made = tracker("bootstapir", weights=str(tmp_path / "nan.pt"))
    with pytest.raises(
        TrackerError, match="BootsTAPIR gave no finite track for the window at frame 0; check"
    ):
        list(made.track(windows_of(video_of([1, 2]), 1, 2), QUERIES))


def test_frames_of_two_sizes(tracker):
    windows = [FrameWindow(0, 0.0, video_of([1, 2])), FrameWindow(2, 0.0, video_of([3, 4], (30, 20)))]
    with pytest.raises(TrackerError, match=r"differ in size: \(120, 200\) and \(30, 20\)"):
        list(tracker("alltracker").track(windows, QUERIES))


def test_mps_means_cpu_with_one_warning(tracker, config, monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    made = config("bootstapir")
    made = dataclasses.replace(made, tracking=dataclasses.replace(made.tracking, device="mps"))
    with caplog.at_level(logging.WARNING):
        assert make_tracker(made)._device.type == "cpu"
    assert [record.message for record in caplog.records] == [
        "BootsTAPIR runs on the CPU: it was never tried on MPS"
    ]


def test_a_folder_is_preprocessed_with_one(config, tmp_path):
    render(tmp_path / "videos" / "a.mp4")
    tiny = config_from_dict(TINY, "in the tests")
    made = dataclasses.replace(tiny, tracking=dataclasses.replace(
        tiny.tracking, tracker="bootstapir", device="cpu", bootstapir=config("bootstapir").tracking.bootstapir
    ))  # fmt: skip
    assert preprocess_folder(tmp_path / "videos", tmp_path / "tracks", made).exit_status == 0
    assert len(files_below(tmp_path / "tracks", "*.hdf5")) == 1
    assert preprocess_folder(tmp_path / "videos", tmp_path / "tracks", made).skipped == 1
