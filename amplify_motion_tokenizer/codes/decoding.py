"""Codes back to tracks, with the tokenizer that made them.

Letters: B windows, V views, T frames, t = T - 1 steps, N points, d ids of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.codes.given import Array, given_ids, given_size
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.data.camera import with_camera
from amplify_motion_tokenizer.data.inputs import moves_px
from amplify_motion_tokenizer.geometry import inside, integrate_velocities, query_grid
from amplify_motion_tokenizer.models import MotionTokenizer

if TYPE_CHECKING:
    from amplify_motion_tokenizer.codes.tokenizer import Tokenizer

CHUNK_WINDOWS = 256
"""Windows that are decoded at a time."""


@torch.no_grad()
def decode_tracks(
    tokenizer: MotionTokenizer | Tokenizer,
    ids: Array,
    size: tuple[int, int],
    first_xy_px: Array | None = None,
    likeliest: bool | None = None,
) -> Tensor:
    """Tracks that ids tell.

    Args:
        tokenizer: that made them.
        ids: (B, d) or (d,) whole numbers; fewer than d, the first ones, where those are a code.
        size: (height, width) of the frames to show them in, in pixels.
        first_xy_px: (N, 2) or (B, N, 2), where the points are in frame 0; None is the query grid.
        likeliest: whether points move as their likeliest class does, not by the mean over the classes; None:
            as the tokenizer's ``model.reconstruction`` says.

    Returns:
        ([B, ][V, ]T, N, 2) float32, (x, y) pixels, on the CPU.

    Raises:
        ValueError: ids are outside of the codebook, or have another shape.
    """
    found, size, config = _ids_of(tokenizer, ids), given_size(size), tokenizer.config
    if first_xy_px is None:
        first_xy_px = query_grid(config.tracking.query_order, config.data.grid_size, size)
    rows = found[None] if found.ndim == 1 else found
    tracks = _moved(tokenizer, rows, size, torch.as_tensor(first_xy_px).float(), likeliest)
    return tracks[0] if found.ndim == 1 else tracks


@torch.no_grad()
def decoded(
    tokenizer: MotionTokenizer | Tokenizer,
    codes: MotionCodes,
    size: tuple[int, int] | None = None,
    camera: bool = True,
) -> tuple[Tensor, Tensor]:
    """Tracks (B, [V, ]T, N, 2), (x, y) pixels, and visibility (B, [V, ]T, N) bool, that codes tell.

    Args:
        tokenizer: that made them.
        codes: of a clip.
        size: (height, width) of the frames to show tracks in, in pixels; None: the tracked frames' own.
        camera: whether the camera's motion, where it was taken out, is put back.

    Raises:
        ValueError: ids are outside of the codebook, or nothing says the size.
    """
    ids, moves = _ids_of(tokenizer, codes.ids), codes.camera if camera else None
    parts = [
        decoded_windows(tokenizer, ids[rows], meta, size, None if moves is None else moves[rows])
        for rows, meta in stretches(codes)
    ]
    return torch.cat([tracks for tracks, _ in parts]), torch.cat([visible for _, visible in parts])


def stretches(codes: MotionCodes) -> list[tuple[slice, Mapping[str, Any]]]:
    """The windows (rows of ``codes``) of frames of each size, in order, and what is known of these frames.

    The latter is ``codes.meta``, with the size of the frames of these windows.
    """
    changes = codes.meta.get("size_changes") or []
    begins = [int(torch.searchsorted(codes.starts, change["start_frame"])) for change in changes]
    rows = map(slice, [0, *begins], [*begins, len(codes)])
    metas = [codes.meta, *({**_without_sizes(codes.meta), **change} for change in changes)]
    return list(zip(rows, metas, strict=True))


def _without_sizes(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if key not in ("tracked_sizes", "contents")}


@torch.no_grad()
def decoded_windows(
    tokenizer: MotionTokenizer | Tokenizer,
    ids: Tensor,
    meta: Mapping[str, Any],
    size: tuple[int, int] | None = None,
    camera: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As ``decoded``, of windows whose frames are all of one size in each view.

    Args:
        tokenizer: that made the ids.
        ids: (B, d) int64.
        meta: what is known of the frames, from ``stretches``.
        size: as in ``decoded``.
        camera: (B, V, t, 4, 2), the camera's motion to put back, as ``MotionCodes`` has it; None: none.

    Raises:
        ValueError: nothing says the size.
    """
    config = tokenizer.config
    tracks, visible = [], []
    for number, view in enumerate(config.data.views):
        shown = _Shown.of(meta, view, size)
        grid = query_grid(config.tracking.query_order, config.data.grid_size, shown.content) + shown.pad_xy
        parts = [
            _moved(tokenizer, ids[first : first + CHUNK_WINDOWS], shown.size, torch.from_numpy(grid))
            for first in range(0, len(ids), CHUNK_WINDOWS)
        ]
        found = torch.cat(parts) if parts else _no_tracks(tokenizer)
        own = found[:, number] if config.input_kind.view_axis else found
        if camera is not None:
            own = with_camera(own, camera[:, number], shown.side_px, shown.scale_xy)
        tracks.append(own)
        visible.append(torch.from_numpy(shown.holds(tracks[-1].numpy())))
    if not config.input_kind.view_axis:
        return tracks[0], visible[0]
    return torch.stack(tracks, dim=1), torch.stack(visible, dim=1)


