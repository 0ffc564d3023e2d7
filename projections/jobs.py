"""The jobs view: one row a job, of both roles. On the service provider a row follows the Job's
events; on the compute provider the Deployment's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.deployment import Deployment
from dms.domain.deployment import outcome_of as deployment_outcome
from dms.domain.event import AnyFact, Event, Unknown
from dms.domain.job import Job
from dms.domain.job import outcome_of as job_outcome
from dms.domain.provider_records import exit_reason
from dms.domain.request import ServiceRequest
from dms.domain.retry import MOST_ATTEMPTS, attempt_of
from dms.domain.reward import Fault, Outcome, reward
from dms.errors import InvalidInput
from projections.base import BEGUN, POSITION, Projection
from projections.job_columns import COLUMNS, INDEXED, column_values

STEPS_KEPT = 200  # of a job whose provider comes and goes for ever; its history has them all
OPEN_STATUSES = ("awaiting", "funding", "submitted", "retrying", "accepted", "created", "running", "stopping")
STATUSES = ("requested", *OPEN_STATUSES, "completed", "failed", "stopped", "rejected", "expired")


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One event of a job's timeline. time: Unix µs."""

    event: str
    position: int
    time: int
    note: str = ""


class FailedAttempt(Struct, frozen=True, kw_only=True, gc=False):
    """Of a job that was tried again. failed_at: Unix µs."""

    attempt: int
    peer: str
    failed_at: int
    reason: str
    fault: str
    exit_code: int | None = None
    duration_seconds: float = 0.0


class JobRow(Struct, frozen=True, kw_only=True, gc=False):
    """role: "service provider" (we asked for it) or "compute provider" (we run it). Times: Unix µs,
    0 while unknown. peer: the other side. reason: of a bad end, or what an open job waits for. fault: whose
    fault a bad end was. refund: it was paid for and never ran, so all of the price is owed back (as the service
    provider). attempt: which one it is, of so many attempts at most; minutes: that it may run.
    log_lines: of all attempts; log_sha256: of the output of the newest one. resumed_from: the SHA-256 of the checkpoint
    that this attempt went on from. checkpoints: how many there were that the service provider has, or that this compute
    provider saved. paid: whether it was paid for. cost: what the compute provider gets of the price, NTX, decimal text;
    empty until a job that was paid for is over. claimed: the reward was asked for; settled: it was paid out. client:
    whose job it is; empty: the operator's. gpus: ids of the cards that it has, on the compute provider."""

    job_id: str
    role: str
    status: str
    peer: str
    price: str
    service_type: str
    image: str
    cpu_mhz: int
    memory_mb: int
    vram_mb: int
    minutes: int
    requested_at: int
    started_at: int = 0
    ended_at: int = 0
    unreachable: bool = False
    exit_code: int | None = None
    reason: str = ""
    fault: str = ""
    duration_seconds: float = 0.0
    refund: bool = False
    log_lines: int | None = None
    log_sha256: str = ""
    log_truncated: bool = False
    attempt: int = 1
    attempts: int = 1
    failed_attempts: tuple[FailedAttempt, ...] = ()
    lines_before: int = 0  # of output, by the attempts before this one
    resumed_from: str = ""
    checkpoints: int = 0
    paid: bool = False
    cost: str = ""
    claimed: bool = False
    settled: bool = False
    client: str = ""
    gpus: tuple[str, ...] = ()
    position: int = 0  # of the newest event counted in
    timeline: tuple[Step, ...] = ()


_KINDS = (Job.KIND, Deployment.KIND)
_EVENTS = Job.event_types() | Deployment.event_types()
_NOTES = {
    event_type: name
    for name in ("path", "transaction_status", "reason")
    for event_type in _EVENTS
    if name in event_type.__struct_fields__
}  # which field of an event is its note in the timeline


