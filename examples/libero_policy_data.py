"""Batches of (frame, action, next codes) of LIBERO's demos, for a policy that is trained on motion codes.

motion-tokenizer infer --input LIBERO --output CODES --formats npz --video.source libero \
        --data.views agentview --tracking.window_stride 1
python examples/libero_policy_data.py LIBERO CODES
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader

from amplify_motion_tokenizer import MotionCodeDataset, read_codes


class Upright:
    """LIBERO's images, which are stored upside down, read one at a time."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, timestep: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.images[timestep][::-1]))


def demo_arrays(libero: Path, clip: str) -> dict[str, Any]:
    """What a policy reads of a demo beside its codes; called once for each demo in each worker.

    The clip is called <suite>/<how it was tracked>/<task>_demo/demo_<k>.
    """
    suite, _, task, demo = clip.split("/")
    own = libero / f"{task}.hdf5"  # where LIBERO is the suite's own folder
    file = h5py.File(own if own.is_file() else libero / suite / f"{task}.hdf5", "r")
    return {"frame": Upright(file[f"data/{demo}/obs/agentview_rgb"]), "action": file[f"data/{demo}/actions"]}


def batches(libero: Path, codes: Path, horizon: int = 2, batch_size: int = 32) -> Iterator[dict[str, Any]]:
    """Batches of every timestep of every demo: the codes of the next ``horizon`` windows, 16 frames apart."""
    arrays = partial(demo_arrays, libero)
    data = MotionCodeDataset(read_codes(codes), horizon, every=16, arrays=arrays, timesteps="all")
    yield from DataLoader(data, batch_size=batch_size, shuffle=True, num_workers=0)


if __name__ == "__main__":
    for batch in batches(Path(sys.argv[1]), Path(sys.argv[2])):
        shapes = {name: tuple(batch[name].shape) for name in ("frame", "action", "ids", "mask")}
        print(batch["clip"][0], int(batch["timestep"][0]), shapes)  # noqa: T201
