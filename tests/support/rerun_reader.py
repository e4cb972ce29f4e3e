"""Reads Rerun recordings back with Rerun's own SDK, without the viewer."""

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Logged = dict[str, dict[str, dict[int | None, tuple[float, Any]]]]
"""By entity and component what was logged at each source frame (None: for all times), with its seconds."""


def read_recording(path: Path) -> Logged:
    """All that the one recording in a file holds, and checks that it has a blueprint."""
    reader = pytest.importorskip("rerun.chunk").RrdReader(path)
    assert len(reader.recordings()) == 1 and len(reader.blueprints()) == 1
    found: Logged = defaultdict(lambda: defaultdict(dict))
    for chunk in reader.stream().to_chunks():
        assert chunk.entity_path.startswith("/__") or set(chunk.timeline_names) <= {"seconds", "source_frame"}
        columns = chunk.to_record_batch().to_pydict()
        count = chunk.num_rows
        frames = columns.get("source_frame", [None] * count)
        seconds = (
            [each.total_seconds() for each in columns["seconds"]] if not chunk.is_static else [0.0] * count
        )
        for name, values in columns.items():
            if ":" in name:
                for frame, second, value in zip(frames, seconds, values, strict=True):
                    if value is not None:
                        assert frame not in found[chunk.entity_path][name], (chunk.entity_path, name, frame)
                        found[chunk.entity_path][name][frame] = second, value
    return found


def at(found: Logged, entity: str, component: str, frame: int | None) -> np.ndarray:
    """What was logged at a source frame."""
    return np.array(found[entity][component][frame][1])


def rgb(colours: Any) -> np.ndarray:
    """Rerun's colours, 0xRRGGBBAA, as (N, 3)."""
    packed = np.array(colours, np.uint32)
    return np.stack([packed >> 24, packed >> 16 & 255, packed >> 8 & 255], axis=-1).astype(np.uint8)


def picture(found: Logged, entity: str, frame: int) -> np.ndarray:
    """The JPEG at a source frame, (H, W, 3), RGB."""
    blob = found[entity]["EncodedImage:blob"][frame][1][0]
    return np.array(Image.open(io.BytesIO(bytes(blob))).convert("RGB"))