class Jobs(Projection[JobRow]):
    name: ClassVar[str] = "jobs"
    version = 5
    event_types: ClassVar[frozenset[type[Event]]] = _EVENTS | {Unknown}
    row_type = JobRow
    columns: ClassVar[Mapping[str, str]] = {**COLUMNS, BEGUN: "INTEGER", POSITION: "INTEGER"}
    indexed: ClassVar[Sequence[str]] = (*INDEXED, f"{POSITION}, {BEGUN}")

    def key(self, recorded: AnyFact) -> str | None:
        return recorded.key if recorded.kind in _KINDS and recorded.event_type in self.event_types else None

    def streams(self, key: str) -> tuple[str, ...] | None:
        return f"{Job.KIND}-{key}", f"{Deployment.KIND}-{key}"

    def column_values(self, row: JobRow) -> tuple[Any, ...]:
        return *column_values(row), row.timeline[0].position, row.position

    def apply(self, row: JobRow | None, recorded: AnyFact) -> JobRow | None:
        if row is None:
            return _begin(recorded)
        event_type, position = recorded.event_type, recorded.position
        if event_type is Job.ProviderReported:  # its meaning is in the event that follows it
            return replace(row, position=position)
        steps = row.timeline if len(row.timeline) <= STEPS_KEPT else row.timeline[:STEPS_KEPT]
        timeline = (*steps, _step(recorded))  # the newest is always there
        effect = _EFFECTS.get(event_type)
        if event_type in _BY_ROW:
            changes = _BY_ROW[event_type](row, recorded.event, recorded.time)
            return replace(row, position=position, timeline=timeline, **changes)
        if effect is None:
            return replace(row, position=position, timeline=timeline)
        return replace(row, position=position, timeline=timeline, **effect(recorded.event, recorded.time))


def _begin(recorded: AnyFact) -> JobRow | None:
    match recorded.event:
        case Job.ServiceRequested(request=request, provider=peer, price=price, resume=resume) as asked:
            row = _new(recorded, "service provider", "awaiting", peer, price, request)
            resumed_from = resume.sha256 if resume else ""
            return replace(row, attempts=asked.attempts, resumed_from=resumed_from, client=asked.client)
        case Deployment.Requested(request=request, service_provider=peer, price=price, resume=resume):
            row = _new(recorded, "compute provider", "requested", peer, price, request)
            number = attempt_of(row.job_id)
            return replace(row, attempt=number, attempts=number, resumed_from=resume.sha256 if resume else "")
    return None


def _new(recorded: AnyFact, role: str, status: str, peer: str, price: str, request: ServiceRequest) -> JobRow:
    resources = request.resources
    return JobRow(
        job_id=recorded.originator_id.partition("-")[2],
        role=role,
        status=status,
        peer=peer,
        price=price,
        service_type=request.service_type,
        image=request.params.image_id,
        cpu_mhz=resources.cpu_mhz,
        memory_mb=resources.memory_mb,
        vram_mb=resources.vram_mb,
        minutes=request.constraints.time,
        requested_at=recorded.time,
        position=recorded.position,
        timeline=(_step(recorded),),
    )


def _step(recorded: AnyFact) -> Step:
    note = _NOTES.get(recorded.event_type)
    text = getattr(recorded.event, note) if note is not None else ""
    return Step(event=recorded.topic, position=recorded.position, time=recorded.time, note=text)


# --- what each event changes: (event, Unix µs) -> fields ---------------------------------------------
Effect = Callable[[Any, int], dict[str, Any]]


def _becomes(status: str) -> Effect:
    return lambda _event, _time: {"status": status}


def _ends(status: str) -> Effect:
    """With what the event says of reason, fault, exit code and duration."""

    def effect(event: Any, time: int) -> dict[str, Any]:
        changes = {name: getattr(event, name) for name in _ENDING if hasattr(event, name)}
        if "fault" in changes:
            changes["fault"] = str(changes["fault"])
        return {"status": status, "ended_at": time, **changes}

    return effect


_ENDING = ("reason", "fault", "exit_code", "duration_seconds", "refund")


def _reported(event: Job.FundStatusReported, _time: int) -> dict[str, Any]:
    return {"status": "funding"} if event.transaction_status == "success" else {}


def _responded(event: Job.DeploymentResponded, time: int) -> dict[str, Any]:
    return {"status": "running", "started_at": time, "reason": ""} if event.success else {}


def _sealed(event: Deployment.LogSealed, _time: int) -> dict[str, Any]:
    return {"log_lines": event.lines, "log_sha256": event.sha256, "log_truncated": event.truncated}


def _funded(_event: Any, _time: int) -> dict[str, Any]:
    return {"paid": True, "reason": ""}


def _accepted(event: Deployment.Accepted, _time: int) -> dict[str, Any]:
    return {"status": "accepted", "paid": True, "reason": "", "gpus": event.gpu_uuids}


def _exited(event: Deployment.ContainerExited, time: int) -> dict[str, Any]:
    if event.exit_code == 0 and not event.oom_killed:
        return _ends("completed")(event, time)
    return _ends("failed")(event, time) | {"reason": exit_reason(event), "fault": Fault.JOB.value}


