"""The motion codes of one clip, in memory.

Letters: S windows, d ids of a window, D numbers of an id's vector, V views, t steps of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

FrameCount = Literal["source", "tracked"]
"""Whether frames are counted in the source file or among the tracked (resampled) ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionCodes:
    """The windows of one clip as ids, and where in the clip each window is. All tensors are on the CPU.

    Raises:
        ValueError: the columns are of other shapes or types than stands at each.
    """

    ids: Tensor
    """(S, d) int64, code ids from 0 on; with ``meta["per_view"]`` the first view's come first."""
    starts: Tensor
    """(S,) int64, index of each window's first frame among the tracked (resampled) frames."""
    seconds: Tensor
    """(S, 2) float64, seconds from the clip's first frame to the window's first and to its last real frame;
    NaN where it is not known."""
    step_seconds: Tensor
    """(S,) float64, mean seconds from one of the window's tracked frames to the next; NaN: not known."""
    source_frames: Tensor
    """(S, 2) int64, index of the window's first and of its last real frame among the frames of the source
    file; -1 where it is not known."""
    valid_steps: Tensor
    """(S,) int64, how many of the model's t steps are real, the first ones; the rest repeats a frame."""
    motion_energy: Tensor
    """(S,) float32, root mean square move of the points that are seen, from one tracked frame to the next, in
    shorter sides of the frame; NaN where nothing is seen, or it is not known."""
    visible_share: Tensor
    """(S,) float32, share of the points of all real frames that are seen (confidence of 0.5 and more); NaN
    where it is not known."""
    latents: Tensor | None = None
    """(S, d, D) float32, the ids' vectors after quantising, which ``MotionTokenizer.decode`` takes."""
    camera: Tensor | None = None
    """(S, V, t, 4, 2) float32, the camera's motion, which was taken out of the tracks before they became ids:
    after each step how far the background has moved the four corner points of the query grid since the
    window's first frame, (x, y) in shorter sides of the picture that the grid spans, in the order of the
    grid's points. NaN where it is not known. None: ids are of the whole motion."""
    camera_ids: Tensor | None = None
    """(S, d) int64, ids of the camera's motion alone: of the query grid as the background moves it."""
    clip: str = ""
    """The clip's name: its path below the input folder, without the ending."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """How the codes were made: model, FSQ levels, checkpoint, rates, sizes, versions."""

    def __post_init__(self) -> None:
        """Checks the columns."""
        windows = len(self.ids) if self.ids.ndim else 0
        expected: dict[str, tuple[torch.dtype, tuple[int | None, ...]]] = {
            "ids": (torch.int64, (windows, None)),
            "starts": (torch.int64, (windows,)),
            "seconds": (torch.float64, (windows, 2)),
            "step_seconds": (torch.float64, (windows,)),
            "source_frames": (torch.int64, (windows, 2)),
            "valid_steps": (torch.int64, (windows,)),
            "motion_energy": (torch.float32, (windows,)),
            "visible_share": (torch.float32, (windows,)),
        }
        if self.latents is not None:
            width = self.ids.shape[-1] if self.ids.ndim == 2 else None
            expected["latents"] = (torch.float32, (windows, width, None))
        if self.camera is not None:
            expected["camera"] = (torch.float32, (windows, None, None, 4, 2))
        if self.camera_ids is not None:
            expected["camera_ids"] = (torch.int64, (windows, self.ids.shape[-1] if self.ids.ndim else None))
        for name, (dtype, shape) in expected.items():
            _check_column(name, getattr(self, name), dtype, shape)

    def __len__(self) -> int:
        """S."""
        return len(self.ids)

    def __repr__(self) -> str:
        made = f"{self.meta.get('model')} {self.meta.get('checkpoint')}"
        return f"MotionCodes(clip={self.clip!r}, {len(self)} windows of {self.ids.shape[1]} ids, by {made})"

    @property
    def camera_known(self) -> Tensor | None:
        """(S, V, t) bool, the steps at whose end the camera is known; None where ``camera`` is.

        Where it is not, ids tell that points stay where they were, which is not what was seen.
        """
        return None if self.camera is None else self.camera.isfinite().flatten(3).all(dim=3)

    @property
    def source(self) -> str | None:
        """Name of the file that the clip came from; None for frames or tracks that were given in memory."""
        found: str | None = self.meta.get("source")
        return found

    @property
    def parts(self) -> Tensor:
        """(S,) int64, which part of the clip each window is in, from 0 on; -1 where it is not known.

        A pause, a jump of the clock or, with ``video.shots``, a cut ends a part; no window spans two.
        """
        begins, firsts = self.meta.get("parts"), self.source_frames[:, 0].contiguous()
        if begins is None:
            return torch.full_like(firsts, -1)
        part = torch.searchsorted(torch.tensor(begins), firsts, right=True) - 1
        return torch.where(firsts < 0, -1, part)

    def frames(self, of: FrameCount = "source") -> Tensor:
        """(S,) int64, ascending, the frame that each window begins with.

        Args:
            of: "source" counts the frames of the source file; "tracked" the tracked (resampled) ones.

        Raises:
            ValueError: frames of the source are not known, as of tracks of other writers.
        """
        if of == "tracked":
            return self.starts
        if of != "source":
            raise ValueError(f"of is {of!r}; expected 'source' or 'tracked'")
        if (self.source_frames[:, 0] < 0).any():
            raise ValueError(
                f"codes of {self.clip} do not say which frames of the source their windows begin with; count "
                "by 'tracked' frames"
            )
        return self.source_frames[:, 0].contiguous()

    def at(self, frame: int, of: FrameCount = "source") -> CodesAt:
        """The codes of the motion at a frame: of the last window that begins there or before.

        Args:
            frame: from 0 on.
            of: how frames are counted, as in ``frames``.

        Raises:
            IndexError: no window covers the frame.
            ValueError: as ``frames``.
        """
        begins = self.frames(of)
        ends = self.source_frames[:, 1] if of == "source" else begins + self.meta["tracked_length"] - 1
        row = int(torch.searchsorted(begins, int(frame), right=True)) - 1
        if row < 0 or frame > int(ends[row]):
            covered = f"{int(begins[0])} to {int(ends[-1])}" if len(self) else "none, as there is no window"
            raise IndexError(f"clip {self.clip}: no window covers frame {frame}; covered are {covered}")
        return CodesAt(self.ids[row], row, int(frame) - int(begins[row]))


class CodesAt(NamedTuple):
    """The codes at one frame of a clip."""

    ids: Tensor
    """(d,) int64."""
    window: int
    """The window's place among the clip's windows."""
    offset: int
    """Frames from the window's first to the one that was asked for; 0 where the window begins there."""


def _check_column(name: str, found: Any, dtype: torch.dtype, shape: tuple[int | None, ...]) -> None:
    fits = isinstance(found, Tensor) and found.dtype == dtype and found.ndim == len(shape)
    if fits and all(wanted in (None, side) for wanted, side in zip(shape, found.shape, strict=True)):
        return
    kind = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    sides = ", ".join("*" if side is None else str(side) for side in shape)
    raise ValueError(f"{name}: expected a {dtype} tensor ({sides}), found {kind}")
