"""Whether what this node has of one job is what was recorded: its events, the other side's signatures, its output.

A look at one job, bounded, for who watches it. It holds each event against its own hash and the link before it, which
shows what was changed, not what all of the log's tail was rewritten to; peers' signatures of a later head show that,
and so does `nunet audit verify`, which recomputes the whole chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum

from msgspec import Struct

from dms.application.jobs.job_outputs import JobOutputs
from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import StoredOutput
from dms.application.ports.signing import Signer
from dms.application.records.export import signed_record
from dms.application.records.job_events import events_of_job
from dms.application.records.seals import sealed_by
from dms.domain.audit import check_evidence, evidence
from dms.domain.chain import SignedRecord, record_hash
from dms.domain.deployment import Deployment
from dms.domain.event import Recorded
from dms.domain.heads import Countersignature, is_genuine
from dms.domain.job import Job
from dms.errors import LogCorrupt, NotFound, PeerMisbehaved
from dms.long_work import long_work
from dms.recent import Recent

MOST_JOBS = 256  # whose result is kept
MOST_EVENTS = 10_000  # of one job
FRESH_US = 600 * 1_000_000  # then a look is taken again, though nothing was recorded since


class Result(StrEnum):
    VERIFIED = "verified"
    WRONG = "wrong"
    OPEN = "open"  # there is nothing yet that could tell


class Check(Struct, frozen=True):
    """name: history, provider, output or witnesses. detail: a sentence."""

    name: str
    result: Result
    detail: str


class Verification(Struct, frozen=True, kw_only=True):
    """position: of the job's newest event. checked_at: Unix µs."""

    job_id: str
    result: Result
    position: int
    events: int
    checked_at: int
    checks: tuple[Check, ...]


class JobVerifier:
    """Keeps what it found until something of the job changes."""

    def __init__(
        self,
        log: EventLog,
        outputs: JobOutputs,
        signer: Signer,
        heads: Callable[[], Sequence[Countersignature]],
        now: Callable[[], int],
    ) -> None:
        """heads: the newest of our own that each peer has signed. now: Unix time, µs."""
        self._log, self._outputs, self._signer, self._heads, self._now = log, outputs, signer, heads, now
        self._known: Recent[str, tuple[object, Verification]] = Recent(MOST_JOBS)
        self._turn = asyncio.Lock()  # such looks are taken one after the other

    async def of(self, job_id: str) -> Verification:
        """Raises NotFound; LogUnavailable, ArchiveUnreadable: what can't be read now is not wrong for that."""
        job, deployment = self._log.load(Job, job_id), self._log.load(Deployment, job_id)
        if job is None and deployment is None:
            raise NotFound(f"no job {job_id} here")
        about, heads = await self._outputs.about(job_id), tuple(self._heads())
        versions = (job.version if job else 0, deployment.version if deployment else 0)
        state = (versions, about, heads)
        async with self._turn:
            known = self._known.get(job_id)
            if known is not None and known[0] == state and self._now() - known[1].checked_at < FRESH_US:
                return known[1]
            found = await self._look(job_id, heads)
            self._known[job_id] = (state, found)
            return found

    async def _look(self, job_id: str, heads: Sequence[Countersignature]) -> Verification:
        """At the output behind the events: one that is sealed meanwhile counts as not sealed yet."""
        now = self._now()
        try:
            events = await events_of_job(self._log, job_id)
        except LogCorrupt as error:
            broken = Check("history", Result.WRONG, f"{error}; see nunet audit verify")
            return _summed_up(job_id, now, (), [broken, _output(await self._outputs.about(job_id), ())])
        about = await self._outputs.about(job_id)
        if len(events) > MOST_EVENTS:
            many = f"the job has {len(events)} events, and {MOST_EVENTS} are looked at here; see nunet audit verify"
            return _summed_up(job_id, now, events, [Check("history", Result.OPEN, many), _output(about, events)])
        checks = await long_work(self._checks, events, heads)
        return _summed_up(job_id, now, events, [*checks, _output(about, events)])

    def _checks(self, events: Sequence[Recorded], heads: Sequence[Countersignature]) -> list[Check]:
        try:
            records = [signed_record(event, self._log.previous_hash(event.position), None) for event in events]
        except LogCorrupt as error:
            return [Check("history", Result.WRONG, f"{error}; see nunet audit verify")]
        try:
            witnesses = self._witnesses(events[-1].position, heads)
        except LogCorrupt as error:
            witnesses = Check("witnesses", Result.WRONG, f"{error}; see nunet audit verify")
        return [_history(records), _provider(records, self._signer), witnesses]

    def _witnesses(self, last: int, heads: Sequence[Countersignature]) -> Check:
        """Of heads that peers signed at or behind the job's newest event."""
        covering = [one for one in heads if one.head.position >= last]
        seen: list[str] = []
        for one in covering:
            position, peer = one.head.position, one.witness
            if position > self._log.head:
                what = f"the log's end is missing: peer {peer} has signed position {position}, it has {self._log.head}"
                return Check("witnesses", Result.WRONG, what)
            if not is_genuine(one, self._signer.verify):
                return Check("witnesses", Result.WRONG, f"the signature that is kept of peer {peer} is not its own")
            if self._log.previous_hash(position + 1).hex() != one.head.hash:
                what = f"peer {peer} has signed another event at position {position} than the log has"
                return Check("witnesses", Result.WRONG, what)
            seen.append(peer)
        if not seen:
            return Check("witnesses", Result.OPEN, "no peer has signed this log up to the job's newest event yet")
        return Check(
            "witnesses", Result.VERIFIED, f"this log up to the job's newest event is signed by {', '.join(seen)}"
        )


