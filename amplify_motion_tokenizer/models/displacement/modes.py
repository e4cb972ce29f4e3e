"""Ways to write what moves: each has a basis of its own, and a plan of what its digits tell.

One basis for all motion tells a moving camera and a hand before a camera at rest equally badly. So there are
some dozens of modes, and a window is written in the one that leaves least of it; its first id says which.

Letters: B windows, M modes, W waves that modes are made of, P components of a mode, S digits after the first
id, K digits of an id.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.models.displacement.digits import cut, share_out
from amplify_motion_tokenizer.models.displacement.tokenizer import companded, expanded

JUDGED_IDS = (4, 8, 16)
"""A mode is chosen by what it leaves, on average, when a window is told by so many ids."""

_OVER_GRID = ((1.0, 0.7), (1.0, 1.0), (1.0, 1.5), (6.0, 1.0), (6.0, 1.5))
FORMULAS = tuple(itertools.product((1.3, 2.1, 3.0), _OVER_GRID, (1.0, 6.0)))
"""How power falls over time and over the grid, and how much more the camera's waves have: (a, (b, c), f) of
``formula_power``."""


_NO_DEVIATION = 1e-5
"""Typical size of a component that a mode does not have: so small that telling it gains nothing."""

_LONGEST = 1.01
"""Length of a column of a basis at most: 1, but for rounding to half precision."""


class Mode(NamedTuple):
    """One way to write a window's shape: its waves divided by the gain."""

    basis: Tensor
    """(W, P), orthonormal columns: the components, those of the largest deviation first."""
    deviations: Tensor
    """(P,), typical size of each."""

    @classmethod
    def still(cls, waves: int) -> Mode:
        """The mode that tells nothing, of W waves."""
        return cls(torch.zeros(waves, 0), torch.zeros(0))


