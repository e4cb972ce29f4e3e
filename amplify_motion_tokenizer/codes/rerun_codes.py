"""Codes and segments of a clip over time in a Rerun recording.

Letters: S windows, d ids of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.rerun_file import Entities, Recording, Times
from amplify_motion_tokenizer.codes.segmentation import Segment
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.video.clips import Clip

_TOLERANCE_S = 1e-6
NO_WINDOW = "no window"
"""The text of frames that no window covers."""


def log_codes(recording: Recording, entities: Entities, codes: MotionCodes, frames: Times) -> None:
    """Logs ``codes/ids``, ``codes/motion_energy`` and ``codes/text`` at the first frame of each window.

    Args:
        recording: where to.
        entities: of the clip.
        codes: of the clip.
        frames: when the clip's frames are.

    Raises:
        TrackFileError: the codes do not say when their windows are.
    """
    seconds, sources = codes.seconds.numpy(), codes.source_frames.numpy()
    if np.isnan(seconds).any() or (sources < 0).any():
        raise TrackFileError(f"the codes of {codes.clip} do not say when their windows are; run infer again")
    if not len(codes):
        return
    times = Times(seconds[:, 0], sources[:, 0])
    recording.ids(entities.of("codes", "ids"), _names(codes), times, codes.ids.numpy())
    energy = entities.of("codes", "motion_energy")
    recording.curve(energy, "motion energy", times, codes.motion_energy.numpy())
    told = [(seconds[row, 0], sources[row, 0], _text(codes, row)) for row in range(len(codes))]
    # Frames after a window that no other covers have none.
    begins = [*sources[1:, 0].tolist(), np.inf]
    for end, begin in zip(sources[:, 1].tolist(), begins, strict=True):
        after = int(np.searchsorted(frames.source_frames, end, side="right"))
        if after < len(frames.seconds) and frames.source_frames[after] < begin:
            told.append((frames.seconds[after], frames.source_frames[after], NO_WINDOW))
    told.sort(key=lambda each: each[1])
    at_s, at_frames, texts = zip(*told, strict=True)
    recording.texts(entities.of("codes", "text"), Times(np.array(at_s), np.array(at_frames)), texts)


def _names(codes: MotionCodes) -> list[str]:
    """Names of the d ids of a window: their places, with the view where each view has its own."""
    count, views = codes.ids.shape[1], codes.meta.get("views", ("",))
    if not codes.meta.get("per_view"):
        return [f"id {place}" for place in range(count)]
    each = count // len(views)
    return [f"{views[place // each]} id {place % each}" for place in range(count)]


def _text(codes: MotionCodes, row: int) -> str:
    (begin, end), (first, last) = codes.seconds[row].tolist(), codes.source_frames[row].tolist()
    energy, share = float(codes.motion_energy[row]), float(codes.visible_share[row])
    ids = " ".join(map(str, codes.ids[row].tolist()))
    return (
        f"**window {row}** of {len(codes)}: {begin:.2f} to {end:.2f} s, source frames {first} to {last}\n\n"
        f"ids: {ids}\n\nmotion energy: {energy:.4g}, visible: {share:.0%}"
    )


def check_segments(clip: Clip, segments: Sequence[Segment], frames: Times) -> None:
    """Raises TrackFileError where a segment begins after the clip's last frame."""
    last = frames.seconds[-1] if len(frames.seconds) else 0.0
    late = next((each for each in segments if each.start_s > last + _TOLERANCE_S), None)
    if late is not None:
        raise TrackFileError(
            f"{clip.source}: ends at {last:.2f} s, before its segment at {late.start_s:.2f} s begins; give "
            "the segments of this video"
        )


def log_segments(
    recording: Recording, entities: Entities, segments: Sequence[Segment], frames: Times
) -> None:
    """Logs the state ``segments``: the segment of each time, and none between two and after the last.

    Args:
        recording: where to.
        entities: of the clip.
        segments: of the clip, in order.
        frames: when the clip's frames are; a segment begins with the first frame at its start or later.
    """
    seconds: list[float] = []
    states: list[str] = []
    for number, (start, end) in enumerate(segments):
        if seconds and start - seconds[-1] < _TOLERANCE_S:  # goes on from the one before
            seconds.pop()
            states.pop()
        seconds += [start, end]
        states += [f"{number}: {start:.2f} to {end:.2f} s", ""]
    if not seconds:
        return
    at = np.searchsorted(frames.seconds, np.array(seconds) - _TOLERANCE_S)
    after = frames.source_frames[-1] + 1  # of what ends with the clip
    sources = np.append(frames.source_frames, after)[at]
    recording.states(entities.of("segments"), Times(np.array(seconds), sources), states)
