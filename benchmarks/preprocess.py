"""Speed and memory of preprocess_videos.py, by workers, stride and reader, and of the embedded tracker.

    python -m benchmarks.preprocess [--input FOLDER] [--workers 2] [--clips 16]

Without --input it renders clips of 480x640. Every run of the command is a process of its own; frames/s is
from its start to its end, imports included, CPU s is of all its processes, and peak MiB is of the largest.
Tracks made by several workers must equal the tracks of one, byte for byte. The last rows are of one clip, and
of one 20 times as long. Stages are the shares of the time that its processes spent on clips; read is waiting
for frames, which are decoded ahead. The reference of the tracker tracks each window by itself, as a tracker
without shared flow does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.devices import available_cores
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.trackers.windows import iter_windows
from amplify_motion_tokenizer.video.input_files import VIDEO_EXTENSIONS
from amplify_motion_tokenizer.video.reading import open_video

SCRIPT = Path(__file__).parents[1] / "preprocess_videos.py"
STRIDES = (1, 4, 16)
HEADER = f"{'reader':7}{'workers':>8}{'stride':>8}{'frames/s':>10}{'CPU s':>8}{'peak MiB':>10}  stages"


def run_command(source: Path, output: Path, reader: str, workers: int, stride: int) -> str:
    """Runs the command; returns its row of the table."""
    command = [sys.executable, str(SCRIPT), "--input", str(source), "--output", str(output)]
    command += ["--video.reader", reader, "--tracking.window_stride", str(stride)]
    command += ["--tracking.num_workers", str(workers)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise SystemExit(f"failed with status {status}: {' '.join(command)}")
    records = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    frames = sum(record["frames"] for record in records)
    stages: Counter[str] = sum((Counter(record["stage_seconds"]) for record in records), Counter())
    shares = ", ".join(f"{name} {spent / stages.total():.0%}" for name, spent in stages.items())
    cpu_s = usage.ru_utime + usage.ru_stime
    return (
        f"{reader:7}{workers:8}{stride:8}{frames / seconds:10.1f}{cpu_s:8.1f}{usage.ru_maxrss / 1024:10.0f}"
        f"  {shares}"
    )


def compare_workers(source: Path, workers: int, stride: int) -> None:
    """Prints the rows of one worker and of several; exits when their tracks differ."""
    tracks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, workers):
            output = Path(folder) / str(count)
            print(run_command(source, output, "auto", count, stride), flush=True)
            files = sorted(output.rglob("*.hdf5"))
            tracks.append({path.relative_to(output): sha256(path.read_bytes()).digest() for path in files})
    if tracks[0] != tracks[1]:
        raise SystemExit(f"the tracks of {workers} workers differ from the tracks of one")


def compare_lengths(folder: Path, frames: int = 60, times: int = 20) -> None:
    """Prints the rows of a clip and of a longer one, whose memory is to be the same."""
    for count in (frames, times * frames):
        source = folder / str(count)
        render(source, clips=1, frames=count)
        print(f"one clip of {count} frames:")
        print(run_command(source, folder / f"{count}_tracks", "auto", 1, 4), flush=True)


def render(folder: Path, clips: int, frames: int) -> None:
    """Renders in another process: the peak memory that Linux tells of a process is never less than what the
    one that started it held at that time."""
    options = ["--clips", str(clips), "--frames", str(frames), "--size", "480x640", "--output", str(folder)]
    command = [sys.executable, "-m", "amplify_motion_tokenizer", "scenes", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


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
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=16, help="how many to render, of 120 frames")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rendered, source = Path(scratch), arguments.input
        if source is None:
            source = rendered / "clips"
            render(source, clips=arguments.clips, frames=120)
        print(f"{available_cores()} cores")
        print(HEADER)
        for stride in STRIDES:
            compare_workers(source, arguments.workers, stride)
        with tempfile.TemporaryDirectory() as output:
            print(run_command(source, Path(output), "decord", 1, 16))
        compare_lengths(rendered)
        config = validate(config_from_dict({"video": {"threads": 1}}, "in the benchmark"))
        print("tracker alone, one thread: each window by itself / flow shared")
        for stride in STRIDES:
            shared, alone, frames = tracker_seconds(source, stride, config)
            print(f"stride {stride:3}: {alone / shared:5.2f}x  ({frames / shared:.0f} frames/s shared)")


if __name__ == "__main__":
    main()
