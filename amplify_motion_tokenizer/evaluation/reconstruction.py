"""Turns predicted velocity classes back into tracks, and measures how far these are from the true tracks.

Letters: B windows, V views, T frames, t = T - 1 steps, N points, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.evaluation.metrics import Mean
from amplify_motion_tokenizer.evaluation.tapvid import SIDE_PX, THRESHOLDS_PX
from amplify_motion_tokenizer.geometry import integrate_velocities, rc_norm_from_labels
from amplify_motion_tokenizer.trackers.windows import SEEN

PIXEL_THRESHOLDS = range(1, 11)
"""k of AMPLIFY's ``pixel_accuracy_k``, in pixels."""


def amplify_track_metrics(
    predicted_rc_norm: Tensor, target_rc_norm: Tensor, height: float | Tensor
) -> dict[str, float]:
    """The values of ``amplify_track_means``: NaN where there is nothing to take the mean of."""
    means = amplify_track_means(predicted_rc_norm, target_rc_norm, height)
    return {name: mean.value for name, mean in means.items()}


def amplify_track_means(
    predicted_rc_norm: Tensor,
    target_rc_norm: Tensor,
    height: float | Tensor,
    answered_rc_norm: Tensor | None = None,
) -> dict[str, Mean]:
    """AMPLIFY's metrics of points and of their moves, under AMPLIFY's names.

    ``mse``, ``l1``: over all numbers. ``cross_track_l2``: from every predicted position to the nearest
    position that the same point really takes at any time, averaged. ``pixel_accuracy_k`` (k = 1 to 10)
    and ``normalized_accuracy`` (half a pixel): share of coordinates that are off by strictly less than
    k pixels of the height. ``delta_auc``: mean of the ten. ``nonzero_*``: of the components of the moves,
    the share that is not 0 (predicted and true), and accuracy and F1 of telling 0 from not 0.

    Args:
        predicted_rc_norm: (B, V, T, N, 2), the first frame included.
        target_rc_norm: the same shape.
        height: of the frame in pixels, one number or one a window (B,); AMPLIFY uses it for both axes.
        answered_rc_norm: the same shape, tracks of the likeliest classes, of which ``nonzero_*`` are; None:
            those that are predicted. Means over distributions are hardly ever 0.

    Raises:
        ValueError: when the shapes differ or are not (B, V, T, N, 2).
    """
    _check_tracks(predicted_rc_norm, target_rc_norm)
    if predicted_rc_norm.ndim != 5:
        raise ValueError(f"tracks are {tuple(predicted_rc_norm.shape)}; expected (B, V, T, N, 2)")
    predicted, target = predicted_rc_norm.float(), target_rc_norm.float()
    difference = predicted - target
    off = difference.abs()
    pixel = 2 / (height.view(-1, 1, 1, 1, 1) if isinstance(height, Tensor) else height)
    metrics = {
        "mse": _of_windows(difference.square()),
        "l1": _of_windows(off),
        "cross_track_l2": _of_windows(_nearest_in_time(predicted, target)),
        "normalized_accuracy": _of_windows(off < 0.5 * pixel),
    }
    accuracies = {f"pixel_accuracy_{k}": _of_windows(off < k * pixel) for k in PIXEL_THRESHOLDS}
    metrics |= accuracies
    ten = list(accuracies.values())
    metrics["delta_auc"] = Mean(sum(mean.total for mean in ten) / len(ten), ten[0].weight)
    answered = predicted if answered_rc_norm is None else answered_rc_norm.float()
    return metrics | _nonzero_metrics(answered.diff(dim=-3) != 0, target.diff(dim=-3) != 0)


def point_error_px(
    predicted_rc_norm: Tensor,
    target_rc_norm: Tensor,
    size: Sequence[float] | Tensor,
    visible: Tensor | None = None,
) -> Tensor:
    """Mean distance between predicted and true points in pixels, after the first frame.

    The first frame is given to a reconstruction, so it is left out.

    Args:
        predicted_rc_norm: (..., T, N, 2), T at least 2.
        target_rc_norm: the same shape.
        size: (height, width) of the frame in pixels, or (..., 2), one for each track set; each axis
            counts its own.
        visible: (..., T, N) bool, True where a true position counts; None counts all.

    Returns:
        (...) float32, one number per track set; NaN where nothing counts, so average with ``nanmean``.

    Raises:
        ValueError: when shapes do not fit together.
    """
    _check_tracks(predicted_rc_norm, target_rc_norm)
    distance = _off_px(predicted_rc_norm, target_rc_norm, size).square().sum(dim=-1).sqrt()
    counted = _visible_after_first(target_rc_norm, visible)
    total = torch.where(counted, distance, 0.0).sum(dim=(-2, -1))
    return total / counted.sum(dim=(-2, -1))


