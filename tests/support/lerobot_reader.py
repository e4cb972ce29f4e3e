"""What the package lerobot reads of a data set, run by an interpreter that has it: prints JSON.

With ``make`` it first writes a data set of two cameras, several episodes in one file of each.
"""

import json
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

LENGTHS = (24, 18, 30)
SIZE = (64, 96)
FPS = 20


def write(root: Path) -> None:
    """Episodes in which a texture moves another way each."""
    video = {"dtype": "video", "shape": (*SIZE, 3), "names": ["height", "width", "channels"]}
    features = {f"observation.images.{name}": video for name in ("top", "wrist")}
    features["action"] = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
    data = LeRobotDataset.create("me/moving", FPS, features, root=root, use_videos=True)
    coarse = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    for number, length in enumerate(LENGTHS):
        dx, dy = ((2, 0), (0, 2), (-1, 1))[number]
        for step in range(length):
            x, y = 100 + dx * step, 100 + dy * step
            frame = {
                "observation.images.top": texture[y : y + SIZE[0], x : x + SIZE[1]],
                "observation.images.wrist": texture[x : x + SIZE[0], y : y + SIZE[1]],
                "action": np.float32([dx, dy]),
                "task": f"move {number}",
            }
            data.add_frame(frame)
        data.save_episode()
    data.finalize()


def read(root: Path) -> None:
    data = LeRobotDataset("me/moving", root=root, video_backend="pyav")  # torchcodec wants FFmpeg itself
    rows = [data[index] for index in range(len(data))]
    told = {
        name: [np.asarray(row[name]).tolist() for row in rows]
        for name in ("episode_index", "frame_index", "motion_tokens", "motion_tokens_valid", "motion_latents")
        if name in rows[0]
    }
    told["subtask"] = [row.get("subtask") for row in rows]
    means = {
        name: [float(row[f"observation.images.{name}"].mean()) for row in rows] for name in ("top", "wrist")
    }
    stats = {key: np.asarray(value).tolist() for key, value in data.meta.stats["motion_tokens"].items()}
    sys.stdout.write(json.dumps({"rows": told, "means": means, "stats": stats, "fps": data.fps}))


if __name__ == "__main__":
    (write if sys.argv[1] == "make" else read)(Path(sys.argv[2]))