_EFFECTS: dict[type[Event], Effect] = {
    Job.FundStatusReported: _reported,
    Job.FundingPending: lambda event, _time: {"reason": event.reason},
    Job.FundingAccepted: _funded,
    Job.Submitted: _becomes("submitted"),
    Job.DeploymentResponded: _responded,
    Job.ProviderUnreachable: lambda _event, _time: {"unreachable": True},
    Job.ProviderReturned: lambda _event, _time: {"unreachable": False},
    Job.Expired: _ends("expired"),
    Job.RewardClaimed: lambda _event, _time: {"claimed": True},
    Job.RewardSettled: lambda _event, _time: {"settled": True},
    Deployment.FundingPending: lambda event, _time: {"reason": event.reason},
    Deployment.FundingAccepted: lambda _event, _time: {"paid": True},
    Deployment.Accepted: _accepted,
    Deployment.ContainerCreated: _becomes("created"),
    Deployment.ContainerStarted: lambda _event, time: {"status": "running", "started_at": time},
    Deployment.StopRequested: _becomes("stopping"),
    Deployment.LogSealed: _sealed,
    Deployment.RewardClaimed: lambda _event, _time: {"claimed": True},
    Deployment.RewardSettled: lambda _event, _time: {"settled": True},
}


# Those that also depend on the row: (row, event, Unix µs) -> fields.
def _job_sealed(row: JobRow, event: Job.LogSealed, _time: int) -> dict[str, Any]:
    lines = row.lines_before + event.lines
    return {"log_lines": lines, "log_sha256": event.sha256, "log_truncated": row.log_truncated or event.truncated}


def _attempt_failed(row: JobRow, event: Job.AttemptFailed, time: int) -> dict[str, Any]:
    failed = FailedAttempt(
        attempt=event.attempt,
        peer=row.peer,
        failed_at=time,
        reason=event.reason,
        fault=str(event.fault),
        exit_code=event.exit_code,
        duration_seconds=event.duration_seconds,
    )
    ended = {"status": "retrying", "unreachable": False, "reason": f"tried again: {event.reason}"}
    return {**ended, "failed_attempts": (*row.failed_attempts, failed)[:MOST_ATTEMPTS]}


def _attempt_started(_row: JobRow, event: Job.AttemptStarted, _time: int) -> dict[str, Any]:
    return {
        "status": "submitted",
        "attempt": event.attempt,
        "peer": event.provider,
        "minutes": event.minutes,
        "reason": "",
        "lines_before": event.lines_before,
        "log_lines": None,
        "log_sha256": "",
        "resumed_from": event.resume.sha256 if event.resume else "",
    }


def _checkpointed(row: JobRow, _event: Any, _time: int) -> dict[str, Any]:
    return {"checkpoints": row.checkpoints + 1}


def _costs(effect: Effect, outcome_of: Callable[[Any], Outcome | None]) -> RowEffect:
    """An end, with what the job costs by it."""

    def with_cost(row: JobRow, event: Any, time: int) -> dict[str, Any]:
        changes, outcome = effect(event, time), outcome_of(event)
        if outcome is None or not row.paid:
            return changes  # never paid for, as far as we know; a stranger's request may name any price
        try:
            return changes | {"cost": reward(row.price, row.minutes, outcome).to_provider}
        except InvalidInput:  # of a version that took any text for a price
            return changes

    return with_cost


RowEffect = Callable[[JobRow, Any, int], dict[str, Any]]
_BY_ROW: dict[type[Event], RowEffect] = {
    Job.LogSealed: _job_sealed,
    Job.AttemptFailed: _attempt_failed,
    Job.AttemptStarted: _attempt_started,
    Job.CheckpointReceived: _checkpointed,
    Job.Completed: _costs(lambda event, time: {"exit_code": 0, **_ends("completed")(event, time)}, job_outcome),
    Job.Failed: _costs(_ends("failed"), job_outcome),
    Deployment.CheckpointSaved: _checkpointed,
    Deployment.Rejected: _costs(_ends("rejected"), deployment_outcome),
    Deployment.ContainerExited: _costs(_exited, deployment_outcome),
    Deployment.Failed: _costs(_ends("failed"), deployment_outcome),
    Deployment.Stopped: _costs(_ends("stopped"), deployment_outcome),
}

# The rest of the job's events are steps of its timeline, and say nothing else here.
Jobs.places_only = (
    _EVENTS - _EFFECTS.keys() - _BY_ROW.keys() - _NOTES.keys() - {Job.ServiceRequested, Deployment.Requested}
)
