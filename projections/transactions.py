"""The transactions view: one row a paid job, of both roles, with who is owed what and whether it was paid out.

On the service provider a row follows the Job's events, on the compute provider the Deployment's; the amounts come
from the same pure rule as the claims (domain/reward.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from dms.domain.deployment import Deployment
from dms.domain.deployment import outcome_of as deployment_outcome
from dms.domain.event import Recorded
from dms.domain.job import Job
from dms.domain.job import outcome_of as job_outcome
from dms.domain.payment import Payment
from dms.domain.reward import Outcome, RewardType, reward, reward_type
from dms.errors import InvalidInput
from projections.base import Projection

DONE = "done"
SETTLED = (DONE, "withdrawn", "refunded", "distributed")
TYPES = ("running", *(kind.value for kind in RewardType), *SETTLED)


class TransactionRow(Struct, frozen=True, kw_only=True):
    """transaction_type: "refund" from the submission on (service provider) or "running" (compute provider), then
    the reward's type, then how it was settled. Amounts: NTX, decimal text; shares are empty while the job runs.
    payer: as the chain has it, else as the request says. Times: Unix µs. listed: false until it is paid for."""

    job_id: str
    role: str
    tx_hash: str
    transaction_type: str
    price: str
    minutes: int
    payee: str = ""
    payer: str = ""
    units: str = ""  # what arrived on the chain, in whole smallest units; empty when that was not looked at
    reward_type: str = ""
    to_provider: str = ""
    to_requester: str = ""
    claimed: bool = False
    settled_by: str = ""  # hash of the transaction that paid it out, where known
    date_time: int = 0
    ended_at: int = 0
    listed: bool = False
    hidden: bool = False
    position: int = 0


_COUNTED = frozenset((
    Job.ServiceRequested, Job.FundingAccepted, Job.Completed, Job.Failed, Job.RewardClaimed, Job.RewardSettled,
    Deployment.Requested, Deployment.FundingAccepted, Deployment.Accepted, Deployment.Rejected,
    Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped, Deployment.RewardClaimed,
    Deployment.RewardSettled,
))  # fmt: skip


class Transactions(Projection[TransactionRow]):
    name: ClassVar[str] = "transactions"
    row_type = TransactionRow
    columns: ClassVar[Mapping[str, str]] = {"shown": "TEXT", "transaction_type": "TEXT"}

    def key(self, recorded: Recorded) -> str | None:
        if isinstance(recorded.event, Payment.Hidden):
            return recorded.event.job_id
        return recorded.originator_id.partition("-")[2] if type(recorded.event) in _COUNTED else None

    def column_values(self, row: TransactionRow) -> tuple[Any, ...]:
        return "yes" if row.listed and not row.hidden else "no", row.transaction_type

    def apply(self, row: TransactionRow | None, recorded: Recorded) -> TransactionRow | None:
        if row is None:
            return _begin(recorded)
        if isinstance(recorded.event, Payment.Hidden):
            changes: dict[str, Any] = {"hidden": True}
        else:
            changes = _changes(row, recorded)
        return msgspec.structs.replace(row, position=recorded.position, **changes) if changes else row


def _begin(recorded: Recorded) -> TransactionRow | None:
    match recorded.event:
        case Job.ServiceRequested(request=request, price=price, payee=payee):
            role, kind = "service provider", RewardType.REFUND.value
        case Deployment.Requested(request=request, price=price, payee=payee):
            role, kind = "compute provider", "running"
        case _:
            return None
    return TransactionRow(
        job_id=recorded.originator_id.partition("-")[2],
        role=role,
        tx_hash=request.tx_hash if role == "compute provider" else "",
        transaction_type=kind,
        price=price,
        minutes=request.constraints.time,
        payee=payee,
        payer=request.address_user,
        position=recorded.position,
    )


def _changes(row: TransactionRow, recorded: Recorded) -> dict[str, Any]:
    event, time = recorded.event, recorded.time
    match event:
        case Job.FundingAccepted() | Deployment.FundingAccepted():
            found = {"listed": True, "date_time": time, "tx_hash": event.tx_hash, "units": event.units}
            return found | ({"payer": event.payer} if event.payer else {})
        case Deployment.Accepted():
            return {"listed": True, "date_time": row.date_time or time}
        case Job.RewardClaimed() | Deployment.RewardClaimed():
            return {"claimed": True}
        case Job.RewardSettled() | Deployment.RewardSettled():
            return {"transaction_type": event.transaction_type, "settled_by": event.tx_hash}
    outcome = job_outcome(event) or deployment_outcome(event)
    return {} if outcome is None else _ended(row, outcome, time)


def _ended(row: TransactionRow, outcome: Outcome, time: int) -> dict[str, Any]:
    if not row.listed:
        return {}  # never paid for, as far as we know; a stranger's request may name any price
    kind = reward_type(outcome, row.minutes).value
    changes: dict[str, Any] = {"transaction_type": kind, "reward_type": kind, "ended_at": time}
    try:
        found = reward(row.price, row.minutes, outcome)
    except InvalidInput:
        return changes  # of a version that took any text for a price
    return changes | {"to_provider": found.to_provider, "to_requester": found.to_requester}
