"""Windows with padding: what is made of them is what is made of their real frames alone.

Padded frames hold nonsense here, NaN and far moves, so that whatever counts them differs.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.augmentation import changed_view, draw_changes, real_first
from amplify_motion_tokenizer.data.inputs import ModelInput, from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.evaluation.metrics import Mean
from amplify_motion_tokenizer.evaluation.reconstruction import known_windows, predicted_tracks, track_means
from amplify_motion_tokenizer.evaluation.tapvid import count_tracks
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.losses import masked_loss
from amplify_motion_tokenizer.training.totals import Totals
from tests.support.run_scripts import TINY

SIZE, STEPS, POINTS = (48, 64), 5, 9
VALID = [5, 3, 0, 1, 5, 2]


def config_of(model: str, metric: str = "mean", **data: Any) -> Config:
    own = {"static_filter": {"metric": metric, "threshold": 0.1, "min_keep": 2}, "min_visible_share": 0.5}
    tree = {**TINY, "data": {**TINY["data"], **own, **data}, "model": {**TINY["model"], "name": model}}
    if model == "amplify":
        tree["data"]["reference_size"] = list(SIZE)
    return config_from_dict(tree, "in the test")


CONFIGS = [config_of("keypoint", metric) for metric in ("max", "mean", "p95")] + [config_of("amplify")]


def tracked(seed: int = 0) -> ViewTracks:
    """Windows of moving points, some hidden; what comes after the real frames is nonsense."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 1.5, (len(VALID), STEPS, POINTS, 2)) * rng.uniform(0, 1, (1, 1, POINTS, 1))
    start = np.broadcast_to(query_grid("row_major", 3, SIZE), (len(VALID), 1, POINTS, 2))
    xy = np.concatenate([start, start + moves.cumsum(axis=1)], axis=1).astype(np.float32)
    seen = (rng.random((len(VALID), STEPS + 1, POINTS)) < 0.8).astype(np.float32)
    for row, valid in enumerate(VALID):
        xy[row, valid + 1 :] = rng.choice([np.nan, -500, 900], xy[row, valid + 1 :].shape)
        seen[row, valid + 1 :] = rng.integers(0, 2, seen[row, valid + 1 :].shape)
    return ViewTracks(torch.from_numpy(xy), torch.from_numpy(seen), SIZE, valid_steps=torch.tensor(VALID))


def cut(view: ViewTracks, row: int, config: Config) -> tuple[ModelInput, Config]:
    """The real frames of one window, as a whole window of a config whose T is that short."""
    frames = VALID[row] + 1
    data = dataclasses.replace(config.data, sequence_length=frames)
    shorter = validate(dataclasses.replace(config, data=data))
    part = ViewTracks(
        view.tracks_xy_px[row : row + 1, :frames], view.visibility[row : row + 1, :frames], SIZE
    )
    return from_tracks([part], shorter), shorter


def answers_of(inputs: ModelInput, config: Config) -> Tensor:
    torch.manual_seed(3)
    return torch.randint(0, config.num_classes, inputs.labels.shape)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model.name)
def test_masks_and_labels_are_those_of_the_real_frames(config: Config) -> None:
    inputs = from_tracks([tracked()], config)
    assert inputs.velocities.isfinite().all() and inputs.tracks_rc_norm.isfinite().all()
    assert inputs.valid_steps.flatten().tolist() == VALID and inputs.window_steps.tolist() == VALID
    for row, valid in enumerate(VALID):
        assert not inputs.mask[row, ..., valid:, :].any()
        assert not inputs.velocities[row, ..., valid:, :, :].any(), "points stay in the padding"
        if valid:
            alone, _ = cut(tracked(), row, config)
            for name in ("velocities", "labels", "mask"):
                axis = -3 if name == "velocities" else -2
                part = getattr(inputs, name)[row : row + 1].narrow(axis, 0, valid)
                torch.testing.assert_close(part, getattr(alone, name))


