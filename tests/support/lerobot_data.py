"""A small LeRobotDataset v3 as the package lerobot writes one: two cameras, all episodes in one file."""

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

CAMERAS = ("observation.images.top", "observation.images.wrist")
LENGTHS = (24, 10, 20)
SIZE = (48, 64)
FPS = 20


def frames_of(camera: str, episode: int, length: int) -> list[NDArray[np.uint8]]:
    """A texture that moves by (dx, dy) pixels a frame, another way in each episode and camera."""
    coarse = np.random.default_rng(CAMERAS.index(camera)).integers(0, 255, (20, 20, 3), np.uint8)
    texture = cv2.resize(coarse, (240, 240), interpolation=cv2.INTER_LINEAR)
    dx, dy = ((2, 0), (0, 2), (-1, 1))[episode]
    places = ((80 + dx * step, 80 + dy * step) for step in range(length))
    return [texture[y : y + SIZE[0], x : x + SIZE[1]] for x, y in places]


def write_dataset(root: Path, lengths: tuple[int, ...] = LENGTHS) -> Path:
    """Writes it, and returns its folder."""
    video = {"dtype": "video", "shape": [*SIZE, 3], "names": ["height", "width", "channels"], "info": {}}
    features: dict[str, Any] = dict.fromkeys(CAMERAS, video)
    features["observation.images.depth"] = video | {"info": {"video.is_depth_map": True}}
    features["action"] = {"dtype": "float32", "shape": [2], "names": ["x", "y"]}
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        kind = "float32" if name == "timestamp" else "int64"
        features[name] = {"dtype": kind, "shape": [1], "names": None}
    info = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "features": features,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": 1,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info), encoding="utf-8")
    (root / "meta/stats.json").write_text(json.dumps({"action": {"min": [-1.0, 0.0]}}), encoding="utf-8")
    for camera in CAMERAS:
        write_video(root / f"videos/{camera}/chunk-000/file-000.mp4", camera, lengths)
    rows = pa.Table.from_pylist(_episodes(lengths))
    pq.write_table(rows, root / "meta/episodes/chunk-000/file-000.parquet")
    _write_rows(root / "data/chunk-000/file-000.parquet", lengths)
    return root


def write_video(path: Path, camera: str, lengths: tuple[int, ...]) -> None:
    """AV1, with few key frames: an episode begins between two."""
    path.parent.mkdir(parents=True)
    with av.open(path, "w") as container:
        stream = container.add_stream(
            "libsvtav1", rate=Fraction(FPS), options={"g": "7", "preset": "10", "crf": "10"}
        )
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for episode, length in enumerate(lengths):
            for rgb in frames_of(camera, episode, length):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")))
        container.mux(stream.encode())
    # As root this encoder makes the thread that calls it a real-time one, which would starve the machine.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _episodes(lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    begins = np.cumsum([0, *lengths]).tolist()
    return [
        {
            "episode_index": number,
            "tasks": ["move"],
            "length": length,
            "dataset_from_index": begins[number],
            "dataset_to_index": begins[number + 1],
            "stats/frame_index/min": [0],
            "stats/frame_index/mean": [(length - 1) / 2],
            "stats/frame_index/count": [length],
        }
        | {
            f"videos/{camera}/{key}": value
            for camera in CAMERAS
            for key, value in {
                "chunk_index": 0,
                "file_index": 0,
                "from_timestamp": begins[number] / FPS,
                "to_timestamp": begins[number + 1] / FPS,
            }.items()
        }
        for number, length in enumerate(lengths)
    ]


def _write_rows(path: Path, lengths: tuple[int, ...]) -> None:
    """A row group for each episode, and the note of the library ``datasets``."""
    value = {"dtype": "float32", "_type": "Value"}
    known: dict[str, Any] = {"action": {"feature": value, "length": 2, "_type": "List"}}
    known |= {
        name: {"dtype": "int64", "_type": "Value"} for name in ("frame_index", "episode_index", "index")
    }
    schema = pa.schema(
        [
            ("action", pa.list_(pa.float32(), 2)),
            *((name, pa.int64()) for name in ("frame_index", "episode_index", "index")),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": known}})},
    )
    with pq.ParquetWriter(path, schema) as writer:
        for episode, length in enumerate(lengths):
            rows = [
                {"action": [0.0, 1.0], "frame_index": step, "episode_index": episode, "index": 0}
                for step in range(length)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema))
