"""The share of windows that the motion gate keeps, for every kind of rendered scene.

    python benchmarks/gate.py [--sizes 240x320 480x640] [--seeds 0 1 2]

Clips are written as mp4 and read again, so compression is in them; windows are of 16 frames, stride 4.
"""

import argparse
import tempfile
from pathlib import Path

from amplify_motion_tokenizer.config import GateConfig, VideoConfig
from amplify_motion_tokenizer.scenes import KINDS, render_clip, write_clip
from amplify_motion_tokenizer.video import open_video
from amplify_motion_tokenizer.windows import MotionGate, iter_windows


def kept(kind: str, seed: int, size: tuple[int, int], path: Path) -> list[bool]:
    write_clip(path, render_clip(kind, seed, size, 40)[0], 20)
    gate = MotionGate(GateConfig(enable=True))
    with open_video(path, VideoConfig(resize_shorter=None)) as video:
        return [gate.moves(window) for window in iter_windows(video, 16, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["240x320", "480x640"], help="HEIGHTxWIDTH")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    print("kind        ", *(f"{size:>9}" for size in arguments.sizes))
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            shares = []
            for text in arguments.sizes:
                height, width = map(int, text.split("x"))
                found = [kept(kind, s, (height, width), Path(folder) / "clip.mp4") for s in arguments.seeds]
                shares.append(sum(map(sum, found)) / sum(map(len, found)))
            print(f"{kind:12}", *(f"{share:9.2f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
