"""A job's history as spans of a trace: a pure function of its stream's events, made once the stream has ended.

Nothing is measured while a job runs, so tracing costs and risks nothing there, and the history of any
old job gives the same spans. The trace's id is the caller's (traceparent of the first event), or else
the job's id; a span's id is derived from the job and its name. So both sides agree on them without a
word, and a span that is exported twice after a crash is the same span.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from msgspec import Struct

from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Recorded
from dms.domain.job import Job
from dms.domain.request import ServiceRequest
from dms.domain.retry import job_of

ENDS = (
    Job.Completed.TOPIC,
    Job.Failed.TOPIC,
    Job.Expired.TOPIC,
    Deployment.Rejected.TOPIC,
    Deployment.Failed.TOPIC,
    Deployment.Stopped.TOPIC,
    Deployment.ContainerExited.TOPIC,
)
# Milestone -> what goes on from it to the next one that happened.
_JOB_STEPS = {
    Job.ServiceRequested.TOPIC: "await funding",
    Job.FundStatusReported.TOPIC: "check funding",
    Job.Submitted.TOPIC: "deploy",
    Job.DeploymentResponded.TOPIC: "run",
}
_DEPLOYMENT_STEPS = {
    Deployment.Accepted.TOPIC: "pull image",
    Deployment.ImagePulled.TOPIC: "create container",
    Deployment.ContainerCreated.TOPIC: "start container",
    Deployment.ContainerStarted.TOPIC: "run container",
}
DEPLOY, JOB, DEPLOYMENT = "deploy", "job", "deployment"


class Moment(Struct, frozen=True):
    """An event inside a span. time: Unix µs."""

    topic: str
    position: int
    time: int


class Span(Struct, frozen=True, kw_only=True):
    """Ids: 16 and 8 bytes; parent: empty for none. start, end: Unix µs. kind: "internal", "client" or
    "server". error: why it failed, empty when it did not."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent: bytes
    start: int
    end: int
    kind: str = "internal"
    error: str = ""
    attributes: dict[str, str | int | float | bool] = {}
    moments: tuple[Moment, ...] = ()


def spans(events: Sequence[Recorded]) -> list[Span]:
    """Of one job's or deployment's whole stream; none while it has not ended, or when the caller's
    traceparent says that its trace is not sampled."""
    end = next((number for number, event in enumerate(events) if event.topic in ENDS), None)
    if end is None:
        return []
    history = events[: end + 1]
    kind, _, job_id = history[0].originator_id.partition("-")
    trace_id, caller, sampled = _trace(history[0].traceparent, job_of(job_id))
    if not sampled or kind not in (JOB, DEPLOYMENT):
        return []
    on_provider = kind == DEPLOYMENT
    root = Span(
        name=kind,
        trace_id=trace_id,
        span_id=span_id(job_id, kind),
        parent=span_id(job_of(job_id), DEPLOY) if on_provider else caller,
        start=history[0].time,
        end=history[-1].time,
        kind="server" if on_provider else "internal",
        error=_error(history[-1]),
        attributes=_attributes(job_id, history),
        moments=tuple(Moment(event.topic, event.position, event.time) for event in history),
    )
    return [root, *_steps(root, job_id, history, _DEPLOYMENT_STEPS if on_provider else _JOB_STEPS)]


def span_id(job_id: str, name: str) -> bytes:
    return sha256(f"nunet-dms span {job_id} {name}".encode()).digest()[:8]


def _trace(traceparent: str, job_id: str) -> tuple[bytes, bytes, bool]:
    """(trace id, the caller's span or empty, sampled). Source: W3C Trace Context."""
    parts = traceparent.split("-")
    try:
        _, trace, caller, flags = parts[:4]
        ids = bytes.fromhex(trace), bytes.fromhex(caller)
        if (len(ids[0]), len(ids[1])) == (16, 8) and any(ids[0]) and any(ids[1]):
            return *ids, bool(int(flags, 16) & 1)
    except ValueError:
        pass  # none, or none that can be used
    return bytes.fromhex(job_id.replace("-", "")), b"", True


def _steps(root: Span, job_id: str, history: Sequence[Recorded], names: dict[str, str]) -> list[Span]:
    last = {event.topic: event.time for event in history}  # a status may be reported more than once
    reached = [(last[topic], name) for topic, name in names.items() if topic in last]
    ends = [time for time, _ in reached[1:]] + [root.end]
    return [
        Span(
            name=name,
            trace_id=root.trace_id,
            span_id=span_id(job_id, name),
            parent=root.span_id,
            start=start,
            end=max(start, end),
            kind="client" if name == DEPLOY else "internal",
            error=root.error if name == reached[-1][1] else "",
        )
        for (start, name), end in zip(reached, ends, strict=True)
    ]


def _error(last: Recorded) -> str:
    event = last.event
    if isinstance(event, Job.Completed):
        return ""
    if isinstance(event, Deployment.ContainerExited):
        return "" if event.exit_code == 0 and not event.oom_killed else f"exit code {event.exit_code}"
    return str(getattr(event, "reason", "")) or "failed"


def _attributes(job_id: str, history: Sequence[Recorded]) -> dict[str, str | int | float | bool]:
    first, last = history[0].event, history[-1].event
    found: dict[str, Any] = {"dms.job.id": job_id, "dms.events": len(history)}
    request = getattr(first, "request", None)
    if isinstance(request, ServiceRequest):
        found |= {"container.image.name": request.params.image_id, "dms.job.service_type": request.service_type}
    if isinstance(first, Job.ServiceRequested):
        found |= {"dms.peer": first.provider, "dms.price_ntx": first.price}
    if isinstance(first, Deployment.Requested):
        found |= {"dms.peer": first.service_provider, "dms.price_ntx": first.price}
    for event in history:
        if isinstance(event.event, Deployment.ContainerCreated):
            found["container.id"] = event.event.container_id
    for name in ("exit_code", "duration_seconds"):
        value = getattr(last, name, None)
        if value is not None:
            found[f"dms.job.{name}"] = value
    fault = getattr(last, "fault", Fault.NONE)
    return found | ({"dms.job.fault": str(fault)} if fault else {})
