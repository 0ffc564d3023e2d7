"""What the daemon has told so far: a snapshot, with the events behind it folded in by the daemon's own views. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from dms.cli.failure import Failure
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.event import Fact, decode, event_type
from dms.domain.hold import Hold
from dms.domain.resources import Gpu, Resources
from dms.errors import LogCorrupt
from projections.base import fold
from projections.jobs import OPEN_STATUSES, JobRow, Jobs

PREFIX = "io.nunet.dms."
REQUESTED, RUN_HERE = "service provider", "compute provider"
OPEN = frozenset(("requested", *OPEN_STATUSES))
MOST_ENDED = 200  # kept of the jobs that are over: the newest
_MACHINE = (Device.KIND, Hold.KIND)
_MOVES_MACHINE = frozenset((
    Deployment.Accepted, Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped,
    Deployment.RewardClaimed, Deployment.RewardSettled,
))  # fmt: skip
_JOBS = Jobs()


class StreamedEvent(Struct, frozen=True):
    """What a fold needs of a CloudEvent."""

    type: str
    subject: str
    time: str
    position: int
    data: msgspec.Raw


class Peer(Struct, frozen=True):
    """rtt_ms: of the newest round trip; None while it is not known."""

    id: str
    rtt_ms: float | None = None


class Machine(Struct, frozen=True, kw_only=True):
    """This machine as a provider. why_not: why it takes no jobs. earned_ntx, to_claim_ntx: decimal text, in all, and of
    that what was not asked for yet. providers: that are known of the network, and how many of them take jobs. hidden:
    the caller sees no more of it than these."""

    hidden: bool = False
    onboarded: bool = False
    accepting: bool = False
    why_not: tuple[str, ...] = ()
    trouble: str = ""  # of the network of jobs, which are taken all the same
    core_mhz: float = 0.0  # of each core
    total: Resources = Resources()
    offered: Resources = Resources()
    reserved: Resources = Resources()
    gpus: tuple[Gpu, ...] = ()
    earned_ntx: str = "0"
    to_claim_ntx: str = "0"
    providers: int = 0
    providers_online: int = 0


class Use(Struct, frozen=True):
    """What a job uses now. cpu_cores: None before the second sample."""

    cpu_cores: float | None
    memory_mb: int


class Board:
    """jobs: by id, all that are open, and the newest of the others. position: up to which all is told."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobRow] = {}
        self.position = 0
        self.machine = Machine()
        self.peers: tuple[Peer, ...] = ()
        self.uses: dict[str, Use] = {}

    def begin(self, rows: Iterable[JobRow], position: int) -> None:
        """With a snapshot, in place of all that was there."""
        self.jobs = {row.job_id: row for row in rows}
        self.position = position
        self._forget_oldest()

    def take(self, facts: Iterable[Fact]) -> None:
        """Events, in order. Those that the rows have counted in already change nothing."""
        for fact in facts:
            self.position = max(self.position, fact.position)
            job_id = _JOBS.key(fact)
            if job_id is None:
                continue
            before = self.jobs.get(job_id)
            if before is not None and fact.position <= before.position:
                continue
            fold(_JOBS, self.jobs, (fact,))
            if job_id in self.jobs and self.jobs[job_id].status not in OPEN:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        ended = [row for row in self.jobs.values() if row.status not in OPEN]
        if len(ended) <= MOST_ENDED:
            return
        ended.sort(key=lambda row: row.ended_at or row.requested_at)
        for row in ended[:-MOST_ENDED]:
            del self.jobs[row.job_id]
        self.uses = {job_id: use for job_id, use in self.uses.items() if job_id in self.jobs}


def moves_machine(fact: Fact) -> bool:
    """Whether what the machine has free, or is owed, is another one afterwards."""
    return fact.kind in _MACHINE or fact.event_type in _MOVES_MACHINE


def fact_of(event: StreamedEvent) -> Fact:
    """Raises Failure."""
    topic, _, version = event.type.removeprefix(PREFIX).rpartition(".v")
    kind, _, key = event.subject.partition("-")
    try:
        decoded = decode(topic, int(version), bytes(event.data))
        time = _time_us(event.time)
    except (LogCorrupt, ValueError) as error:
        raise Failure(f"the daemon sent an event that can't be read: {error}") from error
    return Fact(event.position, kind, key, topic, time, event_type(topic, int(version)), decoded)


def row_of(shown: Mapping[str, Any]) -> JobRow:
    """Of the API's answer, whose times are texts. Raises Failure."""
    found = {key: _time_us(value) if key.endswith("_at") else value for key, value in shown.items()}
    found["failed_attempts"] = [
        {**attempt, "failed_at": _time_us(attempt.get("failed_at"))} for attempt in shown.get("failed_attempts") or ()
    ]
    found.pop("timeline", None)
    try:
        return msgspec.convert(found, JobRow)
    except msgspec.ValidationError as error:
        raise Failure(f"the daemon described a job in a way that can't be read: {error}") from error


def machine_of(
    status: Mapping[str, Any],
    hardware: Mapping[str, Any],
    capacity: Mapping[str, Any],
    earnings: Mapping[str, Any],
) -> Machine:
    """Of the answers of /device/status, /onboarding/provisioned, /capacity and /earnings."""
    own: Mapping[str, Any] = next((row for row in capacity["providers"] if row["own"]), {})
    network = capacity["network"]
    onboarded = bool(own.get("channel")) and any(own.get("onboarded", {}).values())
    return Machine(
        hidden=False,
        onboarded=onboarded,
        accepting=bool(status["accepting"]),
        why_not=_why_not(status, onboarded=onboarded),
        trouble=str(status.get("network_trouble") or ""),
        core_mhz=float(hardware["cpu"]) / max(1.0, float(hardware["total_cores"])),
        **{
            name: msgspec.convert(own.get(key, {}), Resources)
            for name, key in (("total", "total"), ("offered", "onboarded"), ("reserved", "reserved"))
        },
        gpus=msgspec.convert(own.get("gpus", ()), tuple[Gpu, ...]),
        earned_ntx=str(earnings["total"]["earned_ntx"]),
        to_claim_ntx=str(earnings["total"]["to_claim_ntx"]),
        providers=int(network["providers"]),
        providers_online=int(network["online"]),
    )


def hidden_machine(capacity: Mapping[str, Any]) -> Machine:
    """Of the answer of /capacity, for a caller that is not let in to what is the provider's."""
    network = capacity["network"]
    return Machine(hidden=True, providers=int(network["providers"]), providers_online=int(network["online"]))


def _why_not(status: Mapping[str, Any], *, onboarded: bool) -> tuple[str, ...]:
    """With what its owner can do about it."""
    reasons = tuple(str(closed["reason"]) for closed in status["reasons"])
    if not onboarded:
        return (*reasons, "offer it with: nunet onboard")
    return reasons if status["online"] else (*reasons, "change that with: nunet device set online")


def _time_us(text: object) -> int:
    """Of RFC 3339; 0 for none. Raises ValueError."""
    return round(datetime.fromisoformat(str(text)).timestamp() * 1_000_000) if text else 0
