"""Finds payments in the log: by the transaction's hash, or by the job where the hash is erased."""

from __future__ import annotations

from collections.abc import Collection

from dms.application.ports import EventLog
from dms.domain.payment import Payment, payment_key

PAGE = 2000


def payment_of(log: EventLog, tx_hash: str) -> Payment:
    """One that was not used yet when the log has none; its key is empty for an empty hash."""
    key = payment_key(tx_hash)
    name = log.pseudonym(key) if key else ""
    # The second look: logs of format 1 named the stream by the hash itself.
    return log.load(Payment, name) or log.load(Payment, key) or Payment(name)


async def payments_of_jobs(log: EventLog, job_ids: Collection[str]) -> list[Payment]:
    """Those that pay for one of the jobs, oldest first. Reads all payments: a stream's name is made of the hash."""
    found: list[Payment] = []
    position, head = 0, log.head if job_ids else 0
    while position < head:
        page = await log.read(position, PAGE, topics=(Payment.Used.TOPIC,))
        for recorded in page:
            if isinstance(recorded.event, Payment.Used) and recorded.event.job_id in job_ids:
                payment = log.load(Payment, recorded.key)
                found += [payment] if payment is not None else []
        position = page[-1].position if len(page) == PAGE else head
    return found
