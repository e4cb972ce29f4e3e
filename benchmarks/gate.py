"""The share of windows that the motion gate keeps, for every kind of rendered scene, and under other light.

    python -m benchmarks.gate [--sizes 240x320 480x640] [--seeds 0 1 2]

Clips are written as mp4 and read again, so compression is in them; windows are of 16 frames, stride 4.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.scenes import KINDS, render_clip, write_clip
from amplify_motion_tokenizer.trackers.gate import MotionGate
from amplify_motion_tokenizer.trackers.windows import iter_windows
from amplify_motion_tokenizer.video.reading import open_video
from benchmarks.support.measuring import frame_size

FRAMES = 40
TIMES = np.arange(FRAMES)
LIGHTS = {
    "steps to 0.7x": np.where(TIMES // 10 % 2, 0.7, 1),
    "steps to 1.5x": np.where(TIMES // 10 % 2, 1.5, 1),
    "ramp to 0.4x": np.linspace(1, 0.4, FRAMES),
    "ramp to 1.5x": np.linspace(1, 1.5, FRAMES),
    "fade from black": np.minimum(TIMES / 12, 1),
    "0.1x, steps to 0.2x": np.where(TIMES // 10 % 2, 0.2, 0.1),
}
"""Factor of every level of a frame; above 255 they are clipped."""
UNDER_LIGHT = ("still", "movers", "articulated")
SIZES = [(240, 320), (480, 640)]


def kept(video: NDArray[np.uint8], path: Path) -> list[bool]:
    write_clip(path, video, 20)
    gate = MotionGate()
    with open_video(path, VideoConfig(size=None)) as frames:
        return [gate.moves(window) for window in iter_windows(frames, 16, 4)]


def lit(video: NDArray[np.uint8], light: NDArray[np.floating]) -> NDArray[np.uint8]:
    frames = [np.clip(np.rint(frame * gain), 0, 255) for frame, gain in zip(video, light, strict=True)]
    return np.stack(frames).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=frame_size, default=SIZES, help="HEIGHTxWIDTH")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    rows = [(kind, "") for kind in KINDS] + [(kind, light) for kind in UNDER_LIGHT for light in LIGHTS]
    print(f"{'kind':32}", *(f"{height}x{width}".rjust(9) for height, width in arguments.sizes))
    with tempfile.TemporaryDirectory() as folder:
        for kind, light in rows:
            shares = []
            for size in arguments.sizes:
                clips = (render_clip(kind, seed, size, FRAMES)[0] for seed in arguments.seeds)
                clips = (lit(clip, LIGHTS[light]) for clip in clips) if light else clips
                found = [kept(clip, Path(folder) / "clip.mp4") for clip in clips]
                shares.append(sum(map(sum, found)) / sum(map(len, found)))
            name = f"{kind}, {light}" if light else kind
            print(f"{name:32}", *(f"{share:9.2f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
