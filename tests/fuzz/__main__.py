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
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.target import corpus_of, escaped, remove_scratch_of, targets, write_corpus

LONGEST_BYTES = 8192
SECONDS_AN_INPUT = 10
MOST_MEMORY_MB = 512  # the whole process's, the program and libFuzzer's own included
MOST_KEPT, MOST_KEPT_BYTES = 40, 2048  # inputs of a target, and bytes of one


class Run(NamedTuple):
    """Of one target. folder: with the inputs it began with and found, crashes, and what libFuzzer said."""

    name: str
    folder: Path
    began: float

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs"

    @property
    def crashes(self) -> Path:
        return self.folder / "crashes"

    @property
    def output(self) -> Path:
        return self.folder / "output"


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
    known = targets()
    if unknown := set(given.names) - set(known):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    options = [f"-runs={given.runs}", f"-max_total_time={given.seconds}"]
    results = [_end(run, keep=given.keep) for run in _side_by_side(given.names or list(known), options, given.workers)]
    found = sum(bool(result.found) or not result.runs for result in results)
    print(f"{len(results)} targets, {sum(result.runs for result in results):,} runs, {found} findings")
    return 1 if found else 0


def _side_by_side(names: Iterable[str], options: list[str], workers: int) -> Iterator[Run]:
    """Those that are over, as they end. libFuzzer ends the process that it runs in; each is a fork of this one, which
    has all targets loaded: to instrument them takes longer than many a run."""
    left, running = list(names), dict[int, Run]()
    while left or running:
        while left and len(running) < workers:
            run = _begin(left.pop(0))
            running[_forked(run, options)] = run
        pid, _ = os.wait()
        remove_scratch_of(pid)
        yield running.pop(pid)


def _begin(name: str) -> Run:
    run = Run(name, Path(tempfile.mkdtemp(prefix="dms-fuzz-")), time.monotonic())
    run.inputs.mkdir()
    run.crashes.mkdir()
    for number, data in enumerate(corpus_of(targets()[name])):
        (run.inputs / f"{number:06}").write_bytes(data)
    return run


def _forked(run: Run, options: list[str]) -> int:
    """The process id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    try:
        with run.output.open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        _fuzz(run, options)
    except Exception:  # noqa: BLE001 -- outermost, and nothing of it must go on as the parent
        traceback.print_exc()
    finally:
        os._exit(1)


def _fuzz(run: Run, options: list[str]) -> None:
    import atheris  # only `make fuzz-decoders` installs it

    logging.disable()  # what is refused is told there, each time
    limits = [
        f"-max_len={LONGEST_BYTES}", f"-timeout={SECONDS_AN_INPUT}", f"-rss_limit_mb={MOST_MEMORY_MB}",
        f"-artifact_prefix={run.crashes}/", "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], str(run.inputs), *options, *limits], targets()[run.name])
    atheris.Fuzz()


def _end(run: Run, *, keep: bool) -> Result:
    """Tells what came of it, and tidies up."""
    result = _result(run)
    if keep:
        _keep(run.name, run.inputs)
    shutil.rmtree(run.folder)
    verdict = "nothing found"
    if result.found:
        verdict = f"FOUND {result.found}"
    elif not result.runs:
        verdict = "FAILED: the fuzzer itself ended without a word of what it did"
    took = time.monotonic() - run.began
    print(f"{run.name}: {result.runs:,} runs in {took:.0f} s, {result.memory_mb} MiB: {verdict}", flush=True)
    if result.found or not result.runs:
        print(result.output[-4000:], flush=True)
    return result


def _result(run: Run) -> Result:
    output = run.output.read_text(errors="replace")
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", output))
    found = sorted(run.crashes.iterdir())
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


if __name__ == "__main__":
    if not {"-h", "--help"} & set(sys.argv):
        import atheris

        # What is instrumented must not be loaded yet; this module's own imports load none of it.
        with atheris.instrument_imports(include=["dms", "projections"]):
            targets()
    sys.exit(main())
