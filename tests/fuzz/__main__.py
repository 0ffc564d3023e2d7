"""Coverage-guided fuzzing: `python -m tests.fuzz` runs each target in a process of its own, NAME only that one.

Each begins with its corpus, and what leads into code that nothing led into before is kept; --keep adds the shortest
of that to the repository. A finding ends its target, and is printed as a line of its corpus: put it there, and it
is tried by `make test` from then on.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.target import corpus_of, escaped, targets, write_corpus

LONGEST_BYTES = 8192
SECONDS_AN_INPUT = 10
MOST_MEMORY_MB = 512  # the whole process's, the program and libFuzzer's own included
MOST_KEPT, MOST_KEPT_BYTES = 40, 2048  # inputs of a target, and bytes of one
CHILD = "DMS_FUZZ_CHILD"


class Result(NamedTuple):
    runs: int
    memory_mb: int
    found: str  # the input, escaped; empty for none
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help="targets; all of them by default")
    parser.add_argument("--runs", type=int, default=1_000_000, help="of each target")
    parser.add_argument("--seconds", type=int, default=60, help="of each target at most")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", action="store_true", help="write the corpus anew")
    given = parser.parse_args()
    if CHILD in os.environ:
        return _fuzz(given.names[0], os.environ[CHILD].split())
    known = targets()
    if unknown := set(given.names) - set(known):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    with ThreadPoolExecutor(given.workers) as pool:
        results = list(
            pool.map(lambda name: _run(name, given.runs, given.seconds, keep=given.keep), given.names or list(known))
        )
    found = sum(bool(result.found) or not result.runs for result in results)
    print(f"{len(results)} targets, {sum(result.runs for result in results):,} runs, {found} findings")
    return 1 if found else 0


def _run(name: str, runs: int, seconds: int, *, keep: bool) -> Result:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dms-fuzz-") as folder:
        inputs, crashes = Path(folder, "inputs"), Path(folder, "crashes")
        inputs.mkdir()
        crashes.mkdir()
        for number, data in enumerate(corpus_of(targets()[name])):
            (inputs / f"{number:06}").write_bytes(data)
        result = _guided(name, inputs, crashes, runs, seconds)
        if keep:
            _keep(name, inputs)
    took = time.monotonic() - began
    verdict = "nothing found"
    if result.found:
        verdict = f"FOUND {result.found}"
    elif not result.runs:
        verdict = "FAILED: the fuzzer itself ended without a word of what it did"
    print(f"{name}: {result.runs:,} runs in {took:.0f} s, {result.memory_mb} MiB: {verdict}", flush=True)
    if result.found or not result.runs:
        print(result.output[-4000:], flush=True)
    return result


def _guided(name: str, inputs: Path, crashes: Path, runs: int, seconds: int) -> Result:
    options = [
        str(inputs), f"-runs={runs}", f"-max_total_time={seconds}", f"-max_len={LONGEST_BYTES}",
        f"-timeout={SECONDS_AN_INPUT}", f"-rss_limit_mb={MOST_MEMORY_MB}", f"-artifact_prefix={crashes}/",
        "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    output = _child(name, options)
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", output))
    found = sorted(crashes.iterdir())
    return Result(
        int(stats.get("number_of_executed_units", 0)),
        int(stats.get("peak_rss_mb", 0)),
        escaped(found[0].read_bytes()) if found else "",
        output,
    )


def _keep(name: str, inputs: Path) -> None:
    """Adds the shortest of what led into new code, which libFuzzer writes beside what it began with."""
    target = targets()[name]
    before = {data for data in corpus_of(target) if data not in target.seeds}
    found = sorted((path.read_bytes() for path in inputs.iterdir()), key=lambda data: (len(data), data))
    new = [data for data in found if data not in before and data not in target.seeds and len(data) <= MOST_KEPT_BYTES]
    if kept := [*before, *new[: max(0, MOST_KEPT - len(before))]]:
        write_corpus(name, kept)


def _child(name: str, options: list[str]) -> str:
    """A process of its own: libFuzzer ends the one that it runs in."""
    environment = os.environ | {CHILD: " ".join(options), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def _fuzz(name: str, options: list[str]) -> int:
    import atheris  # only `make fuzz-decoders` installs it

    logging.disable()  # what is refused is told there, each time
    target = targets()[name]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    if CHILD in os.environ:
        import atheris

        # What is instrumented must not be loaded yet; this module's own imports load none of it.
        with atheris.instrument_imports(include=["dms", "projections"]):
            targets()
    sys.exit(main())
