"""Fits the codec's modes to made-up motion.

As k-means does: windows go to the mode that leaves least of them, and a mode's components become those of
the windows that it has. Modes of few members lean on the windows of all.

Letters: B windows, W waves, M modes, P components.
"""

from __future__ import annotations

import torch
from torch import Tensor

from amplify_motion_tokenizer.models.displacement.modes import Mode, Modes

_ROUNDS = 6
_LEAST = 25
"""Windows below which a mode is begun again from windows that are told badly."""

_LEANING = 100.0
"""Windows that all windows count as in a mode's covariance."""

_FEATURES = 12
"""Directions of the logarithms of the waves' powers in which the first modes are looked for."""


def fit_modes(shapes: Tensor, modes: Modes, number: int, random: torch.Generator) -> list[Mode]:
    """``number`` modes that together leave little of ``shapes`` (B, W).

    Args:
        shapes: waves divided by the gain.
        modes: whose plan of digits the modes are for; it is not changed.
        number: M.
        random: of the first modes.
    """
    common = shapes.mT @ shapes / len(shapes)
    if number == 1:
        return [_mode_of(common, modes.slots)]
    rows = _first_members(shapes, number, random)
    trial = Modes(number, shapes.shape[1], modes.levels, modes.ids)
    fitted: list[Mode] = []
    for turn in range(_ROUNDS):
        fitted = []
        for mode in range(number):
            members = shapes[rows == mode]
            if len(members) < _LEAST:
                members = shapes[torch.randint(len(shapes), (2 * _LEAST,), generator=random)]
            own = members.mT @ members / len(members)
            leaning = _LEANING / (len(members) + _LEANING)
            other = 0.7 * own.diagonal().diag() + 0.3 * common
            fitted.append(_mode_of(torch.lerp(own, other, leaning), modes.slots))
        if turn < _ROUNDS - 1:
            trial.put(fitted)
            rows = torch.cat([trial.left(part)[0].argmin(dim=1) for part in torch.split(shapes, 256)])
    return fitted


def _mode_of(covariance: Tensor, components: int) -> Mode:
    powers, basis = torch.linalg.eigh(covariance.double())
    deviations = powers.flip(0)[:components].clamp(min=1e-12).sqrt()
    return Mode(basis.flip(1)[:, :components].float(), deviations.float())


def _first_members(shapes: Tensor, number: int, random: torch.Generator) -> Tensor:
    """(B,) a first mode for each window: k-means over where its power lies."""
    powers = (shapes.square() + 1e-6).log()
    directions = torch.linalg.svd(powers[:4000] - powers[:4000].mean(dim=0), full_matrices=False)[2]
    features = powers @ directions[:_FEATURES].mT
    centres = features[torch.randperm(len(features), generator=random)[:number]]
    rows = torch.cdist(features, centres).argmin(dim=1)
    for _ in range(_ROUNDS):
        for mode in range(number):
            members = features[rows == mode]
            if len(members):
                centres[mode] = members.mean(dim=0)
        rows = torch.cdist(features, centres).argmin(dim=1)
    return rows
