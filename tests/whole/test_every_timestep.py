"""``tracking.pad_end: repeat_last``: row t of a track file is that of time t, as AMPLIFY has it.

``AMT_AMPLIFY_CHECKOUT`` names a local clone of AMPLIFY; without it the test of its own code is skipped.
"""

import dataclasses
import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.codes.code_set import code_set
from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.codes.statistics import code_summary
from amplify_motion_tokenizer.config import Config, flatten
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import Given, build, config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import ConfigError, TrackFileError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.tracks.find import find_tracks, open_tracks
from amplify_motion_tokenizer.tracks.pack_writing import write_pack
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.training.run import train
from tests.support.checkpoints import save_native
from tests.support.cotracker_double import hubconf
from tests.support.render_clips import write_clip
from tests.support.run_scripts import TINY

CHECKOUT = os.environ.get("AMT_AMPLIFY_CHECKOUT")
VIEWS = ("agentview", "eye_in_hand")
SIDE, FRAMES, T, GRID = 32, 10, 6, 3
LIGHT = {"agentview": 20 + 10 * np.arange(FRAMES), "eye_in_hand": 200 - 7 * np.arange(FRAMES)}
"""Brightness of each frame, by which the stand-in for CoTracker moves its points."""


def with_tracking(config: Config, **values: object) -> Config:
    return validate(dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, **values)))


