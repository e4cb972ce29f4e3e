"""The text that ``inspect`` prints about a folder of tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.evaluation.motion_statistics import MotionStatistics, Suggestion
from amplify_motion_tokenizer.trackers.windows import SEEN

VELOCITIES_NOTE = (
    "velocity files hold speeds up to the edge of the classes alone; another W or data.reference_size takes "
    "preprocessing again"
)


def counted(found: MotionStatistics, config: Config) -> str:
    """What the label map shows, in a few words."""
    return f"{int(found.label_counts.sum()):,} steps of points; {_reference(config.data.reference_size)}"


def report(found: MotionStatistics, suggestions: Sequence[Suggestion], config: Config) -> str:
    """The findings in lines of text."""
    sizes = ", ".join(f"{size} ({clips})" for size, clips in found.sizes.items())
    rates = ", ".join(f"{rate:g}" for rate in found.fps) or "unknown"
    percents = " ".join(f"{percent:>7g}%" for percent in found.speed_px)
    threshold = config.data.static_filter.threshold
    grid = " x ".join(map(str, config.class_grid))
    shares = [
        ("static points", found.static_share, f"data.static_filter.threshold {threshold:g}"),
        ("visible", found.visible_share, f"confidence of at least {SEEN:g}"),
        ("finite", found.finite_share, "no NaN or infinity in the track"),
        ("clamped labels", found.clamped_share, f"of moving points {_percent(found.moving_clamped_share)}"),
        ("centre class", found.center_share, f"of moving points {_percent(found.moving_center_share)}"),
    ]
    lines = [
        f"{found.clips} clips, {found.windows} windows ({found.windows_read} of them read), {rates} fps",
        f"tracked sizes (clips): {sizes}",
        f"reference size: {_reference(config.data.reference_size)}",
        f"classes: {grid}",
        "",
        *[VELOCITIES_NOTE] * found.stored_clamped,
        "speed in reference pixels per step",
        f"  percentile    {percents}",
        f"  all points    {_numbers(found.speed_px)}",
        f"  moving points {_numbers(found.moving_speed_px)}",
        "",
        *(f"{name:<16}{_percent(share):>7}  ({note})" for name, share, note in shares),
        "",
    ]
    fine = "nothing moves" if found.nothing_moves else "the settings suit this motion"
    if not found.finite_share:
        fine = "no track is finite: all hold NaN or infinity, or were never written"
    lines += [_suggested(suggestion) for suggestion in suggestions] or [fine]
    return "\n".join(lines)


def _reference(size: tuple[int, int] | dict[str, int] | None) -> str:
    if size is None:
        return "each clip's own (data.reference_size null)"
    text = f"{size[0]} x {size[1]}" if isinstance(size, tuple) else f"shorter side {size['shorter']}"
    return f"{text} px (data.reference_size)"


def _numbers(values: dict[float, float]) -> str:
    return " ".join(f"{'-' if math.isnan(value) else f'{value:.2f}':>8}" for value in values.values())


def _percent(share: float) -> str:
    """A share as text; a dash stands for the share of nothing."""
    return "-" if math.isnan(share) else f"{share:.1%}"


def _suggested(suggestion: Suggestion) -> str:
    better = "" if suggestion.better is None else f" -> {suggestion.better:g}"
    now = f"{suggestion.now:g}" if isinstance(suggestion.now, float | int) else suggestion.now or "null"
    return f"suggestion: {suggestion.key} {now}{better}: {suggestion.reason}"
