"""Replays one seed and prints what happened, or runs many: --seed 7; --seeds 0:1000 --workers 2. --put-back: how soon
bugs that were mended are found."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.put_back import BUGS, hunt
from tests.simulation.run import Outcome, failures_of, run_seed

SEEDS_A_TASK, TOLD_EVERY = 100, 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and print its trace")
    parser.add_argument("--steps", type=int, default=0, help="print only that many lines of the trace; 0: all")
    parser.add_argument("--seeds", default="0:100", metavar="FIRST:END", help="run each of these once")
    parser.add_argument("--workers", type=int, default=1, help="processes that run them")
    parser.add_argument("--put-back", action="store_true", help="put each mended bug back, and look for it from seed 0")
    args = parser.parse_args()
    if args.put_back:
        return hunt_all()
    if args.seed is not None:
        return replay(args.seed, args.steps)
    first, end = map(int, args.seeds.split(":"))
    return run_all(range(first, end), args.workers)


def replay(seed: int, steps: int) -> int:
    lines: list[str] = []
    outcome = run_seed(seed, lines.append)
    for line in (*lines[: steps or None], outcome.failure or "passed", outcome.digest):
        print(line)
    return 1 if outcome.failure else 0


def run_all(seeds: range, workers: int) -> int:
    began, done, failed = time.monotonic(), 0, 0
    for task, found in _failures(seeds, workers):
        for outcome in found:
            print(f"seed {outcome.seed} failed: {outcome.failure}\n  replay it: {outcome.replay}", flush=True)
        done, failed = done + len(task), failed + len(found)
        if done % TOLD_EVERY == 0:
            print(f"{done} of {len(seeds)} seeds, {failed} failed so far", flush=True)
    seconds = max(0.001, time.monotonic() - began)
    print(f"{len(seeds)} seeds, {failed} failed, {len(seeds) / seconds:.1f} seeds a second")
    return 1 if failed else 0


def hunt_all() -> int:
    missed = 0
    for bug in BUGS:
        found = hunt(bug)
        missed += found is None
        print(f"{bug.__name__}: {f'seed {found.seed}: {found.failure}' if found else 'not found'}", flush=True)
    return 1 if missed else 0


def _failures(seeds: range, workers: int) -> Iterator[tuple[range, list[Outcome]]]:
    """Each process is used for one task: what seeds leave in it does not add up."""
    tasks = [seeds[at : at + SEEDS_A_TASK] for at in range(0, len(seeds), SEEDS_A_TASK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        yield from zip(tasks, pool.map(failures_of, tasks), strict=True)


if __name__ == "__main__":
    sys.exit(main())
