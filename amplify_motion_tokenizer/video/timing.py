"""Times of a clip's pictures: how often they come, where they break off, and which are on screen when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.video.clips import RGB, Part
from amplify_motion_tokenizer.video.orientation import square_size

TIME_TOLERANCE_S = 1.0014e-3
"""A frame counts as on screen at a tick this little before it.

Matroska rounds timestamps to 1 ms, so that one may be up to 1 ms late of the first. The rest keeps rounding
errors from choosing the frame: times and ticks are multiples of 1 ms, of a 90 kHz clock or of 1001/24000 s
and the like, frame 30 of 29.97 fps is 1 ms after the tick at 1 s, and the next such distance is 361/360 ms.
"""
LONGEST_GAP_S = 1.0
"""A longer time without a new picture cuts a clip, where its pictures do not always come so seldom."""
_SELDOM = 2.5
"""Intervals without a picture that are no gap, however long they are."""
_QUICK = 0.1
"""Share of the intervals that may be shorter than the one that gives the nominal rate."""
_HIDDEN = 0.05
"""Share of the usual interval up to which two pictures count as one."""
_UNEVEN = 0.2
"""Share of an interval by which even pictures may be early or late, beside the rounding of times."""
_DOUBLED = 0.25
"""Share of pictures at the time of the one before from which they count; VP8 has a few that nobody sees."""
_MOST_FPS = 960.0
"""A greater rate that no two times bear out is the ticks of the container's clock."""
_JITTER = 1.25
"""A nominal rate up to this factor above the mean is taken for the mean, measured with noise."""

T = TypeVar("T")


class Rate(NamedTuple):
    """How often a clip's pictures come, pauses left out, in pictures per second."""

    mean: float
    nominal: float
    """The rate where none is late or left out: what a phone's clip has in good light."""
    even: bool
    """Whether they follow each other at about equal distances."""


class Picture(NamedTuple):
    """One picture of a source."""

    number: int
    """Place among the pictures that the source decodes to."""
    time_s: float
    """Seconds since the first; rising."""
    part: int
    """Number of the part that it belongs to."""
    rgb: RGB
    """(H, W, 3), upright, pixels as they are stored."""


def rate_of(times_s: Iterable[float], stated_fps: float) -> Rate | None:
    """The rate of pictures with the times ``times_s``, rising but where a clock jumps.

    It is ``stated_fps`` where both are the same but for rounding. Headers of clips with a variable rate often
    state a nominal one only, and other headers none or any. None where neither tells one.
    """
    gaps_s = np.diff(_spread(np.fromiter(times_s, np.float64)))
    gaps_s = gaps_s[gaps_s > 0]
    if len(gaps_s):
        gaps_s = gaps_s[gaps_s <= _longest_gap_s(float(np.median(gaps_s)))]
    if not len(gaps_s):
        return Rate(stated_fps, stated_fps, True) if 0 < stated_fps <= _MOST_FPS else None
    # VP8 keeps pictures that are never shown, a tick before one that is.
    span_s, gaps_s = float(gaps_s.sum()), gaps_s[gaps_s > _HIDDEN * np.median(gaps_s)]
    count, middle_s = len(gaps_s), float(np.median(gaps_s))
    even = bool(np.abs(gaps_s - middle_s).max() <= _UNEVEN * middle_s + 2 * TIME_TOLERANCE_S)
    mean = count / span_s
    if stated_fps > 0 and abs(count / stated_fps - span_s) <= 2 * TIME_TOLERANCE_S + 5e-4 * span_s:
        mean = stated_fps
    quick = 1 / float(np.quantile(gaps_s, _QUICK))
    return Rate(mean, mean if even or quick <= _JITTER * mean else quick, even)


