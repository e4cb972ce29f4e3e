"""Windows a second that are made up without pixels, on one core.

python -m benchmarks.synthetic [--grid 20] [--frames 16]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows
from benchmarks.support.measuring import positive


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", type=positive, default=20, help="points on a side")
    parser.add_argument("--frames", type=positive, default=16)
    parser.add_argument("--windows", type=positive, default=1024)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    synthetic_windows(32, 0, 0, args.grid, args.frames)
    for noise in (True, False):
        began = time.process_time()
        synthetic_windows(args.windows, 0, 0, args.grid, args.frames, noise)
        rate = args.windows / (time.process_time() - began)
        print(f"{'with' if noise else 'without'} a tracker's errors: {rate:8.1f} windows per CPU second")


if __name__ == "__main__":
    main()
