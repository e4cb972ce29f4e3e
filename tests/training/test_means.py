"""Means over windows: the same for any batches and processes, and no number where there is nothing."""

import dataclasses
import logging
import math
from functools import reduce
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.sampler import EpochSampler
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.evaluation.metrics import Mean
from amplify_motion_tokenizer.evaluation.motion_statistics import measure, suggest
from amplify_motion_tokenizer.evaluation.reconstruction import predicted_tracks, track_means
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.losses import masked_loss
from amplify_motion_tokenizer.training.launch import make_accelerator
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.totals import Means, Totals
from amplify_motion_tokenizer.training.trainer import Trainer
from tests.support.configs import with_training
from tests.support.run_scripts import TINY
from tests.support.training_runs import scalars

CONFIG = config_from_dict(TINY, "in the tests")
STEPS, POINTS, CLASSES = 5, 9, 49
HEIGHT, WIDTH = 48.0, 64.0


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows with random answers, masks and visibility, of which some are hidden as a whole."""

    inputs: ModelInput
    logits: torch.Tensor
    ids: torch.Tensor

    @staticmethod
    def random(count: int, seed: int, hidden: float) -> "Windows":
        rng = np.random.default_rng(seed)
        rest = rng.random((count, 1, 1)) < hidden
        mask = (rng.random((count, STEPS, POINTS)) < rng.random((count, 1, 1))) & ~rest
        seen = (rng.random((count, STEPS + 1, POINTS)) < rng.random((count, 1, 1))) & ~rest
        tracks = rng.uniform(-1, 1, (count, STEPS + 1, POINTS, 2)).astype(np.float32)
        inputs = ModelInput(
            velocities=torch.zeros(count, STEPS, POINTS, 2),
            labels=torch.from_numpy(rng.integers(0, CLASSES, (count, STEPS, POINTS))),
            mask=torch.from_numpy(mask),
            visibility=torch.from_numpy(seen.astype(np.float32)),
            finite=torch.ones(count, POINTS, dtype=torch.bool),
            tracks_rc_norm=torch.from_numpy(tracks),
            size_px=torch.tensor([HEIGHT, WIDTH]).expand(count, 2),
            first_frames=torch.empty(count, 0, 0, 3, dtype=torch.uint8),
            valid_steps=torch.full((count,), STEPS),
        )
        logits = torch.from_numpy(rng.normal(0, 3, (count, STEPS, POINTS, CLASSES)).astype(np.float32))
        return Windows(inputs, logits, torch.from_numpy(rng.integers(0, 20, (count, 3))))


def summed(windows: Windows, batches: list[list[int]]) -> tuple[Totals, dict[str, Mean]]:
    """What one process makes of its batches."""
    totals, means = Totals.zero(CONFIG, torch.device("cpu")), Means()
    for batch in batches:
        at = [max(0, index) for index in batch]
        real = torch.tensor([index >= 0 for index in batch])
        inputs = ModelInput(*(column[at] for column in windows.inputs))
        inputs = inputs._replace(mask=inputs.mask & real[:, None, None])
        logits = windows.logits[at]
        sums, _ = masked_loss(logits, inputs.labels, inputs.mask, torch.ones(CLASSES), 2.0)
        answers = logits.argmax(dim=-1)
        totals = totals.plus(Totals.of(sums, answers, windows.ids[at], inputs, real, CONFIG))
        known = ModelInput(*(column[real] for column in inputs))
        if len(known.labels):
            means.add(track_means(predicted_tracks(answers[real], known, CONFIG.class_grid), known))
    return totals, means.of_all_processes()


def plainly(windows: Windows) -> dict[str, float]:
    """The same in float64 over all windows at once; NaN of nothing."""
    inputs = windows.inputs
    logits, mask = windows.logits.double().numpy(), inputs.mask.numpy()
    labels, seen = inputs.labels.numpy(), inputs.visibility.numpy()[:, 1:] >= 0.5
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    of_label = np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    losses = -((1 - np.exp(of_label)) ** 2) * of_label
    right = logits.argmax(axis=-1)
    moves_px = np.stack([right // 7 - 3, right % 7 - 3], axis=-1)  # (row, col) of the 7 x 7 classes
    first = inputs.tracks_rc_norm.double().numpy()[:, :1]
    predicted = first + np.cumsum(moves_px * 2 / np.array([HEIGHT, WIDTH]), axis=1)
    off = predicted - inputs.tracks_rc_norm.double().numpy()[:, 1:]
    distance = np.linalg.norm(off * np.array([HEIGHT, WIDTH]) / 2, axis=-1)
    in_256 = np.linalg.norm(off * 128, axis=-1)
    some = [window for window in range(len(seen)) if seen[window].any()]
    near = [np.mean([(in_256[w][seen[w]] < px).mean() for px in (1, 2, 4, 8, 16)]) for w in some]

    def mean(values: Any) -> float:
        return float(np.mean(values)) if len(values) else math.nan

    return {
        "loss": mean(losses[mask]),
        "accuracy": mean((right == labels)[mask]),
        "l2_px": mean([distance[w][seen[w]].mean() for w in some]),
        "delta_avg": mean(near),
    }


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 13),
    seed=st.integers(0, 2**16),
    hidden=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    batch=st.integers(1, 14),
    accumulation=st.integers(1, 3),
    processes=st.integers(1, 4),
)
def test_means_do_not_depend_on_batches_and_processes(
    count: int, seed: int, hidden: float, batch: int, accumulation: int, processes: int
) -> None:
    windows = Windows.random(count, seed, hidden)
    parts = []
    for rank in range(processes):
        sampler = EpochSampler(
            count, batch, accumulation=accumulation, rank=rank, processes=processes, seed=seed
        )
        parts.append(summed(windows, [list(part) for part in sampler]))
    totals = reduce(Totals.plus, (part for part, _ in parts))
    whole = Means()
    for _, means in parts:
        whole.add(means)
    found = totals.metrics(CONFIG)
    tracks = {name: mean.value for name, mean in whole.of_all_processes().items()}
    for name, expected in plainly(windows).items():
        value = found.get(name, math.nan) if name in ("loss", "accuracy") else tracks[name]
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), name
        assert (name in found) == (not math.isnan(expected)) or name not in ("loss", "accuracy")


def hide(tracks: Path, clips: str, rows: slice) -> None:
    for path in tracks.glob(clips):
        with h5py.File(path, "a") as file:
            file["root/default/vis"][rows] = 0.1


def held_out(config: Config, tracks: Path) -> list[str]:
    """The clips that the tiny config validates on."""
    data = WindowDataset(load_clips(tracks, config), config)
    names = sorted(data.clips)
    order = np.random.default_rng(config.training.seed).permutation(len(names))
    return [names[order[0]]]


def test_validation_does_not_depend_on_the_batch_size(run_config: Config, tmp_path: Path) -> None:
    hide(tmp_path / "tracks", "*.hdf5", slice(2, 6))
    found = []
    for batch in (1, 2, 3, 7):
        config = with_training(run_config, batch_size=batch)
        data = WindowDataset(load_clips(tmp_path / "tracks", config), config)
        trainer = Trainer(config, make_accelerator(config, tmp_path), data, data, tmp_path, None)
        found.append(trainer.validate())
    names = ("val/loss", "val/accuracy", "val/l2_px", "val/delta_avg", "val/nonzero_pred_f1", "val/mse")
    for other in found[1:]:
        assert {name: other[name] for name in names} == {
            name: pytest.approx(found[0][name], rel=1e-6) for name in names
        }


def test_validation_of_nothing_is_refused_before_a_step(run_config: Config, tmp_path: Path) -> None:
    (name,) = held_out(run_config, tmp_path / "tracks")
    hide(tmp_path / "tracks", f"{name}.hdf5", slice(None))
    with pytest.raises(TrainingError, match=rf"of nothing: in its 7 windows of 1 clips \({name}\) no point"):
        train(run_config, tmp_path / "tracks", tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.pth"))


def test_track_metrics_of_nothing_are_absent_and_named(
    run_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With every confidence counting there is a loss, but no position is seen."""
    (name,) = held_out(run_config, tmp_path / "tracks")
    hide(tmp_path / "tracks", f"{name}.hdf5", slice(None))
    data = dataclasses.replace(run_config.data, min_visibility=0.0)
    train(dataclasses.replace(run_config, data=data), tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    metrics = load_checkpoint(run / "last.pth").metrics
    assert {"val/l2_px", "val/delta_avg"}.isdisjoint(metrics)
    assert metrics["val/loss"] > 0
    assert metrics["val/mse"] > 0
    with pytest.raises(KeyError):
        scalars(run, "val/l2_px")
    warned = [record.getMessage() for record in caplog.records if "have no value" in record.getMessage()]
    assert len(warned) == 1
    assert "val/l2_px, val/delta_avg" in warned[0]
    assert "is seen" in warned[0]


def test_a_step_of_nothing_has_no_loss(
    run_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of six steps has nothing but hidden windows."""
    data = dataclasses.replace(run_config.data, val_split=0.0)
    config = with_training(dataclasses.replace(run_config, data=data), batch_size=1, epochs=1)
    hide(tmp_path / "tracks", "0.hdf5", slice(0, 1))
    with caplog.at_level(logging.WARNING):
        train(config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    logged = {step for step, _ in scalars(run, "train/loss")}
    assert len(logged) == 27
    (step,) = set(range(1, 29)) - logged
    assert [s for s, value in scalars(run, "train/mask_share") if value == 0] == [step]
    assert any(f"step {step}: train has no loss" in record.getMessage() for record in caplog.records)


def test_motion_of_nothing_has_no_numbers(run_config: Config, tmp_path: Path) -> None:
    for path in (tmp_path / "tracks").glob("*.hdf5"):
        with h5py.File(path, "a") as file:
            file["root/default/tracks"][...] = np.nan
    found = measure(load_clips(tmp_path / "tracks", run_config), run_config)
    assert found.finite_share == 0.0
    shares = (found.center_share, found.clamped_share, found.moving_center_share, found.speed_px[50])
    assert all(math.isnan(share) for share in shares)
    assert suggest(found, run_config) is not None
