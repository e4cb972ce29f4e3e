"""A long video, cut where its motion changes: a table of its segments, and which of them move alike.

The video is read as a stream, so memory does not grow with its length but for some 250 bytes a window.

python examples/cut_long_video.py long.mp4 segments.json
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amplify_motion_tokenizer import MotionCodes, load_tokenizer
from amplify_motion_tokenizer.codes.motion_vectors import changes_within, vectors_of
from amplify_motion_tokenizer.codes.segment_files import write_segments
from amplify_motion_tokenizer.codes.segmentation import Rules, Segment, change_of, segments_of


def mean_vectors(codes: MotionCodes, vectors: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    """(segments, 99) the mean search vector of the windows whose middle lies in each segment."""
    middles = codes.seconds.mean(dim=1).numpy()
    inside = [(start <= middles) & (middles < end) for start, end in segments]
    nearest = [[np.abs(middles - (start + end) / 2).argmin()] for start, end in segments]  # of short ones
    chosen = [rows if rows.any() else row for rows, row in zip(inside, nearest, strict=True)]
    return np.stack([vectors[rows].mean(axis=0) for rows in chosen])


def main(video: Path, output: Path) -> None:
    """Writes the segments of ``video`` as JSON to ``output``, and prints them."""
    settings = {"tracking.window_stride": 4, "video.shots": "auto"}
    tokenizer = load_tokenizer("default", settings=settings)
    codes = tokenizer.encode_video(video)
    change = change_of(codes, changes_within(codes, tokenizer))
    segments = segments_of(codes, change, Rules(shortest_s=1.0))
    write_segments(output, {codes.clip: segments}, {})
    means = mean_vectors(codes, vectors_of(codes, tokenizer), segments)
    apart = np.linalg.norm(means[:, None] - means, axis=-1) + np.diag(np.full(len(means), np.inf))
    for number, (start, end) in enumerate(segments):
        like = f", most like segment {apart[number].argmin()}" if len(segments) > 1 else ""
        print(f"{number}: {start:.2f} to {end:.2f} s{like}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
