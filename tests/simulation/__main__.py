"""Replays one seed and prints what happened, or runs many: python -m tests.simulation --seed 7; --seeds 0:1000."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and print its trace")
    parser.add_argument("--steps", type=int, default=0, help="print that many lines of the trace at most")
    parser.add_argument("--seeds", default="0:100", help="FIRST:END, each run once")
    args = parser.parse_args()
    if args.seed is not None:
        lines: list[str] = []
        outcome = run_seed(args.seed, lines.append)
        sys.stdout.writelines(f"{line}\n" for line in (lines[: args.steps] if args.steps else lines))
        sys.stdout.write(f"{outcome.failure or 'passed'}\n{outcome.digest}\n")
        return 1 if outcome.failure else 0
    first, end = map(int, args.seeds.split(":"))
    began, failed = time.process_time(), 0
    for seed in range(first, end):
        outcome = run_seed(seed)
        if outcome.failure:
            failed += 1
            sys.stdout.write(f"seed {seed} failed: {outcome.failure}\n  {outcome.replay}\n")
    seconds = time.process_time() - began
    sys.stdout.write(f"{end - first} seeds, {failed} failed, {(end - first) / seconds:.1f} seeds a second of CPU\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
