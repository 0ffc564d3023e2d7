"""Has the head of our log signed by the peers that we work with, and signs theirs.

At the end of each job, and now and then while one runs, each side shows the other its head and gets it back with
the other's signature. What came of it is kept outside the log: an event about a head would make a new head, and what
must outlive the log's tail can't be in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence

from dms.application.loops import Loop, Loops
from dms.application.network.messages import CONTROL, HeadShown, HeadWitnessed, decode_answer, decode_request, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import HeadStore, Signer
from dms.application.tasks import background, cancelled
from dms.domain.deployment import Deployment
from dms.domain.heads import (
    Countersignature,
    HeadBook,
    Heads,
    SignedHead,
    Witnessed,
    held_against,
    is_genuine,
    sign_head,
    signed_by_author,
)
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.domain.retry import attempt_of, deployment_id, job_of
from dms.errors import (
    ArchiveUnreadable,
    Conflict,
    DmsError,
    Forbidden,
    InvalidInput,
    LogCorrupt,
    PeerMisbehaved,
    Unavailable,
)
from dms.long_work import long_work

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0  # between two heads shown while a job runs
SETTLE_SECONDS = 2.0  # jobs that end together share one head
WITNESS_SECONDS = 1.0  # a peer's heads that move faster than this have to wait
REQUEST_SECONDS = 10.0
RETRY_SECONDS = (5.0, 60.0, 600.0)  # to a peer that is away; then the next job is waited for
MOST_AT_ONCE = 8
OWED_EVENTS = 20_000  # so far back a start looks for jobs whose peers have not seen a head since their end
_BEGINS = (Job.DeploymentResponded.TOPIC, Deployment.Accepted.TOPIC)
_ENDS = (
    Job.Completed.TOPIC, Job.Failed.TOPIC, Job.AttemptFailed.TOPIC, Deployment.ContainerExited.TOPIC,
    Deployment.Failed.TOPIC, Deployment.Stopped.TOPIC,
)  # fmt: skip


class HeadExchange:
    def __init__(
        self,
        event_log: EventLog,
        network: PeerNetwork,
        signer: Signer,
        store: HeadStore,
        now: Callable[[], int],
        interval_seconds: float = INTERVAL_SECONDS,
        loops: Loops | None = None,
    ) -> None:
        """now: Unix time in microseconds."""
        self._log, self._network, self._signer, self._store, self._now = event_log, network, signer, store, now
        self._interval = interval_seconds
        self._loops = loops or Loops()
        self._book = HeadBook(store.load())
        self._stored = self._book.changes
        self._saving = asyncio.Lock()
        self._open: dict[str, str] = {}  # job -> the peer that shares it
        self._due: dict[str, str] = {}  # peer -> a job that it shares: it is to be shown our head
        self._showing: dict[str, asyncio.Task[None]] = {}
        self._following: list[Loop] = []
        self._position = 0
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)
        self._witnessed_at: dict[str, float] = {}  # peer -> seconds of the loop's clock

    async def start(self, open_jobs: Iterable[str]) -> None:
        """open_jobs: those that had not ended when the log was last written. Which peers are still to be shown a head
        for a job that is over, the log tells, and what they have signed."""
        self._position = max(self._log.first - 1, self._log.head - OWED_EVENTS, 0)
        await long_work(self._check_own)
        for job_id in open_jobs:
            self._look_at_job(job_id, 0)
        self._following = [
            self._loops.start("heads at the end of jobs", self._follow),
            self._loops.every(self._interval, "heads of running jobs", self._show_open, at_once=False),
        ]

    async def close(self) -> None:
        for loop in self._following:
            await loop.close()
        for task in list(self._showing.values()):
            await cancelled(task)

    def own_heads(self) -> Sequence[Countersignature]:
        """The newest of ours that each peer has signed."""
        return self._book.newest_own()

    def _check_own(self) -> None:
        """A cut tail is told at once, while somebody may still have a copy of it."""
        own = Heads(peer_id=self._signer.peer_id, own=tuple(self._book.newest_own()))
        for fault in self._held_against_log(own).faults:
            log.error("the event log is not what it was: %s", fault, extra={"action": "log_contradicted"})

    def _held_against_log(self, kept: Heads) -> Witnessed:
        def link_at(position: int) -> bytes | None:
            try:
                return self._log.previous_hash(position + 1) if position >= self._log.first else None
            except ArchiveUnreadable:  # it was archived meanwhile
                return None
            except LogCorrupt:
                return b""  # fits nothing

        return held_against([kept], self._signer.peer_id, self._log.head, link_at, self._signer.verify)

    # --- when a head is shown --------------------------------------------------------------------------
    async def _follow(self) -> None:
        async with contextlib.aclosing(self._log.subscribe(self._position, topics=(*_BEGINS, *_ENDS))) as batches:
            async for batch in batches:
                newest = {recorded.key: recorded.position for recorded in batch}
                for job_id, position in newest.items():
                    self._look_at_job(job_id, position)
                self._position = batch[-1].position

    async def _show_open(self) -> None:
        for job_id, peer_id in self._open.items():
            self._show_to(peer_id, job_id)

    def _look_at_job(self, job_id: str, position: int) -> None:
        """At its newest attempt."""
        try:
            self._look_at(self._newest_of(job_id), position)
        except Exception:  # one job that can't be read must not keep the others' heads
            log.exception("the head at the end of job %s", job_id, extra={"action": "head_failed"})

    def _look_at(self, job_id: str, position: int) -> None:
        """position: of the newest that is known of it here."""
        peer_id, goes_on = self._shared_with(job_id)
        for number in range(1, attempt_of(job_id)):  # an attempt that began follows one that is over
            self._open.pop(deployment_id(job_of(job_id), number), None)
        if peer_id in ("", self._signer.peer_id):
            return
        if goes_on:
            self._open[job_id] = peer_id
        else:
            self._open.pop(job_id, None)
            if self._witnessed(peer_id) < position:
                self._show_to(peer_id, job_id)

    def _witnessed(self, peer_id: str) -> int:
        """The highest position of ours that the peer has signed."""
        return max((found.head.position for found in self._book.newest_own(peer_id)), default=0)

    def _newest_of(self, job_id: str) -> str:
        """The attempt of it that both sides know; of our own deployments, themselves."""
        job = self._log.load(Job, job_id)
        return job.deployment_id if job is not None else job_id

    def _shared_with(self, job_id: str) -> tuple[str, bool]:
        """The peer that works on a job with us, and whether the job goes on. No peer unless both sides took it:
        anybody may ask for a job. job_id: that of the attempt."""
        job = self._log.load(Job, job_of(job_id))
        if job is not None:
            for attempt in job.attempts:
                if attempt.deployment_id == job_id and attempt.provider_version:
                    return attempt.provider, job.open and not attempt.over
            return "", False
        deployment = self._log.load(Deployment, job_id)
        if deployment is None or deployment.reserved == Resources():
            return "", False
        return deployment.service_provider, not deployment.ended

    # --- our head --------------------------------------------------------------------------------------
    def _show_to(self, peer_id: str, job_id: str) -> None:
        self._due[peer_id] = job_id
        if peer_id not in self._showing:
            self._showing[peer_id] = background(self._keep_showing(peer_id), f"head for {peer_id}")

    async def _keep_showing(self, peer_id: str) -> None:
        """Until it has seen the newest one asked for, or has been away for too long."""
        pauses = iter(RETRY_SECONDS)
        try:
            while job_id := self._due.pop(peer_id, ""):
                if await self._show(peer_id, job_id):
                    await asyncio.sleep(SETTLE_SECONDS)
                elif (pause := next(pauses, None)) is not None:
                    self._due.setdefault(peer_id, job_id)
                    await asyncio.sleep(pause)
        finally:
            del self._showing[peer_id]

    async def _show(self, peer_id: str, job_id: str) -> bool:
        """Whether there is nothing more to be done now; not when the peer is away."""
        try:
            async with self._at_once:
                await self.show(peer_id, job_id)
        except Unavailable as error:
            log.info("peer %s has not seen our head: %s", peer_id, error, extra={"action": "head_waits"})
            return False
        except Conflict as error:
            log.warning(
                "peer %s does not sign the head of this log: %s", peer_id, error, extra={"action": "head_refused"}
            )
        except DmsError as error:  # also of an older version, which does not know heads
            log.info("peer %s does not sign heads: %s", peer_id, error, extra={"action": "head_refused"})
        return True

    async def show(self, peer_id: str, job_id: str) -> None:
        """Shows a peer our head and keeps its signature. Raises what `PeerNetwork.request` does."""
        position = self._log.head
        newest = self._book.newest_own(peer_id)
        if not position or (newest and newest[0].head.position == position):
            return
        link = self._log.previous_hash(position + 1)
        head = sign_head(self._signer.peer_id, position, link, self._now(), self._signer.sign)
        body = encode(HeadShown(head=head, shared_job=job_id))
        answer = await self._network.request(peer_id, CONTROL, body, REQUEST_SECONDS)
        found = decode_answer(peer_id, answer, HeadWitnessed).countersignature
        self._check_answer(peer_id, head, found)
        self._book.keep_own(found)
        await self._save()

    def _check_answer(self, peer_id: str, shown: SignedHead, found: Countersignature) -> None:
        """Raises PeerMisbehaved. The head may be one shown earlier, of the same position."""
        own = (shown.peer_id, shown.position, shown.hash)
        same = (found.head.peer_id, found.head.position, found.head.hash) == own and found.witness == peer_id
        if not same or not is_genuine(found, self._signer.verify):
            raise PeerMisbehaved(f"{peer_id} sent a countersignature that is not of the head it was shown")

    # --- the heads of peers ----------------------------------------------------------------------------
    async def on_head(self, peer_id: str, body: bytes) -> bytes:
        """A message of the control protocol. Raises InvalidInput, Forbidden, Conflict, Unavailable."""
        message = decode_request(body, HeadShown)
        head = message.head
        if head.peer_id != peer_id:
            raise Forbidden(f"the head is of {head.peer_id}: a peer shows its own")
        if self._shared_with(message.shared_job)[0] != peer_id:
            raise Forbidden(f"job {message.shared_job} is not shared with {peer_id}")
        if not signed_by_author(head, self._signer.verify):
            raise InvalidInput("the head is not signed by its author")
        self._slow_down(peer_id)
        kept = self._book.changes
        try:
            found = self._book.witness(head, self._now(), self._signer.sign)
        except Conflict as error:
            if self._book.changes != kept:  # evidence that is new; a peer can't fill our log by repeating it
                log.warning("peer %s shows another history: %s", peer_id, error, extra={"action": "head_contradiction"})
                await self._save()
            raise
        await self._save()  # we stand by what we signed, also after a crash
        return encode(HeadWitnessed(countersignature=found))

    def _slow_down(self, peer_id: str) -> None:
        """Each signature is a write to the disk. Raises Unavailable."""
        now = asyncio.get_running_loop().time()
        recent = {peer: at for peer, at in self._witnessed_at.items() if now - at < WITNESS_SECONDS}
        if peer_id in recent:
            raise Unavailable("heads are witnessed once a second; try again in a moment")
        self._witnessed_at = {**recent, peer_id: now}

    async def _save(self) -> None:
        """What was changed before the call is on the disk after it; those who wait together share one write."""
        async with self._saving:
            if self._stored != self._book.changes:
                changes = self._book.changes
                await self._store.save(self._book.kept)
                self._stored = changes
