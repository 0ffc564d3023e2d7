"""The transactions view: one row a paid job, of both roles, with who is owed what and whether it was paid out.

On the service provider a row follows the Job's events, on the compute provider the Deployment's; the amounts come
from the same pure rule as the claims (domain/reward.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.deployment import Deployment
from dms.domain.deployment import outcome_of as deployment_outcome
from dms.domain.event import AnyFact, Event
from dms.domain.job import Job
from dms.domain.job import outcome_of as job_outcome
from dms.domain.payment import Payment
from dms.domain.reward import Outcome, RewardType, reward, reward_type
from dms.errors import InvalidInput
from projections.base import Projection

DONE = "done"
SETTLED = (DONE, "withdrawn", "refunded", "distributed")
TYPES = ("running", *(kind.value for kind in RewardType), *SETTLED)


class TransactionRow(Struct, frozen=True, kw_only=True, gc=False):
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


_COUNTED: frozenset[type[Event]] = frozenset((
    Job.ServiceRequested, Job.FundingAccepted, Job.AttemptStarted, Job.Completed, Job.Failed, Job.RewardClaimed,
    Job.RewardSettled,
    Deployment.Requested, Deployment.FundingAccepted, Deployment.Accepted, Deployment.Rejected,
    Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped, Deployment.RewardClaimed,
    Deployment.RewardSettled,
))  # fmt: skip


class Transactions(Projection[TransactionRow]):
    name: ClassVar[str] = "transactions"
    event_types = _COUNTED | {Payment.Hidden, Payment.Released}
    places_only = frozenset((Deployment.Accepted, Job.RewardClaimed, Deployment.RewardClaimed))
    row_type = TransactionRow
    columns: ClassVar[Mapping[str, str]] = {"shown": "TEXT", "transaction_type": "TEXT"}

    def key(self, recorded: AnyFact) -> str | None:
        event = recorded.event
        if isinstance(event, Payment.Hidden | Payment.Released):
            return event.job_id
        return recorded.key if recorded.event_type in _COUNTED else None

    def column_values(self, row: TransactionRow) -> tuple[Any, ...]:
        return "yes" if row.listed and not row.hidden else "no", row.transaction_type

    def apply(self, row: TransactionRow | None, recorded: AnyFact) -> TransactionRow | None:
        if row is None:
            return _begin(recorded)
        effect = _EFFECTS.get(recorded.event_type)
        changes = effect(row, recorded.event, recorded.time) if effect is not None else None
        return replace(row, position=recorded.position, **changes) if changes else row


def _begin(recorded: AnyFact) -> TransactionRow | None:
    match recorded.event:
        case Job.ServiceRequested(request=request, price=price, payee=payee):
            role, kind = "service provider", RewardType.REFUND.value
        case Deployment.Requested(request=request, price=price, payee=payee):
            role, kind = "compute provider", "running"
        case _:
            return None
    return TransactionRow(
        job_id=recorded.key,
        role=role,
        tx_hash=request.tx_hash if role == "compute provider" else "",
        transaction_type=kind,
        price=price,
        minutes=request.constraints.time,
        payee=payee,
        payer=request.address_user,
        position=recorded.position,
    )


# --- what each event changes: (row, event, Unix µs) -> fields ------------------------------------------
def _funded(_row: TransactionRow, event: Any, time: int) -> dict[str, Any]:
    found = {"listed": True, "date_time": time, "tx_hash": event.tx_hash, "units": event.units}
    return found | ({"payer": event.payer} if event.payer else {})


def _settled(_row: TransactionRow, event: Any, _time: int) -> dict[str, Any]:
    return {"transaction_type": event.transaction_type, "settled_by": event.tx_hash}


def _job_ended(row: TransactionRow, event: Any, time: int) -> dict[str, Any]:
    return _ended(row, job_outcome(event), time)


def _deployment_ended(row: TransactionRow, event: Any, time: int) -> dict[str, Any]:
    return _ended(row, deployment_outcome(event), time)


def _ended(row: TransactionRow, outcome: Outcome | None, time: int) -> dict[str, Any]:
    if outcome is None or not row.listed:
        return {}  # never paid for, as far as we know; a stranger's request may name any price
    try:
        found = reward(row.price, row.minutes, outcome)
    except InvalidInput:  # of a version that took any text for a price
        return _of_type(reward_type(outcome, row.minutes), time)
    return _of_type(found.reward_type, time) | {"to_provider": found.to_provider, "to_requester": found.to_requester}


def _of_type(kind: RewardType, time: int) -> dict[str, Any]:
    return {"transaction_type": kind.value, "reward_type": kind.value, "ended_at": time}


_EFFECTS: dict[type[Event], Callable[[TransactionRow, Any, int], dict[str, Any]]] = {
    Payment.Hidden: lambda _row, _event, _time: {"hidden": True},
    Payment.Released: lambda _row, _event, _time: {"transaction_type": DONE},  # it pays for another job now
    Job.FundingAccepted: _funded,
    Job.AttemptStarted: lambda _row, event, _time: {"payee": event.payee, "minutes": event.minutes},
    Job.RewardClaimed: lambda _row, _event, _time: {"claimed": True},
    Job.RewardSettled: _settled,
    Job.Completed: _job_ended,
    Job.Failed: _job_ended,
    Deployment.FundingAccepted: _funded,
    Deployment.Accepted: lambda row, _event, time: {"listed": True, "date_time": row.date_time or time},
    Deployment.RewardClaimed: lambda _row, _event, _time: {"claimed": True},
    Deployment.RewardSettled: _settled,
    Deployment.Rejected: _deployment_ended,
    Deployment.ContainerExited: _deployment_ended,
    Deployment.Failed: _deployment_ended,
    Deployment.Stopped: _deployment_ended,
}
