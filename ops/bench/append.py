"""Durable appends through the real command path (aggregate, decision, group commit, fsync) against
raw sqlite3 writing the very same rows in batches of that size, with the same pragmas."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import uvloop

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite_schema import connect
from dms.domain.event import new_id
from dms.domain.job import FundStatus, Job
from dms.domain.request import Constraints, Params, ServiceRequest
from ops.bench.report import Row

ROUNDS = 5

TARGETS = {1: 0.50, 100: 0.65, 1000: 0.50}
COMMANDS = {1: 1_000, 100: 10_000, 1000: 20_000}
INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def run() -> Iterator[Row]:
    for writers, target in TARGETS.items():
        ratios, ours, raw = [], [], []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                rate = uvloop.run(_commands(Path(folder) / "events.db", writers, COMMANDS[writers]))
                reference = _rows_again(Path(folder), writers, COMMANDS[writers])
            ours.append(rate)
            raw.append(reference)
            ratios.append(rate / reference)
        yield Row(
            f"durable append, {writers} concurrent commands",
            f"raw sqlite3: {median(raw):,.0f}/s",
            f"{median(ours):,.0f}/s",
            median(ratios),
            f">= {target}",
        )


async def _commands(database: Path, writers: int, total: int) -> float:
    """Commands a second; each writer reports on a job of its own and waits until that is durable."""
    log = SQLiteEventLog(database)
    await log.start()
    keys = [await _new_job(log) for _ in range(writers)]
    started = time.perf_counter()
    await asyncio.gather(*(_report(log, key, total // writers) for key in keys))
    seconds = time.perf_counter() - started
    await log.close()
    return total / seconds


async def _new_job(log: SQLiteEventLog) -> str:
    request = ServiceRequest(
        service_type="ml-training-cpu",
        params=Params(image_id="registry.example/team/image:latest", model_url="https://example.org/train.py"),
        constraints=Constraints(complexity="Low", cpu=500, ram=2000, vram=2000, power=170, time=1),
        max_ntx=10,
    )
    job = Job(new_id())
    job.request_service(request, "12D3KooWExample", "0.02728", 2**50, (), 0)
    await log.save(job)
    return job.key


async def _report(log: SQLiteEventLog, key: str, times: int) -> None:
    for number in range(times):
        job = log.load(Job, key)
        if job is None:
            raise RuntimeError(f"job {key} is gone")
        status = FundStatus(transaction_type="fund", transaction_status="pending", tx_hash=f"{number:064x}")
        job.report_fund_status(status)
        await log.save(job)


def _rows_again(folder: Path, batch: int, total: int) -> float:
    """Rows a second of raw sqlite3: the last `total` rows of the log, in batches."""
    with closing(connect(folder / "events.db", read_only=True)) as source:
        schema = [sql for (sql,) in source.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")]
        rows = source.execute("SELECT * FROM event ORDER BY position DESC LIMIT ?", (total,)).fetchall()[::-1]
    target = connect(folder / "raw.db")
    for sql in schema:
        target.execute(sql)
    started = time.perf_counter()
    for start in range(0, total, batch):
        target.execute("BEGIN IMMEDIATE")
        target.executemany(INSERT, rows[start : start + batch])
        target.execute("COMMIT")
    seconds = time.perf_counter() - started
    target.close()
    return total / seconds
