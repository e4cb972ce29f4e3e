"""Pictures of reconstructions for TensorBoard: true tracks beside the tracks that the codes give.

Every picture is one validation window: a row for each view, the true tracks on the left, the predicted
ones on the right, over the window's first frame where the track file holds it, else on black.
"""

from __future__ import annotations

import logging
import math

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.evaluation.overlay import colours_by_position, draw_tracks
from amplify_motion_tokenizer.evaluation.reconstruction import known_windows, reconstructed_tracks
from amplify_motion_tokenizer.geometry import px_from_rc_norm

logger = logging.getLogger(__name__)

Image = NDArray[np.uint8]

LONGER_SIDE = 256
"""Longer side of a panel in pixels; a panel has the frame's aspect."""
HEADER = 20
"""Rows of text above each panel, in pixels."""
MAX_SIDE = 10
"""Points drawn of each row and column of the query grid, at most."""


class Pictures:
    """Draws the same validation windows each time: the first one of each of the first few clips.

    Windows whose positions are not known (velocity files hold none) cannot be drawn, which is warned
    about once.

    Args:
        data: validation windows; None draws nothing.
        accelerator: of the training; only its main process draws, and others need not call.
    """

    def __init__(self, data: WindowDataset | None, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._names: list[str] = []
        if data is None or not accelerator.is_main_process:
            return
        indices = data.first_windows(data.config.training.pictures)
        if not indices:
            return
        inputs = data.batch(indices).inputs
        known = known_windows(inputs, torch.ones(len(indices), dtype=torch.bool))
        self._inputs = ModelInput(*(column[known] for column in inputs))
        shown = [index for index, is_known in zip(indices, known.tolist(), strict=True) if is_known]
        self._names = [data.locate(index)[0] for index in shown]
        self._frames = [data.first_frames(index) for index in shown]
        if len(shown) < len(indices):
            logger.warning(
                "TensorBoard shows %d pictures of tracks instead of %d: the other windows hold no positions",
                len(shown),
                len(indices),
            )

    @torch.no_grad()
    def log(self, model: torch.nn.Module, step: int) -> None:
        """Adds the pictures, ``val_tracks/<clip>``, to TensorBoard, if it is in use.

        Args:
            model: the tokenizer, prepared by the accelerator or not; its mode is kept.
            step: optimiser steps done.
        """
        writers = [t.tracker for t in self._accelerator.trackers if t.name == "tensorboard"]
        if not self._names or not writers:
            return
        # Other processes do not take part, so the wrapper that talks to them must not be called.
        own = self._accelerator.unwrap_model(model)
        inputs, was_training = self._inputs.to(self._accelerator.device), own.training
        moves_px = own.moves_px(own.eval()(inputs.velocities, inputs.images).head)
        own.train(was_training)
        predicted = reconstructed_tracks(moves_px, inputs).cpu()
        for number, (name, frames) in enumerate(zip(self._names, self._frames, strict=True)):
            image = draw_window(
                self._inputs.tracks_rc_norm[number], predicted[number], self._inputs.size_px[number], frames
            )
            for writer in writers:
                writer.add_image(f"val_tracks/{name}", image, step, dataformats="HWC")


def draw_window(target: Tensor, predicted: Tensor, size_px: Tensor, frames: list[Image] | None) -> Image:
    """One window: a row for each view, the true tracks on the left and the predicted ones on the right.

    Args:
        target: ([V, ]T, N, 2) rc_norm, N the square of a grid's side.
        predicted: the same shape.
        size_px: ([V, ]2), (height, width) of the frame in reference pixels, which gives the aspect.
        frames: (h, w, 3) RGB of each view, stretched to the frame's aspect; None draws on black, and the
            header says so.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    if target.ndim == 3:
        target, predicted, size_px = target[None], predicted[None], size_px[None]
    rows = []
    for view in range(len(target)):
        size = _panel_size(size_px[view])
        background: Image = np.zeros((*size, 3), np.uint8)
        if frames is not None:
            stretched = cv2.resize(frames[view], size[::-1], interpolation=cv2.INTER_AREA)
            background = np.asarray(stretched // 2, np.uint8)  # darkened, so that trails stand out
        note = "" if frames is not None else " (no frame)"
        panels = [
            np.vstack([_header(title + note, size[1]), _draw_tracks(background, tracks[view])])
            for title, tracks in (("true", target), ("predicted", predicted))
        ]
        rows.append(np.hstack(panels))
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def _panel_size(size_px: Tensor) -> tuple[int, int]:
    """(height, width) in pixels of a panel for a frame of ``size_px``."""
    sides = size_px.double() * LONGER_SIDE / float(size_px.max())
    height, width = (max(1, round(side)) for side in sides.tolist())
    return height, width


def _header(text: str, width: int) -> Image:
    header: Image = np.full((HEADER, width, 3), 40, np.uint8)
    cv2.putText(header, text, (4, HEADER - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return header


def _draw_tracks(background: Image, tracks_rc_norm: Tensor) -> Image:
    """``background`` with the trails of (T, N, 2), which lead away from the first frame's positions."""
    points = _thinned(tracks_rc_norm)
    xy_px = px_from_rc_norm(points, background.shape[:2]).flip(-1).numpy()
    colours = colours_by_position(((points[0].flip(-1) + 1) / 2).numpy())
    return draw_tracks(background, xy_px, np.ones(xy_px.shape[:2], bool), colours)


def _thinned(tracks: Tensor) -> Tensor:
    """Every k-th row and column of the grid of points: (T, N, 2) to (T, n, 2)."""
    steps, points, _ = tracks.shape
    side = math.isqrt(points)
    every = -(-side // MAX_SIDE)
    grid = tracks.reshape(steps, side, side, 2)[:, every // 2 :: every, every // 2 :: every]
    return grid.flatten(1, 2)
