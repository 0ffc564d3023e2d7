"""Erases what this node holds of a person: destroys the keys of the jobs, transfers and the like that tell of them, and
removes outputs, checkpoints and received files. The history stays, and stays provable: see domain/sealing.py.

Decided first (an event), then carried out, each step safe to repeat: after a crash the next start goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.files.user_files import Inbox
from dms.application.ports import EventLog, OutputStore, ViewStore
from dms.application.records.redaction import black_out, forms, holding
from dms.application.tasks import background, cancelled
from dms.backoff import Backoff
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.directory import Provider
from dms.domain.erasure import MOST_SCOPES, Erasure
from dms.domain.event import EVENT_TYPES, Recorded, new_id
from dms.domain.job import Job
from dms.domain.payment import payment_key
from dms.domain.retry import job_of
from dms.domain.sealing import ERASED, scope_of, streams_of, take_out, texts
from dms.domain.transfer import Direction, Transfer
from dms.errors import Conflict, DmsError, InvalidInput, NotFound, Unavailable

log = logging.getLogger(__name__)

PAGE = 2000
SHORTEST_SUBJECT = 8  # characters; a shorter one is no address, hash, id or name of one person
RETRY_SECONDS = (5.0, 300.0)  # first and longest pause before what could not be carried out is tried again
SHORTEST_WORD = 6  # shorter texts are not blacked out in the DMS's own log: they say nothing by themselves


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
    def __init__(
        self,
        event_log: EventLog,
        views: ViewStore,
        outputs: OutputStore,
        checkpoints: CheckpointFiles,
        inbox: Inbox,
        data_dir: Path,
    ) -> None:
        self._log, self._views, self._outputs = event_log, views, outputs
        self._checkpoints, self._inbox, self._data_dir = checkpoints, inbox, data_dir
        self._busy, self._carrying = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def resume(self, unfinished: Iterable[str]) -> None:
        """Erasures that a crash broke off. Returns once each was tried; the trying goes on."""
        for erasure_id in unfinished:
            erasure = self._log.load(Erasure, erasure_id)
            if erasure is not None and not erasure.completed:
                log.info("erasure %s goes on", erasure_id)
                with suppress(Unavailable):
                    await self._begin(erasure)

    async def close(self) -> None:
        """What is not done goes on at the next start."""
        for task in tuple(self._tasks):
            await cancelled(task)

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
            scopes |= dict.fromkeys(await asyncio.to_thread(_about, page, wanted))
            position = page[-1].position if len(page) == PAGE else head
        if not scopes:
            raise NotFound("nothing on this node tells of that subject")
        names = tuple(self._with_attempts(scopes))[:MOST_SCOPES]
        still_open = {scope: reason for scope in names if (reason := self._hindrance(scope))}
        return Found(
            scopes=tuple(scope for scope in names if scope not in still_open),
            open=tuple(Open(scope=scope, reason=reason) for scope, reason in still_open.items()),
            more=len(scopes) > MOST_SCOPES,
        )

    async def erase(self, subject: str, *, skip_open: bool) -> Outcome:
        """skip_open: leaves what is still open, and erases the rest. Raises InvalidInput, NotFound; Conflict when
        something is open and may not be skipped, or when nothing is left to be erased; Unavailable when it was decided
        and could not be carried out yet. What was decided is carried out, whether or not the caller waits for it."""
        async with self._busy:
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
            keys, files = await asyncio.shield(self._begin(erasure))
            words = forms([subject.strip(), payment_key(subject)])
            remaining = await asyncio.to_thread(holding, self._data_dir, words)
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

    # --- carrying out ----------------------------------------------------------------------------------
    def _begin(self, erasure: Erasure) -> asyncio.Future[tuple[int, int]]:
        """What the first try gave: (keys destroyed, files removed), or Unavailable."""
        first = asyncio.get_running_loop().create_future()
        task = background(self._until_done(erasure, first), f"erasure {erasure.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return first

    async def _until_done(self, erasure: Erasure, first: asyncio.Future[tuple[int, int]]) -> None:
        try:
            await self._log.save(erasure)
        except DmsError as error:  # not decided, so there is nothing to go on with
            _tell(first, error)
            return
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            try:
                async with self._carrying:
                    done = await self._carry_out(erasure)
            except Exception as error:  # noqa: BLE001  whatever it is, it must not end silently
                log.warning("erasure %s waits: %s", erasure.key, error, extra={"action": "erasure_waits"})
                text = f"erasure {erasure.key} is decided and not done yet, it is tried again: {error}"
                _tell(first, Unavailable(text))
            else:
                _tell(first, done)
                return
            await asyncio.sleep(backoff.next())

    async def _carry_out(self, erasure: Erasure) -> tuple[int, int]:
        """(keys destroyed, files removed). What needs the keys comes before their end."""
        files = 0
        words: set[str] = set()
        for scope in erasure.scopes:
            words |= await self._words(scope)
            files += await self._remove_files(scope)
        logs = sorted(self._data_dir.glob("dms.log*"))
        long_ones = [word for word in words if len(word) >= SHORTEST_WORD]
        await asyncio.to_thread(black_out, logs, forms(long_ones))
        keys = await self._log.destroy_seal_keys(erasure.scopes)
        await self._views.renew()
        erasure = self._log.load(Erasure, erasure.key) or erasure  # anew after a failed write
        erasure.complete(keys, files)
        await self._log.save(erasure)
        log.info("erasure %s is done: %d keys destroyed, %d files removed", erasure.key, keys, files)
        return keys, files

    async def _words(self, scope: str) -> set[str]:
        """The personal texts under the scope's key."""
        found: set[str] = set()
        for stream in streams_of(scope):
            after = 0
            while page := await self._log.read(after, PAGE, stream=stream):
                for recorded in page:
                    found.update(_personal(recorded))
                after = page[-1].position
        return found - {ERASED}

    async def _remove_files(self, scope: str) -> int:
        kind, _, key = scope.partition("-")
        if kind == Transfer.KIND:
            transfer = self._log.load(Transfer, key)
            return await asyncio.to_thread(self._remove_received, transfer) if transfer else 0
        if kind in (Provider.KIND, Device.KIND):
            return 0
        count = int(await self._outputs.drop(scope))
        where = self._checkpoints
        paths = (where.created(scope), where.received(scope), where.resume_out(scope), where.resume_in(scope))
        count += sum(path.exists() for path in paths)
        await asyncio.to_thread(where.drop, *paths, where.incoming(scope))
        return count

    def _remove_received(self, transfer: Transfer) -> int:
        self._inbox.forget(transfer.key)
        if transfer.direction is not Direction.IN or transfer.saved_as in ("", ERASED):
            return 0
        return int(self._inbox.discard(transfer.saved_as))

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

    def _with_attempts(self, scopes: Iterable[str]) -> dict[str, None]:
        """With the further attempts of the jobs among them, whose records and outputs have keys and files of their
        own."""
        found: dict[str, None] = {}
        for scope in scopes:
            job = self._log.load(Job, scope)
            found |= dict.fromkeys(a.deployment_id for a in job.attempts) if job is not None else {scope: None}
        return found

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


def _tell(first: asyncio.Future[tuple[int, int]], outcome: tuple[int, int] | Exception) -> None:
    """Once: later outcomes nobody waits for."""
    if first.done():
        return
    if isinstance(outcome, tuple):
        first.set_result(outcome)
    else:
        first.set_exception(outcome)
        first.exception()  # seen: a caller that went away is no error of its own


def _about(events: Sequence[Recorded], wanted: str) -> list[str]:
    """The scopes of those with such a personal text."""
    return [
        scope_of(recorded.originator_id)
        for recorded in events
        if any(payment_key(text) == wanted for text in _personal(recorded))
    ]


def _personal(recorded: Recorded) -> list[str]:
    event = recorded.event
    body: dict[str, Any] = msgspec.to_builtins(event)
    return list(texts(take_out(body, type(event).PERSONAL)))
