"""A payment on a chain, and the one job it pays for. Its stream is the proof: while it pays for a job, a second one
with the same transaction hash can't be written. Of the attempts of a job the newest has it; a job that is over and
never ran leaves it to the next.

The stream is not named by the hash, which tells of a person, but by a pseudonym of it that only this node can make: so
a payment stays used when all else about its job is erased.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.event import Event, register
from dms.domain.retry import attempt_of, job_of
from dms.errors import Conflict


def payment_key(tx_hash: str) -> str:
    """One form for all spellings: case, blanks and the 0x do not make another payment."""
    return tx_hash.strip().casefold().removeprefix("0x")


class Payment(Aggregate):
    KIND: ClassVar[str] = "payment"

    @register
    class Used(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "payment.used"
        job_id: str

    @register
    class Released(Event, frozen=True, kw_only=True, gc=False):
        """The job, or on a compute provider the attempt, that it paid for is over and earned nothing: it pays for
        another one, in place of being paid back."""

        TOPIC: ClassVar[str] = "payment.released"
        job_id: str

    @register
    class Hidden(Event, frozen=True, kw_only=True, gc=False):
        """Its job's transaction is left out of the list; the history keeps it."""

        TOPIC: ClassVar[str] = "payment.hidden"
        job_id: str

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.job_id = ""
        self._paid_jobs, self._hidden_jobs = set[str](), set[str]()

    def use(self, job_id: str, *, free: bool = False) -> None:
        """job_id: on a compute provider, of the deployment. free: whether the job that it pays for leaves it to others.
        Raises Conflict when it pays for another job already; again for the same job is fine."""
        refusal = self.refusal(job_id, free=free)
        if refusal:
            raise Conflict(refusal)
        if self.job_id == job_id:
            return
        if self.job_id:
            self.trigger(self.Released(job_id=self.job_id))
        self.trigger(self.Used(job_id=job_id))

    def refusal(self, job_id: str, *, free: bool = False) -> str:
        """Why it can't pay for that job; empty when it can."""
        if free or self.job_id in ("", job_id) or self._is_earlier(job_id):
            return ""
        return "this transaction was used already: it pays for another job"  # whose id is nothing for who asks

    def _is_earlier(self, job_id: str) -> bool:
        """Whether it pays for an earlier attempt of that job."""
        return job_of(self.job_id) == job_of(job_id) and attempt_of(self.job_id) < attempt_of(job_id)

    def hide(self, job_ids: Iterable[str]) -> bool:
        """Whether that is news. job_ids: whose transactions; it may pay for another job by now."""
        found = [job_id for job_id in job_ids if job_id in self._paid_jobs and job_id not in self._hidden_jobs]
        self.trigger(*(self.Hidden(job_id=job_id) for job_id in found))
        return bool(found)

    @applies(Hidden)
    def _hidden(self, event: Hidden) -> None:
        self._hidden_jobs.add(event.job_id)

    @applies(Used)
    def _used(self, event: Used) -> None:
        self.job_id = event.job_id
        self._paid_jobs.add(event.job_id)

    @applies(Released)
    def _released(self, _: Released) -> None:
        self.job_id = ""
