"""What is erased of a person: found, and decided. The history stays, and stays provable: see domain/sealing.py.

The decision is an event; it is carried out by a reactor: see carry_out_erasures.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from dms.application.ports.event_log import EventLog
from dms.application.reactors import Reactor
from dms.application.records.carry_out_erasures import CarryOutErasures
from dms.application.records.personal import personal_texts
from dms.application.records.redaction import forms, holding
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.directory import Provider
from dms.domain.erasure import MOST_SCOPES, Erasure
from dms.domain.event import EVENT_TYPES, Recorded, new_id
from dms.domain.job import Job
from dms.domain.payment import payment_key
from dms.domain.retry import job_of
from dms.domain.sealing import ERASED, scope_of
from dms.domain.transfer import Transfer
from dms.errors import Conflict, InvalidInput, NotFound
from dms.long_work import long_work

PAGE = 2000
SHORTEST_SUBJECT = 8  # characters; a shorter one is not an address, hash, id or name of one person


class Open(Struct, frozen=True, kw_only=True):
    """What can't be erased yet, and why."""

    scope: str
    reason: str


class Found(Struct, frozen=True, kw_only=True):
    """scopes: job ids, and streams such as transfer-<id>. more: there are more than one erasure may have."""

    scopes: tuple[str, ...]
    open: tuple[Open, ...]
    more: bool


class Outcome(Struct, frozen=True, kw_only=True):
    """remaining: files of the data folder in which the subject's own text still stands."""

    erasure_id: str
    scopes: tuple[str, ...]
    open: tuple[Open, ...]
    more: bool
    keys: int
    files: int
    remaining: tuple[str, ...]


class Erasures:
    """reactors: carry out what was decided, started once for the daemon (see `Reactors`)."""

    def __init__(self, event_log: EventLog, carrying: CarryOutErasures, data_dir: Path) -> None:
        self._log, self._carrying, self._data_dir = event_log, carrying, data_dir
        self._deciding = asyncio.Lock()
        self.reactors: Sequence[Reactor[Erasure]] = (carrying,)

    async def find(self, subject: str) -> Found:
        """What tells of the subject: a wallet's address, a transaction's hash, a peer id, any other personal text as
        a whole, a job's or a transfer's id. Raises InvalidInput, NotFound."""
        wanted = payment_key(subject)
        if len(wanted) < SHORTEST_SUBJECT or wanted == ERASED:
            raise InvalidInput(
                f"subject '{subject[:64]}' is too short: give a wallet address, a transaction hash, a peer id, or the "
                "id of a job or transfer",
                [("/subject", f"at least {SHORTEST_SUBJECT} characters")],
            )
        scopes = dict.fromkeys(self._named(subject.strip()))
        position, head = 0, self._log.head
        topics = tuple(topic for topic, cls in EVENT_TYPES.items() if cls.PERSONAL)
        while position < head and len(scopes) <= MOST_SCOPES:
            page = await self._log.read(position, PAGE, topics=topics)
            scopes |= dict.fromkeys(await long_work(_about, page, wanted))
            position = page[-1].position if len(page) == PAGE else head
        if not scopes:
            raise NotFound("nothing on this node tells of that subject")
        names, whole = self._with_attempts(scopes)
        still_open = {scope: reason for scope in names if (reason := self._hindrance(scope))}
        return Found(
            scopes=tuple(scope for scope in names if scope not in still_open),
            open=tuple(Open(scope=scope, reason=reason) for scope, reason in still_open.items()),
            more=len(scopes) > MOST_SCOPES or not whole,
        )

    async def erase(self, subject: str, *, skip_open: bool) -> Outcome:
        """skip_open: leaves what is still open, and erases the rest. Raises InvalidInput, NotFound; Conflict when
        something is open and may not be skipped, or when nothing is left to be erased; Unavailable when it was decided
        and could not be carried out yet. What was decided is carried out, whether or not the caller waits for it."""
        async with self._deciding:
            found = await self.find(subject)
            if found.open and not skip_open:
                first = found.open[0]
                raise Conflict(
                    f"{len(found.open)} of {len(found.open) + len(found.scopes)} can't be erased yet: {first.scope} "
                    f"{first.reason}. Nothing was erased; skip_open erases the others"
                )
            if not found.scopes:
                raise Conflict(f"nothing can be erased yet: {found.open[0].scope} {found.open[0].reason}")
            erasure = Erasure(new_id())
            erasure.request(found.scopes)
            with self._carrying.first_try(erasure.key) as tried:
                await self._log.save(erasure)
                keys, files = await tried
            words = forms([subject.strip(), payment_key(subject)])
            remaining = await long_work(holding, self._data_dir, words)
            ids = {scope.removeprefix(f"{Transfer.KIND}-") for scope in found.scopes}
            named = {word.decode(errors="replace") for word in words} & ids
            return Outcome(
                erasure_id=erasure.key,
                scopes=found.scopes,
                open=found.open,
                more=found.more,
                keys=keys,
                files=files,
                remaining=() if named else tuple(remaining),  # ids of jobs and transfers are not erased
            )

    # --- what is there -----------------------------------------------------------------------------------
    def _named(self, subject: str) -> list[str]:
        """Scopes that the subject is the id of."""
        found = []
        if self._log.load(Job, subject) is not None or self._log.load(Deployment, subject) is not None:
            found.append(subject)
        if self._log.load(Transfer, subject) is not None:
            found.append(f"{Transfer.KIND}-{subject}")
        if self._log.load(Provider, subject) is not None:
            found.append(f"{Provider.KIND}-{subject}")
        return found

    def _with_attempts(self, scopes: Iterable[str]) -> tuple[Iterable[str], bool]:
        """With the further attempts of the jobs among them, whose records and outputs have keys and files of their
        own; and whether one erasure may have them all. A job's are not parted: nothing would tell of the rest later."""
        found: dict[str, None] = {}
        for scope in scopes:
            job = self._log.load(Job, scope)
            attempts = [a.deployment_id for a in job.attempts] if job is not None else []
            new = [name for name in attempts or [scope] if name not in found]
            if len(found) + len(new) > MOST_SCOPES:
                return found, False
            found |= dict.fromkeys(new)
        return found, True

    def _hindrance(self, scope: str) -> str:
        """Why that is still open; empty when it is not."""
        kind, _, key = scope.partition("-")
        if kind == Transfer.KIND:
            transfer = self._log.load(Transfer, key)
            return "is still open: cancel it first" if transfer is not None and not transfer.ended else ""
        if kind == Device.KIND:
            device = self._log.load(Device, key)
            return "is this machine, and onboarded: offboard it first" if device and device.onboarded else ""
        if kind == Provider.KIND:
            provider = self._log.load(Provider, key)
            return "is on the network: what it advertises would come back" if provider and provider.offering else ""
        job, deployment = self._log.load(Job, job_of(scope)), self._log.load(Deployment, scope)
        if (job is not None and job.open) or (deployment is not None and not deployment.ended):
            return "has not ended: terminate it first"
        return "waits for its last checkpoint" if job is not None and job.checkpoint_wanted else ""


def _about(events: Sequence[Recorded], wanted: str) -> list[str]:
    """The scopes of those with such a personal text."""
    return [
        scope_of(recorded.originator_id)
        for recorded in events
        if any(payment_key(text) == wanted for text in personal_texts(recorded))
    ]
