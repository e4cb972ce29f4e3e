"""Codes for every timestep of every clip, joined with the user's own arrays, as a torch data set.

Letters: H windows to look ahead, d ids of a window, D numbers of an id's vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from amplify_motion_tokenizer.codes.motion_codes import FrameCount, MotionCodes

Arrays = Mapping[str, Any]
"""Arrays by name, each with a row for every frame of a clip: numpy, tensors, HDF5 data sets, columns."""

_OWN = ("clip", "timestep", "ids", "mask", "frames", "valid_steps", "latents")


class MotionCodeDataset(Dataset[dict[str, Any]]):
    """An item for each clip and timestep: the codes of the motion from there on, and the user's own values.

    An item holds ``clip`` (its name) and ``timestep`` (int, the frame t); of the windows that begin at the
    frames t, t + every, ... ``ids`` (H, d) int64, ``mask`` (H,) bool, False (ids are 0) where none begins,
    ``frames`` (H,) int64 those frames, ``valid_steps`` (H,) int64 and, where asked for, ``latents`` (H, d, D)
    float32; and row t of each of the clip's arrays, by its name. ``DataLoader(data, batch_size=8)`` makes
    batches of them.

    Args:
        codes: of clips by name, as ``read_codes`` gives.
        horizon: H, windows of an item, 1 or more.
        every: frames from one of its windows to the next; None: the distance at which windows begin.
        arrays: of a clip, by its name, what to join: a mapping of clips to arrays by name, or what gives a
            clip's arrays, which is then asked once for each clip in each process. Rows are counted as frames.
        of: whether timesteps, and the rows of arrays, are frames of the source file or tracked ones.
        timesteps: "windows": the frames at which a window begins; "all": every frame up to the last one that
            a window covers, with a mask that is False where none begins.
        latents: whether items hold the ids' vectors.

    Raises:
        ValueError: a number is impossible, codes lack what is asked for, a mapping of arrays lacks a clip, or
            frames cannot be counted so.
    """

    def __init__(
        self,
        codes: Mapping[str, MotionCodes],
        horizon: int = 1,
        *,
        every: int | None = None,
        arrays: Mapping[str, Arrays] | Callable[[str], Arrays] | None = None,
        of: FrameCount = "source",
        timesteps: Literal["windows", "all"] = "windows",
        latents: bool = False,
    ) -> None:
        if horizon < 1 or (every is not None and every < 1):
            raise ValueError(f"horizon is {horizon} and every is {every}; expected at least 1")
        if timesteps not in ("windows", "all"):
            raise ValueError(f"timesteps is {timesteps!r}; expected 'windows' or 'all'")
        self._clips = [each for each in codes.values() if len(each)]
        lacking = [each.clip for each in self._clips if latents and each.latents is None]
        if lacking:
            raise ValueError(f"codes of {lacking[0]} have no latents; run infer with --save latents")
        given = arrays if isinstance(arrays, Mapping) else {each.clip for each in self._clips}
        unjoined = [each.clip for each in self._clips if each.clip not in given]
        if unjoined:
            raise ValueError(
                f"arrays have nothing for the clip {unjoined[0]} (of {len(unjoined)} clips of "
                f"{len(self._clips)}); give every clip's, or leave its codes out"
            )
        _check_arrays(arrays)
        self._begins = [each.frames(of).numpy() for each in self._clips]
        self._frames = [
            _timesteps(*pair, of, timesteps) for pair in zip(self._clips, self._begins, strict=True)
        ]
        self._offsets = np.cumsum([0, *map(len, self._frames)])
        self._numbers = {each.clip: number for number, each in enumerate(self._clips)}
        self._ahead = np.arange(horizon) * (every or _distance(self._begins))
        self._arrays, self._latents = arrays, latents
        self._opened: dict[str, Arrays] = {}

    def __len__(self) -> int:
        """Timesteps of all clips."""
        return int(self._offsets[-1])

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes, each of which opens the arrays that it reads."""
        return self.__dict__ | {"_opened": {}}

    def index(self, clip: str, timestep: int) -> int:
        """The item of a timestep of a clip.

        Raises:
            KeyError: there is no such clip, or it has no such timestep.
        """
        if clip not in self._numbers:
            raise KeyError(f"there is no clip {clip} with windows; there are {len(self._numbers)}")
        number = self._numbers[clip]
        frames = self._frames[number]
        place = int(np.searchsorted(frames, timestep))
        if place == len(frames) or frames[place] != timestep:
            raise KeyError(f"clip {clip} has no timestep {timestep}; it has {frames[0]} to {frames[-1]}")
        return int(self._offsets[number]) + place

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item; negative indices count from the end.

        Raises:
            IndexError: there is no such item.
            ValueError: an array of the clip has no row for the timestep, or a name of ours.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no item {index}; the data set has {len(self)}")
        index %= len(self)
        number = int(np.searchsorted(self._offsets, index, side="right")) - 1
        codes, begins = self._clips[number], self._begins[number]
        timestep = int(self._frames[number][index - self._offsets[number]])
        frames = timestep + self._ahead
        rows = np.minimum(np.searchsorted(begins, frames), len(begins) - 1)
        mask = torch.from_numpy(begins[rows] == frames)
        found = {
            "clip": codes.clip,
            "timestep": timestep,
            "ids": codes.ids[rows] * mask[:, None],
            "mask": mask,
            "frames": torch.from_numpy(frames),
            "valid_steps": codes.valid_steps[rows] * mask,
        }
        if self._latents and codes.latents is not None:
            found["latents"] = codes.latents[rows] * mask[:, None, None]
        return found | self._joined(codes.clip, timestep)

    def _joined(self, clip: str, timestep: int) -> dict[str, Any]:
        if self._arrays is None:
            return {}
        if clip not in self._opened:
            self._opened[clip] = self._arrays(clip) if callable(self._arrays) else self._arrays[clip]
        joined = {}
        for name, rows in self._opened[clip].items():
            if name in _OWN:
                raise ValueError(f"an array of {clip} is called {name}, as a value of every item; rename it")
            if timestep >= len(rows):
                raise ValueError(
                    f"{name} of {clip} has {len(rows)} rows, and codes tell of frame {timestep}; give a row "
                    "for every frame, or count frames of the other kind"
                )
            joined[name] = rows[timestep]
        return joined


def _check_arrays(arrays: Any) -> None:
    """Raises ValueError for a mapping that holds something else than each clip's arrays by name."""
    if arrays is None or callable(arrays):
        return
    if not isinstance(arrays, Mapping):
        raise ValueError(f"arrays are a {type(arrays).__name__}; expected a mapping of clips, or a function")
    for clip, own in arrays.items():
        if not isinstance(own, Mapping):
            raise ValueError(
                f'arrays of {clip} are a {type(own).__name__}; expected them by name: {{"{clip}": '
                '{"action": rows}}'
            )


def _timesteps(
    codes: MotionCodes, begins: NDArray[np.int64], of: FrameCount, timesteps: str
) -> NDArray[np.int64]:
    if timesteps == "windows":
        return begins
    last = codes.source_frames[-1, 1] if of == "source" else begins[-1] + codes.meta["tracked_length"] - 1
    return np.arange(int(last) + 1)


def _distance(begins: list[NDArray[np.int64]]) -> int:
    """Frames at which windows follow each other: the most frequent distance; 1 where there is none."""
    distances = np.concatenate([np.diff(each) for each in begins]) if begins else np.empty(0, np.int64)
    return int(np.bincount(distances).argmax()) if len(distances) else 1
