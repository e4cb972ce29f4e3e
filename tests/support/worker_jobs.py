"""What workers do in the tests; light to import, as every worker does."""

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from amplify_motion_tokenizer.errors import TrackerError, VideoError
from amplify_motion_tokenizer.jobs.workers import run_in_workers


def prepare(threads: int) -> Callable[[str], str]:
    def work(item: str) -> str:
        if item == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if item.startswith("gpus"):
            return f"{os.environ['CUDA_VISIBLE_DEVICES']!r} of {os.getpid()}"
        if item.startswith("once "):
            die_once(item)
        if item.startswith("meet "):
            meet_and_kill(item)
        if item == "bad":
            raise VideoError("bad: is no video")
        if item == "bug":
            raise ZeroDivisionError("a bug")
        if item == "talks":
            logging.getLogger("jobs").warning("said %d", 1)
            warnings.warn("warned", stacklevel=1)
        if item == "hangs":
            time.sleep(600)
        return f"{item} on {threads} of {os.getpid()}"

    return work


def prepare_clips(_threads: int) -> Callable[[Any], dict[str, Any]]:
    def work(clip: Any) -> dict[str, Any]:
        if clip.name == "hangs":
            time.sleep(600)
        return {"windows": 1, "process": os.getpid()}

    return work


def die_once(item: str) -> None:
    """``once FOLDER``: ends this process, but for the second time."""
    folder = item.split()[1]
    if not os.listdir(folder):
        open(f"{folder}/died", "x").close()
        os.kill(os.getpid(), signal.SIGKILL)


def meet_and_kill(item: str) -> None:
    """``meet FOLDER PROCESS``: of two that are at work one ends that process, whose children end with it."""
    _, folder, process, *_ = item.split()
    ends = os.getppid() == int(process)  # asked before the other can have ended it
    open(f"{folder}/{os.getpid()}", "w").close()
    while len(os.listdir(folder)) < 2:
        time.sleep(0.01)
    with suppress(FileExistsError):
        open(f"{folder}/killed", "x").close()
        os.kill(int(process), signal.SIGKILL)
    time.sleep(600 if ends else 0)


def no_tracker(threads: int) -> Callable[[str], str]:
    raise TrackerError("weights: not there")


def cannot_prepare(threads: int) -> Callable[[str], str]:
    raise ZeroDivisionError(f"no work on {threads}")


def main() -> None:
    """Two workers, one of which is still at work when the other is done."""
    try:
        for _, outcome in run_in_workers(["a", "hangs", "hangs"], 2, prepare):
            sys.stdout.write(f"{outcome}\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
