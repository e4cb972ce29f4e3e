"""Finite scalar quantisation (Mentzer et al. 2023), always in float32, with ids that are whole numbers.

The model holds a ``FSQ`` of vector_quantize_pytorch, so that the weights keep the names that published
files use, and calls it through these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ

from amplify_motion_tokenizer.config import ALLOWED_LEVELS, levels_allowed
from amplify_motion_tokenizer.errors import ConfigError


class _WholeIds(FSQ):  # type: ignore[misc]
    """The library's quantiser, whose ids are summed in int64, and which keeps no table of all codes.

    The library sums digits times their places in float32, which is exact up to 2**24 only, and makes a
    table of all codes that it never reads here.
    """

    def __init__(self, levels: list[int], dim: int) -> None:
        super().__init__(levels=levels, dim=dim, return_indices=False)
        self.return_indices = True

    def codes_to_indices(self, zhat: Tensor) -> Tensor:
        """Ids (...) int64 of codes (..., K) before ``project_out``: each digit times the levels before it."""
        digits = self._scale_and_shift(zhat).round().long()
        ids: Tensor = (digits * self._basis).sum(dim=-1)
        return ids


def build_fsq(levels: Sequence[int], dim: int) -> nn.Module:
    """An FSQ between tokens of width ``dim`` and ``len(levels)`` digits, with the library's defaults.

    Its only weights are ``project_in`` and ``project_out``; it has none when dim equals len(levels).

    Raises:
        ConfigError: when the library's rounding cannot represent a level, or ids have no room.
    """
    if not levels_allowed(levels):
        raise ConfigError(f"model.fsq_levels = {list(levels)} is impossible; allowed: {ALLOWED_LEVELS}")
    fsq: nn.Module = _WholeIds(list(levels), dim)
    return fsq


def quantize_float32(fsq: nn.Module, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of latents, whatever autocast is active: half precision would round to other codes.

    Args:
        fsq: from ``build_fsq``.
        latents: (B, d, D), any float type.

    Returns:
        (codes (B, d, D) float32, with straight-through gradients; indices (B, d) int64, the
        little-endian mixed-radix number of the digits).
    """
    with torch.autocast(latents.device.type, enabled=False):
        codes, indices = fsq(latents.float())
    return codes, indices.long()


def unrounded_digits(fsq: nn.Module, latents: Tensor) -> Tensor:
    """The FSQ digits of latents just before rounding, as the library bounds them: with a gradient.

    Args:
        fsq: from ``build_fsq``.
        latents: (B, d, D), any float type.

    Returns:
        (B, d, K) float32, one number a digit in units of its levels: rounding gives 0 to L - 1.
    """
    levels = fsq.get_buffer("_levels")
    half_width = (levels - 1) * (1 + 1e-3) / 2
    offset = torch.where(levels % 2 == 0, 0.5, 0.0)
    with torch.autocast(latents.device.type, enabled=False):
        projected = fsq.get_submodule("project_in")(latents.float())
        bounded = torch.tanh(projected + torch.atanh(offset / half_width)) * half_width - offset
    digits: Tensor = bounded + levels // 2
    return digits


Stage = Literal["none", "noise", "round"]
"""How training quantises at a moment: not at all, with noise in the place of rounding, or as ever."""

SOFT, NOISY = 0.04, 0.4
"""Shares of a training that begins softly: without quantising, and after that with noise."""


def stage_at(start: str, done: float) -> Stage:
    """The stage of a training of which the share ``done`` is over, as ``model.quantizer.start`` says."""
    if start == "round" or done >= SOFT + NOISY:
        return "round"
    return "none" if done < SOFT else "noise"


def soft_codes(fsq: nn.Module, digits: Tensor, noise: bool) -> Tensor:
    """Codes (B, d, D) float32 of digits that are not rounded, with their whole gradient.

    Args:
        fsq: from ``build_fsq``.
        digits: (B, d, K) from ``unrounded_digits``.
        noise: whether each digit is moved by up to half a level, uniformly, as rounding could move it.
    """
    half = fsq.get_buffer("_levels") // 2
    if noise:
        digits = digits + torch.rand_like(digits) - 0.5
    with torch.autocast(digits.device.type, enabled=False):
        codes: Tensor = fsq.get_submodule("project_out")((digits - half) / half)
    return codes


def codes_of_indices(fsq: nn.Module, indices: Tensor) -> Tensor:
    """The codes (B, d, D) float32 that ``quantize_float32`` gives for indices (B, d)."""
    with torch.autocast(indices.device.type, enabled=False):
        codes: Tensor = fsq.indices_to_codes(indices)  # type: ignore[operator]
    return codes
