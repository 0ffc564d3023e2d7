"""What follows from the open jobs that this node asked for, in memory, so that a payment needs no search."""

from __future__ import annotations

from collections.abc import Iterable

from dms.application.ports.event_log import EventLog
from dms.domain.job import Job, JobState
from dms.domain.payment import payment_key


class JobIndex:
    """Kept by the log, with each decision and with each one that could not be written: see `EventLog.index`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        # Client -> ids of its jobs that await funding, oldest first (UUIDv7s sort by age)
        self._awaiting: dict[str, dict[str, None]] = {}
        self._clients: dict[str, str] = {}  # of those jobs
        self._paid_with: dict[str, str] = {}  # job id -> the payment that is being checked
        self._jobs: dict[str, list[str]] = {}  # payment -> the jobs it was reported for, while it is checked
        log.index(Job, self._restate)

    def take_up(self, job_ids: Iterable[str]) -> None:
        """Those that were open when the log was last written."""
        for job_id in sorted(job_ids):
            self._restate(job_id, self._log.load(Job, job_id))

    def latest_awaiting(self, client: str) -> str:
        """The job that was asked for last of the client's that await funding; empty for none."""
        return next(reversed(self._awaiting.get(client, {})), "")

    def awaiting(self, client: str) -> int:
        """How many jobs of the client await funding."""
        return len(self._awaiting.get(client, ()))

    def checked_for(self, payment: str) -> str:
        """The job for which that payment is being checked, the first if there are several; empty for none."""
        return next(iter(self._jobs.get(payment, ())), "")

    def _restate(self, job_id: str, job: Job | None) -> None:
        state = JobState.NEW if job is None else job.state
        if job is None or state is not JobState.AWAITING:
            self._forget(job_id)
        elif job_id not in self._clients:
            self._await(job_id, job.client)
        self._check(job_id, payment_key(job.tx_hash) if job is not None and state is JobState.FUNDING else "")

    def _await(self, job_id: str, client: str) -> None:
        late = job_id < self.latest_awaiting(client)  # only after a decision that could not be written
        self._clients[job_id] = client
        found = self._awaiting.setdefault(client, {})
        found[job_id] = None
        if late:
            self._awaiting[client] = dict.fromkeys(sorted(found))

    def _forget(self, job_id: str) -> None:
        client = self._clients.pop(job_id, None)
        if client is not None:
            found = self._awaiting[client]
            del found[job_id]
            if not found:
                del self._awaiting[client]

    def _check(self, job_id: str, payment: str) -> None:
        before = self._paid_with.get(job_id, "")
        if payment == before:
            return
        if before:
            del self._paid_with[job_id]
            self._jobs[before].remove(job_id)
            if not self._jobs[before]:
                del self._jobs[before]
        if payment:
            self._paid_with[job_id] = payment
            self._jobs.setdefault(payment, []).append(job_id)