@pytest.mark.parametrize("config", CONFIGS[1:2] + CONFIGS[3:], ids=lambda config: config.model.name)
def test_metrics_and_totals_are_those_of_the_real_frames(config: Config) -> None:
    inputs = from_tracks([tracked()], config)
    real = torch.ones(len(VALID), dtype=torch.bool)
    known = known_windows(inputs, real)
    assert known.tolist() == [valid > 0 for valid in VALID]
    answers = answers_of(inputs, config)
    some = ModelInput(*(column[known] for column in inputs))
    found = track_means(predicted_tracks(answers[known], some, config.class_grid), some)
    ids = torch.zeros(len(VALID), 1, dtype=torch.int64)
    logits = torch.nn.functional.one_hot(answers, config.num_classes).float()
    weights = torch.ones(config.num_classes)
    loss, _ = masked_loss(logits, inputs.labels, inputs.mask, weights, 1.0)
    totals = Totals.of(loss, answers, ids, inputs, real, config)
    means: dict[str, Mean] = {}
    sums = Totals.zero(config, torch.device("cpu"))
    for row in np.flatnonzero(known).tolist():
        alone, shorter = cut(tracked(), row, config)
        part = answers[row : row + 1, ..., : VALID[row], :]
        predicted = predicted_tracks(part, alone, config.class_grid)
        for name, mean in track_means(predicted, alone).items():
            means[name] = mean.plus(means.get(name, Mean(0.0, 0.0)))
        logits = torch.nn.functional.one_hot(part, config.num_classes).float()
        own, _ = masked_loss(logits, alone.labels, alone.mask, weights, 1.0)
        sums = sums.plus(Totals.of(own, part, ids[:1], alone, real[:1], shorter))
    assert {name: tuple(mean) for name, mean in found.items()} == {
        name: pytest.approx(tuple(mean), rel=1e-5) for name, mean in means.items()
    }
    for name, value in totals._asdict().items():
        if name != "codes":
            torch.testing.assert_close(value, getattr(sums, name), rtol=1e-5, atol=1e-6, msg=name)


def test_codes_of_padding_are_no_codes() -> None:
    valid = torch.tensor([5, 3, 0])
    keypoint, amplify = (build_model(config) for config in (CONFIGS[0], CONFIGS[3]))
    assert keypoint.real_codes(valid).tolist() == [[True] * 3, [True] * 3, [False] * 3]
    assert amplify.real_codes(valid).tolist() == [[step < v for step in range(5)] for v in (5, 3, 0)]


def test_a_reversed_window_begins_with_its_last_real_frame() -> None:
    forward, backward = torch.arange(6), torch.arange(5, -1, -1)
    frames, steps = real_first(
        torch.stack([forward, backward, backward, forward]), torch.tensor([3, 3, 0, 5])
    )
    assert frames.tolist() == [
        [0, 1, 2, 3, 3, 3], [3, 2, 1, 0, 0, 0], [0] * 6, [0, 1, 2, 3, 4, 5],
    ]  # fmt: skip
    assert steps.tolist() == [3, 3, 0, 5]
    # Every other frame from the second on, of which one is real; and none.
    frames, steps = real_first(torch.tensor([[1, 3, 5], [4, 2, 0]]), torch.tensor([2, 2]))
    assert (frames.tolist(), steps.tolist()) == ([[1, 1, 1], [2, 0, 0]], [0, 1])


def test_augmented_padding_counts_for_nothing() -> None:
    reverse = {"augmentation": {"reverse": 1.0}}
    config = config_of("keypoint", **reverse)
    changed = changed_view(tracked(), draw_changes(range(len(VALID)), 0, config), config)
    inputs = from_tracks([changed], config)
    plain = from_tracks([tracked()], config)
    for row, valid in enumerate(VALID):
        assert inputs.valid_steps[row] == valid and not inputs.mask[row, valid:].any()
        torch.testing.assert_close(inputs.velocities[row, :valid], -plain.velocities[row, :valid].flip(0))


def test_scores_against_truth_count_real_frames() -> None:
    rng = np.random.default_rng(5)
    xy, true_xy = rng.uniform(0, 60, (2, 3, 6, 4, 2))
    seen, true_seen = rng.random((2, 3, 6, 4)) < 0.7
    valid = np.array([5, 2, 0])
    found = count_tracks(xy, seen, true_xy, true_seen, (48, 64), valid)
    parts = [
        count_tracks(*(a[row : row + 1, : valid[row] + 1] for a in (xy, seen, true_xy, true_seen)), (48, 64))
        for row in range(3)
    ]
    assert found.metrics() == pytest.approx((parts[0] + parts[1] + parts[2]).metrics())
    assert found.positions == 7 * 4