def _history(records: Sequence[SignedRecord]) -> Check:
    versions: dict[str, int] = {}
    for record in records:
        where = f"position {record.position} ({record.topic})"
        expected = versions[record.stream] = versions.get(record.stream, 0) + 1
        if record.version != expected:
            return Check("history", Result.WRONG, f"version {expected} of {record.stream} is missing before {where}")
        try:
            fits = record_hash(record, where).hex() == record.hash
        except PeerMisbehaved:
            fits = False
        if not fits:
            return Check("history", Result.WRONG, f"{where} was changed: its hash does not fit; see nunet audit verify")
    return Check("history", Result.VERIFIED, f"{len(records)} events fit their hashes and the links before them")


def _provider(records: Sequence[SignedRecord], signer: Signer) -> Check:
    """On the service provider, what the providers of its attempts have signed."""
    attempts = evidence(records)
    count = sum(len(attempt.held) for attempt in attempts)
    if not attempts:
        what = "this node ran the job itself: it signs each of the job's records that it hands on"
        return Check("provider", Result.VERIFIED, what)
    try:
        check_evidence(records, signer.verify)
    except LogCorrupt as error:
        return Check("provider", Result.WRONG, str(error))
    if not count:
        return Check("provider", Result.OPEN, "the provider has reported nothing yet")
    return Check("provider", Result.VERIFIED, f"{count} records are kept with the provider's own signatures")


def _output(about: StoredOutput, events: Sequence[Recorded]) -> Check:
    seals = [seal for event in events if (seal := sealed_by(event)) is not None]
    if about.damage:
        return Check("output", Result.WRONG, about.damage)
    if not seals:
        return Check("output", Result.OPEN, "the output is not sealed yet")
    if about.gaps:
        return Check("output", Result.OPEN, f"the output is not here: {about.gaps[0].reason}")
    if about.truncated and not seals[-1].truncated:
        return Check(
            "output", Result.OPEN, "this node keeps less of the output than was sealed, so it can't be compared"
        )
    lines = "1 line is" if about.lines == 1 else f"{about.lines} lines are"
    what = f"{lines} as sealed, the newest with SHA-256 {seals[-1].sha256}"
    return Check("output", Result.VERIFIED, what)


def _summed_up(job_id: str, now: int, events: Sequence[Recorded], checks: Sequence[Check]) -> Verification:
    results = {check.result for check in checks}
    worst = next(result for result in (Result.WRONG, Result.OPEN, Result.VERIFIED) if result in results)
    position = events[-1].position if events else 0
    return Verification(
        job_id=job_id, result=worst, position=position, events=len(events), checked_at=now, checks=tuple(checks)
    )
