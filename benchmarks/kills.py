"""Kills preprocess, infer and pack at random times, goes on, and compares with runs that nothing disturbed.

    python -m benchmarks.kills [--kills 30] [--seed 0] [--commands preprocess infer pack] [--clips 6]

Each time the whole process group gets SIGKILL at a random moment between the first thing that the command
writes and the end of an undisturbed run; a run that ended before is tried again, so that all kills count.
What lies under its final name then must be whole. The same command is run again to its end: every file but
the manifest must be equal byte by byte to those of an undisturbed run, the manifest must have a line for each
clip with the same facts, and nothing temporary may be left. Half of the runs of preprocess have two workers,
and infer writes other formats in turn. Exit status 1 where something differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amplify_motion_tokenizer.config import track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.file_names import MANIFEST
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes.writing import write_clips
from amplify_motion_tokenizer.trackers.rounding import rounded
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.record import ClipRecord
from benchmarks.support.measuring import positive

PACKED_CLIPS, PACKED_WINDOWS = 10, 150
CHANGING = {"stage_seconds", "seconds", "status"}
"""What differs between two runs in a line of a manifest."""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class Way(NamedTuple):
    """One way to run a command."""

    command: str
    flags: tuple[str, ...]

    def line(self, source: Path, output: Path) -> list[str]:
        own = [sys.executable, "-m", "amplify_motion_tokenizer", self.command, "--quiet"]
        return [*own, "--input", str(source), "--output", str(output), *self.flags]


WAYS = {
    "preprocess": [Way("preprocess", ("--tracking.num_workers", workers)) for workers in ("1", "2")],
    "infer": [
        Way("infer", ("--checkpoint", "transform", "--tracking.num_workers", workers, "--formats", formats))
        for workers, formats in (("1", "json,jsonl"), ("1", "json,parquet"), ("2", "npz,jsonl,parquet"))
    ],
    "pack": [Way("pack", ())],
}


class Undisturbed(NamedTuple):
    """A run to its end."""

    files: dict[str, bytes]
    records: dict[str, dict[str, Any]]
    first_s: float
    """From the start to the first thing in the output's folder."""
    length_s: float


def files_of(output: Path) -> dict[str, bytes]:
    """Content of all files but the manifest, hidden ones too."""
    paths = (path for path in sorted(output.rglob("*")) if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


def records_of(output: Path, faults: list[str]) -> dict[str, dict[str, Any]]:
    """The facts of each clip in the manifest; lines that are there twice, or not done, are faults."""
    if not (output / MANIFEST).exists():
        return {}
    lines = (output / MANIFEST).read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith("\n")]  # a kill may cut the last one
    counts = Counter(record["clip"] for record in records)
    faults += [f"{count} lines of {clip}" for clip, count in counts.items() if count > 1]
    faults += [
        f"{record['clip']} is {record['status']}" for record in records if record["status"] == "failed"
    ]
    return {
        record["clip"]: {key: value for key, value in record.items() if key not in CHANGING}
        for record in records
    }


