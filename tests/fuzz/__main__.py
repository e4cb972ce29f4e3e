"""Fuzzes every reader: ``python -m tests.fuzz [--inputs 20000] [--seed N] [--kinds a,b] [--keep DIR]``.

It prints the seed, how far it is, the counts by kind, and the first case of each fault; Ctrl-C or SIGTERM
ends it with what was found so far. A case is tried again with ``--only kind:number --seed N``, and a seed
goes on after N inputs with ``--first N``. Exit status 1 where there are faults.
"""

import argparse
import logging
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from amplify_motion_tokenizer.jobs import progress
from tests.fuzz.harness import Case, Found, fuzz

TOLD_EVERY_S = 10.0


def main() -> int:
    from tests.fuzz.kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--first", type=int, default=0, help="inputs of this seed that were tried before")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=None, help="folder where inputs of faults stay")
    parser.add_argument("--only", action="append", help="kind:number, one case alone")
    flags = parser.parse_args()
    seed = secrets.randbelow(2**31) if flags.seed is None else flags.seed
    if flags.only:
        cases = [Case(kind, int(number), seed) for kind, number in (name.split(":") for name in flags.only)]
    else:
        cases = drawn(flags.kinds.split(","), flags.first, flags.inputs, seed)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs are deaf to the first
        signal.signal(number, signal.default_int_handler)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    progress.LINE_EVERY_S = TOLD_EVERY_S
    print(f"seed {seed}: {len(cases)} inputs", flush=True)
    began = time.monotonic()
    os.environ["SVT_LOG"] = "1"  # the encoder of LeRobot's seed tells its life
    found = fuzz(cases, flags.workers, flags.keep)
    tell(found)
    print(f"\n{time.monotonic() - began:.0f} s")
    return int(any(counts.faults for counts in found.values()))


def drawn(kinds: Sequence[str], first: int, inputs: int, seed: int) -> list[Case]:
    """Inputs ``first`` to ``first + inputs`` of a seed, each kind by its share, in mixed order."""
    from tests.fuzz.kinds import KINDS

    total = sum(KINDS[kind].share for kind in kinds)
    cases = []
    for kind in kinds:
        begin, end = (round(count * KINDS[kind].share / total) for count in (first, first + inputs))
        cases += [Case(kind, number, seed) for number in range(begin, end)]
    random.Random(seed).shuffle(cases)  # a run that is stopped has tried all kinds
    return cases


def tell(found: Found) -> None:
    """Prints the counts, and the first case of each fault, the most frequent first."""
    print(f"{'kind':12} {'tried':>7} {'read':>7} {'refused':>7} {'faults':>7}  different")
    for kind, counts in found.items():
        ends = counts.ends
        numbers = f"{ends.total():7} {ends['read']:7} {ends['refused']:7} {ends['fault']:7}"
        print(f"{kind:12} {numbers}  {len(counts.faults)}")
    tried = sum(counts.ends.total() for counts in found.values())
    print(f"{tried} inputs, {found}")
    for kind, counts in found.items():
        for fault, times in counts.of_faults.most_common():
            case, trace = counts.faults[fault]
            print(f"\n== {kind} x{times}: {fault}   (--only {kind}:{case.number} --seed {case.seed})")
            print("\n".join(trace.splitlines()[-14:]))


if __name__ == "__main__":
    sys.exit(main())
