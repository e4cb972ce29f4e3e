"""Axes of charts: their ends, ticks and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MOST_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """What an axis tells."""

    label: str
    log: bool = False
    """Whether it is logarithmic; what is not above 0 is left out then."""
    from_zero: bool = False
    """Whether 0 is shown in any case."""
    ticks: Sequence[float] = ()
    """Where numbers stand; empty: at round ones."""
    ends: tuple[float, float] | None = None
    """The smallest and the largest value that is shown; None: as the values are."""


@dataclass(frozen=True)
class Scale:
    """Where the values of an axis stand, as shares of its length."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, axis: Axis, values: Sequence[float]) -> Scale:
        """The scale of an axis for finite values."""
        shown = [value for value in values if not axis.log or value > 0]
        low, high = axis.ends or (min(shown, default=1.0), max(shown, default=1.0))
        if axis.from_zero and not axis.log:
            low, high = min(0.0, low), max(0.0, high)
        if low == high:
            low, high = (low / 2, high * 2) if axis.log else (low - 0.5, high + 0.5)
        if axis.ends is None:
            margin = (high / low) ** 0.04 if axis.log else (high - low) * 0.04
            low = low / margin if axis.log else low - margin * (low != 0 or not axis.from_zero)
            high = high * margin if axis.log else high + margin
        ticks = axis.ticks or (_log_ticks(low, high) if axis.log else _linear_ticks(low, high))
        return cls(low, high, axis.log, tuple(tick for tick in ticks if low <= tick <= high))

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; NaN for what has no place."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return math.nan
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def _linear_ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= _MOST_TICKS + 1:
            return ticks
    return ticks[:: math.ceil(len(ticks) / _MOST_TICKS)]


def told(value: float | None, digits: int = 3) -> str:
    """A number for people with so many significant digits; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{short}e{int(power)}"
    return f"{value:.{digits}g}"
