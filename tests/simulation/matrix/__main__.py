"""Plays the cells of the crash matrix one by one; --only TEXT: those with it in their names; --trace: what happens."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.matrix.cells import cells, played

CELLS_A_TASK = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.matrix", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    args = parser.parse_args()
    began, wanted = time.monotonic(), [str(cell) for cell in cells() if args.only in str(cell)]
    tasks = [wanted[at : at + CELLS_A_TASK] for at in range(0, len(wanted), CELLS_A_TASK)]
    failed = 0
    if args.trace:
        failed = len(_show(played(wanted, print)))
    else:
        with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            for found in pool.map(played, tasks):
                failed += len(_show(found))
    print(f"{len(wanted)} cells, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _show(troubles: list[str]) -> list[str]:
    for trouble in troubles:
        print(trouble, flush=True)
    return troubles


if __name__ == "__main__":
    sys.exit(main())
