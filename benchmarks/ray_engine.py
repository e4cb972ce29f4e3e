"""The local pool against Ray on the same clips: equal outputs, wall and CPU time, and what deaths cost.

    python -m benchmarks.ray_engine [--clips 60] [--repeats 2] [--size 240x320] [--command preprocess infer]

Renders clips, of which one in 20 is broken (cut, empty, text in turn). Pool and Ray take turns, with two
workers and two actors; every run is a command of its own, and its outputs must be those of the first one byte
for byte, its manifest that one's but for times. What a clip takes is measured from a tenth of the clips to
the last of them; start-up is what was taken until then beside these clips. CPU s is of the command and all
that it started, looked at five times a second (Linux): of its workers or actors, and of the rest, Ray's own
processes and the command itself.

Then a cluster of two nodes of one core on this machine, one of which runs the head: at a quarter of the clips
an actor is killed, at half of them the other node, and at the end it is told what was lost. The pool has one
of its workers killed at a quarter.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.jobs.ray_share import Asked
from amplify_motion_tokenizer.jobs.ray_workers import Ray, RayActors, run_in_actors
from benchmarks.support.measuring import positive

BROKEN_EVERY = 20
DIFFERENT = 10
"""Clips that are rendered; the others are copies of them, which cost as much."""
TICKS = os.sysconf("SC_CLK_TCK")
COMMAND = [sys.executable, "-m", "amplify_motion_tokenizer"]
ENGINES = {"pool": [], "ray": ["--engine", "ray"]}
OPTIONS = {"preprocess": ["--tracking.window_stride", "4"], "infer": ["--tracking.window_stride", "4"]}


def make_clips(folder: Path, count: int, size: str) -> int:
    """Renders and copies ``count`` clips, some of them broken; returns how many are."""
    rendered = folder.with_name("rendered")
    options = ["--clips", str(DIFFERENT), "--frames", "40", "--size", size, "--output", str(rendered)]
    subprocess.run([*COMMAND, "scenes", *options], check=True, capture_output=True)
    clips = sorted(rendered.glob("*.mp4"))
    folder.mkdir()
    broken = 0
    for number in range(count):
        target = folder / f"{number:05d}.mp4"
        shutil.copy(clips[number % len(clips)], target)
        if number % BROKEN_EVERY == BROKEN_EVERY // 2:
            data = target.read_bytes()
            target.write_bytes(
                [data[: len(data) // 2], b"", b"no frames here, only words\n" * 50][broken % 3]
            )
            broken += 1
    return broken


@dataclass
class Watched:
    """Processes of a command: itself and all that it started."""

    root: int
    cpu_s: dict[int, float] = field(default_factory=dict)
    works: set[int] = field(default_factory=set)
    """The workers of the pool, or Ray's actors."""

    def look(self) -> None:
        """Adds what is new, and reads the clocks."""
        parents, clocks = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = path.read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            process = int(path.parent.name)
            parents[process], clocks[process] = int(words[1]), (int(words[11]) + int(words[12])) / TICKS
        for process in sorted(parents):
            line = [process]
            while line[-1] in parents and line[-1] not in self.cpu_s and line[-1] != self.root:
                line.append(parents[line[-1]])
            if line[-1] == self.root or line[-1] in self.cpu_s:
                for each in line:
                    self.cpu_s[each] = max(self.cpu_s.get(each, 0.0), clocks.get(each, 0.0))
        for process in self.cpu_s:
            told = command_line(process)
            if "ray::Actor" in told or ("spawn_main" in told and not self.uses_ray):
                self.works.add(process)

    @property
    def uses_ray(self) -> bool:
        return any("raylet" in command_line(process) for process in self.cpu_s)

    def cpu(self) -> tuple[float, float]:
        """CPU seconds of what works, and of the rest."""
        total = sum(self.cpu_s.values())
        of_works = sum(self.cpu_s[process] for process in self.works)
        return of_works, total - of_works


def command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def lines_of(output: Path) -> int:
    manifest = output / "manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