class Modes(nn.Module):
    """M modes, and the choice between them; before ``put`` all of them tell nothing.

    Args:
        number: M.
        waves: W.
        levels: of an id's digits.
        ids: ids after the first one.
    """

    def __init__(self, number: int, waves: int, levels: Sequence[int], ids: int) -> None:
        super().__init__()
        self.levels, self.ids = tuple(levels), ids
        self.slots = ids * len(levels)
        self.register_buffer("basis", torch.zeros(number, waves, self.slots))
        self.register_buffer("deviations", torch.ones(number, self.slots))
        slot_levels = torch.tensor(list(levels) * ids, dtype=torch.float32)
        self.register_buffer("_slot_levels", slot_levels, persistent=False)
        self._derive()
        self.register_load_state_dict_post_hook(_derive_again)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """M."""
        return self.get_buffer("basis").shape[0]

    def put(self, modes: Sequence[Mode], first: int = 0) -> None:
        """Takes ``modes`` from the number ``first`` on, as far as there is room, in half precision."""
        for number, mode in enumerate(modes[: len(self) - first], first):
            count = min(self.slots, mode.basis.shape[1])
            self.get_buffer("basis")[number] = 0
            self.get_buffer("basis")[number, :, :count] = mode.basis[:, :count].half().float()
            self.get_buffer("deviations")[number] = _NO_DEVIATION
            self.get_buffer("deviations")[number, :count] = mode.deviations[:count].half().float()
        self._derive()

    def check(self) -> None:
        """Raises ValueError where the modes are none, as those of a damaged file may be."""
        wrong = int((self.get_buffer("deviations") <= 0).sum())
        if wrong:
            raise ValueError(f"modes.deviations holds {wrong} numbers that are not above 0")
        longest = float(self.get_buffer("basis").norm(dim=1).max())
        if longest > _LONGEST:
            raise ValueError(f"modes.basis has a column of the length {longest:.3g}, not of 1 at most")

    def left(self, shapes: Tensor, among: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """What modes leave of shapes (B, W), (B, M), and the numbers (B, M, P) in [0, 1] that they tell.

        Left is the root mean square, over the window and then on average over ``JUDGED_IDS``.
        """
        basis, deviations = self.get_buffer("basis")[among], self.get_buffer("deviations")[among]
        number, waves, slots = basis.shape
        flat = basis.transpose(0, 1).reshape(waves, number * slots)
        told = (shapes @ flat).view(len(shapes), number, slots)
        numbers = companded(told, deviations)
        whole = shapes.square().sum(dim=1, keepdim=True) - told.square().sum(dim=2)
        left = torch.zeros_like(whole)
        for reached in self.get_buffer("_reached")[:, among]:
            off = (expanded(_middles(numbers, reached), deviations) - told).square().sum(dim=2)
            left += (whole + off).clamp(min=0).sqrt()
        return left, numbers

    def previews(self, mode: Tensor, numbers: Tensor) -> Tensor:
        """Shapes (B, ``JUDGED_IDS``, W) that the first ids tell of numbers (B, P) in the modes (B,)."""
        middles = _middles(numbers[:, None], self.get_buffer("_reached")[:, mode].transpose(0, 1))
        told = expanded(middles, self.get_buffer("deviations")[mode, None])
        return told @ self.get_buffer("basis")[mode].mT

    def digits(self, mode: Tensor, numbers: Tensor) -> Tensor:
        """Digits before rounding (B, ids, K), each in [0, its levels), of numbers (B, P) in [0, 1]."""
        of_slot, after, total = (self.get_buffer(name)[mode] for name in ("_of_slot", "_after", "_total"))
        cells = (numbers * total).clamp(min=0).minimum(total * (1 - 1e-6)).gather(1, of_slot)
        digits = cut(cells, after, self.get_buffer("_slot_levels"))
        return digits.view(len(mode), self.ids, len(self.levels))

    def shapes(self, mode: Tensor, digits: Tensor, ids: Tensor) -> Tensor:
        """Shapes (B, W) that the first ``ids`` (B,) of whole digits (B, any, K) tell in the modes (B,)."""
        flat = digits.flatten(1)
        known = torch.arange(flat.shape[1], device=flat.device) < ids[:, None] * len(self.levels)
        of_slot, after = (self.get_buffer(name)[mode, : flat.shape[1]] for name in ("_of_slot", "_after"))
        share = after / self.get_buffer("_total")[mode].gather(1, of_slot)
        zeros = flat.new_zeros(len(mode), self.slots)
        numbers = zeros.scatter_add(1, of_slot, torch.where(known, flat * share, 0.0))
        cells = (zeros + 1).scatter_reduce(1, of_slot, torch.where(known, share, 1.0), "amin")
        told = expanded(numbers + cells / 2, self.get_buffer("deviations")[mode])
        return torch.einsum("bwp,bp->bw", self.get_buffer("basis")[mode], told)

    def _derive(self) -> None:
        """What follows from the deviations: which digit cuts which component into how many cells."""
        deviations, slot_levels = self.get_buffer("deviations"), self.get_buffer("_slot_levels")
        of_slot = share_out(deviations.cpu(), list(self.levels) * self.ids).to(deviations.device)
        after, total = torch.ones_like(of_slot, dtype=torch.float32), torch.ones_like(deviations)
        reached = torch.ones(len(JUDGED_IDS), *deviations.shape, device=deviations.device)
        for row, count in enumerate(JUDGED_IDS):
            for slot in range(min(count - 1, self.ids) * len(self.levels)):
                at = of_slot[:, slot, None]
                reached[row].scatter_(1, at, reached[row].gather(1, at) * slot_levels[slot])
        for slot in reversed(range(self.slots)):
            at = of_slot[:, slot, None]
            after[:, slot] = total.gather(1, at)[:, 0]
            total.scatter_(1, at, after[:, slot, None] * slot_levels[slot])
        derived = {"_of_slot": of_slot, "_after": after, "_total": total, "_reached": reached}
        for name, buffer in derived.items():
            self.register_buffer(name, buffer, persistent=False)


def _middles(numbers: Tensor, cells: Tensor) -> Tensor:
    """The middles of the cells that numbers in [0, 1] lie in."""
    return ((numbers * cells).floor().minimum(cells - 1) + 0.5) / cells


def _derive_again(modes: Modes, _: Any) -> None:
    modes.check()
    modes._derive()


def formula_modes(shape: tuple[int, ...], waves: Tensor, components: int) -> list[Mode]:
    """A mode for each of ``FORMULAS``, whose components are single waves.

    Args:
        shape: of the waves, ``Waves.shape``.
        waves: (W,), which of them modes are made of.
        components: P.
    """
    modes = []
    for a, (b, c), f in FORMULAS:
        deviations = formula_power(shape, a, b, c, f).sqrt()[waves]
        largest = deviations.argsort(descending=True, stable=True)[:components]
        basis = torch.nn.functional.one_hot(largest, len(waves)).T
        modes.append(Mode(basis.float(), deviations[largest].float()))
    return modes


def formula_power(shape: tuple[int, ...], a: float, b: float, c: float, f: float) -> Tensor:
    """Power of each wave, (K J J 2) float64 with the sum 1: 1 / ((1 + 1.2 k)^a (1 + b (i^2 + j^2))^c).

    Times ``f`` where i + j <= 1: what a camera does to all of its view; ``waves.deviations`` has the letters.
    """
    k, i, j, _ = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in shape), indexing="ij")
    power = 1 / ((1 + 1.2 * k) ** a * (1 + b * (i**2 + j**2)) ** c)
    power = torch.where(i + j <= 1, power * f, power).flatten()
    return power / power.sum()
