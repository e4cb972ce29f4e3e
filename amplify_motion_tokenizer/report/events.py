"""What TensorBoard's files of a run hold: curves, the last pictures and the last histograms.

TensorBoard's own reader takes TensorFlow where that is installed, and checks every byte of every picture in
Python where it is not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import UsageError

Floats = NDArray[np.float64]

FOLDER = "tensorboard"
"""Where training writes them, below the folder of the run."""
MOST_PICTURES = 8
"""Pictures that are kept, at most."""
_LENGTH, _CHECKSUM = 8, 4
"""Bytes before a record that tell its length, and of the checksum behind each part."""


@dataclass(frozen=True)
class Histogram:
    """How often numbers fell into bins."""

    step: int
    ends: Floats
    """Upper ends of the bins."""
    counts: Floats


@dataclass
class Events:
    """What a run has logged."""

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """(step, value) by tag, steps ascending; of a step that was taken again, after a stop, the last value."""
    pictures: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """(step, PNG) of the last picture by tag, of the first ``MOST_PICTURES`` tags."""
    histograms: dict[str, Histogram] = field(default_factory=dict)
    """The last histogram by tag."""
    seconds: tuple[float, float] | None = None
    """First and last time, since 1970."""
    cut: list[str] = field(default_factory=list)
    """Names of files whose last record is not whole, as where the run was killed."""


def read_events(run: Path) -> Events:
    """What the run in a folder has logged; empty where it has logged nothing.

    Raises:
        UsageError: a file is damaged.
    """
    found, values = Events(), dict[str, dict[int, float]]()
    for path in sorted((run / FOLDER).glob("**/events.out.tfevents.*")):
        for event in _events(path, found):
            first, _ = found.seconds or (event.wall_time, 0)
            found.seconds = first, event.wall_time
            for value in event.summary.value:
                _take(found, values, event.step, value)
    found.scalars = {tag: sorted(points.items()) for tag, points in values.items()}
    return found


def _events(path: Path, found: Events) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    try:
        for record in _records(path, found):
            yield Event.FromString(record)
    except DecodeError:
        raise UsageError(
            f"{path}: is damaged, expected TensorBoard's records; take it out of the folder and run again"
        ) from None


def _records(path: Path, found: Events) -> Iterator[bytes]:
    """The records of a file up to one that is not whole."""
    left = path.stat().st_size
    with path.open("rb") as file:
        while left:
            head = file.read(_LENGTH + _CHECKSUM)
            length = struct.unpack("<Q", head[:_LENGTH])[0] if len(head) == _LENGTH + _CHECKSUM else left
            left -= len(head) + length + _CHECKSUM
            if left < 0:
                found.cut.append(path.name)
                return
            yield file.read(length)
            file.seek(_CHECKSUM, 1)


def _take(found: Events, values: dict[str, dict[int, float]], step: int, value: Any) -> None:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        values.setdefault(value.tag, {})[step] = value.simple_value
    elif kind == "tensor" and value.tensor.dtype == 1 and not value.tensor.tensor_shape.dim:
        number = value.tensor.float_val or np.frombuffer(value.tensor.tensor_content, np.float32)
        values.setdefault(value.tag, {})[step] = float(number[0])
    elif kind == "image" and (value.tag in found.pictures or len(found.pictures) < MOST_PICTURES):
        found.pictures[value.tag] = step, value.image.encoded_image_string
    elif kind == "histo":
        ends, counts = np.array(value.histo.bucket_limit), np.array(value.histo.bucket)
        found.histograms[value.tag] = Histogram(step, ends, counts)
