"""A Ray actor that works on one clip after another, in a process of its own on any node of a cluster.

It computes, and writes files that are its clip's own, as a worker process of the local pool does. The module
is light to import: what is heavy comes with the work that the actor prepares.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.jobs.child_logs import Record, pass_on_logs
from amplify_motion_tokenizer.jobs.workers import attempt
from amplify_motion_tokenizer.temporary_names import WRITES_FOR
from amplify_motion_tokenizer.version import versions
from amplify_motion_tokenizer.video.remote import remove_old_copies


class Given(NamedTuple):
    """What an actor is told when it starts; the same for all of a run."""

    versions: dict[str, str]
    """Of the process that the user started, which records them: an actor's must be the same."""
    folder: str
    """The working directory, which relative paths of clips and outputs begin at."""
    seen: tuple[str, ...]
    """Files and folders of that process that every node must see under the same paths."""
    writes_for: str
    """Whose temporary files the actor's are (``temporary_names.WRITES_FOR``)."""
    log_level: int


class Started(NamedTuple):
    """What an actor tells when it is ready for clips."""

    node: str
    """Name of its machine."""
    records: list[Record]
    """What was logged meanwhile."""


class Actor:
    """Holds what ``prepare`` made, such as a tracker and a model, and runs clips with it."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._work: Callable[[Any], Any] | None = None

    def start(self, prepare: bytes, threads: int, has_gpu: bool, given: Given) -> Started:
        """Checks that the node can do the work, and prepares it.

        Args:
            prepare: pickled; called with ``threads``, it returns what makes a result of an item.
            threads: that the actor may use.
            has_gpu: whether Ray gave it a GPU, or a share of one; else it must take none.
            given: of the run.

        Raises:
            UsageError: the node has other versions, or does not see the run's files.
        """
        node = socket.gethostname()
        check_node(node, given)
        os.environ[WRITES_FOR] = given.writes_for
        remove_old_copies()
        if not has_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        pass_on_logs(given.log_level, self._records.append)
        self._work = pickle.loads(prepare)(threads)
        return Started(node, self._taken())

    def run(self, item: bytes) -> bytes:
        """What is made of a pickled item or the TokenizerError it ends with, and the log; both pickled."""
        assert self._work is not None
        outcome = attempt(self._work, pickle.loads(item))
        return pickle.dumps((outcome, self._taken()))

    def is_here(self) -> bool:
        """Answers; an actor that was ended does not, which tells that it is gone."""
        return True

    def _taken(self) -> list[Record]:
        records = list(self._records)
        self._records.clear()
        return records


def check_node(node: str, given: Given) -> None:
    """Goes to the run's working directory, and checks that ``node`` is fit for the run.

    Raises:
        UsageError: other versions are installed, or files of the run cannot be seen.
    """
    for name, version in given.versions.items():
        found = versions().get(name, "no version")
        if _public(found) != _public(version):
            raise UsageError(
                f"node {node} of the Ray cluster has {name} {found}, and this process {version}: outputs "
                "would differ; install the same on all nodes"
            )
    try:
        os.chdir(given.folder)
    except OSError as error:
        raise UsageError(
            f"node {node} of the Ray cluster cannot enter {given.folder}, where this command was started "
            f"({error.strerror}); start it in a folder that all nodes see"
        ) from None
    for path in given.seen:
        if not Path(path).exists():
            raise UsageError(
                f"node {node} of the Ray cluster does not see {path}: input and output must be on a file "
                "system that all nodes have under the same path"
            )


def _public(version: str) -> str:
    """``version`` without what tells builds apart, such as 2.13.0+cpu on a node that has no GPU."""
    return version.partition("+")[0]
