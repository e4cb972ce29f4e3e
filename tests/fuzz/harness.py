"""Runs cases in worker processes, and says what was wrong with how they ended.

A case is a good file with a change, which its kind, the seed and its number decide. It must end within
``SLOW_S`` and within memory, with what the reader makes of it or with one of ``errors`` in one line.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from amplify_motion_tokenizer.errors import TokenizerError
from amplify_motion_tokenizer.jobs.progress import Progress
from amplify_motion_tokenizer.jobs.workers import run_in_workers

logger = logging.getLogger(__name__)

SLOW_S = 8.0
"""Seconds of computing from which a case counts as a hang, though it ended; others may use the machine."""
HANG_S = 90.0
"""Seconds after which a case's process is ended; its start counts."""
MEMORY = 3 * 2**30
"""Bytes of address space beyond what the process has before it reads anything."""
GROWTH = 2**30
"""Bytes that one case may add to the most memory that its process ever held."""
LONGEST = 2000
"""Characters of a message that still is one line for a person."""


class Case(NamedTuple):
    """An input, which can be made again."""

    kind: str
    number: int
    seed: int


class Outcome(NamedTuple):
    """How a case ended: ``read``, ``refused``, or a fault with its signature and how it came about."""

    status: str
    fault: str = ""
    trace: str = ""


@dataclass
class Counts:
    """What became of the cases of one kind."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: dict[str, tuple[Case, str]] = field(default_factory=dict)
    """The first case of each signature, and its traceback."""
    of_faults: Counter[str] = field(default_factory=Counter)


class Found(dict[str, Counts]):
    """Counts by kind."""

    def add(self, case: Case, outcome: Outcome) -> bool:
        """Counts a case; whether it is the first of a fault."""
        counts = self.setdefault(case.kind, Counts())
        counts.ends[outcome.status] += 1
        if outcome.status != "fault":
            return False
        counts.of_faults[outcome.fault] += 1
        counts.faults.setdefault(outcome.fault, (case, outcome.trace))
        return counts.of_faults[outcome.fault] == 1

    def __str__(self) -> str:
        ends = sum((counts.ends for counts in self.values()), Counter())
        return f"{ends['fault']} faults, {sum(len(counts.faults) for counts in self.values())} different"


def fuzz(cases: Sequence[Case], workers: int, keep: Path | None = None) -> Found:
    """Tries the cases, and tells how far it is; Ctrl-C ends it with what was found so far.

    With ``keep`` the input of every first fault is written there, as ``<kind>-<seed>-<number>``.
    """
    found = Found()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, Progress(len(cases), "input") as progress:
        place = Path(name)
        try:
            make_seeds(place, {case.kind for case in cases})
            for case, outcome in _outcomes(cases, workers, place):
                if found.add(case, outcome):
                    logger.info("%s:%d: %s", case.kind, case.number, outcome.fault)
                    if keep is not None:
                        Inputs(place).write(case, keep / f"{case.kind}-{case.seed}-{case.number}")
                progress.note(str(found))
                progress.update()
        except KeyboardInterrupt:
            logger.warning("stopped")
    return found


def _outcomes(cases: Sequence[Case], workers: int, place: Path) -> Iterator[tuple[Case, Outcome]]:
    with closing(run_in_workers(cases, workers, partial(prepare, place), HANG_S)) as results:
        for case, result in results:
            if isinstance(result, TokenizerError):  # the process died or was ended
                yield case, Outcome("fault", f"process: {result}")
            else:
                yield case, result


def make_seeds(place: Path, kinds: set[str]) -> None:
    """Makes the good files of each kind, and what lies beside inputs, once for all processes."""
    from tests.fuzz import seeds
    from tests.fuzz.kinds import KINDS

    (place / BESIDE).mkdir()
    seeds.beside(place / BESIDE)
    before = Path.cwd()
    os.chdir(place / BESIDE)
    try:
        for kind in sorted(kinds):
            made = place / SEEDS / kind
            made.mkdir(parents=True)
            KINDS[kind].make(made)
    finally:
        os.chdir(before)


SEEDS, BESIDE = "seeds", "beside"
"""Folders of the harness: good files by kind, and the files that lie beside every input."""


def prepare(place: Path, _threads: int) -> Callable[[Case], Outcome]:
    """What tries a case in a worker process, in a folder of its own below ``place``."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    trial = Trial(place / str(os.getpid()), place)
    os.chdir(trial.folder)
    return trial.run


class Inputs:
    """Makes the inputs of cases from the good files that ``make_seeds`` wrote below ``place``."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._files: dict[str, dict[str, bytes]] = {}

    def write(self, case: Case, folder: Path) -> random.Random:
        """Writes a case's files into ``folder``, anew; returns the generator that its reader goes on with."""
        from tests.fuzz.kinds import KINDS

        if case.kind not in self._files:
            made = self._place / SEEDS / case.kind
            paths = sorted(path for path in made.rglob("*") if path.is_file())
            self._files[case.kind] = {str(path.relative_to(made)): path.read_bytes() for path in paths}
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        rng = random.Random(f"{case.kind} {case.seed} {case.number}")
        KINDS[case.kind].change(rng, self._files[case.kind], folder)
        return rng


class Trial:
    """Tries cases in the working folder.

    Args:
        folder: of its own, which it makes.
        place: where ``make_seeds`` made the good files.
    """

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder = folder
        shutil.copytree(place / BESIDE, folder)
        self._inputs = Inputs(place)
        self._there = set(self.folder.iterdir())

    def run(self, case: Case) -> Outcome:
        """Makes the input, reads it, and judges how that ended."""
        from tests.fuzz.kinds import KINDS

        for path in set(self.folder.iterdir()) - self._there:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        rng = self._inputs.write(case, self.folder / "case")
        with _limited_memory():
            return judged(lambda: KINDS[case.kind].read(rng, Path("case")))


def judged(read: Callable[[], None]) -> Outcome:
    """How reading ends."""
    most, began = _most_memory(), time.process_time()
    outcome = Outcome("read")
    try:
        read()
    except TokenizerError as error:
        outcome = Outcome("refused", trace=str(error))
        if "\n" in str(error) or len(str(error)) > LONGEST:
            outcome = Outcome(
                "fault", f"a message of {str(error).count(chr(10)) + 1} lines", str(error)[:3000]
            )
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the fault that is looked for
        outcome = Outcome("fault", _signature(error), traceback.format_exc()[-4000:])
    took, grown = time.process_time() - began, _most_memory() - most
    if took > SLOW_S:
        return Outcome("fault", f"slow: {outcome.status} {outcome.fault}", f"{took:.1f} s\n{outcome.trace}")
    if grown > GROWTH:
        return Outcome(
            "fault", f"memory: {outcome.status} {outcome.fault}", f"{grown} bytes\n{outcome.trace}"
        )
    return outcome


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Within it the process may take ``MEMORY`` more than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _signature(error: BaseException) -> str:
    """Type, and the innermost place within the package, of an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "amplify_motion_tokenizer/" in frame.filename]
    place = own[-1] if own else frames[-1]
    said = f" {str(error)[:80]}" if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}{said}"
