"""Fits the codec's modes to made-up motion.

As k-means does: windows go to the mode that leaves least of them, and a mode's components become those of
the windows that it has. Modes of few members lean on the windows of all.

Letters: B windows, W waves, M modes, P components.
"""

from __future__ import annotations

import torch
from torch import Tensor

from amplify_motion_tokenizer.data.made_up import displacements_of_made_up
from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer
from amplify_motion_tokenizer.models.displacement.modes import Mode, Modes, formula_modes
from amplify_motion_tokenizer.models.displacement.tokenizer import ROWS
from amplify_motion_tokenizer.models.displacement.waves import Waves, velocities_of

FITTED_TO = 16_000
"""Made-up windows that modes are fitted to."""

FITTED_AT_ONCE = 2_000
"""Made-up windows that the modes of a codec are fitted to that is trained on tracks from nothing."""

_SEED = 1_000_003
"""What is added to the seed, so that modes are fitted to other windows than the network is trained on."""

_FULL_WEIGHT_PX = 4.0
"""Motion of a window, in pixels at 240 rows, from which it counts in full."""

_ROUNDS = 6
_LEAST = 25
"""Windows below which a mode is begun again from windows that are told badly."""

_LEANING = 100.0
"""Windows that all windows count as in a mode's covariance."""

_FEATURES = 12
"""Directions of the logarithms of the waves' powers in which the first modes are looked for."""


def fit_to_made_up(model: CodecTokenizer, seed: int, windows: int = FITTED_TO) -> None:
    """Gives ``model`` its modes: plain ones, by formula and of all motion, and ones of kinds of motion.

    Args:
        model: whose modes are replaced.
        seed: of the windows and of the first modes.
        windows: how many windows are made up.
    """
    modes, waves, kept, plain = model.modes, model.waves, model.mode_waves, model.plain_modes
    random = torch.Generator().manual_seed(seed)
    shapes = torch.cat([
        _shapes(waves, kept, seed + _SEED, first, min(500, windows - first), random)
        for first in range(0, windows, 500)
    ])  # fmt: skip
    found = [Mode.still(len(kept)), *formula_modes(waves.shape, kept, modes.slots)]
    room = max(0, plain - len(found))
    found += fit_modes(shapes, modes, room, random) if room else []
    modes.put(found[:plain])
    first, number = plain, len(modes) - plain
    # Broad ones and narrow ones: an eighth, a quarter and the rest are fitted together.
    for count in (number // 8, number // 4, number - number // 8 - number // 4):
        if count:
            modes.put(fit_modes(shapes, modes, count, random), first)
        first += count


def _shapes(waves: Waves, kept: Tensor, seed: int, first: int, count: int, random: torch.Generator) -> Tensor:
    """(B', W) of some windows, as often as the loss will count them, which still ones hardly do."""
    moves, _ = displacements_of_made_up(seed, first, count, waves.side, waves.steps + 1)
    amplitudes = waves.amplitudes(velocities_of(moves))
    gain = amplitudes.square().sum(dim=1, keepdim=True).sqrt()
    often = (gain[:, 0] * ROWS / _FULL_WEIGHT_PX).clamp(max=1).sqrt()
    chosen = torch.rand(count, generator=random) < often
    return (amplitudes[:, kept] / gain.clamp(min=1e-9))[chosen]


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
