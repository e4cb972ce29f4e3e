"""Batches of (action chunk, motion tokens) of a LeRobotDataset with codes, read with pyarrow and torch alone.

motion-tokenizer infer --input DATASET --output CODES --video.source lerobot --data.views top \
        --tracking.window_stride 1 --video.target_fps null
motion-tokenizer lerobot export --dataset DATASET --codes CODES --output WITH_CODES
python examples/lerobot_batches.py WITH_CODES

With the package lerobot: LeRobotDataset(..., delta_timestamps={"action": [0, 1 / fps, 2 / fps, ...]}), whose
items hold "motion_tokens" and "motion_tokens_valid" too.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset


class ActionChunks(Dataset[dict[str, torch.Tensor]]):
    """Every frame at which a window begins: its tokens, and the actions of the next ``horizon`` frames."""

    def __init__(self, root: Path, horizon: int = 16) -> None:
        columns = ["action", "episode_index", "motion_tokens", "motion_tokens_valid"]
        files = sorted((root / "data").glob("*/*.parquet"))
        tables = [pq.read_table(file, columns=columns) for file in files]
        found = {name: np.concatenate([np.array(t[name].to_pylist()) for t in tables]) for name in columns}
        self.actions = torch.from_numpy(found["action"]).float()
        self.tokens = torch.from_numpy(found["motion_tokens"])
        self.episodes = torch.from_numpy(found["episode_index"])
        self.frames = np.flatnonzero(found["motion_tokens_valid"])
        self.horizon = horizon

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        frame = int(self.frames[index])
        rows = torch.arange(frame, frame + self.horizon).clamp(max=len(self.actions) - 1)
        inside = self.episodes[rows] == self.episodes[frame]
        return {"tokens": self.tokens[frame], "actions": self.actions[rows] * inside[:, None], "mask": inside}


if __name__ == "__main__":
    for batch in DataLoader(ActionChunks(Path(sys.argv[1])), batch_size=32, shuffle=True):
        print({name: tuple(values.shape) for name, values in batch.items()})  # noqa: T201
