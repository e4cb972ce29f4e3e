"""Fuzzes every reader: ``python -m tests.fuzz [--inputs 20000] [--seed N] [--kinds a,b] [--keep DIR]``.

It prints the seed, the counts by kind, and the first case of each fault; a case is tried again with
``--only kind:number --seed N``. Exit status 1 where there are faults.
"""

import argparse
import os
import random
import secrets
import sys
import time
from pathlib import Path

from tests.fuzz.harness import Case, fuzz


def main() -> int:
    from tests.fuzz.kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=None, help="folder where inputs of faults stay")
    parser.add_argument("--only", action="append", help="kind:number, one case alone")
    flags = parser.parse_args()
    seed = secrets.randbelow(2**31) if flags.seed is None else flags.seed
    if flags.only:
        cases = [Case(kind, int(number), seed) for kind, number in (name.split(":") for name in flags.only)]
    else:
        wanted = flags.kinds.split(",")
        total = sum(KINDS[kind].share for kind in wanted)
        counts = {kind: round(flags.inputs * KINDS[kind].share / total) for kind in wanted}
        cases = [Case(kind, number, seed) for kind, count in counts.items() for number in range(count)]
    random.Random(seed).shuffle(cases)  # a run that is stopped has tried all kinds
    print(f"seed {seed}: {len(cases)} inputs", flush=True)
    began = time.monotonic()
    os.environ["SVT_LOG"] = "1"  # the encoder of LeRobot's seed tells its life
    found = fuzz(cases, flags.workers, flags.keep)
    print(f"{'kind':12} {'tried':>7} {'read':>7} {'refused':>7} {'faults':>7}  different")
    for kind, counts in found.items():
        ends = counts.ends
        numbers = f"{ends.total():7} {ends['read']:7} {ends['refused']:7} {ends['fault']:7}"
        print(f"{kind:12} {numbers}  {len(counts.faults)}")
    for kind, counts in found.items():
        for fault, (case, trace) in sorted(
            counts.faults.items(), key=lambda item: -counts.of_faults[item[0]]
        ):
            print(f"\n== {kind} x{counts.of_faults[fault]}: {fault}   (--only {kind}:{case.number})")
            print("\n".join(trace.splitlines()[-14:]))
    print(f"\n{time.monotonic() - began:.0f} s")
    return int(any(counts.faults for counts in found.values()))


if __name__ == "__main__":
    sys.exit(main())
