"""The section of clips: their video, and below it their codes and how much moves, over time.

Letters: S windows, d ids of a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from amplify_motion_tokenizer.codes.code_strip import code_colours
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.report.axes import told
from amplify_motion_tokenizer.report.charts import every
from amplify_motion_tokenizer.report.given import Subject
from amplify_motion_tokenizer.report.markup import (
    Markup,
    data_script,
    folded,
    join,
    missing,
    paragraph,
    table,
    tag,
)
from amplify_motion_tokenizer.report.media import (
    Budget,
    Points,
    clip_video,
    decoded_points,
    png,
    true_points,
)
from amplify_motion_tokenizer.tracks.find import find_recorded
from amplify_motion_tokenizer.tracks.stored import RecordedClip

SECONDS = 12
"""Of a clip that are shown, at most."""
MOST_FRAMES = 600
"""Frames of a clip that are shown, at most."""
MOST_IDS = 10_000
"""Ids of a clip that follow its video, at most."""
MOST_TABLE_IDS = 640
"""Ids in the table of a clip, at most."""
ROWS = 240
"""Rows of the frame that motion is told for."""


def timelines(subject: Subject, codes: MotionCodeSet, most: int, budget: Budget) -> Markup:
    """Some of the clips, spread evenly.

    Raises:
        TrackFileError: a video or a track file is not of the clip's codes.
        VideoError: a video cannot be read.
    """
    with_windows = [name for name, clip in codes.items() if len(clip)]
    candidates = [name for name in with_windows if name in subject.videos] or with_windows
    if not candidates:
        return missing("Left out: no clip has windows.")
    true = _true(subject)
    chosen = every(candidates, most)
    # The strips of all clips before the first video, which may leave no room.
    strips = [_strip(codes[name], _shown_frames(codes[name]), budget) for name in chosen]
    shown = [
        _clip(codes[name], strip, subject, true.get(name), budget)
        for name, strip in zip(chosen, strips, strict=True)
    ]
    told_by = [
        "A column has the ids of the window that begins there, the first one on top; the same colour is the "
        "same id, wherever it stands."
    ]
    if not subject.videos:
        told_by.append("To see the clips above their codes, give their videos with --input.")
    elif subject.tokenizer is None:
        told_by.append(subject.lacks(tokenizer="to draw what codes tell over the clips"))
    if len(chosen) < len(codes):
        told_by.append(f"{len(chosen)} of {len(codes)} clips; --clips shows more.")
    return join(paragraph(" ".join(told_by)), tag("div", shown, class_="clips"))


def _true(subject: Subject) -> Mapping[str, RecordedClip]:
    if subject.tracks is None or not subject.videos or subject.tokenizer is None or subject.no_positions:
        return {}
    return find_recorded(subject.tracks)


def _all_frames(codes: MotionCodes) -> int:
    """Frames to the end of the last window."""
    return int(codes.starts[-1]) + int(codes.meta["tracked_length"])


def _shown_frames(codes: MotionCodes) -> int:
    fps = codes.meta.get("fps")
    return min(_all_frames(codes), MOST_FRAMES, math.ceil(SECONDS * fps) if fps else MOST_FRAMES)


def _clip(
    codes: MotionCodes, strip: Markup | None, subject: Subject, true: RecordedClip | None, budget: Budget
) -> Markup:
    fps, total, frames = codes.meta.get("fps"), _all_frames(codes), _shown_frames(codes)
    length = f"{told(total / fps)} s" if fps else f"{total} frames"
    part = "" if frames == total else f", the first {told(frames / fps) + ' s' if fps else frames} shown"
    name = tag("h3", codes.clip or "clip")
    about = paragraph(f"{len(codes)} windows, {length}{part}", class_="note")
    data = data_script(_followed(codes, frames))
    if strip is None or not budget.fits(data):
        return tag("article", name, about, missing("Left out, as the page is full."), class_="clip")
    video = _video(codes, subject, true, frames, budget) if codes.clip in subject.videos else None
    follow = [tag("div", class_="now", aria_live="off"), data]
    parts = [name, about, video, strip, _ticks(frames, fps), _energy(codes, frames), *follow]
    return tag("article", parts, _ids(codes), class_="clip", data_clip=True)


def _video(
    codes: MotionCodes, subject: Subject, true: RecordedClip | None, frames: int, budget: Budget
) -> Markup:
    panels, names = [], []
    own = None if subject.tokenizer is None else decoded_points(codes, subject.tokenizer, frames)
    if own is not None:
        panels, names = [own], [f"decoded from {codes.ids.shape[1]} ids"]
        both = None if true is None else _in_common(true_points(_first_view(true, codes), frames), own)
        if both is not None:
            panels, names = list(both), ["true tracks", *names]
    config = subject.config or Config()
    content, (height, width) = clip_video(subject.videos[codes.clip], codes, config, panels, frames)
    uri = budget.take("video/mp4", content)
    if uri is None:
        return missing("Its video is left out, as the page is full.")
    shown = f" From the left: {', '.join(names)}." if names else ""
    player = tag(
        "video", src=uri, width=width, height=height, controls=True, muted=True, loop=True, playsinline=True,
        preload="auto", aria_label=f"The clip {codes.clip}.{shown}",
    )  # fmt: skip
    below = tag("div", tag("p", [tag("span", each) for each in names], class_="panels"), class_="film")
    return join(player, below)


def _first_view(true: RecordedClip, codes: MotionCodes) -> RecordedClip:
    """The tracks of the view that is shown; a lone view serves whatever its name."""
    return true if len(true.views) == 1 else true.with_views(codes.meta["views"][:1])


def _in_common(true: Points, own: Points) -> tuple[Points, Points] | None:
    """Both, with the windows that both have; None where there is none."""
    starts = true.windows.keys() & own.windows.keys()
    if not starts:
        return None
    one, other = (
        each._replace(windows={start: each.windows[start] for start in sorted(starts)})
        for each in (true, own)
    )
    return one, other


def _strip(codes: MotionCodes, frames: int, budget: Budget) -> Markup | None:
    """The codes over time, with a line for the frame that the video shows; None where there is no room."""
    count, stride = codes.ids.shape[1], codes.meta["window_stride"]
    pixels = np.zeros((frames, count, 4), np.uint8)
    for start, colours in zip(codes.starts.tolist(), code_colours(codes.ids.numpy()), strict=True):
        if start < frames:
            pixels[start : start + stride, :, :3] = colours
            pixels[start : start + stride, :, 3] = 255
    uri = budget.take("image/png", png(np.ascontiguousarray(pixels.swapaxes(0, 1))))
    if uri is None:
        return None
    image = tag(
        "img", src=uri,
        alt=f"The ids of {codes.clip} over time, a colour for each id; the table below has them.",
        style=f"height:{min(240, max(48, 9 * count))}px",
    )  # fmt: skip
    line = tag("span", class_="playhead")
    return tag(
        "div", image, line, class_="strip", role="slider", tabindex="0", aria_label=f"Frame of {codes.clip}",
        aria_valuemin=0, aria_valuemax=frames - 1, aria_valuenow=0,
    )  # fmt: skip


def _energy(codes: MotionCodes, frames: int) -> Markup:
    """How much moves, at the middle of each window."""
    moves = codes.motion_energy.double().numpy() * ROWS
    middle = codes.starts.numpy() + codes.meta["tracked_length"] / 2
    points = [(x, y) for x, y in zip(middle.tolist(), moves.tolist(), strict=True) if x <= frames]
    most = max((y for _, y in points if math.isfinite(y)), default=0.0)
    steps, drawing = [], False
    for x, y in points:
        if math.isfinite(y):
            at = f"{1000 * x / frames:.1f} {58 - 54 * y / max(most, 1e-9):.1f}"
            steps.append(f"{'L' if drawing else 'M'}{at}")
        drawing = math.isfinite(y)
    unit = f"up to {told(most)} px a frame ({ROWS} rows)" if steps else "not known"
    drawn = tag("path", d="".join(steps), class_="line c0")
    svg = tag(
        "svg", tag("title", "Motion energy"), tag("desc", f"How much moves in {codes.clip}: {unit}."), drawn,
        viewBox="0 0 1000 60", preserveAspectRatio="none", role="img",
    )  # fmt: skip
    return tag("div", svg, tag("span", f"motion: {unit}"), class_="energy")


def _ticks(frames: int, fps: float | None) -> Markup:
    """Seconds, or frames where no rate is known, below the strip."""
    rate, unit = fps or 1.0, " s" if fps else ""
    span = frames / rate
    step = next(
        step
        for power in range(-2, 7)
        for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if span / step <= 6
    )
    marks = []
    for number in range(int(span / step + 1e-9) + 1):
        share = 100 * number * step / span
        if share <= 94:
            marks.append(tag("span", f"{told(number * step)}{unit}", style=f"left:{share:.2f}%"))
    return tag("div", marks, class_="ticks", aria_hidden="true")


def _followed(codes: MotionCodes, frames: int) -> dict[str, Any]:
    """What the page's script shows while the video plays."""
    shown = codes.starts < frames
    ids, starts = codes.ids[shown], codes.starts[shown]
    if ids.numel() > MOST_IDS:
        ids, starts = ids[:0], starts[:0]
    used = np.unique(ids.numpy())
    colours = {
        str(number): f"#{bytes(rgb.tolist()).hex()}"
        for number, rgb in zip(used, code_colours(used), strict=True)
    }
    return {
        "frames": frames,
        "fps": codes.meta.get("fps"),
        "length": codes.meta["tracked_length"],
        "starts": starts.tolist(),
        "ids": ids.tolist(),
        "colours": colours,
    }


def _ids(codes: MotionCodes) -> Markup:
    """The ids of the first windows."""
    most = max(1, MOST_TABLE_IDS // codes.ids.shape[1])
    columns = min(MOST_TABLE_IDS, codes.ids.shape[1])
    head = ["frame", *(str(place + 1) for place in range(columns))]
    rows = [
        [str(start), *map(str, ids)]
        for start, ids in zip(codes.starts[:most].tolist(), codes.ids[:most, :columns].tolist(), strict=True)
    ]
    some = f" of the first {most} windows" if len(codes) > most else ""
    return folded(f"Ids{some}", table([head, *rows], f"Ids of {codes.clip}, by the window's first frame"))
