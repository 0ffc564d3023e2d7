"""Folding a whole log into all views, and verifying its chain, against a bare scan of the same rows
with orjson decoding each body. By the same code as `nunet replay` and `nunet audit verify`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from dms.offline import Audit, Replay
from ops.bench.history import fill
from ops.bench.report import Row

EVENTS = 200_000
ROUNDS = 5


def run() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "events.db"
        events = fill(database, EVENTS)
        rounds = [_round(database) for _ in range(ROUNDS)]
    scan, fold, check = (median(seconds) for seconds in zip(*rounds, strict=True))
    reference = f"scan and orjson: {events / scan:,.0f}/s"
    ratio = median(scan / fold for scan, fold, _ in rounds)
    yield Row(f"fold {events:,} events into all views", reference, f"{events / fold:,.0f}/s", ratio, ">= 0.80")
    ratio = median(scan / check for scan, _, check in rounds)
    yield Row(f"verify {events:,} events", reference, f"{events / check:,.0f}/s", ratio, ">= 0.35")


def _round(database: Path) -> tuple[float, float, float]:
    """Seconds of the scan, the fold and the check."""
    history, audit = Replay(database, None, 0), Audit(database)
    try:
        return _timed(history.scan()), _timed(history.fold()), _timed(audit.chain())
    finally:
        history.close()
        audit.close()


def _timed(steps: Iterator[int]) -> float:
    started = time.perf_counter()
    for _ in steps:
        pass
    return time.perf_counter() - started
