"""Folding a whole log into all views, and verifying its chain, against a bare scan of the same rows
with orjson decoding each body."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from dms.adapters.eventlog.sqlite import Draft, SQLiteRecorder
from dms.domain.aggregate import Aggregate
from dms.domain.chain import id_bytes
from dms.domain.deployment import Deployment
from dms.domain.event import encode, new_id, new_id_bytes
from dms.domain.job import FundStatus, Job
from dms.domain.request import Constraints, Params, ServiceRequest
from dms.domain.resources import Resources
from ops.bench.report import Row
from projections.base import Projection
from projections.capacity import Capacity
from projections.jobs import Jobs

JOBS = 20_000  # about 200,000 events
BATCH = 5_000
REQUEST = ServiceRequest(
    service_type="ml-training-cpu",
    params=Params(image_id="registry.example/team/image:latest", model_url="https://example.org/train.py"),
    constraints=Constraints(complexity="Low", cpu=500, ram=2000, vram=2000, power=170, time=1),
    max_ntx=10,
)


def run() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "events.db"
        events = fill(database, JOBS)
        scan = _timed(lambda: _scan(database))
        fold = _timed(lambda: _fold(database))
        check = _timed(lambda: _verify(database))
    reference = f"scan and orjson: {events / scan:,.0f}/s"
    yield Row(f"fold {events:,} events into all views", reference, f"{events / fold:,.0f}/s", scan / fold, ">= 0.80")
    yield Row(f"verify {events:,} events", reference, f"{events / check:,.0f}/s", scan / check, ">= 0.35")


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _scan(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        for row in connection.execute(
            "SELECT position, stream, version, topic, time, data FROM event ORDER BY position"
        ):
            orjson.loads(row[5])


def _fold(database: Path) -> None:
    recorder = SQLiteRecorder(database, own=False)
    projections: list[Projection[Any]] = [Jobs(), Capacity()]
    rows: list[dict[str, Any]] = [{} for _ in projections]
    position = 0
    while batch := recorder.read(position, BATCH):
        for projection, view in zip(projections, rows, strict=True):
            for event in batch:
                key = projection.key(event)
                if key is not None:
                    view[key] = projection.apply(view.get(key), event)
        position = batch[-1].position
    recorder.close()


def _verify(database: Path) -> None:
    recorder = SQLiteRecorder(database, own=False)
    for _ in recorder.verify():
        pass
    recorder.close()


def fill(database: Path, jobs: int) -> int:
    """Writes that many jobs, each run to its end; answers the number of events."""
    recorder = SQLiteRecorder(database)
    drafts: list[Draft] = []
    total = 0
    for number in range(jobs):
        for aggregate in _job(number):
            drafts += _drafts(aggregate)
        if len(drafts) > BATCH or number == jobs - 1:
            recorder.insert(drafts)
            recorder.commit()
            total += len(drafts)
            drafts = []
    recorder.close()
    return total


def _job(number: int) -> list[Aggregate]:
    key = new_id()
    job = Job(key)
    job.request_service(REQUEST, "12D3KooWExample", "0.02728", 2**50, (), 0)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash=f"{number:064x}"))
    job.accept_funding("trust")
    deployment = Deployment(new_id())
    deployment.accept("12D3KooWOther", REQUEST, "0.02728", Resources(cpu_mhz=500, memory_mb=2000), ())
    deployment.image_pulled("sha256:" + "0" * 64)
    deployment.container_created("c" * 64, "docker")
    deployment.container_started(1)
    deployment.seal_log(10, "0" * 64, truncated=False)
    deployment.exited(0, oom_killed=False, duration_seconds=1.5)
    return [job, deployment]


def _drafts(aggregate: Aggregate) -> list[Draft]:
    now = time.time_ns() // 1000
    return [
        Draft(
            aggregate.id,
            version,
            event.TOPIC,
            event.VERSION,
            now,
            new_id_bytes(),
            id_bytes(aggregate.key),
            b"",
            "",
            event,
            encode(event),
        )
        for version, event in aggregate.collect_pending()
    ]
