"""Which digit of which id says what: numbers in [0, 1) written digit by digit, coarse to fine.

Letters: B windows, d ids, K digits of an id, Q quantities that digits tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

GAIN = 0
"""The quantity that the first digit tells, with the last one of the first id: how much moves at all."""


def share_out(deviations: Tensor, slot_levels: Sequence[int]) -> Tensor:
    """The wave (..., S) int64 that each digit tells, in the order of the S digits; of equals the first.

    Each digit goes where it takes most off the expected squared error. A wave of the deviation s has the
    error s^2 min(1, 2 / L) once its digits have L levels in all: halved by twice the levels, not quartered,
    as most windows have few waves that are high.

    Args:
        deviations: (..., W), of all waves, on the CPU.
        slot_levels: levels of the digits.
    """
    squares = deviations.double().square()
    reached = torch.ones_like(squares)
    waves = torch.empty(*squares.shape[:-1], len(slot_levels), dtype=torch.int64)
    for slot, level in enumerate(slot_levels):
        wave = (squares * (_error(reached) - _error(reached * level))).argmax(dim=-1, keepdim=True)
        reached.scatter_(-1, wave, reached.gather(-1, wave) * level)
        waves[..., slot] = wave[..., 0]
    return waves


def cut(cells: Tensor, after: Tensor, slot_levels: Tensor) -> Tensor:
    """Digits before rounding down (B, S), each in [0, its levels), of the cells that numbers lie in.

    Args:
        cells: (B, S), for each digit the number that it tells, in units of that number's finest cells.
        after: (B, S) or (S,), finest cells of a step of the digit: what the digits after it have levels.
        slot_levels: (S,), levels of the digits.
    """
    before = (cells.floor() / after).floor()
    # Kept off 1, which rounding in the sum could make of it.
    rest = ((cells - before * after) / after).clamp(max=0.999)
    return before.remainder(slot_levels) + rest


def digits_of_whole(number: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits (B, K) of whole numbers (B,), the lowest first, as float32."""
    digits = []
    for level in levels:
        digits.append(number.remainder(level))
        number = number.div(level, rounding_mode="floor")
    return torch.stack(digits, dim=1).float()


def whole_of_digits(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Whole numbers (B,) int64 that digits (B, K) of so many levels tell, the lowest first."""
    number = torch.zeros_like(digits[:, 0])
    for place in reversed(range(len(levels))):
        number = number * levels[place] + digits[:, place]
    return number.long()


def plan_with_gain(deviations: Tensor, levels: Sequence[int], ids: int) -> list[int]:
    """The quantity that each digit tells, id by id: ``GAIN``, or 1 + the number of a wave.

    The gain takes the first id's first digit and, where it has more than two, its last.

    Args:
        deviations: of all waves.
        levels: of the digits of an id.
        ids: d.
    """
    of_gain = gain_places(levels)
    slots = [level for number in range(ids) for level in levels]
    waves = share_out(deviations, [level for slot, level in enumerate(slots) if slot not in of_gain])
    rest = iter(waves.tolist())
    return [GAIN if slot in of_gain else 1 + next(rest) for slot in range(len(slots))]


def gain_places(levels: Sequence[int]) -> tuple[int, ...]:
    """Which digits of the first id tell the gain."""
    return (0, len(levels) - 1) if len(levels) > 2 else (0,)


def _error(levels: Tensor) -> Tensor:
    return (2 / levels).clamp(max=1)


class Digits(nn.Module):
    """Between numbers in [0, 1) and the digits of ids, by a plan of which digit tells which.

    A number's digits are its mixed-radix expansion: each cuts the cell that the digits before it left into as
    many as it has levels. So the first ids alone tell every number that they mention at all.

    Args:
        plan: (d K) quantities in any numbering, id by id, as ``share_out`` gives.
        levels: of the digits of an id.
    """

    def __init__(self, plan: Sequence[int], levels: Sequence[int]) -> None:
        super().__init__()
        told = sorted(set(plan))
        self.quantities = told
        """What is told, in ascending order: the numbers that the plan names."""
        self.levels = tuple(levels)
        of_slot = [told.index(quantity) for quantity in plan]
        of_levels = list(levels) * (len(plan) // len(levels))
        after, total = [0.0] * len(plan), [1.0] * len(told)
        for slot in reversed(range(len(plan))):
            after[slot] = total[of_slot[slot]]
            total[of_slot[slot]] *= of_levels[slot]
        self.register_buffer("_of_slot", torch.tensor(of_slot), persistent=False)
        self.register_buffer("_after", torch.tensor(after), persistent=False)
        self.register_buffer("_total", torch.tensor(total), persistent=False)
        self.register_buffer("_slot_levels", torch.tensor(of_levels, dtype=torch.float32), persistent=False)

    def of_numbers(self, numbers: Tensor) -> Tensor:
        """Digits before rounding down, (B, d, K), of numbers (B, Q) in [0, 1]; each in [0, its levels)."""
        total, of_slot = self.get_buffer("_total"), self.get_buffer("_of_slot")
        cells = (numbers * total).clamp(min=0).minimum(total * (1 - 1e-6))[:, of_slot]
        after = self.get_buffer("_after")
        width = len(self.levels)
        digits = cut(cells, after, self.get_buffer("_slot_levels"))
        return digits.view(len(numbers), len(after) // width, width)

    def numbers(self, digits: Tensor) -> Tensor:
        """The middles (B, Q) of the cells that whole digits (B, d', K) name; 0.5 where none is told.

        ``d'`` may be less than the plan's d: the first ids alone.
        """
        flat = digits.flatten(1)
        told = flat.shape[1]
        of_slot, after = self.get_buffer("_of_slot")[:told], self.get_buffer("_after")[:told]
        total = self.get_buffer("_total")
        share = after / total[of_slot]
        place = torch.nn.functional.one_hot(of_slot, len(total)) * share[:, None]
        cell = torch.ones_like(total).scatter_reduce(0, of_slot, share, "amin")
        return flat @ place + cell / 2
