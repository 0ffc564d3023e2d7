"""Finds the payment with a transaction's hash in the log."""

from __future__ import annotations

from dms.application.ports import EventLog
from dms.domain.payment import Payment, payment_key


def payment_of(log: EventLog, tx_hash: str) -> Payment:
    """One that was not used yet when the log has none; its key is empty for an empty hash."""
    key = payment_key(tx_hash)
    name = log.pseudonym(key) if key else ""
    # The second look: logs of format 1 named the stream by the hash itself.
    return log.load(Payment, name) or log.load(Payment, key) or Payment(name)
