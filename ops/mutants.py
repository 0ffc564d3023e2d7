"""Changes to the domain's code that its tests should notice: how many they do, by module, and which they don't.

    python -m ops.mutants [--least PERCENT] [NAME...]

NAME is one of mutmut's (dms.domain.reward.x_amount__mutmut_3) or a pattern of them. What survived is shown by
`.venv/bin/mutmut show NAME`: either a test is missing, or the code says more than anybody needs. Results are kept in
mutants/, so that the next run tries what is new only. Functions with a decorator (of properties, of events) are not
mutated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "mutants"
KILLED, SURVIVED, UNTESTED, TIMED_OUT = "killed", "survived", "untested", "timed out"
_MEANINGS = {0: SURVIVED, 1: KILLED, 3: KILLED, 33: UNTESTED, 36: TIMED_OUT, 24: TIMED_OUT, -24: TIMED_OUT}  # mutmut's
_NOTICED = (KILLED, TIMED_OUT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.mutants", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--least", type=float, default=0.0, help="percent that must be noticed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shown", action="store_true", help="only tell what is known")
    given = parser.parse_args()
    if not given.shown:
        _forget_removed_tests()
        done = subprocess.run(
            [sys.executable, "-m", "mutmut", "run", "--max-children", str(given.workers), *given.names],
            cwd=ROOT,
            check=False,
        )
        if done.returncode:
            return done.returncode
    return _told(given.least)


def _forget_removed_tests() -> None:
    """mutmut copies over what is there, and would run a test that is gone."""
    shutil.rmtree(FOLDER / "tests", ignore_errors=True)


def _told(least: float) -> int:
    total = Counter[str]()
    for module, results in _results():
        counts = Counter(results.values())
        total += counts
        print(f"{module:24} {_line(counts)}")
        for name, result in results.items():
            if result not in _NOTICED:
                print(f"    {result} {name}")
    print(f"{'all':24} {_line(total)}")
    return 0 if _percent(total) >= least else 1


def _results() -> Iterator[tuple[str, dict[str, str]]]:
    """(module, mutant -> what came of it), of those that were tried."""
    for path in sorted((FOLDER / "dms" / "domain").glob("*.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        found = {name: _MEANINGS.get(code, f"ended with {code}") for name, code in codes.items() if code is not None}
        if found:
            yield path.name.removesuffix(".py.meta"), found


def _line(counts: Counter[str]) -> str:
    told = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
    return f"{_percent(counts):5.1f} % of {counts.total():5}  ({told})"


def _percent(counts: Counter[str]) -> float:
    return 100.0 * sum(counts[result] for result in _NOTICED) / max(1, counts.total())


if __name__ == "__main__":
    sys.exit(main())
