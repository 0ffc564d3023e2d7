"""From `nunet run` to a 200 of /readyz: on an empty log, and with views persisted against rebuilding them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from dms.adapters.p2p.identity import Identity
from ops.bench.history import fill
from ops.bench.report import Row
from tests.fixtures.dms import Dms

ROUNDS = 5
EVENTS = 100_000
LIMIT_SECONDS = 3.0


def run() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        empty = median(_start(Path(folder) / str(number)) for number in range(ROUNDS))
    yield Row(
        "start to /readyz, empty log", f"limit: {LIMIT_SECONDS} s", f"{empty:.2f} s", empty / LIMIT_SECONDS, "<= 1"
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "full"
        home.mkdir()
        events = fill(home / "events.db", EVENTS, Identity.create(home / "node.key").peer_id)
        rebuilt = _start(home)
        kept = median(_start(home) for _ in range(ROUNDS))
    yield Row(
        f"start with {events:,} events, views kept",
        f"rebuilding: {rebuilt:.2f} s",
        f"{kept:.2f} s",
        kept / rebuilt,
        "<= 0.15",
    )


def _start(folder: Path) -> float:
    dms = Dms(folder)
    started = time.perf_counter()
    dms.start()
    try:
        asyncio.run(dms.ready())
        return time.perf_counter() - started
    finally:
        dms.stop()
