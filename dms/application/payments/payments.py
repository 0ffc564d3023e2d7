"""Finds payments in the log: by the transaction's hash, or by the job where the hash is erased."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from dms.application.ports.event_log import EventLog
from dms.domain.deployment import Deployment
from dms.domain.event import Event, Recorded
from dms.domain.job import Job
from dms.domain.payment import Payment, payment_key
from dms.domain.retry import may_be_repeated
from dms.domain.reward import RewardType
from dms.errors import Conflict

PAGE = 2000


def payment_of(log: EventLog, tx_hash: str) -> Payment:
    """One that was not used yet when the log has none; its key is empty for an empty hash."""
    key = payment_key(tx_hash)
    name = log.pseudonym(key) if key else ""
    # The second look: logs of format 1 named the stream by the hash itself.
    return log.load(Payment, name) or log.load(Payment, key) or Payment(name)


class Paying:
    """A payment that is to pay for a job. payment: to be saved with the decision."""

    def __init__(self, log: EventLog, tx_hash: str, job_id: str, peer_id: str = "") -> None:
        """job_id: on a compute provider, of the deployment; peer_id: who asks for it there."""
        self.payment, self._job_id, self._peer_id = payment_of(log, tx_hash), job_id, peer_id
        self._free = _is_free(log, self.payment)
        moves = self.payment.job_id not in ("", job_id)
        self._before = log.load(Deployment, self.payment.job_id) if peer_id and moves else None

    @property
    def is_named(self) -> bool:
        return bool(self.payment.key)

    @property
    def refusal(self) -> str:
        """Why it can't; empty when it can."""
        refusal, before = self.payment.refusal(self._job_id, free=self._free), self._before
        if refusal or before is None:
            return refusal
        if before.service_provider != self._peer_id:
            return "this transaction pays for a job of another peer"  # whose id is nothing for who asks
        return "" if self._free else _why_not_repeated(before)

    @property
    def kept_by(self) -> str:
        """The id of an earlier attempt of the job which has it until it has ended here; empty for none. That is no
        refusal of the payment: it may be free for the next one soon."""
        return self._before.key if self._before is not None and not self._before.ended else ""

    @property
    def can_be_used(self) -> bool:
        return not (self.refusal or self.kept_by)

    def use(self) -> None:
        """Raises Conflict when it can't."""
        if not self.can_be_used:
            raise Conflict(self.refusal or still_runs(self.kept_by))
        self.payment.use(self._job_id, free=self._free)


def still_runs(attempt: str) -> str:
    """attempt: the id of one, as its own service provider knows it."""
    return f"an earlier attempt of the job, {attempt}, has not ended here yet"


def _why_not_repeated(before: Deployment) -> str:
    """Why the payment stays with an attempt; empty when the next attempt can have it, or while it has not ended."""
    if before.reward is None or before.fault is None:
        return ""
    if before.reward.reward_type is not RewardType.REFUND:
        return f"an earlier attempt of the job, {before.key}, has earned of this transaction"
    if before.claimed or before.settled:
        return f"the refund of an earlier attempt of the job, {before.key}, was claimed or paid already"
    if not may_be_repeated(before.fault, before.outcome, before.minutes):
        return f"an earlier attempt of the job, {before.key}, is not repeated: its end was not the provider's fault"
    return ""


def _is_free(log: EventLog, payment: Payment) -> bool:
    """Whether the job that it paid for leaves it to others, as far as this node knows: on either side its own word
    counts."""
    works = (log.load(Job, payment.job_id), log.load(Deployment, payment.job_id)) if payment.job_id else ()
    known = [work for work in works if work is not None]
    return bool(known) and all(work.payment_is_free for work in known)


async def never_run(log: EventLog, tx_hash: str) -> Deployment | None:
    """The newest deployment that was asked for with that transaction and is over without having run, though the
    payment was never counted for it: it was refused or stopped before."""
    key, found = payment_key(tx_hash), None
    async for recorded in _all_of(log, Deployment.Requested):
        event = recorded.event
        if isinstance(event, Deployment.Requested) and payment_key(event.request.tx_hash) == key:
            deployment = log.load(Deployment, recorded.key)
            found = deployment if deployment is not None and deployment.payment_is_free else found
    return found


async def _all_of(log: EventLog, kind: type[Event]) -> AsyncIterator[Recorded]:
    position, head = 0, log.head
    while position < head:
        page = await log.read(position, PAGE, topics=(kind.TOPIC,))
        for recorded in page:
            yield recorded
        position = page[-1].position if len(page) == PAGE else head


async def payments_of_jobs(log: EventLog, job_ids: Collection[str]) -> list[Payment]:
    """Those that pay for one of the jobs, oldest first. Reads all payments: a stream's name is made of the hash."""
    found: list[Payment] = []
    if not job_ids:
        return found
    async for recorded in _all_of(log, Payment.Used):
        if isinstance(recorded.event, Payment.Used) and recorded.event.job_id in job_ids:
            payment = log.load(Payment, recorded.key)
            found += [payment] if payment is not None else []
    return found