def brightened(queries_xy: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the stand-in gives of a window (T,) of even frames: tracks (T, N, 2), (x, y) px, scores (T, N)."""
    height, width = hubconf.SIZE
    moved = (light - light[0])[:, None] * np.array([0.2, -0.1])
    moved *= (SIDE - 1) / np.array([width - 1, height - 1])
    scores = np.repeat(light[:, None] / 255, len(queries_xy), axis=1)
    scores[0] = 1
    return queries_xy + moved[:, None], scores


@pytest.fixture(scope="module")
def libero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AMPLIFY's folders: a LIBERO demo, and our tracks of it where its loader looks for them."""
    root = tmp_path_factory.mktemp("amplify")
    demos = root / "LIBERO/libero/datasets"
    (demos / "libero_10").mkdir(parents=True)
    with h5py.File(demos / "libero_10/pick_demo.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.zeros((FRAMES, 7))
        for view, light in LIGHT.items():
            frames = np.ones((FRAMES, SIDE, SIDE, 3)) * light[:, None, None, None]
            file[f"data/demo_0/obs/{view}_rgb"] = frames.astype(np.uint8)
    torch.save(hubconf.Model().state_dict(), root / "weights.pth")
    local = {"checkout": str(Path(hubconf.__file__).parent), "weights": str(root / "weights.pth")}
    tree = {
        "video": {"source": "libero", "size": None},
        "tracking": {
            "tracker": "cotracker2", "device": "cpu", "cotracker": local, "query_order": "uniform",
            "pad_end": "repeat_last",
        },
        "data": {**TINY["data"], "views": list(VIEWS), "reference_size": [SIDE, SIDE]},
        "model": {**TINY["model"], "num_layers": 2, "name": "amplify"},
    }  # fmt: skip
    config = build(Config(), {key: Given(value, "") for key, value in flatten(tree).items()})
    assert preprocess_folder(demos, root / "preprocessed_data", config).done == 1
    return root


def test_row_t_is_that_of_time_t_for_every_frame(libero: Path) -> None:
    """Against the plain way: the clip goes on with its last frame, and every T frames of it are a window."""
    centres = (np.arange(GRID) + 0.5) * SIDE / GRID
    queries = np.array([[x, y] for x in centres for y in centres])  # a column at a time
    with h5py.File(
        libero / f"preprocessed_data/libero_10/uniform_{GRID**2}_reinit_{T}/pick_demo/demo_0.hdf5"
    ) as file:
        for view, light in LIGHT.items():
            group = file["root"][view]
            longer = np.concatenate([light, np.repeat(light[-1:], T - 1)])
            expected = [brightened(queries, longer[t : t + T]) for t in range(FRAMES)]
            for t, (tracks, scores) in enumerate(expected):
                np.testing.assert_allclose(group["tracks"][t], tracks, atol=2e-3)
                np.testing.assert_allclose(group["vis"][t], scores, atol=1e-4)
            assert len(group["tracks"]) == FRAMES
            assert group["start_frame"][:].tolist() == list(range(FRAMES))
            assert group["valid_steps"][:].tolist() == [5, 5, 5, 5, 5, 4, 3, 2, 1, 0]
            assert group["source_frame"][7].tolist() == [7, 8, 9, 9, 9, 9]
            steps = group["step_seconds"][:]
            np.testing.assert_allclose(steps[:-1], 0.05, rtol=1e-6)
            assert np.isnan(steps[-1])


@pytest.fixture(scope="module")
def odd_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At 10 fps: a clip of parts of 9 and 8 frames, and one of 4, shorter than T = 6."""
    folder = tmp_path_factory.mktemp("odd")
    times = [50 * k for k in range(17)] + [5000 + 50 * k for k in range(16)]
    write_clip(folder / "pause.mkv", render_clip("pan", 3, (96, 128), 33)[0], 20, pts=times)
    write_clip(folder / "short.mp4", render_clip("zoom", 4, (96, 128), 8)[0], 20)
    return folder


VALID = [5, 5, 5, 5, 4, 3, 2, 1, 0] + [5, 5, 5, 4, 3, 2, 1, 0]


@pytest.fixture(scope="module")
def padded(odd_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    """Their tracks, and the config of them."""
    tracks = tmp_path_factory.mktemp("padded")
    config = config_from_dict(TINY, "in the test")
    config = with_tracking(config, window_stride=1, pad_end="repeat_last")
    assert preprocess_folder(odd_clips, tracks, config).failed == 0
    return tracks, config


def test_each_part_is_padded_at_its_own_end_and_points_stay_there(
    odd_clips: Path, padded: tuple[Path, Config], tmp_path: Path
) -> None:
    tracks, config = padded
    whole = with_tracking(config, pad_end="none")
    assert preprocess_folder(odd_clips, tmp_path, whole).failed == 1  # the short one
    with h5py.File(tracks / "pause.hdf5") as file, h5py.File(tmp_path / "pause.hdf5") as other:
        group, plain = file["root/default"], other["root/default"]
        assert group["valid_steps"][:].tolist() == VALID
        assert group["start_frame"][:].tolist() == list(range(17))
        assert plain["valid_steps"][:].tolist() == [5] * 7
        rows = np.isin(group["start_frame"][:], plain["start_frame"][:])
        np.testing.assert_allclose(group["tracks"][rows], plain["tracks"][:], atol=1e-3)
        for valid, xy, seen, frames in zip(
            VALID, group["tracks"][:], group["vis"][:], group["source_frame"][:], strict=True
        ):
            assert (xy[valid:] == xy[valid]).all() and (seen[valid:] == seen[valid]).all()
            assert np.unique(frames // 17).size == 1, "no window spans the parts"
            assert frames.tolist() == [min(frames[0] + 2 * k, 16 if frames[0] < 17 else 31) for k in range(T)]
    with h5py.File(tracks / "short.hdf5") as file:
        assert file["root/default/valid_steps"][:].tolist() == [3, 2, 1, 0]
        assert file["root"].attrs["num_frames"] == 4


def test_the_gate_judges_real_frames_alone(
    odd_clips: Path, padded: tuple[Path, Config], tmp_path: Path
) -> None:
    config = padded[1]
    gate = dataclasses.replace(config.tracking.gate, enable=True)
    assert preprocess_folder(odd_clips, tmp_path, with_tracking(config, gate=gate)).failed == 0
    with h5py.File(tmp_path / "pause.hdf5") as file:
        # A window of one frame shows no motion; every other one of a panning camera does.
        assert file["root/default/start_frame"][:].tolist() == [*range(8), *range(9, 16)]


def test_packs_and_loaders_keep_what_is_real(padded: tuple[Path, Config], tmp_path: Path) -> None:
    tracks, config = padded
    write_pack(find_tracks(tracks, ["default"]), tmp_path / "pack")
    batches = []
    for folder in (tracks, tmp_path / "pack"):
        data = WindowDataset(load_clips(folder, config), config)
        batches.append(data.batch(range(len(data))).inputs)
    for inputs in batches:
        assert inputs.valid_steps.tolist() == [*VALID, 3, 2, 1, 0]
        steps = torch.tensor([*VALID, 3, 2, 1, 0])
        assert not inputs.mask[torch.arange(5) >= steps[:, None]].any()
        assert inputs.mask[: len(VALID)][:, 0].any(dim=-1).tolist() == [valid > 0 for valid in VALID]
    torch.testing.assert_close(batches[0].tracks_rc_norm, batches[1].tracks_rc_norm, atol=1e-3, rtol=0)
    (pack,) = (clip for name, clip in open_tracks(tmp_path / "pack", ["default"]).items() if name == "short")
    assert pack.stores == "positions"
    with pack.open() as opened:
        assert pack.valid_steps(opened).tolist() == [3, 2, 1, 0]


def test_codes_say_which_steps_are_real(odd_clips: Path, padded: tuple[Path, Config], tmp_path: Path) -> None:
    config = padded[1]
    save_native(tmp_path / "model.pth", config)
    checkpoint = load_checkpoint(tmp_path / "model.pth")
    assert tokenize_folder(odd_clips, tmp_path / "codes", checkpoint, config).failed == 0
    written = json.loads((tmp_path / "codes/pause.json").read_text())
    assert written["valid_steps"] == VALID and len(written["codes"]) == len(VALID)
    codes = code_set(read_codes(tmp_path / "codes"))
    assert {clip.clip: clip.valid_steps.tolist() for clip in codes.clips} == {
        "pause": VALID, "short": [3, 2, 1, 0],
    }  # fmt: skip
    summary = code_summary(codes, 1)
    assert (summary["windows"], summary["padded_windows"]) == (7, 14)


def test_windows_resampled_in_time_have_the_real_steps_that_fit(
    odd_clips: Path, padded: tuple[Path, Config]
) -> None:
    """Three steps of the model in the five that were tracked: each takes 5 / 3 of them."""
    tracks, config = padded
    data = dataclasses.replace(config.data, sequence_length=4, true_horizon=T)
    config = validate(dataclasses.replace(config, data=data))
    windows = WindowDataset(load_clips(tracks, config), config)
    found = windows.batch(range(9)).inputs.valid_steps.tolist()
    assert found == [3, 3, 3, 3, 2, 1, 1, 0, 0]


def test_velocity_files_refuse_padding(odd_clips: Path, padded: tuple[Path, Config], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="do not say which steps are real; use hdf5, or tracking.pad_end: none"
    ):
        preprocess_folder(odd_clips, tmp_path, padded[1], "pt")


def test_track_files_of_before_count_as_whole(padded: tuple[Path, Config], tmp_path: Path) -> None:
    tracks, config = padded
    shutil.copy(tracks / "short.hdf5", tmp_path)
    with h5py.File(tmp_path / "short.hdf5", "a") as file:
        del file["root/default/valid_steps"]
    data = WindowDataset(load_clips(tmp_path, config), config)
    assert data.batch(range(4)).inputs.valid_steps.tolist() == [5] * 4
    with h5py.File(tmp_path / "short.hdf5", "a") as file:
        file["root/default/valid_steps"] = np.array([3, 2, 1, 6])
    with pytest.raises(TrackFileError, match=r"short\.hdf5: valid_steps are 1 to 6, expected 0 to 5"):
        WindowDataset(load_clips(tmp_path, config), config).batch([0])


def test_a_model_trains_on_clips_that_are_all_shorter_than_a_window(
    padded: tuple[Path, Config], tmp_path: Path
) -> None:
    tracks, config = padded
    (tmp_path / "tracks").mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(tracks / "short.hdf5", tmp_path / f"tracks/{name}.hdf5")
    train(config, tmp_path / "tracks", tmp_path / "run")
    metrics = load_checkpoint(tmp_path / "run/last.pth").metrics
    # Of 3 + 2 + 1 steps of two clips: a window without a real step counts for nothing, nor is it called lost.
    assert np.isfinite(metrics["train_epoch/loss"]) and metrics["train_epoch/dropped_windows"] == 0
    assert metrics["train_epoch/mask_share"] > 0.5


@pytest.mark.skipif(not CHECKOUT, reason="AMT_AMPLIFY_CHECKOUT names no clone of AMPLIFY")
def test_amplifys_loader_reads_for_every_t_what_its_preprocessing_stores(
    libero: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing, loaders = _amplify(Path(str(CHECKOUT)), monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))  # where it keeps its index

    def track_model(video: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        light = video.mean(dim=(2, 3, 4)).numpy()
        found = [brightened(q[:, 1:].numpy(), each) for q, each in zip(queries, light, strict=True)]
        tracks, scores = (np.stack(column) for column in zip(*found, strict=True))
        return torch.from_numpy(tracks), torch.from_numpy(scores)

    (ours,) = (libero / "preprocessed_data").rglob("demo_0.hdf5")
    data = loaders.LiberoDataset(
        str(libero), ["libero_10"], f"uniform_{GRID**2}_reinit_{T}", list(VIEWS), ("images", "tracks", "vis"),
        img_shape=(SIDE, SIDE), true_horizon=T, track_pred_horizon=T, num_tracks=GRID**2,
    )  # fmt: skip
    samples = [data[t] for t in range(FRAMES)]
    assert len(data) == FRAMES
    for number, (view, light) in enumerate(LIGHT.items()):
        video = np.ones((FRAMES, SIDE, SIDE, 3)) * light[:, None, None, None]
        stored, scores = preprocessing.tracks_from_video(
            video, track_model, horizon=T, n_tracks=GRID**2, dim_order="thwc"
        )
        with h5py.File(ours) as file:
            np.testing.assert_allclose(file["root"][view]["tracks"][:], stored, atol=2e-3)
            np.testing.assert_allclose(file["root"][view]["vis"][:], scores, atol=1e-4)
        for t, sample in enumerate(samples):
            expected = np.clip(stored[t][..., ::-1] / (SIDE / 2) - 1, -1, 1)  # (row, col)
            np.testing.assert_allclose(sample["traj"][number], expected, atol=2e-4)
            np.testing.assert_allclose(sample["vis"][number, ..., 0], scores[t], atol=1e-4)


def _amplify(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """AMPLIFY's preprocessing and its loader of LIBERO, without packages that neither of them needs here."""
    for name in ("amplify", "amplify.utils", "amplify.utils.kp_utils", "amplify.loaders"):
        package = ModuleType(name)  # its own imports all models
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        monkeypatch.setitem(sys.modules, name, package)
    for name in (
        "torchvision", "torchvision.transforms", "imageio", "hydra", "hydra.core", "hydra.core.hydra_config",
        "cotracker", "cotracker.utils", "cotracker.utils.visualizer", "matplotlib", "matplotlib.pyplot",
        "amplify.utils.libero_utils", "amplify.utils.libero_utils.flow_utils",
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, MagicMock())
    found = []
    for name in ("amplify.utils.preprocessing_utils", "amplify.loaders.libero_dataset"):
        found.append(importlib.import_module(name))
    for name in [name for name in sys.modules if name.startswith("amplify.")]:
        monkeypatch.delitem(sys.modules, name)
    return found[0], found[1]