def _spread(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """``times_s`` where those that many pictures share are spread up to the next one."""
    firsts = np.flatnonzero(np.diff(times_s, prepend=np.nan) != 0)
    if len(firsts) >= (1 - _DOUBLED) * len(times_s):
        return times_s
    return np.interp(np.arange(len(times_s)), firsts, times_s[firsts])


def _longest_gap_s(interval_s: float) -> float:
    return max(LONGEST_GAP_S, _SELDOM * interval_s)


def in_parts(
    frames: Iterable[tuple[float | None, RGB]], rate: Rate, aspect: float, parts: list[Part]
) -> Iterator[Picture]:
    """Numbers and times the pictures of a clip from its first, and tells where a new part begins.

    A time that is missing, or does not rise, is one interval after the one before: AVI and MPEG files may
    leave some or all out, and others give several pictures one time. A clock that goes back goes on evenly
    in a new part; after a gap or a jump forward the file's own clock goes on.

    Args:
        frames: (seconds on the file's clock or None; (H, W, 3) RGB upright).
        rate: how often they come.
        aspect: width over height of a stored pixel, as it is shown.
        parts: gets each part when its first picture is there.
    """
    interval_s = 1 / rate.mean
    origin_s, last_s, last_clock_s, size = 0.0, 0.0, 0.0, None
    for index, (clock_s, rgb) in enumerate(frames):
        found = square_size((rgb.shape[0], rgb.shape[1]), aspect)
        cuts = []
        if index == 0:
            origin_s, time_s = clock_s or 0.0, 0.0
        else:
            time_s = last_s + interval_s if clock_s is None else clock_s - origin_s
            step_s = time_s - last_s
            if step_s > _longest_gap_s(1 / rate.nominal):
                cuts.append(f"{step_s:.3f} s without a picture, or its clock jumps")
            elif clock_s is not None and (back_s := last_clock_s - clock_s) > _SELDOM * interval_s:
                cuts.append(f"its clock goes back by {back_s:.3f} s")
                time_s = last_s + interval_s
                origin_s = clock_s - time_s
            elif step_s <= 0:
                time_s = last_s + interval_s
            if found != size:
                cuts.append("its pictures have another size")
        if index == 0 or cuts:
            parts.append(Part(index, time_s, found, ", ".join(cuts)))
        last_s, size = time_s, found
        last_clock_s = last_clock_s + interval_s if clock_s is None else clock_s
        yield Picture(index, time_s, len(parts) - 1, rgb)


def at_ticks(
    pictures: Iterable[Picture], fps: float, common: bool, lone_s: float
) -> Iterator[tuple[float, int, Picture]]:
    """The picture on screen at each tick of each part.

    Args:
        pictures: of one clip.
        fps: ticks per second.
        common: whether ticks are k / fps of the whole clip, so that several views have the same; else each
            part's first picture is at a tick.
        lone_s: seconds that the only picture of a part is on screen.

    Yields:
        (seconds since the clip's first picture, number of the tick in the clip or part, picture).
    """
    for _, group in itertools.groupby(pictures, key=lambda picture: picture.part):
        first = next(group)
        base_s = 0.0 if common else first.time_s
        timed = ((each.time_s - base_s, each) for each in itertools.chain([first], group))
        for tick_s, picture in pick_by_time(timed, fps, lone_s):
            yield base_s + tick_s, round(tick_s * fps), picture


def pick_by_time(items: Iterable[tuple[float, T]], fps: float, lone_s: float) -> Iterator[tuple[float, T]]:
    """The item on screen at each tick k / ``fps`` of a stream of timed items, from the first item on.

    An item is on screen from its time to the next one's, the last for one average interval; a tick at
    the very end is left out. Times may be up to TIME_TOLERANCE_S late. Items on screen at several ticks
    are repeated, and those on screen at none are dropped.

    Args:
        items: (time in seconds, item), rising.
        fps: ticks per second.
        lone_s: seconds that a single item is on screen.

    Yields:
        (tick time in seconds, item).
    """
    ticks, tick = itertools.count(), 0.0
    count, first_s, last_s, held = 0, 0.0, 0.0, None
    for time_s, item in items:
        if held is None:
            first_s = time_s
            ticks = itertools.count(max(0, int(np.ceil((time_s - TIME_TOLERANCE_S) * fps))))
            tick = next(ticks) / fps
        while held is not None and tick < time_s - TIME_TOLERANCE_S:
            yield tick, held[0]
            tick = next(ticks) / fps
        held = (item,)
        count, last_s = count + 1, time_s
    if held is None:
        return
    end_s = last_s + ((last_s - first_s) / (count - 1) if count > 1 else lone_s)
    while tick < end_s - TIME_TOLERANCE_S or tick == 0:
        yield tick, held[0]
        tick = next(ticks) / fps
