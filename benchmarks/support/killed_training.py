"""train.py that notes which windows each step takes, and sends itself a signal at one of them.

    python -m benchmarks.killed_training --record FILE [--signal KILL --at-step 7] -- TRAINING ARGUMENTS

For resume_proof.py and the tests of resuming. Each process adds a line of JSON to FILE.RANK per step, before
it takes the step: step and epoch (both from 0), rank and windows.
"""

import argparse
import json
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.data.dataset import Batch
from amplify_motion_tokenizer.data.sampler import PADDING
from amplify_motion_tokenizer.training.trainer import Trainer

REPO = Path(__file__).parents[2]


def main() -> None:
    split = sys.argv.index("--")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    parser.add_argument("--at-step", type=int, default=-1, help="steps done before it; -1 is never")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds from the step's beginning")
    parser.add_argument("--rank", type=int, help="the one process that gets it; all without")
    arguments = parser.parse_args(sys.argv[1:split])
    if arguments.signal == "INT":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, also where it is ignored
    rank = int(os.environ.get("RANK", "0"))
    record = arguments.record.with_name(f"{arguments.record.name}.{rank}").open("a", encoding="utf-8")
    original = Trainer._step

    def step(trainer: Trainer, micro_batches: list[Batch]) -> Any:
        state = trainer.state
        indices = [index for batch in micro_batches for index in batch.indices.tolist()]
        windows = [index for index in indices if index != PADDING]
        line = {"step": state.step, "epoch": state.epoch, "rank": rank, "windows": windows}
        record.write(json.dumps(line) + "\n")
        record.flush()
        if state.step == arguments.at_step and arguments.rank in (None, rank):
            number = getattr(signal, f"SIG{arguments.signal}")
            if arguments.delay:
                threading.Timer(arguments.delay, os.kill, (os.getpid(), number)).start()
            else:
                os.kill(os.getpid(), number)
        return original(trainer, micro_batches)

    Trainer._step = step
    sys.argv = [str(REPO / "train.py"), *sys.argv[split + 1 :]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