def undisturbed(way: Way, source: Path, output: Path) -> Undisturbed:
    began, first_s = time.monotonic(), None
    process = subprocess.Popen(way.line(source, output), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if first_s is None and any(output.parent.iterdir()):
            first_s = time.monotonic() - began
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{way}: status {process.returncode}")
    faults: list[str] = []
    records = records_of(output, faults)
    if faults:
        raise SystemExit(f"{way}: {faults}")
    return Undisturbed(files_of(output), records, first_s or 0.0, time.monotonic() - began)


def kill(way: Way, source: Path, output: Path, after_s: float) -> bool:
    """Starts the command and kills it; returns whether it was still at work."""
    process = subprocess.Popen(
        way.line(source, output), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def whole(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Faults of what lies under its final name."""
    final = {name: content for name, content in found.items() if not Path(name).name.startswith(".")}
    return [f"{name} is not whole" for name, content in final.items() if content != expected.get(name)]


def go_on(way: Way, source: Path, output: Path, expected: Undisturbed) -> list[str]:
    """Runs the command again; what is wrong afterwards."""
    faults: list[str] = []
    if not (way.command == "pack" and output.exists()):
        again = subprocess.run(
            way.line(source, output), env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        if again.returncode:
            faults.append(f"the second run ended with {again.returncode}: {again.stderr[-300:]}")
    found = files_of(output)
    faults += [f"{name} is missing" for name in expected.files.keys() - found.keys()]
    faults += [f"{name} is left" for name in found.keys() - expected.files.keys()]
    faults += [
        f"{name} differs"
        for name in found.keys() & expected.files.keys()
        if found[name] != expected.files[name]
    ]
    records = records_of(output, faults)
    faults += [f"no line of {clip}" for clip in expected.records.keys() - records.keys()]
    faults += [
        f"the line of {clip} differs: {records[clip]}"
        for clip in records
        if records[clip] != expected.records.get(clip)
    ]
    faults += [f"{path.name} is left" for path in output.parent.iterdir() if path != output]
    return faults


def make_inputs(folder: Path, clips: int) -> dict[str, Path]:
    """Clips for preprocess and infer, and track files for pack."""
    write_clips(folder / "videos", clips, 0, (96, 128), 40, 20.0)
    config = config_from_dict({}, "here")
    rng, queries = np.random.default_rng(0), query_grid("row_major", 20, (96, 128))
    for number in range(PACKED_CLIPS):
        record = ClipRecord(
            settings=track_settings(config), tracker="none", reader="none", fps=20.0, source_fps=20.0,
            source_height=96, source_width=128, source_name="clip.mp4", source_bytes=1,
        )  # fmt: skip
        with TrackFileWriter(folder / f"tracks/{number}.hdf5", record, (96, 128), "int16") as writer:
            for row in range(PACKED_WINDOWS):
                moves = rng.normal(0, 2, (16, 400, 2)).cumsum(axis=0)
                tracks = (queries + moves - moves[:1]).astype(np.float32)
                writer.append(rounded(WindowTracks(row, row / 20, tracks, rng.random((16, 400), np.float32))))
            writer.finish(PACKED_WINDOWS + 15, 0)
    (folder / "tracks/config.yaml").write_text("data: {grid_size: 20}\n")
    return {"preprocess": folder / "videos", "infer": folder / "videos", "pack": folder / "tracks"}


def tried(command: str, source: Path, folder: Path, kills: int, rng: random.Random) -> int:
    """Prints the row of a command; the number of its kills after which something was wrong."""
    runs = []
    for number, way in enumerate(WAYS[command]):
        place = folder / f"{command}{number}"
        place.mkdir()
        runs.append((way, undisturbed(way, source, place / "out")))
        shutil.rmtree(place)
    recorded = left = bad = 0
    for number in range(kills):
        way, expected = runs[number % len(runs)]
        place, share = folder / "killed", rng.random()
        after_s = killed_at(way, source, place, expected, share)
        left += any(".tmp" in path.name for path in place.rglob(".*"))
        faults: list[str] = []
        if (place / "out").exists():
            faults += whole(files_of(place / "out"), expected.files)
            recorded += len(records_of(place / "out", []))
        faults += go_on(way, source, place / "out", expected)
        bad += bool(faults)
        if faults:
            what = f"{way.command} {' '.join(way.flags)} killed after {after_s:.2f} s"
            print(f"  {what}: {'; '.join(faults)[:600]}", flush=True)
        shutil.rmtree(place)
        print(f"  {command}: {number + 1} of {kills}, {bad} wrong", file=sys.stderr)
    lengths = ", ".join(f"{run.first_s:.1f} to {run.length_s:.1f} s" for _, run in runs)
    print(f"{command:12}{kills:6}{recorded:16}{left:12}{kills - bad:8}   {lengths}", flush=True)
    return bad


def killed_at(way: Way, source: Path, place: Path, expected: Undisturbed, share: float) -> float:
    """Runs the command in the new folder ``place`` until it is killed at work; after how many seconds."""
    after_s = expected.first_s + share * (expected.length_s - expected.first_s)
    while True:
        place.mkdir()
        if kill(way, source, place / "out", after_s):
            return after_s
        shutil.rmtree(place)
        after_s *= 0.7  # the machine was slower when the undisturbed run was measured


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=positive, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--clips", type=positive, default=6)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        sources = make_inputs(Path(name), args.clips)
        print(f"seed {args.seed}")
        print(f"{'':12}{'kills':>6}{'clips recorded':>16}{'left .tmp':>12}{'right':>8}   killed between")
        bad = 0
        for command in args.commands:
            rng = random.Random(f"{args.seed} {command}")
            bad += tried(command, sources[command], Path(name), args.kills, rng)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
