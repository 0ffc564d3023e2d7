"""What a list of jobs is filtered, sorted and summed by: columns beside the jobs view's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from dms.domain.job import Job
from dms.domain.reward import PLACES, amount, from_units, to_units
from dms.errors import InvalidInput

COLUMNS: Mapping[str, str] = {
    "status": "TEXT",
    "role": "TEXT",
    "peer": "TEXT",
    "image": "TEXT",
    "requested_at": "INTEGER",
    "ended_at": "INTEGER",
    "ended_day": "TEXT",
    "price": "TEXT",
    "reward": "TEXT",
    "cost_thousands": "INTEGER",
    "cost_rest": "INTEGER",
    "searched": "TEXT",
    "client": "TEXT",
    "untold": "TEXT",
    "gpus": "TEXT",
}
"""ended_day: in UTC, as in 2026-01-31; empty while the job is not over. price: in an order of text. reward: of a job
that was paid for and is over, one of REWARDS; else empty. cost_*: two numbers whose sums are exact; see `ntx`.
searched: see `searchable`. untold: UNTOLD or empty; see `is_untold`. gpus: as `cards_of` takes them."""
INDEXED = (
    "status, role, reward, ended_day, ended_at, peer, cost_thousands, cost_rest",  # for sums without a look at rows
    "peer",
    "requested_at",
    "ended_at",
    "price",
    "client",
    "untold",
)
TO_CLAIM, CLAIMED, PAID_OUT = REWARDS = ("to claim", "claimed", "paid out")
UNTOLD = "untold"
COST = ("cost_thousands", "cost_rest")
NO_GPU = "none"

_THOUSANDS = 1000 * 10**PLACES
_DIGITS = 24  # of the largest price in whole smallest units
_DAY_US = 86_400 * 1_000_000
_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1_000_000


class Moment(Protocol):
    event: str


class Listed(Protocol):
    """What of a row of the view counts here."""

    job_id: str
    role: str
    status: str
    peer: str
    price: str
    image: str
    requested_at: int
    started_at: int
    ended_at: int
    reason: str
    paid: bool
    cost: str
    claimed: bool
    settled: bool
    client: str
    timeline: Sequence[Moment]
    gpus: tuple[str, ...]


def column_values(row: Any) -> tuple[Any, ...]:
    """In the order of COLUMNS. row: Listed."""
    listed: Listed = row
    thousands, rest = divmod(_units(listed.cost) or 0, _THOUSANDS)
    return (
        listed.status,
        listed.role,
        listed.peer,
        listed.image,
        listed.requested_at,
        listed.ended_at,
        day_of(listed.ended_at),
        in_order(listed.price),
        reward_of(listed),
        thousands,
        rest,
        searchable("\n".join((listed.job_id, listed.image, listed.peer, listed.reason))),
        listed.client,
        UNTOLD if is_untold(listed) else "",
        ",".join(listed.gpus),
    )


_BEGINS = (Job.Submitted.TOPIC, Job.AttemptStarted.TOPIC)
_FAILS = (Job.AttemptFailed.TOPIC, Job.Failed.TOPIC)
_TOLD = (Job.ProviderTold.TOPIC, Job.TellingGivenUp.TOPIC)


def is_untold(row: Listed) -> bool:
    """Whether the provider of an attempt of a job that is over may not know that yet, as far as the timeline tells: one
    that has ended it itself sealed its output just before, or never started it. The job knows for certain."""
    if row.status not in ("failed", "completed") or row.role != "service provider":
        return False
    untold, begun, before = 0, False, ""
    for topic in (moment.event for moment in row.timeline):
        if topic in _BEGINS:
            begun = True
        elif topic in _FAILS and begun:
            refused = before == Job.DeploymentResponded.TOPIC and not row.started_at
            untold, begun = untold + (before != Job.LogSealed.TOPIC and not refused), False
        untold -= topic in _TOLD
        before = topic
    return untold + (begun and row.status == "failed") > 0  # its end may have been too much for the timeline


def searchable(text: str) -> str:
    """Text as it is searched: upper and lower case are the same."""
    return text.casefold()


def day_of(time_us: int) -> str:
    if not 0 < time_us <= _LATEST:
        return ""
    return datetime.fromtimestamp(time_us // _DAY_US * 86_400, UTC).strftime("%Y-%m-%d")


def in_order(price: str) -> str:
    """The price so that the order of texts is that of amounts; what is no amount comes first."""
    units = _units(price)
    return "" if units is None else f"{units:0{_DIGITS}d}"


def sum_in_order(counts: Mapping[str, int]) -> str:
    """What so many jobs of each price come to, decimal text. counts: price, as `in_order` makes it -> how many jobs."""
    return from_units(sum(int(price or 0) * jobs for price, jobs in counts.items()), PLACES)


def reward_of(row: Listed) -> str:
    if not row.cost:
        return ""
    return PAID_OUT if row.settled else CLAIMED if row.claimed else TO_CLAIM


def cards_of(gpus: str) -> list[str]:
    """NO_GPU for none."""
    return gpus.split(",") if gpus else [NO_GPU]


def shared(thousands: int, rest: int, among: int) -> list[tuple[int, int]]:
    """Sums of the COST columns in as many equal parts. What does not divide goes to the first."""
    part, left = divmod(thousands * _THOUSANDS + rest, among)
    return [divmod(part + (left if number == 0 else 0), _THOUSANDS) for number in range(among)]


def ntx(thousands: int, rest: int) -> str:
    """What the sums of the COST columns come to, decimal text."""
    return from_units(thousands * _THOUSANDS + rest, PLACES)


def _units(price: str) -> int | None:
    try:
        return to_units(amount(price), PLACES) if price else None
    except InvalidInput:  # a stranger's request may name any text for a price
        return None
