"""Changes to the domain's code that its tests should notice: how many they do, by module, and which they don't.

    python -m ops.mutants [--again] [--shown] [--least PERCENT] [NAME...]

NAME is one of mutmut's (dms.domain.reward.x_amount__mutmut_3) or a pattern of them; without one, all are tried that
were not yet. What survived is printed with its change: either a test is missing, or the code says more than anybody
needs, or nobody can tell the two apart; that one belongs into ops/mutants_alike.toml, with the reason. Results are kept
in mutants/. Functions with a decorator (of properties, of events) are not mutated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import ndiff
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "mutants"
ALIKE_FILE = Path(__file__).with_name("mutants_alike.toml")
KILLED, SURVIVED, UNTESTED, TIMED_OUT, ALIKE = "killed", "survived", "untested", "timed out", "alike"
_MEANINGS = {0: SURVIVED, 1: KILLED, 3: KILLED, 33: UNTESTED, 36: TIMED_OUT, 24: TIMED_OUT, -24: TIMED_OUT}  # mutmut's
_NOTICED = (KILLED, TIMED_OUT)


class Mutant(NamedTuple):
    name: str
    result: str  # empty for one that was not tried
    change: str = ""  # the lines taken out and put in, of one that was not noticed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.mutants", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--least", type=float, default=0.0, help="percent that must be noticed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shown", action="store_true", help="only tell what is known")
    parser.add_argument("--again", action="store_true", help="try those once more that were not noticed")
    given = parser.parse_args()
    names = given.names
    if given.again:
        settled = ("", KILLED, ALIKE)  # on a busy machine one may run out of time that nobody noticed
        names = [mutant.name for _, mutants in _modules(names) for mutant in mutants if mutant.result not in settled]
    if not given.shown and (names or not given.again) and (failed := _try(names, given.workers)):
        return failed
    return _told(given.names, given.least)


def _try(names: Sequence[str], workers: int) -> int:
    """mutmut's exit code. Its progress is for a terminal; elsewhere it goes into a file."""
    shutil.rmtree(
        FOLDER / "tests", ignore_errors=True
    )  # it copies over what is there, and would run a test that is gone
    FOLDER.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers), *names]
    if sys.stdout.isatty():
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    log = FOLDER / "run.log"
    with log.open("wb") as output:
        failed = subprocess.run(command, cwd=ROOT, check=False, stdout=output, stderr=subprocess.STDOUT).returncode
    if failed:
        print(f"mutmut failed; the end of {log}:\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)
    return failed


def _told(patterns: Sequence[str], least: float) -> int:
    total, waiting = Counter[str](), 0
    for module, mutants in _modules(patterns, changes=True):
        counts = Counter(mutant.result for mutant in mutants if mutant.result)
        waiting += sum(not mutant.result for mutant in mutants)
        if not counts:
            continue
        total += counts
        print(f"{module:24} {_line(counts)}")
        for mutant in mutants:
            if _is_left(mutant.result):
                print(f"    {mutant.result} {mutant.name}\n{mutant.change}")
    print(f"{'all':24} {_line(total)}" + (f", {waiting} were not tried" if waiting else ""))
    return 0 if _percent(total) >= least else 1


def _is_left(result: str) -> bool:
    return bool(result) and result not in (*_NOTICED, ALIKE)


def _modules(patterns: Sequence[str], *, changes: bool = False) -> Iterator[tuple[str, list[Mutant]]]:
    """(module, its mutants). changes: whether to look up those of what was not noticed, which takes a while."""
    known = alike()
    for path in sorted((FOLDER / "dms" / "domain").glob("*.meta")):
        module = path.name.removesuffix(".py.meta")
        found: list[Mutant] = []
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items():
            if patterns and not any(fnmatch(name, pattern) for pattern in patterns):
                continue
            result = "" if code is None else _MEANINGS.get(code, f"ended with {code}")
            found.append(_looked_at(Mutant(name, result), module, known) if changes else Mutant(name, result))
        if found:
            yield module, found


def alike() -> dict[str, dict[str, str]]:
    """Function -> line as it is in a mutant -> why nobody can tell it from ours."""
    return tomllib.loads(ALIKE_FILE.read_text())


def _looked_at(mutant: Mutant, module: str, known: dict[str, dict[str, str]]) -> Mutant:
    if not _is_left(mutant.result):
        return mutant
    change = _change(mutant.name, module)
    of_function = known.get(_function(mutant.name), {})
    put_in = " ".join(line[1:].strip() for line in change.splitlines() if line.startswith("+"))
    return mutant._replace(result=ALIKE) if put_in in of_function else mutant._replace(change=change)


def _function(name: str) -> str:
    """dms.domain.reward.x_amount__mutmut_3 -> reward.amount; of a method, with its class: job.Job.expire."""
    module, _, mangled = name.removeprefix("dms.domain.").rpartition("__mutmut_")[0].partition(".")
    plain = mangled.removeprefix("xǁ").replace("ǁ", ".") if mangled.startswith("xǁ") else mangled.removeprefix("x_")
    return f"{module}.{plain}"


def _change(name: str, module: str) -> str:
    """The lines taken out and put in. mutmut's file has all variants of a function, and beside it where each stands."""
    file = FOLDER / "dms" / "domain" / f"{module}.py"
    lines = file.read_text().splitlines()
    spans = json.loads(file.with_name(f"{module}.py.spans").read_text())["spans"]
    variant = name.removeprefix(f"dms.domain.{module}.")
    original = variant.rpartition("__mutmut_")[0] + "__mutmut_orig"
    before, after = (
        [line.replace(key, "_") for line in lines[slice(*_rows(spans[key]))]] for key in (original, variant)
    )
    return "\n".join(line for line in ndiff(before, after) if line[:1] in "+-")


def _rows(span: tuple[int, int]) -> tuple[int, int]:
    """From first and last line, counted from 1."""
    return span[0] - 1, span[1]


def _line(counts: Counter[str]) -> str:
    told = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
    return f"{_percent(counts):5.1f} % of {counts.total() - counts[ALIKE]:5}  ({told})"


def _percent(counts: Counter[str]) -> float:
    """Of those that can be noticed."""
    return 100.0 * sum(counts[result] for result in _NOTICED) / max(1, counts.total() - counts[ALIKE])


if __name__ == "__main__":
    sys.exit(main())