def delta_avg(predicted_rc_norm: Tensor, target_rc_norm: Tensor, visible: Tensor | None = None) -> Tensor:
    """TAP-Vid's position accuracy, <delta^x_avg (Doersch et al. 2022), of each track set.

    The share of visible points that are strictly within 1, 2, 4, 8 and 16 pixels of the truth, in a
    frame rescaled to 256 x 256, averaged over the five. Only the truth says what is visible. As in
    tapnet's ``compute_tapvid_metrics``, the query frame does not count; here it is the first one. The
    benchmark's number is the mean over videos of each video's own share: the ``nanmean`` of the result.

    Args:
        predicted_rc_norm: (..., T, N, 2), T at least 2.
        target_rc_norm: the same shape.
        visible: (..., T, N) bool, True where the true point is visible; None counts all.

    Returns:
        (...) float32 in [0, 1]; NaN where nothing is visible.

    Raises:
        ValueError: when shapes do not fit together.
    """
    _check_tracks(predicted_rc_norm, target_rc_norm)
    squared = _off_px(predicted_rc_norm, target_rc_norm, (SIDE_PX, SIDE_PX)).square().sum(dim=-1)
    counted = _visible_after_first(target_rc_norm, visible)
    within = [((squared < px**2) & counted).sum(dim=(-2, -1)) for px in THRESHOLDS_PX]
    return torch.stack(within).float().mean(dim=0) / counted.sum(dim=(-2, -1))


def zero_motion(tracks: Tensor) -> Tensor:
    """The prediction that nothing moves: the first frame of (..., T, N, 2) in every frame, as a view."""
    return tracks[..., :1, :, :].expand_as(tracks)


def _check_tracks(predicted: Tensor, target: Tensor) -> None:
    shape = tuple(target.shape)
    if predicted.shape != target.shape or len(shape) < 3 or shape[-1] != 2 or shape[-3] < 2:
        raise ValueError(
            f"predicted tracks are {tuple(predicted.shape)} and true ones {shape}; "
            "expected the same (..., T, N, 2) with T >= 2"
        )


def _off_px(predicted_rc_norm: Tensor, target_rc_norm: Tensor, size: Sequence[float] | Tensor) -> Tensor:
    """(..., T - 1, N, 2) differences in pixels of ``size``, without the first frame."""
    difference = (predicted_rc_norm.float() - target_rc_norm.float())[..., 1:, :, :]
    sizes = size[..., None, None, :] if isinstance(size, Tensor) else difference.new_tensor(tuple(size))
    return difference * (sizes / 2)


def _visible_after_first(target: Tensor, visible: Tensor | None) -> Tensor:
    if visible is None:
        return target.new_ones(target.shape[:-1], dtype=torch.bool)[..., 1:, :]
    if visible.shape != target.shape[:-1] or visible.dtype != torch.bool:
        raise ValueError(
            f"visible is {visible.dtype} {tuple(visible.shape)}; expected bool {tuple(target.shape[:-1])}"
        )
    return visible[..., 1:, :]


def _nearest_in_time(predicted: Tensor, target: Tensor) -> Tensor:
    """(B, V, N, T): from each predicted position to the same point's nearest true one."""
    mode = "donot_use_mm_for_euclid_dist"
    between_times = torch.cdist(predicted.transpose(2, 3), target.transpose(2, 3), compute_mode=mode)
    nearest: Tensor = between_times.amin(dim=-1)
    return nearest


def _nonzero_metrics(predicted: Tensor, target: Tensor) -> dict[str, Mean]:
    both, either = int((predicted & target).sum()), int(predicted.sum() + target.sum())
    return {
        "nonzero_pred_percent": _of_windows(predicted),
        "nonzero_gt_percent": _of_windows(target),
        "nonzero_pred_accuracy": _of_windows(predicted == target),
        "nonzero_pred_f1": Mean(2 * both, either),
    }


def _of_windows(values: Tensor) -> Mean:
    """The mean over windows (B, ...) of each window's own mean; every window has as many values."""
    of_window = values.float().flatten(1).mean(dim=1).cpu().double()
    return Mean(float(of_window.sum()), of_window.numel())


