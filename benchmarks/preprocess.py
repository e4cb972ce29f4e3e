"""Speed and memory of preprocess_videos.py, by reader and window stride, and of the embedded tracker.

    python benchmarks/preprocess.py [--input FOLDER] [--threads 2]

Without --input it renders clips of 480x640. Every run of the command is a process of its own, so that its
peak memory is its own. The reference tracks each window by itself, as a tracker without shared flow does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.files import config_from_dict
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import write_clips
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.video import VIDEO_EXTENSIONS, open_video
from amplify_motion_tokenizer.windows import iter_windows

SCRIPT = Path(__file__).parents[1] / "preprocess_videos.py"
STRIDES = (1, 4, 16)


def run_command(source: Path, reader: str, stride: int, threads: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, str(SCRIPT), "--input", str(source), "--output", output]
        command += ["--video.reader", reader, "--tracking.window_stride", str(stride)]
        command += ["--video.threads", str(threads)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"failed with status {status}: {' '.join(command)}")
        records = [json.loads(line) for line in (Path(output) / "manifest.jsonl").read_text().splitlines()]
    seconds = sum(record["seconds"] for record in records)
    return {
        "frames/s": sum(record["frames"] for record in records) / seconds,
        "windows/s": sum(record["windows"] for record in records) / seconds,
        "peak MiB": usage.ru_maxrss / 1024,
    }


def tracker_seconds(source: Path, stride: int, config: Config) -> tuple[float, float, int]:
    """Seconds that tracking one clip takes: flow shared by all windows, and each window by itself."""
    path = next(p for p in sorted(source.rglob("*")) if p.suffix.lower() in VIDEO_EXTENSIONS)
    with open_video(path, config.video) as video:
        size, frames = video.info.size, list(video)
    queries = query_grid("row_major", config.data.grid_size, size)
    windows = list(iter_windows(frames, config.data.sequence_length, stride))
    tracker = make_tracker(config)
    begin = time.perf_counter()
    shared = list(tracker.track(windows, queries))
    middle = time.perf_counter()
    alone = [next(iter(tracker.track([window], queries))) for window in windows]
    end = time.perf_counter()
    for one, other in zip(shared, alone, strict=True):
        assert abs(one.tracks_xy_px - other.tracks_xy_px).max() < 1e-3, "the two ways must agree"
    return middle - begin, end - middle, len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as rendered:
        source = arguments.input
        if source is None:
            source = Path(rendered)
            write_clips(source, clips=4, seed=0, size=(480, 640), frames=120, fps=20)
        print(f"{os.cpu_count()} CPUs, {arguments.threads} threads, device cpu")
        print("reader   stride  frames/s  windows/s  peak MiB")
        for reader in ("decord", "opencv"):
            for stride in STRIDES:
                row = run_command(source, reader, stride, arguments.threads)
                print(f"{reader:8} {stride:6}  " + "  ".join(f"{value:9.1f}" for value in row.values()))
        config = validate(config_from_dict({"video": {"threads": arguments.threads}}, "in the benchmark"))
        print("tracker alone: each window by itself / flow shared")
        for stride in STRIDES:
            shared, alone, frames = tracker_seconds(source, stride, config)
            print(f"stride {stride:3}: {alone / shared:5.2f}x  ({frames / shared:.0f} frames/s shared)")


if __name__ == "__main__":
    main()
