"""Spans from the log, sent to a real HTTP endpoint that decodes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.tracing import tracer as tracer_module
from dms.adapters.tracing.tracer import Tracer
from dms.application.cause import caused_by
from dms.application.records.spans import span_id, spans
from dms.config import Settings
from dms.domain.deployment import Deployment, Fault
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.wiring.adapters import build_tracer
from tests.fixtures.collector import Collector, collecting
from tests.fixtures.histories import new_job, paid, request
from tests.fixtures.waiting import wait_for

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(tracer_module, "RETRY_SECONDS", (0.02, 0.1))
    with collecting() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        yield made


async def whole_job(log: SQLiteEventLog, traceparent: str = "") -> str:
    """A completed job, with its deployment in the same log."""
    with caused_by("", traceparent):
        job = new_job()
        await log.save(job)
        deployment = Deployment(job.key)
        deployment.accept("12D3KooWSp", request(), "0.1", Resources(), ())
        await log.save(deployment)
        deployment.image_pulled("sha256:ab")
        deployment.container_created("c0ffee", "docker")
        deployment.container_started(1)
        await log.save(deployment)
        job.report_fund_status(paid())
        job.accept_funding("trust")
        job.trigger(Job.DeploymentResponded(success=True, content=""))
        job.trigger(Job.Completed(duration_seconds=2.0))
        await log.save(job)
        deployment.exited(0, False, 2.0)
        await log.save(deployment)
    return job.key


async def test_both_sides_make_one_trace_with_the_callers_span_on_top(
    log: SQLiteEventLog, collector: Collector, tmp_path: Path
) -> None:
    tracer = Tracer(log, "12D3KooWMe", tmp_path / "position")
    await tracer.start()
    job_id = await whole_job(log, PARENT)
    await wait_for(lambda: collector.count() >= 10)
    await tracer.close()
    found = {name: span for name, (_, span) in collector.spans().items()}
    assert {span.trace_id.hex() for span in found.values()} == {TRACE}
    parents = {name: span.parent_span_id for name, span in found.items()}
    assert parents.pop("job").hex() == CALLER
    assert parents.pop("deployment") == found["deploy"].span_id
    steps = ("await funding", "check funding", "deploy", "run")
    assert {name for name, parent in parents.items() if parent == found["job"].span_id} == set(steps)
    inside = {"pull image", "create container", "start container", "run container"}
    assert {name for name, parent in parents.items() if parent == found["deployment"].span_id} == inside
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in found.values())
    assert [event.name for event in found["deployment"].events][-1] == "deployment.container_exited"
    attributes = {a.key: a.value.string_value for a in found["deployment"].attributes}
    assert attributes["dms.job.id"] == job_id
    assert attributes["container.id"] == "c0ffee"


async def test_without_a_caller_the_job_is_the_trace(log: SQLiteEventLog) -> None:
    job_id = await whole_job(log)
    made = spans(await log.read(0, 100, stream=f"job-{job_id}"))
    assert {span.trace_id.hex() for span in made} == {job_id.replace("-", "")}
    assert made[0].parent == b""
    other = spans(await log.read(0, 100, stream=f"deployment-{job_id}"))
    assert {span.trace_id for span in other} == {made[0].trace_id}
    assert other[0].parent == span_id(job_id, "deploy")


async def test_a_trace_that_the_caller_does_not_sample_is_not_sent(log: SQLiteEventLog) -> None:
    job_id = await whole_job(log, PARENT[:-1] + "0")
    assert spans(await log.read(0, 100, stream=f"job-{job_id}")) == []


async def test_a_failed_job_says_why(log: SQLiteEventLog) -> None:
    job = new_job()
    job.report_fund_status(paid())
    job.accept_funding("trust")
    job.fail("the provider went away", Fault.NETWORK)
    await log.save(job)
    made = spans(await log.read(0, 100, stream=f"job-{job.key}"))
    assert {span.name: span.error for span in made} == {
        "job": "the provider went away",
        "await funding": "",
        "check funding": "",
        "deploy": "the provider went away",
    }


async def test_a_job_that_goes_on_has_no_spans_yet(log: SQLiteEventLog) -> None:
    job = new_job()
    await log.save(job)
    assert spans(await log.read(0, 100, stream=f"job-{job.key}")) == []


async def test_a_collector_that_is_away_delays_and_a_restart_goes_on(
    log: SQLiteEventLog, collector: Collector, tmp_path: Path
) -> None:
    tracer = Tracer(log, "12D3KooWMe", tmp_path / "position")
    await tracer.start()
    collector.refusing = [400] * 3  # not worth a retry to the exporter; we try again all the same
    await whole_job(log)
    await wait_for(lambda: collector.count() >= 10)
    await wait_for(lambda: (tmp_path / "position").exists() and int((tmp_path / "position").read_text()) == log.head)
    await tracer.close()
    await whole_job(log)  # while nobody sends
    again = Tracer(log, "12D3KooWMe", tmp_path / "position")
    await again.start()
    await wait_for(lambda: collector.count() >= 20)
    await again.close()
    assert collector.count() == 20


async def test_it_is_off_unless_an_endpoint_is_named(
    log: SQLiteEventLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert build_tracer(Settings(), log, "peer") is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert build_tracer(Settings(), log, "peer") is None
