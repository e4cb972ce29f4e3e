"""True tracks above the tracks that their codes tell, of three rendered clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from amplify_motion_tokenizer import Tokenizer, decode_tracks, encode_tracks, load_tokenizer
from amplify_motion_tokenizer.evaluation.overlay import RGB, colours_by_position, draw_tracks
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.video.pixels import resize

SIZE, LENGTH, GRID = (240, 320), 16, 20
KINDS = {"roll": 5, "movers": 2, "mixed": 4}
"""Kinds of scenes, and a seed of each."""
PANEL, GAP, HEAD = (207, 276), 4, 24
GROUND, TEXT = (13, 17, 23), (220, 220, 220)


def write(path: Path) -> None:
    """Writes the picture."""
    tokenizer = load_tokenizer("default", device="cpu")
    columns = [_column(tokenizer, kind, seed) for kind, seed in KINDS.items()]
    gap = Image.new("RGB", (GAP, columns[0].height), GROUND)
    parts = [part for column in columns for part in (gap, column)][1:]
    whole = Image.new("RGB", (sum(part.width for part in parts), gap.height), GROUND)
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width
    whole.save(path, quality=85, subsampling=0, optimize=True)  # JPEG: textures are what it is made for


def _column(tokenizer: Tokenizer, kind: str, seed: int) -> Image.Image:
    frames, scene = render_clip(kind, seed, SIZE, LENGTH)
    tracks, seen = scene.truth(query_grid("row_major", GRID, SIZE), 0)
    true = tracks.astype(np.float32)
    ids = encode_tracks(tokenizer, true, seen, SIZE)
    told = decode_tracks(tokenizer, ids, SIZE).numpy()
    moved, off = _mean_px(true[:1], true, seen), _mean_px(told, true, seen)
    column = Image.new("RGB", (PANEL[1], 2 * (PANEL[0] + HEAD)), GROUND)
    draw, font = ImageDraw.Draw(column), ImageFont.load_default(14)
    shown = {
        f"{kind}: true, points move {moved:.1f} px": true,
        f"decoded from {len(ids)} ids: {off:.1f} px off": told,
    }
    for place, (title, drawn) in enumerate(shown.items()):
        top = place * (PANEL[0] + HEAD)
        draw.text((4, top + 4), title, font=font, fill=TEXT)
        column.paste(Image.fromarray(_drawn(frames[0], drawn, seen)), (0, top + HEAD))
    return column


def _mean_px(tracks: NDArray[np.float32], true: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
    """Mean distance after frame 0, over points that are seen, in pixels of the frame of 240 rows."""
    apart = torch.from_numpy(np.linalg.norm(tracks - true, axis=-1)[1:])
    return float(apart[torch.from_numpy(seen[1:])].mean())


def _drawn(frame: RGB, tracks: NDArray[np.float32], seen: NDArray[np.bool_]) -> RGB:
    """The first frame, darkened, with the way of every second point of every second row."""
    scale = PANEL[0] / SIZE[0]
    points = np.arange(GRID**2).reshape(GRID, GRID)[::2, ::2].ravel()
    dark = resize((frame * 0.4).astype(np.uint8), PANEL)
    colours = colours_by_position(tracks[0, points] / SIZE[::-1])
    way = ((tracks[:, points] + 0.5) * scale - 0.5)[::-1]
    return draw_tracks(dark, way, seen[::-1, points], colours)
