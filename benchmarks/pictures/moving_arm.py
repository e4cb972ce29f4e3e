"""A clip, its tracked points and its codes, side by side in a GIF: what the package does, at one look.

An arm reaches out, a block goes up, the arm goes back, the block goes down; all of it twice, in frames that
are equal to the last bit, so that equal motions have equal codes if the tokenizer keeps its word.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.codes.code_strip import CodeStrip
from amplify_motion_tokenizer.evaluation.overlay import RGB, colours_by_position, draw_tracks
from amplify_motion_tokenizer.scenes import Layer, Scene, background, similarity
from amplify_motion_tokenizer.scenes.objects import cut_out
from amplify_motion_tokenizer.scenes.textures import bar, bar_joint, blob
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.video.memory import frames_in_memory
from amplify_motion_tokenizer.video.reading import make_videos

SIZE, FPS = (312, 416), 20
LENGTH, STRIDE, MOVES = 16, 4, ("arm out", "block up", "arm back", "block down")
"""Frames of a window and of a move, frames from one window to the next, and what moves in turn."""
PERIOD = LENGTH * len(MOVES)
SHOWN = 2 * PERIOD
STEP = 2
"""Frames of the clip for one of the GIF."""
WIDTH, HEAD, FOOT = 2 * SIZE[1] + 4, 24, 26
COLOURS = 96
GROUND, TEXT = (13, 17, 23), (220, 220, 220)


class Coded(NamedTuple):
    """The clip with what was made of it."""

    frames: RGB
    """(F, H, W, 3)."""
    tracks_xy_px: NDArray[np.float32]
    """(S, T, N, 2)."""
    visible: NDArray[np.bool_]
    """(S, T, N)."""
    ids: NDArray[np.int64]
    """(S, d)."""
    starts: NDArray[np.int64]
    """(S,)."""


def scene(seed: int = 3) -> Scene:
    """The clip: twice the period, and a window more, so that windows begin at every frame shown."""
    rng, count = np.random.default_rng(seed), SHOWN + LENGTH
    times = np.arange(count) % PERIOD
    reach = _eased(times, 0) - _eased(times, 2 * LENGTH)
    lift = _eased(times, LENGTH) - _eased(times, 3 * LENGTH)
    ground = background(rng, SIZE, similarity(count))
    shoulder = similarity(count, np.array([100.0, 285.0]), -np.pi / 2 - 0.45 + reach)
    elbow = shoulder @ similarity(count, np.array([120.0, 0.0]), 0.9 - 0.5 * reach)
    upper, fore = _bar(rng, 120, 40, shoulder), _bar(rng, 100, 32, elbow)
    outline = blob(rng, 46)
    centre = (outline.shape[0] - 1) / 2
    path = np.stack([285 + 70 * lift, 225 - 115 * lift], axis=-1)
    block = cut_out(rng, outline, (centre, centre), similarity(count, path, 2.0 * lift))
    layers = [
        _painted(ground, (196, 192, 184), 0.22),
        _painted(block, (60, 110, 200), 0.5),
        _painted(upper, (225, 110, 50), 0.45),
        _painted(fore, (240, 170, 60), 0.45),
    ]
    return Scene(layers, SIZE)


def _eased(times: NDArray[np.int64], begin: int) -> NDArray[np.float64]:
    """From 0 to 1 within a move that begins then."""
    share = np.clip((times - begin) / LENGTH, 0, 1)
    return share * share * (3 - 2 * share)


def _bar(rng: np.random.Generator, length: float, width: float, poses: NDArray[np.float64]) -> Layer:
    joint = float(bar_joint(width))
    return cut_out(rng, bar(length, width), (joint, joint), poses)


def _painted(layer: Layer, colour: tuple[int, int, int], contrast: float) -> Layer:
    """``layer`` in one colour, with that much of its texture."""
    texture = layer.rgb.astype(np.float32).mean(axis=-1, keepdims=True) - 128
    return dataclasses.replace(
        layer, rgb=np.clip(np.array(colour) + contrast * texture, 0, 255).astype(np.uint8)
    )


def coded(clip: Scene) -> Coded:
    """``clip``, tracked by the embedded tracker and told by the tokenizer that comes with the package."""
    frames = clip.render()
    settings = {"tracking.window_stride": STRIDE, "video.size": None}
    tokenizer = load_tokenizer("default", device="cpu", settings=settings)
    config: Any = tokenizer.config
    (video,) = make_videos([frames_in_memory(list(frames), FPS, "arm")], config.video)
    with TrackedClip({"default": video}, config, make_tracker(config)) as tracked:
        windows = [views[0] for views in tracked]
    tracks = np.stack([window.tracks_xy_px for window in windows])
    visibility = np.stack([window.visibility for window in windows])
    codes = tokenizer.encode_tracks(tracks, visibility, size=SIZE, fps=FPS)
    return Coded(frames, tracks, visibility >= 0.5, codes.ids.numpy(), codes.starts.numpy())


def write(path: Path) -> None:
    """Writes the GIF."""
    made = coded(scene())
    shown = made.starts < SHOWN
    strip = CodeStrip(made.ids[shown], made.starts[shown], STRIDE, LENGTH, SHOWN, WIDTH)
    pictures = [_picture(made, strip, index) for index in range(0, SHOWN, STEP)]
    write_gif(path, pictures, FPS // STEP)


def _picture(made: Coded, strip: CodeStrip, index: int) -> Image.Image:
    """The clip on the left, its points on the right, codes below, with what moves written under them."""
    start = index - index % LENGTH
    (window,) = np.flatnonzero(made.starts == start).tolist()
    below = strip.picture(window, index)
    top = HEAD + SIZE[0]
    picture = Image.new("RGB", (WIDTH, top + len(below) + FOOT), GROUND)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    right = WIDTH - SIZE[1]
    draw.text((6, 3), "clip", font=font, fill=TEXT)
    draw.text((right + 6, 3), "points, tracked", font=font, fill=TEXT)
    picture.paste(Image.fromarray(made.frames[index]), (0, HEAD))
    picture.paste(Image.fromarray(_points(made, window, index)), (right, HEAD))
    picture.paste(Image.fromarray(below), (0, top))
    for place in range(2 * len(MOVES)):
        left, width = place * WIDTH / (2 * len(MOVES)), WIDTH / (2 * len(MOVES))
        draw.text((left + width / 2, picture.height - FOOT + 3), MOVES[place % 4], TEXT, font, anchor="ma")
    return picture


def _points(made: Coded, window: int, index: int) -> RGB:
    """Frame ``index``, darkened, with the points of the window and the last steps of their way."""
    tracks, visible = made.tracks_xy_px[window], made.visible[window]
    last = index - int(made.starts[window])
    way = slice(max(0, last - 5), last + 1)
    dark = (made.frames[index] * 0.45).astype(np.uint8)
    return draw_tracks(
        dark, tracks[way], visible[way], colours_by_position(tracks[0] / SIZE[::-1]), oldest=0.3
    )


def write_gif(path: Path, pictures: list[Image.Image], fps: int) -> None:
    """Writes ``pictures`` with one palette, of which unchanged pixels are left out."""
    every = Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures[::8]]))
    chosen = every.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    colours = np.array(chosen.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
    palette[: len(colours), 0], palette[: len(colours), 1:] = 255, colours
    with av.open(str(path), "w", format="gif", options={"loop": "0"}) as file:
        stream = file.add_stream("gif", rate=fps)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "pal8"
        for picture in pictures:
            indices = np.ascontiguousarray(picture.quantize(palette=chosen, dither=Image.Dither.NONE))
            both: Any = (indices, palette)  # what pal8 takes; its types know single arrays alone
            file.mux(stream.encode(av.VideoFrame.from_ndarray(both, format="pal8")))
        file.mux(stream.encode())
