"""What a folder of many tiny clips costs each command, at its beginning and at its end, and one long clip.

    python -m benchmarks.many_clips [--clips 5000] [--long 20000] [--folder DIR]

Clips have 32 frames of 64x64 at 10 a second and are tracked on a grid of 3x3, so that what is measured is
what a run itself costs a clip. A rate is of the first and of the last tenth of the lines of the manifest as
they appear; memory is what the command's own process holds then, its workers apart. "again" is a command that
finds all done. The long clip has 96x96 and is compared with one of a tenth of its frames.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import save_checkpoint
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from amplify_motion_tokenizer.video.writing import mp4_writer

CONFIG = {
    "video": {"target_fps": 10, "size": None},
    "tracking": {"window_stride": 4, "num_workers": 2},
    "data": {"sequence_length": 8, "grid_size": 3, "reference_size": [64, 64], "val_split": 0.01,
        "static_filter": {"min_keep": 2},
    },
    "model": {
        "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "encoder_sequence_len": 3, "fsq_levels": [5, 4],
        "decoder_window_size": 7,
    },
    "training": {"batch_size": 4, "epochs": 1, "mixed_precision": "no", "num_workers": 0},
}  # fmt: skip
KINDS = ("pan", "zoom", "roll", "mixed")
LOOKED_EVERY_S = 0.1


@dataclass
class Measured:
    """A command that has ended."""

    wall_s: float
    cpu_s: float
    """Of the process and its workers."""
    peak_mb: float
    """The most memory that the process was seen to hold, its workers apart."""
    status: int
    seen: list[tuple[float, int, float]] = field(default_factory=list)
    """(seconds, lines of the manifest, MB that the process holds) as time went on."""

    def rate(self, first: int, last: int) -> float:
        """Lines a second from line ``first`` to ``last``."""
        times, lines, _ = np.array(self.seen).T
        ends = np.interp([first, last], lines, times)
        return float((last - first) / max(ends[1] - ends[0], 1e-9))

    def memory_mb(self, line: int) -> float:
        """What the process held when the manifest had so many lines."""
        _, lines, memory = np.array(self.seen).T
        return float(memory[np.searchsorted(lines, line)])


def main() -> None:
    """Makes the clips, runs the commands, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=5000, help="0: the long clip alone")
    parser.add_argument("--long", type=int, default=20000, help="frames of the long clip")
    parser.add_argument("--folder", type=Path, default=None, help="where files go for a while")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=flags.folder) as name:
        os.chdir(name)
        Path("config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        config = config_from_dict(CONFIG, "of the benchmark")
        weights = build_model(config).state_dict()
        save_checkpoint(
            Path("tiny.pth"), model=weights, config=config, track_settings=None, metrics={}, training=None
        )
        if flags.clips:
            many(flags.clips)
        long(flags.long)


def many(clips: int) -> None:
    """Prints what each command costs on a folder of ``clips`` clips."""
    write_clips(Path("videos"), clips)
    print(
        f"| {clips} clips | wall s | CPU s | first tenth /s | last /s | MB then | MB at the end | peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for label, command, output in commands():
        told(label, measured(command, output), clips)
    for output in ("tracks", "codes"):
        path = Path(output) / "manifest.jsonl"
        lines = path.read_text(encoding="utf-8").count("\n")
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {lines} lines")
    print(f"tracks/.tracks.json: {Path('tracks/.tracks.json').stat().st_size / 1e6:.2f} MB", flush=True)


def commands() -> Iterator[tuple[str, list[str], str | None]]:
    """(label, command line, output folder whose manifest is watched)."""
    tracks = ["preprocess", "--config", "config.yaml", "--input", "videos", "--output", "tracks"]
    codes = ["infer", "--checkpoint", "tiny.pth", "--input", "tracks", "--output", "codes"]
    train = ["train", "--config", "config.yaml", "--input", "tracks", "--training.max_steps", "1", "--output"]
    yield "preprocess", tracks, "tracks"
    yield "preprocess, again", tracks, None
    yield "infer", codes, "codes"
    yield "infer, again", codes, None
    yield "train, one step", [*train, "run"], None
    yield "train, one step, again", [*train, "other"], None
    yield "inspect", ["inspect", "tracks"], None
    yield "pack", ["pack", "--input", "tracks", "--output", "packed"], None
    yield "inspect, of the pack", ["inspect", "packed"], None
    yield "evaluate codes", ["evaluate", "codes", "--codes", "codes"], None
    yield "search build", ["search", "build", "codes", "--checkpoint", "tiny.pth"], None
    query = ["--codes", "codes", "--checkpoint", "tiny.pth", "--clip", "clip_00000", "--start", "0"]
    yield "search", ["search", *query], None
    report = ["report", "codes", "--checkpoint", "tiny.pth", "--output", "page.html"]
    yield "report", report, None


def write_clips(folder: Path, count: int) -> None:
    """Writes 20 scenes, each as many files."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"clip_{number:05d}.mp4"
        if number < 20:
            frames, _ = render_clip(KINDS[number % len(KINDS)], (0, number), (64, 64), 32)
            write_clip(path, frames, 10)
        else:
            shutil.copyfile(folder / f"clip_{number % 20:05d}.mp4", path)


def long(frames: int) -> None:
    """Prints what a clip of so many frames costs, and one of a tenth of them."""
    texture = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    print("| clip | wall s | CPU s | frames /CPU s | peak MB |\n|---|---|---|---|---|", flush=True)
    for count in (frames // 10, frames):
        folder = Path(f"long_{count}")
        folder.mkdir()
        with mp4_writer(folder / "clip.mp4", 10) as write:
            for step in range(count):
                x, y = (48 + round(40 * part(step / 70)) for part in (np.sin, np.cos))
                write(np.ascontiguousarray(texture[y : y + 96, x : x + 96]))
        lone = ["--tracking.num_workers", "1"]
        given = ["--config", "config.yaml", "--input", str(folder), "--output", f"{folder}_tracks", *lone]
        coded = ["--checkpoint", "tiny.pth", "--input", str(folder), "--output", f"{folder}_codes"]
        for label, line in (("preprocess", given), ("infer", coded)):
            found = measured([label, *line], None)
            numbers = (
                f"{found.wall_s:.1f} | {found.cpu_s:.1f} | {count / found.cpu_s:.0f} | {found.peak_mb:.0f}"
            )
            print(f"| {label}, {count} frames | {numbers} |", flush=True)


def measured(command: list[str], output: str | None) -> Measured:
    """Runs a command line of the product, and looks at it while it runs."""
    began, seen = time.monotonic(), [(0.0, 0, 0.0)]
    with open("log.txt", "w", encoding="utf-8") as log:
        line = [sys.executable, "-m", "amplify_motion_tokenizer", *command]
        process = subprocess.Popen(line, stdout=log, stderr=log)
        manifest = None if output is None else Path(output) / "manifest.jsonl"
        peak_mb = 0.0
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            held = held_mb(process.pid)
            peak_mb = max(peak_mb, held)
            if manifest is not None and manifest.is_file():
                seen.append((time.monotonic() - began, manifest.read_bytes().count(b"\n"), held))
            time.sleep(LOOKED_EVERY_S)
    code = os.waitstatus_to_exitcode(status)
    if code:
        print(f"{' '.join(command)} ended with {code}:", Path("log.txt").read_text(encoding="utf-8")[-600:])
    return Measured(time.monotonic() - began, used.ru_utime + used.ru_stime, peak_mb, code, seen)


def held_mb(process: int) -> float:
    """Memory that a process holds now; 0 of one that has ended."""
    path = Path(f"/proc/{process}/statm")
    text = path.read_text(encoding="ascii") if path.exists() else ""
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if text else 0.0


def told(label: str, found: Measured, clips: int) -> None:
    """Prints a row of the table."""
    tenth, cells = max(1, clips // 10), ["-"] * 4
    if len(found.seen) > 2:
        rates = found.rate(1, tenth), found.rate(clips - tenth, clips)
        memory = found.memory_mb(tenth // 2), found.memory_mb(clips - tenth)
        cells = [f"{rates[0]:.1f}", f"{rates[1]:.1f}", f"{memory[0]:.0f}", f"{memory[1]:.0f}"]
    row = [label, f"{found.wall_s:.1f}", f"{found.cpu_s:.1f}", *cells, f"{found.peak_mb:.0f}"]
    print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