def _moved(
    tokenizer: MotionTokenizer | Tokenizer,
    ids: Tensor,
    size: tuple[int, int],
    first: Tensor,
    likeliest: bool | None = None,
) -> Tensor:
    """Tracks (B, [V, ]T, N, 2) in pixels of frames of ``size``, of ids (B, d), from ``first`` on.

    Args:
        tokenizer: that made the ids.
        ids: (B, d) int64.
        size: (height, width) in pixels.
        first: (N, 2) or (B, N, 2), (x, y) pixels, where the points of every view are in frame 0.
        likeliest: as in ``decode_tracks``.
    """
    codes = tokenizer.codes_of(ids.to(tokenizer.device))
    moves = moves_px(tokenizer.reconstruct(codes, likeliest), size, tokenizer.config).cpu()
    first = first.view(-1, *[1] * (moves.ndim - 4), *first.shape[-2:]).expand_as(moves[..., 0, :, :])
    return integrate_velocities(first, moves)


def _no_tracks(tokenizer: MotionTokenizer | Tokenizer) -> Tensor:
    """Tracks of no window: (0, [V, ]T, N, 2)."""
    *views, steps, points, axes = tokenizer.input_shape
    return torch.empty(0, *views, steps + 1, points, axes)


def _ids_of(tokenizer: MotionTokenizer | Tokenizer, ids: Any) -> Tensor:
    """Ids (B, d) or (d,) that a caller gives, int64, on the CPU.

    Raises:
        ValueError: ids are outside of the codebook, or have another shape.
    """
    expected = f"expected (B, {tokenizer.num_codes}) or ({tokenizer.num_codes},) ids"
    found = given_ids(ids, tokenizer.codebook_size, expected)
    if found.ndim not in (1, 2):
        raise ValueError(f"code ids are {tuple(found.shape)}; {expected}")
    return found


class _Shown(NamedTuple):
    """The frames of a view that tracks are shown in."""

    size: tuple[int, int]
    """(height, width) in pixels, padding included."""
    content: tuple[int, int]
    """(height, width) of the picture in them."""
    pad_xy: NDArray[np.float32]
    """(left, top) of the picture."""
    side_px: float
    """Shorter side of the picture in the tracked frames, in their pixels."""
    scale_xy: tuple[float, float]
    """Pixels of these frames for one of the tracked ones, along x and y."""

    @staticmethod
    def of(meta: Mapping[str, Any], view: str, size: tuple[int, int] | None) -> _Shown:
        """The tracked frames of ``view``, by what codes say of them, scaled to ``size``."""
        tracked = (meta.get("tracked_sizes") or {}).get(view) or meta.get("tracked_size")
        if tracked is None and size is None:
            raise ValueError("codes do not say the size of their frames; give size, (height, width)")
        shown = given_size(tracked if size is None else size)
        content = (meta.get("contents") or {}).get(view) or (0, 0, *(tracked or shown))
        if len(content) != 4 or min(content[2:]) < 1:
            raise ValueError(
                f"codes say contents {content} of the view {view}; expected top, left, height, width"
            )
        top, left, height, width = content
        down, across = (wanted / own for wanted, own in zip(shown, tracked or shown, strict=True))
        pad_xy = np.array([left * across, top * down], np.float32)
        content = round(height * down), round(width * across)
        return _Shown(shown, content, pad_xy, float(min(height, width)), (across, down))

    def holds(self, xy_px: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which points (..., 2) lie in the picture."""
        return inside(xy_px - self.pad_xy, self.content)