def _over_known(values: Tensor) -> Mean:
    """The mean of the numbers that are not NaN, summed in float64."""
    known = values[~values.isnan()].cpu().double()
    return Mean(float(known.sum()), known.numel())


def predicted_tracks(classes: Tensor, inputs: ModelInput, class_grid: tuple[int, int]) -> Tensor:
    """Tracks of the classes that were answered, from the true first frame on.

    Args:
        classes: (B, [V, ]t or 1, N) int64, the most likely class of each element.
        inputs: what the model was given.
        class_grid: (rows, columns) of the classes.

    Returns:
        (B, [V, ]T, N, 2) float32, rc_norm, not clamped.
    """
    labels = classes.expand_as(inputs.labels)
    velocities = rc_norm_from_labels(labels, inputs.size_px, class_grid)
    return integrate_velocities(inputs.tracks_rc_norm[..., 0, :, :], velocities)


def reconstructed_tracks(moves_px: Tensor, inputs: ModelInput) -> Tensor:
    """Tracks of the moves that a model tells, from the true first frame on.

    Args:
        moves_px: (B, [V, ]t or 1, N, 2), (x, y) reference pixels, of ``MotionTokenizer.moves_px``.
        inputs: what the model was given.

    Returns:
        (B, [V, ]T, N, 2) float32, rc_norm, not clamped.
    """
    moves = moves_px.flip(-1) / (inputs.size_px[..., None, None, :] / 2)
    moves = moves.expand(*inputs.labels.shape, 2)
    return integrate_velocities(inputs.tracks_rc_norm[..., 0, :, :], moves)


def track_metrics(predicted: Tensor, inputs: ModelInput) -> dict[str, float]:
    """The values of ``track_means``: NaN where there is nothing to take the mean of."""
    return {name: mean.value for name, mean in track_means(predicted, inputs).items()}


def track_means(predicted: Tensor, inputs: ModelInput, answered: Tensor | None = None) -> dict[str, Mean]:
    """AMPLIFY's metrics by their names, ``l2_px`` and ``delta_avg``, to be added up over batches.

    ``l2_px`` and ``delta_avg`` are means over the views of windows in which a point is seen after the first
    frame. ``l2_px``, ``delta_avg`` and AMPLIFY's ``delta_auc`` come a second time with the suffix
    ``_no_motion``, of tracks that stay where they begin. Frames that are padding count for nothing; a window
    without a real step is left out.

    Args:
        predicted: (B, [V, ]T, N, 2) rc_norm.
        inputs: the truth; all positions must be finite.
        answered: the same shape, as in ``amplify_track_means``.
    """
    answered = predicted if answered is None else answered
    target, visible, size = inputs.tracks_rc_norm, inputs.visibility >= SEEN, inputs.size_px
    if target.ndim == 4:
        predicted, answered, target, visible, size = (
            x[:, None] for x in (predicted, answered, target, visible, size)
        )
    valid_steps = inputs.window_steps
    means: dict[str, Mean] = {}
    for steps in filter(None, torch.unique(valid_steps).tolist()):
        at, real = valid_steps == steps, slice(steps + 1)
        tracks = [each[at][:, :, real] for each in (predicted, answered, target)]
        found = _whole_means(tracks, visible[at][:, :, real], size[at])
        means = {name: mean.plus(means[name]) if means else mean for name, mean in found.items()}
    return means


def _whole_means(tracks: Sequence[Tensor], visible: Tensor, size: Tensor) -> dict[str, Mean]:
    """``track_means`` of windows without padding: (B, V, T, N, 2) thrice, (B, V, T, N) bool, (B, V, 2)."""
    predicted, answered, target = tracks
    metrics = amplify_track_means(predicted, target, size[:, 0, 0], answered)
    for suffix, moved in (("", predicted), ("_no_motion", zero_motion(target))):
        metrics[f"l2_px{suffix}"] = _over_known(point_error_px(moved, target, size, visible))
        metrics[f"delta_avg{suffix}"] = _over_known(delta_avg(moved, target, visible))
    still = amplify_track_means(zero_motion(target), target, size[:, 0, 0])
    metrics["delta_auc_no_motion"] = still["delta_auc"]
    return metrics


def known_windows(inputs: ModelInput, real: Tensor) -> Tensor:
    """(B,) bool: real windows with a real step, whose true positions and size are all known and finite."""
    positions = inputs.tracks_rc_norm.isfinite().flatten(1).all(dim=1)
    real = real & (inputs.window_steps > 0)
    return real & positions & inputs.size_px.isfinite().flatten(1).all(dim=1)
