"""Proof that a killed training loses nothing: kills a run again and again, and compares it with a whole one.

    python -m benchmarks.resume_proof [--kills 20] [--epochs 3] [--seed 0]

For one process and for two it trains once without a stop, and once with SIGKILL at random moments of random
steps, resuming each time. It then compares the weights bit for bit, all that TensorBoard holds by step, and
the windows that were trained on in each epoch. The clips are rendered; all runs on the CPU.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_checkpoint
from amplify_motion_tokenizer.models.torch_files import peek_step

REPO = Path(__file__).parents[1]
WORKER = REPO / "benchmarks" / "support" / "killed_training.py"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "ACCELERATE_USE_CPU": "true",
    "PYTHONPATH": str(REPO),
}

CONFIG: dict[str, Any] = {
    "video": {"target_fps": 10, "size": {"shorter": 48}},
    "tracking": {"window_stride": 1},
    "data": {"sequence_length": 6, "grid_size": 4, "reference_size": {"shorter": 48}, "val_split": 0.25},
    "model": {
        "num_heads": 2,
        "hidden_dim": 32,
        "dropout": 0.2,
        "encoder_sequence_len": 3,
        "fsq_levels": [5, 4],
        "decoder_window_size": 7,
    },
    "training": {
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup_steps": 5,
        "clip_grad_norm": 1.0,
        "ema_decay": 0.9,
        "mixed_precision": "no",
        "num_workers": 2,
        "log_every_steps": 1,
        "validate_every_steps": 5,
        "save_every_steps": 3,
        "save_every_epochs": 1,
    },
}
CONFIG["data"]["static_filter"] = {"min_keep": 2}


def windows_of_epochs(record: Path) -> dict[int, Counter[int]]:
    """How often each window was trained on, by epoch, from the lines of ``support/killed_training.py``.

    What a process did after its last checkpoint is undone by the kill: the last line of a step counts.
    Raises AssertionError when a step that is done again takes other windows.
    """
    steps: dict[tuple[int, int], tuple[int, list[int]]] = {}
    for path in record.parent.glob(f"{record.name}.*"):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            key, value = (line["step"], line["rank"]), (line["epoch"], line["windows"])
            assert steps.setdefault(key, value) == value, f"{path}: step {key[0]} took other windows again"
    epochs: dict[int, Counter[int]] = {}
    for epoch, windows in steps.values():
        epochs.setdefault(epoch, Counter()).update(windows)
    return epochs


OF_TIME = ("windows_per_second", "data_wait_share")


def logged(run: Path) -> dict[str, list[object]]:
    """All numbers in a run's TensorBoard, as (step, value) by tag; but not the ones of time."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.endswith(OF_TIME)]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def training_state(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint, and what it holds to go on from."""
    checkpoint = load_checkpoint(path)
    assert checkpoint.training is not None, f"{path} holds weights alone"
    return checkpoint, checkpoint.training


def largest_difference(one: Path, other: Path) -> float:
    """Of all weights, running means, optimiser states and the best loss of two checkpoints; NaN is inf."""
    (first, training), (second, other_training) = training_state(one), training_state(other)
    both = (training, other_training)
    pairs = [(first.model[name], second.model[name]) for name in first.model]
    states = [part["optimizer"]["state"] for part in both]
    pairs += [(states[0][key][name], states[1][key][name]) for key in states[0] for name in states[0][key]]
    own = [(part["average"] or {"own": {}})["own"] for part in both]
    pairs += [(own[0][name], own[1][name]) for name in own[0]]
    best = [torch.tensor(part["state"]["best_loss"]) for part in both]
    return max(
        float((a.double() - b.double()).abs().nan_to_num(nan=torch.inf).max())
        for a, b in [*pairs, tuple(best)]
    )


def launch(processes: int, record: Path, line: list[str], *kill: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*start, str(WORKER), "--record", str(record), *kill, "--", *line]
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def finish(processes: int, record: Path, line: list[str]) -> None:
    result = launch(processes, record, line)
    if result.returncode:
        raise SystemExit(result.stderr)


def prove(folder: Path, processes: int, kills: int, epochs: int, draw: random.Random) -> None:
    shared = ["--config", str(folder / "config.yaml"), "--input", str(folder / "tracks")]
    # The same windows per step with one process and with two.
    shared += ["--training.epochs", str(epochs), "--training.batch_size", str(4 // processes)]
    whole, parts = folder / f"whole_{processes}", folder / f"parts_{processes}"
    finish(processes, folder / f"whole_{processes}.jsonl", [*shared, "--output", str(whole)])
    steps = peek_step(whole / "last.pth")
    assert steps is not None
    record, line = folder / f"parts_{processes}.jsonl", [*shared, "--output", str(parts), "--resume", "auto"]
    targets = sorted(draw.randrange(steps) for _ in range(kills))
    for number, target in enumerate(targets, start=1):
        found = [peek_step(path) or 0 for path in parts.glob("*.pth")] if parts.is_dir() else []
        # A step that is done already cannot be struck: the kill comes at the first one then.
        at_step = max(target, max(found, default=0))
        delay = draw.choice([0.0, draw.uniform(0.001, 0.3)])
        result = launch(processes, record, line, "--at-step", str(at_step), "--delay", str(delay))
        print(f"  kill {number}: step {at_step} + {delay:.3f} s, status {result.returncode}", flush=True)
        if result.returncode == 0:
            print("  (it was over before the kill)")
    finish(processes, record, line)
    report(processes, whole, parts, record, len(targets))


def report(processes: int, whole: Path, parts: Path, record: Path, kills: int) -> None:
    windows = training_state(whole / "last.pth")[1]["state"]["windows"]
    epochs = windows_of_epochs(record)
    complete = all(set(seen) == set(range(windows)) for seen in epochs.values())
    twice = sum(count > 1 for seen in epochs.values() for count in seen.values())
    differences = {
        name: largest_difference(whole / name, parts / name)
        for name in sorted(path.name for path in whole.glob("*.pth"))
    }
    same_log = logged(whole) == logged(parts)
    print(f"{processes} process(es), {kills} kills, {len(epochs)} epochs of {windows} windows")
    print(f"  largest difference by checkpoint: {differences}")
    print(f"  TensorBoard the same at every step: {same_log}")
    print(f"  every window seen in every epoch: {complete}; seen twice in one: {twice}", flush=True)
    if any(differences.values()) or not (same_log and complete) or twice:
        raise SystemExit("the resumed run is another one")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="for each number of processes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        scenes = [
            "-m",
            "amplify_motion_tokenizer",
            "scenes",
            "--size",
            "64x96",
            "--clips",
            "6",
            "--frames",
            "40",
        ]
        preprocess = [str(REPO / "preprocess_videos.py"), "--config", str(folder / "config.yaml")]
        preprocess += ["--input", str(folder / "videos"), "--output", str(folder / "tracks")]
        for command in ([*scenes, "--output", str(folder / "videos")], preprocess):
            environment = {**os.environ, **ENVIRONMENT}
            subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
        for processes in arguments.processes:
            prove(folder, processes, arguments.kills, arguments.epochs, draw)


if __name__ == "__main__":
    main()