@dataclass
class Figures:
    """What a run took."""

    start_wall_s: float
    start_cpu_s: float
    wall_s: float
    """A clip."""
    cpu_s: float
    """A clip, of workers or actors."""
    rest_cpu_s: float
    """A clip, of all other processes."""
    whole_wall_s: float
    whole_cpu_s: float

    def row(self, name: str) -> str:
        return (
            f"{name:16}{self.start_wall_s:9.1f}{self.start_cpu_s:9.1f}{self.wall_s:9.3f}{self.cpu_s:9.3f}"
            f"{self.rest_cpu_s:9.3f}{self.whole_wall_s:9.1f}{self.whole_cpu_s:9.1f}"
        )


HEAD = f"{'':16}{'start':>9}{'start':>9}{'a clip':>9}{'a clip':>9}{'rest':>9}{'whole':>9}{'whole':>9}\n" + (
    f"{'':16}{'wall s':>9}{'CPU s':>9}{'wall s':>9}{'CPU s':>9}{'CPU s':>9}{'wall s':>9}{'CPU s':>9}"
)


def run(
    command: str,
    source: Path,
    output: Path,
    options: Sequence[str],
    begun: int,
    at: dict[int, Callable[[Watched], None]] | None = None,
) -> Figures:
    """Runs a command.

    Args:
        command: its name.
        source: the clips.
        output: its folder.
        options: of the engine.
        begun: clips after which what a clip takes is measured.
        at: what is done once so many clips have a line in the manifest.
    """
    line = [*COMMAND, command, "--input", str(source), "--output", str(output)]
    line += ["--tracking.num_workers", "2", *OPTIONS[command], *options]
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=told)
        watched, waiting = Watched(process.pid), dict(at or {})
        first: tuple[float, tuple[float, float], int] | None = None
        last: tuple[float, tuple[float, float], int] | None = None
        while process.poll() is None:
            watched.look()
            done = lines_of(output)
            for count in [count for count in waiting if done >= count]:
                waiting.pop(count)(watched)
            if done >= begun and first is None:
                first = (time.perf_counter(), watched.cpu(), done)
            if done and (last is None or done > last[2]):
                last = (time.perf_counter(), watched.cpu(), done)
            time.sleep(0.2)
        end = time.perf_counter()
        if process.returncode not in (0, 3) or first is None or last is None or waiting:
            told.seek(0)
            raise SystemExit(f"{' '.join(line)} ended with {process.returncode}:\n{told.read()}")
        told.seek(0)
        for each in told:
            if "tried once more" in each or "worker process ended" in each or "Ray actor" in each:
                print(f"    {each.strip()[:240]}")
    clips = max(1, last[2] - first[2])
    wall_s, cpu_s, rest_cpu_s = (
        (after - before) / clips
        for after, before in zip((last[0], *last[1]), (first[0], *first[1]), strict=True)
    )
    return Figures(
        start_wall_s=first[0] - begin - first[2] * wall_s,
        start_cpu_s=sum(first[1]) - first[2] * (cpu_s + rest_cpu_s),
        wall_s=wall_s,
        cpu_s=cpu_s,
        rest_cpu_s=rest_cpu_s,
        whole_wall_s=end - begin,
        whole_cpu_s=sum(watched.cpu()),
    )


def written(output: Path) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """The files of a run, and its manifest without times, by clip."""
    files = {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name != "manifest.jsonl"
    }
    records = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    manifest = {}
    for record in records:
        if record["clip"] in manifest:
            raise SystemExit(f"{output}: {record['clip']} is recorded twice")
        timed = ("seconds", "stage_seconds")
        manifest[record["clip"]] = {key: value for key, value in record.items() if key not in timed}
    return files, manifest


