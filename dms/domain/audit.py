"""What two histories say of one job: the service provider's and the compute provider's, held against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from dms.domain.chain import SignedRecord, check_record, id_bytes
from dms.domain.deployment import Deployment
from dms.domain.event import Recorded, decode
from dms.domain.job import Job, JobState
from dms.domain.retry import attempt_of, job_of
from dms.domain.reward import Reward, reward
from dms.domain.sealing import Opener
from dms.errors import LogCorrupt, PeerMisbehaved


class Bill(Struct, frozen=True, kw_only=True):
    """What one side's events say: the price in NTX, how the job ended, and who gets what of the price."""

    price: str
    state: str
    duration_seconds: float
    reward: Reward | None


class Comparison(Struct, frozen=True, kw_only=True):
    """differences: empty when both sides tell the same."""

    job_id: str
    service_provider: str
    compute_provider: str
    records_compared: int
    bill: Bill | None
    differences: tuple[str, ...]


def recorded(record: SignedRecord, keys: Opener | None = None) -> Recorded:
    """The event as the log has it, its personal fields open as far as the keys are there. Raises LogCorrupt when its
    body does not fit its schema."""
    data = record.data.encode()
    event = decode(record.topic, record.schema_version, data, keys)
    return Recorded(
        record.position, record.stream, record.version, record.topic, record.schema_version, record.time,
        id_bytes(record.event_id), id_bytes(record.correlation_id), id_bytes(record.causation_id), record.traceparent,
        data, bytes.fromhex(record.hash), event,
    )  # fmt: skip


class Evidence(Struct):
    """Of one attempt: the peer id of its provider, and the records of its deployment that the job holds."""

    provider: str
    held: list[SignedRecord]


def evidence(records: Sequence[SignedRecord]) -> list[Evidence]:
    """What a service provider's job holds, attempt by attempt."""
    found: list[Evidence] = []
    for record in records:
        if record.topic in (Job.ServiceRequested.TOPIC, Job.AttemptStarted.TOPIC):
            found.append(Evidence(_chosen(record), []))
        elif record.topic == Job.ProviderReported.TOPIC:
            event = decode(record.topic, record.schema_version, record.data.encode())
            if isinstance(event, Job.ProviderReported) and found:
                found[-1].held.append(event.record)
    return found


def _chosen(record: SignedRecord) -> str:
    """The provider that it was given to; empty where only a newer version of this program can tell. Raises
    LogCorrupt."""
    event = decode(record.topic, record.schema_version, record.data.encode())
    return str(getattr(event, "provider", ""))


def check_evidence(records: Sequence[SignedRecord], verify: Callable[[str, bytes, bytes], bool]) -> None:
    """Raises LogCorrupt when a provider did not sign one of its records."""
    for attempt in evidence(records):
        for record in attempt.held:
            try:
                check_record(record, attempt.provider, verify)
            except PeerMisbehaved as error:
                raise LogCorrupt(f"a record kept as evidence is not the provider's: {error}") from error


def compare(
    deployment: str, asked: tuple[str, Sequence[SignedRecord]], ran: tuple[str, Sequence[SignedRecord]]
) -> Comparison:
    """(peer id, records) of the service provider's job and of the compute provider's deployment, which is an attempt
    of it; both were checked."""
    job_id, number = job_of(deployment), attempt_of(deployment)
    given = (evidence(asked[1])[number - 1 : number] or [Evidence("nobody", [])])[0]
    own = {r.version: r for r in ran[1] if r.stream == f"{Deployment.KIND}-{deployment}"}
    differences: list[str] = []
    if given.provider != ran[0]:
        differences.append(f"the job was given to {given.provider}, the other export is of {ran[0]}")
    for record in given.held:
        there = own.get(record.version)
        if there is None:
            differences.append(f"version {record.version} ({record.topic}) is missing at the compute provider")
        elif there.hash != record.hash:
            differences.append(f"version {record.version} ({record.topic}) is another event at the compute provider")
    job = Job.project(None, [recorded(r) for r in asked[1] if r.stream == f"{Job.KIND}-{job_id}"])
    mine = _bill_of_attempt(job, number)
    theirs = _bill(Deployment.project(None, [recorded(own[version]) for version in sorted(own)]))
    if mine is None or theirs is None:
        differences.append("one of the exports holds nothing of the job")
    else:
        differences += [
            f"{name}: {left} at the service provider, {right} at the compute provider"
            for name, left, right in (
                ("price", mine.price, theirs.price),
                ("duration", mine.duration_seconds, theirs.duration_seconds),
                ("reward", mine.reward, theirs.reward),
            )
            if left != right
        ]
    return Comparison(
        job_id=job_id,
        service_provider=asked[0],
        compute_provider=ran[0],
        records_compared=len(given.held),
        bill=mine,
        differences=tuple(differences),
    )


def _bill_of_attempt(job: Job | None, number: int) -> Bill | None:
    """Of one that failed: nobody earned anything by it."""
    if job is None or number >= len(job.attempts):
        return _bill(job)
    attempt = job.attempts[number - 1]
    found = None if attempt.outcome is None else reward(job.price, attempt.minutes, attempt.outcome)
    seconds = attempt.outcome.duration_seconds if attempt.outcome is not None else 0.0
    return Bill(price=job.price, state=str(JobState.FAILED), duration_seconds=seconds, reward=found)


def _bill(side: Job | Deployment | None) -> Bill | None:
    if side is None:
        return None
    return Bill(
        price=side.price,
        state=str(side.state),
        duration_seconds=side.outcome.duration_seconds if side.outcome is not None else 0.0,
        reward=side.reward,
    )
