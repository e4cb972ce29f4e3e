"""Trainings of one or more processes, forked from one that has imported the libraries, to be killed."""

import multiprocessing
import socket
from pathlib import Path
from typing import Any

from tests.support.run_scripts import ENVIRONMENT, LONGEST_S, REPO, Result, run_script

KILLED = REPO / "benchmarks" / "support" / "killed_training.py"
GRADIENT = REPO / "benchmarks" / "support" / "step_gradient.py"


def run_ranks(folder: Path, line: list[Any], processes: int = 1) -> list[Result]:
    """Runs ``line``, a script and its arguments, in each process of one group; what each left behind."""
    context = multiprocessing.get_context("forkserver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
    started = []
    for rank in range(processes):
        own = {**group, "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
        environment = {**ENVIRONMENT, **{key: str(value) for key, value in own.items()}}
        files = folder / f"out_{rank}", folder / f"err_{rank}"
        words = [str(word) for word in line]
        process = context.Process(target=_run_rank, args=(words, REPO, *files, environment))
        process.start()
        started.append((process, files))
    results = []
    for process, files in started:
        process.join(timeout=LONGEST_S)
        if process.exitcode is None:
            for each, _ in started:
                each.kill()
        status = -1 if process.exitcode is None else process.exitcode
        results.append(Result(status, *(path.read_text(encoding="utf-8") for path in files)))
    return results


def _run_rank(*arguments: Any) -> None:
    """Loader workers are forked, as a new interpreter's on Linux are."""
    multiprocessing.set_start_method("fork", force=True)
    run_script(*arguments)
