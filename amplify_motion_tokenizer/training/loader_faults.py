"""Tells in one line what goes wrong with the loader's worker processes, and gives their memory back."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from amplify_motion_tokenizer.data.dataset import Batch
from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.errors import TokenizerError, TrainingError, WorkerError

_OPEN_FILES = 48
"""Open files of a training process beside its loader: libraries, logs, a checkpoint, tracks."""

_OPEN_FILES_OF_A_WORKER = 18
"""Open files of each worker: its pipes, and the tensors of waiting batches, each of which is one."""


def check_open_files(num_workers: int) -> None:
    """Refuses a limit of open files at which workers would hang.

    Raises:
        TrainingError: names the limit, what is needed and what to do.
    """
    if not num_workers or not hasattr(os, "sysconf"):
        return
    allowed, needed = os.sysconf("SC_OPEN_MAX"), _OPEN_FILES + num_workers * _OPEN_FILES_OF_A_WORKER
    if 0 < allowed < needed:
        raise TrainingError(
            f"a process may open {allowed} files (ulimit -n), and {num_workers} loader workers need "
            f"{needed}: give ulimit -n {needed}, or training.num_workers: 0"
        )


def own_copy(batch: Batch) -> Batch:
    """The batch in memory of this process: memory that a worker shares is an open file for every tensor."""
    return Batch(ModelInput(*(tensor.clone() for tensor in batch.inputs)), batch.indices.clone())


@contextmanager
def worker_faults_told() -> Iterator[None]:
    """Within it what a loader worker raises, or its death, is an error of ours in one line.

    Raises:
        TokenizerError: of the kind that the worker raised, without its traceback.
        WorkerError: a worker has died; says how.
        TrainingError: no more files may be opened.
    """
    try:
        yield
    except TokenizerError as error:
        kind = type(error)
        # As torch has written it, of many lines, which the error itself shows as one.
        _, caught, text = str(error.args[0] if error.args else "").partition("in DataLoader worker process")
        if not caught:
            raise
        raise kind(text.strip().rpartition(f"{kind.__name__}: ")[2]) from None
    except (RuntimeError, OSError, EOFError) as error:
        found = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
        # A connection may break before the system tells of the death.
        if found.startswith("DataLoader worker") or raised_within(error, "multiprocessing."):
            # Torch's handler would raise the same again, anywhere, when the other workers are ended.
            if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise WorkerError(
                f"a loader process has died ({found}), as when memory runs out; give more memory, fewer "
                "training.num_workers or a smaller training.batch_size, and --resume auto to go on"
            ) from None
        if found.startswith("Too many open files"):
            raise TrainingError(
                "the loader may open no more files (ulimit -n); give a higher limit, or fewer "
                "training.num_workers, and --resume auto to go on"
            ) from None
        raise


def raised_within(error: BaseException, module: str) -> bool:
    """Whether ``error`` came out of a module whose name begins with ``module``."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__", "").startswith(module) for frame in frames)