def compare(commands: Sequence[str], source: Path, scratch: Path, repeats: int, clips: int) -> None:
    """Pool and Ray in turns."""
    for command in commands:
        print(f"\n{command}\n{HEAD}", flush=True)
        found: dict[str, list[Figures]] = {name: [] for name in ENGINES}
        expected = None
        for turn in range(repeats):
            for name, options in ENGINES.items():
                output = scratch / f"{command}-{name}-{turn}"
                found[name].append(run(command, source, output, options, clips // 10))
                print(found[name][-1].row(name), flush=True)
                outputs = written(output)
                expected = expected or outputs
                if outputs != expected or len(outputs[1]) != clips:
                    raise SystemExit(f"{output}: other outputs than the first run's")
        pool, ray = (min(found[name], key=lambda each: each.whole_cpu_s) for name in ENGINES)
        print(
            f"equal outputs, {len(expected[0]) if expected else 0} files; Ray / pool, least CPU of each: "
            f"CPU a clip {(ray.cpu_s + ray.rest_cpu_s) / (pool.cpu_s + pool.rest_cpu_s):.2f}, wall a clip "
            f"{ray.wall_s / pool.wall_s:.2f}; start {ray.start_wall_s - pool.start_wall_s:+.1f} s wall, "
            f"{ray.start_cpu_s - pool.start_cpu_s:+.1f} s CPU",
            flush=True,
        )


def nothing(_: int) -> Callable[[int], int]:
    """A job that is no work, to measure what a clip costs beside its work."""
    return abs


def round_trips(count: int = 5000) -> None:
    """How many results of nothing two actors give a second, and what they cost this process's child."""
    actors = RayActors(ray=Ray(), asked=Asked(2, count, (), False))
    begin, results = 0.0, 0
    # By its whole name: as the main module it has another one in actors.
    prepare = importlib.import_module("benchmarks.ray_engine").nothing
    for _ in run_in_actors(range(count), actors, prepare):
        begin = begin or time.perf_counter()
        results += 1
    print(f"\n{(results - 1) / (time.perf_counter() - begin):.0f} results of no work a second, 2 actors")


@contextmanager
def two_nodes() -> Iterator[tuple[str, int]]:
    """A cluster of two nodes of one core: its address, and the process of the second node."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster: Any = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        second = cluster.add_node(num_cpus=1)
        yield cluster.address, second.all_processes["raylet"][0].process.pid
    finally:
        cluster.shutdown()


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def kill_an_actor(_: Watched) -> None:
    """One of two that are at work; all actors of this machine are taken for this benchmark's."""
    processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    kill(min(process for process in processes if "ray::Actor.run" in command_line(process)))


def kill_a_worker(watched: Watched) -> None:
    kill(min(process for process in watched.works if "spawn_main" in command_line(process)))


def deaths(source: Path, scratch: Path, clips: int) -> None:
    """What is lost when processes die in mid-run."""
    expected = written(scratch / "preprocess-pool-0")
    pool, ray = scratch / "pool-deaths", scratch / "ray-deaths"
    print("\npool, a worker killed at a quarter:", flush=True)
    run("preprocess", source, pool, [], clips // 10, {clips // 4: kill_a_worker})
    tell(pool, expected)
    print("\nRay, two nodes: an actor killed at a quarter, the second node at half:", flush=True)
    with two_nodes() as (address, second):
        options = ["--engine", "ray", "--ray-address", address]
        at = {clips // 4: kill_an_actor, clips // 2: lambda _: kill(second)}
        run("preprocess", source, ray, options, clips // 10, at)
    tell(ray, expected)


def tell(output: Path, expected: tuple[dict[str, bytes], dict[str, dict[str, Any]]]) -> None:
    """Prints what of a run is otherwise than in one without deaths."""
    files, manifest = written(output)
    other = [name for name, data in files.items() if expected[0].get(name) != data]
    lost = sorted(expected[0].keys() - files.keys())
    stages = [record.get("stage") for record in manifest.values() if record["status"] == "failed"]
    counts = {str(stage): stages.count(stage) for stage in sorted(set(map(str, stages)))}
    leftovers = [path.name for path in output.rglob(".*")]
    print(
        f"    {len(manifest)} clips recorded of {len(expected[1])}, failed by stage {counts}; files that are "
        f"not there: {len(lost)}, that differ: {len(other)}, left over: {len(leftovers)}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=positive, default=60)
    parser.add_argument("--repeats", type=positive, default=2)
    parser.add_argument("--size", default="240x320")
    parser.add_argument("--command", nargs="+", choices=list(OPTIONS), default=["preprocess", "infer"])
    parser.add_argument("--no-deaths", action="store_true")
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        broken = make_clips(scratch / "clips", arguments.clips, arguments.size)
        load = os.getloadavg()[0]
        print(f"{arguments.clips} clips of {arguments.size}, {broken} broken; load of the machine {load:.1f}")
        compare(arguments.command, scratch / "clips", scratch, arguments.repeats, arguments.clips)
        if not arguments.no_deaths:
            deaths(scratch / "clips", scratch, arguments.clips)
    round_trips()


if __name__ == "__main__":
    main()
