"""What workers do in the tests; light to import, as every worker does."""

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.jobs.workers import run_in_workers


def prepare(threads: int) -> Callable[[str], str]:
    def work(item: str) -> str:
        if item == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
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
