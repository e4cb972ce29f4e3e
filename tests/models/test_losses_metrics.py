"""Focal loss, static mask and metrics: golden masks and hand-computed values."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from amplify_motion_tokenizer.data.masks import static_mask
from amplify_motion_tokenizer.evaluation.metrics import (
    accuracy_counts,
    amplify_code_usage,
    code_histogram,
    code_usage,
    no_motion_counts,
)
from tests.support.reference_losses import focal_loss

MASKS = load_file(Path(__file__).parents[1] / "golden" / "keypoint_masks.safetensors")
ALL = torch.tensor(True)


@pytest.mark.parametrize("key", [key for key in MASKS if key.startswith("out.mask.")])
def test_golden_masks(key: str) -> None:
    metric, rest = key.removeprefix("out.mask.").split(".", 1)
    threshold, min_keep = rest.rsplit(".", 1)
    mask = static_mask(MASKS["in.velocities"], metric, float(threshold), int(min_keep))
    assert torch.equal(mask, MASKS[key])


def still_window(*speeds: list[float]) -> Tensor:
    """(1, t, N, 2) whose speeds are ``speeds``, one list of t for each point."""
    along_x = torch.tensor(speeds).T[None]
    return torch.stack([along_x, torch.zeros_like(along_x)], dim=-1)


def test_scores_by_hand() -> None:
    # Of 0, 1, 2, 3, 10: max 10, mean 3.2, p95 at position 3.8: 3 + 0.8 * 7 = 8.6.
    window = still_window([3.0, 0.0, 10.0, 1.0, 2.0])
    for metric, score in (("max", 10.0), ("mean", 3.2), ("p95", 8.6)):
        assert static_mask(window, metric, score - 1e-3, 0).item() is True
        assert static_mask(window, metric, score + 1e-3, 0).item() is False


def test_threshold_itself_is_kept() -> None:
    assert static_mask(still_window([0.5], [0.25]), "max", 0.5, 0).tolist() == [[True, False]]


def test_min_keep_takes_the_highest_and_of_equals_the_first() -> None:
    window = still_window([0.1], [0.3], [0.2], [0.2], [0.2])
    assert static_mask(window, "max", 9.0, 2).tolist() == [[False, True, True, False, False]]
    assert static_mask(window, "max", 9.0, 3).tolist() == [[False, True, True, True, False]]
    assert static_mask(window, "max", 0.15, 3).sum() == 4, "enough are kept, so min_keep does nothing"
    assert static_mask(window, "max", 9.0, 99).all()
    assert not static_mask(window, "max", 9.0, 0).any()


def test_p95_equals_torchs_quantile() -> None:
    velocities = torch.randn(3, 15, 20, 2, generator=torch.Generator().manual_seed(0))
    score = velocities.norm(dim=-1).quantile(0.95, dim=1)
    assert torch.equal(static_mask(velocities, "p95", 1.9, 0), score >= 1.9)
    assert 0 < (score >= 1.9).sum() < score.numel()


def test_unknown_metric() -> None:
    with pytest.raises(ValueError, match="'max', 'mean' or 'p95'"):
        static_mask(torch.zeros(1, 2, 3, 2), "median", 0.1, 1)


def test_focal_loss_by_hand() -> None:
    # Two points, three classes of p = 1/2, 1/4, 1/4; the centre class is 1.
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(1, 1, 2, 3)
    labels = torch.tensor([[[0, 1]]])
    loss_sum, count = focal_loss(logits, labels, ALL, 2.0, 0.25, 1.0)
    other, center = 0.25 * math.log(2), 0.25 * 0.5625 * math.log(4)
    assert loss_sum.item() == pytest.approx(other + center)
    assert (count.item(), count.dtype) == (2, torch.int64)
    only_center, count = focal_loss(logits, labels, torch.tensor([[False, True]]), 2.0, 0.25, 1.0)
    assert only_center.item() == pytest.approx(center)
    assert count.item() == 1


def test_gamma_zero_is_weighted_cross_entropy() -> None:
    logits = torch.randn(2, 3, 4, 9)
    labels = torch.randint(9, (2, 3, 4))
    weight = torch.ones(9)
    weight[4] = 0.25
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 2), labels.flatten(), weight, reduction="sum"
    )
    torch.testing.assert_close(focal_loss(logits, labels, ALL, 0.0, 0.25, 1.0)[0], expected)


@pytest.mark.parametrize("mask", [torch.zeros(2, 4), torch.zeros(2, 3, 4), torch.zeros(2, 1, 4)])
def test_empty_mask(mask: Tensor) -> None:
    logits = torch.randn(2, 1, 4, 9, requires_grad=True)
    loss_sum, count = focal_loss(logits, torch.randint(9, (2, 3, 4)), mask.bool(), 2.0, 0.25, 1.0)
    (loss_sum / count.clamp(min=1)).backward()
    assert loss_sum.item() == count.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_mask_per_point_is_not_taken_for_one_per_step() -> None:
    # B = t, where plain broadcasting would silently mix them up.
    labels = torch.zeros(2, 2, 3, dtype=torch.int64)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    logits = torch.zeros(2, 1, 3, 9)
    assert focal_loss(logits, labels, mask, 2.0, 0.25, 1.0)[1].item() == 4
    logits[0, :, :2, 5] = 1
    assert accuracy_counts(logits.argmax(dim=-1), labels, mask)[0].item() == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_shared_steps_equal_expanded_ones(gamma: float) -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(25, (2, 5, 4), generator=generator)
    mask = torch.rand(2, 5, 4, generator=generator) > 0.3
    values = torch.randn(2, 1, 4, 25, generator=generator)
    results = []
    for steps in (1, 5):
        logits = values.clone().requires_grad_()
        expanded = logits.expand(-1, steps, -1, -1)
        loss_sum, count = focal_loss(expanded, labels, mask, gamma, 0.25, 1.0)
        (gradient,) = torch.autograd.grad(loss_sum, logits)
        results.append((loss_sum, count, gradient, *accuracy_counts(expanded.argmax(dim=-1), labels, mask)))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("label", [0, 1])
def test_gradients_are_finite_at_certainty(gamma: float, label: int) -> None:
    # p of class 0 is exactly 1 in float32, p of the others exactly 0.
    logits = torch.tensor([200.0, 0.0, 0.0]).view(1, 1, 1, 3).requires_grad_()
    loss_sum, _ = focal_loss(logits, torch.full((1, 1, 1), label), ALL, gamma, 0.25, 1.0)
    loss_sum.backward()
    assert loss_sum.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.any() == (label == 1)


def test_loss_is_float32_under_autocast() -> None:
    logits, labels = torch.randn(1, 1, 4, 9).bfloat16(), torch.randint(9, (1, 3, 4))
    expected = focal_loss(logits.float(), labels, ALL, 2.0, 0.25, 1.0)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = focal_loss(logits, labels, ALL, 2.0, 0.25, 1.0)[0]
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_shared_steps_save_no_copies_of_the_classes() -> None:
    logits = torch.randn(2, 1, 4, 225, requires_grad=True)
    sizes: list[int] = []

    def measure(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(measure, lambda tensor: tensor):
        focal_loss(logits, torch.randint(225, (2, 15, 4)), ALL, 2.0, 0.25, 1.0)
    assert max(sizes) == logits.numel()


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 2, 4, 9), (2, 1, 5, 9)])
def test_logits_that_do_not_fit_the_labels(shape: tuple[int, ...]) -> None:
    labels = torch.zeros(2, 3, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"expected \(2, 3 or 1, 4, C\)"):
        focal_loss(torch.zeros(shape), labels, ALL, 2.0, 0.25, 1.0)


def test_accuracy_by_hand() -> None:
    # One window, two steps, two points; the shared answers are classes 2 and 4.
    answers = torch.tensor([[[2, 4]]])
    labels = torch.tensor([[[2, 4], [2, 0]]])
    assert [n.item() for n in accuracy_counts(answers, labels, ALL)] == [3, 4]
    assert [n.item() for n in accuracy_counts(answers, labels, torch.tensor([[False, True]]))] == [1, 2]
    assert [n.item() for n in no_motion_counts(labels, ALL, (3, 3))] == [1, 4]
    assert [n.item() for n in no_motion_counts(labels, torch.tensor([[True, False]]), (3, 3))] == [0, 2]


def test_histogram_by_hand_and_sums() -> None:
    indices = torch.tensor([[0, 3, 3], [1, 3, 0]])
    assert code_histogram(indices, 5).tolist() == [2, 1, 0, 3, 0]
    assert torch.equal(
        code_histogram(indices[:1], 5) + code_histogram(indices[1:], 5), code_histogram(indices, 5)
    )
    assert code_histogram(indices[:0], 5).tolist() == [0] * 5
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match="expected 0 to 4"):
            code_histogram(torch.tensor([wrong]), 5)


def test_code_usage_by_hand() -> None:
    # Shares 1/2, 1/4, 1/4 of 8 codes: H = 1.5 bits.
    usage = code_usage(torch.tensor([4, 2, 0, 2, 0, 0, 0, 0]))
    assert usage.unique == 3
    assert usage[1:] == pytest.approx((1.5, 0.5, 2**1.5, 2**1.5 / 8))


def test_code_usage_extremes() -> None:
    assert code_usage(torch.full((1024,), 7))[1:] == pytest.approx((10.0, 1.0, 1024.0, 1.0))
    single = code_usage(torch.tensor([0, 9, 0, 0]))
    assert single == (1, 0.0, 0.0, 1.0, 0.25)
    assert math.copysign(1, single.entropy) == 1
    nothing = code_usage(torch.zeros(4, dtype=torch.int64))
    assert nothing.unique == 0 and all(math.isnan(share) for share in nothing[1:])


def test_normalising_uses_the_true_codebook_size() -> None:
    # Levels 8, 8, 6, 5 make 1920 codes, not the nominal 2048.
    usage = code_usage(code_histogram(torch.arange(1920), 1920))
    assert usage.normalized_entropy == pytest.approx(1.0)
    assert usage.normalized_perplexity == pytest.approx(1.0)


def test_amplifys_perplexity_by_hand() -> None:
    # Shares 1/2, 1/4, 1/4 of four ids, which are fewer than the codes.
    histogram = torch.tensor([0, 2, 0, 1, 1, 0, 0, 0])
    usage = amplify_code_usage(histogram, 2048)
    assert usage["amplify_perplexity"] == pytest.approx(2**1.5, rel=1e-5)
    assert usage["amplify_normalized_perplexity"] == pytest.approx(2**1.5 / 4, rel=1e-5)
    assert amplify_code_usage(histogram, 2)["amplify_normalized_perplexity"] == pytest.approx(2**0.5)
    assert all(math.isnan(value) for value in amplify_code_usage(torch.zeros(8), 2048).values())
