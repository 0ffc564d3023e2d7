"""Feeds the log to JetStream: each event once, in order, whatever dies on the way.

The truth about how far we are is in the stream. On each connection the relay reads its own last
message there, checks that it is the one its log has at that position, and goes on behind it. A window of
events is on its way at once: the first says which sequence the stream must have reached
(Nats-Expected-Last-Sequence), each other one which message must be right before it
(Nats-Expected-Last-Msg-Id). So one that was lost holds up those behind it, one whose answer was
lost is not stored twice, and what a dead connection still delivers late is refused, also when the
duplicate window is over. (Sequences alone would not do: another's message can take the lost one's.)

Several DMSes may share a stream. While others write to it, "right before" does not hold: then
events go one at a time, and expect our own last sequence instead (nats-server 2.11), which costs
the server more. The window grows again when it is quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from dms.adapters.nats import place, stream
from dms.adapters.nats.connection import Link, check, connected, why
from dms.adapters.nats.place import Place
from dms.adapters.nats.publisher import Publisher, Refusal
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.operations import RelayStatus
from dms.application.records.cloudevents import cloud_event
from dms.backoff import Backoff
from dms.config import Nats
from dms.domain.decoding import UNREADABLE
from dms.domain.event import Recorded
from dms.errors import ConfigError, Conflict, DmsError, Unavailable

log = logging.getLogger(__name__)

WINDOW_EVENTS = 256  # on their way at once
WINDOW_BYTES = 1024 * 1024
EVENTS_A_TURN = 32  # encoded and handed over before others get the loop
QUIET_EVENTS = 64  # without a conflict before the window doubles
ANSWER_SECONDS = 10.0
CHECK_SECONDS = 10.0  # between looks at whether the stream is still there
SAVE_SECONDS = 1.0
RETRY_SECONDS = (0.25, 15.0)  # first and longest pause
OTHERS_CAME_BETWEEN = (10070, 10071, 10164)  # wrong last message id, wrong last sequence (two kinds)
LAST_ID = "Nats-Expected-Last-Msg-Id"
FILTERED_EXPECTATION = (2, 11)  # server version


class _Sent(Struct, frozen=True):
    """What is read back from a message."""

    position: int
    hash: str


@dataclass
class _Reached:
    """stream: when it was created. own: sequence of our last message in it, 0 for none.
    last: sequence of anybody's last message."""

    stream: str
    position: int
    hash: str
    own: int
    last: int


class NatsRelay:
    """`start`, then it works until `close`. It only reads the log: nothing waits for it."""

    def __init__(
        self, event_log: EventLog, peer_id: str, settings: Nats, state: Path, loops: Loops | None = None
    ) -> None:
        """state: a file of its own. Raises ConfigError for settings that can't work."""
        check(settings)
        self._log, self._peer_id, self._settings, self._state = event_log, peer_id, settings, state
        self._window = WINDOW_EVENTS
        self._quiet = 0  # events since the window last changed
        self._saved: Place | None = None
        self._saved_at = 0.0
        self._reached: _Reached | None = None
        self._phase, self._error = "connecting", ""
        self._loops = loops or Loops()
        self._relaying: Loop | None = None

    @property
    def status(self) -> RelayStatus:
        position = self._reached.position if self._reached else self._saved.position if self._saved else 0
        return RelayStatus(state=self._phase, position=position, error=self._error)

    async def start(self) -> None:
        self._saved = await asyncio.to_thread(place.load, self._state)
        self._relaying = self._loops.start("nats relay", self._run)

    async def close(self) -> None:
        if self._relaying is not None:
            await self._relaying.close()
        await self._save(0.0)

    async def _run(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            before = self.status.position
            try:
                await self._session()
            except (ConfigError, Conflict) as error:
                self._trouble("refused", error)
            except (DmsError, NatsError, OSError, TimeoutError) as error:
                self._trouble("connecting", error)
            except Exception as error:  # the outermost loop of a task: nothing may end it silently
                log.exception("the NATS relay met an unexpected error", extra={"action": "nats_crash"})
                self._trouble("connecting", error)
            if self.status.position != before:
                backoff.reset()
            await asyncio.sleep(backoff.spread())

    def _trouble(self, phase: str, error: Exception) -> None:
        """One line in the log for each new trouble, not for each attempt."""
        text = why(error)
        if text != self._error:
            log.warning("events wait for NATS: %s", text, extra={"action": "nats_waits"})
        self._phase, self._error = phase, text

    async def _session(self) -> None:
        """One connection, until something is wrong with it; always raises."""
        async with connected(self._settings, f"nunet-dms {self._peer_id}", inbox_of(self._peer_id)) as link:
            js = link.client.jetstream(timeout=ANSWER_SECONDS)
            self._reached = await self._resume(js)
            self._phase, self._error = "connected", ""
            log.info("events go to NATS behind position %d", self._reached.position, extra={"action": "nats_connected"})
            tasks = [
                asyncio.create_task(self._feed(link, js)),
                asyncio.create_task(self._watch(js, self._reached)),
                asyncio.create_task(link.closed.wait()),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await ended(*tasks)
            for task in done:
                await task
        raise Unavailable(f"the connection to NATS at {self._settings.url} was lost")

    async def _watch(self, js: JetStreamContext, reached: _Reached) -> None:
        """Raises when the stream is another one, or gone; keeps the place on disk."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            info = await js.stream_info(stream.STREAM)
            if created_at(info.created) != reached.stream:
                raise Unavailable(f"the stream {stream.STREAM} was made anew")
            await self._save(0.0)

    # --- where to go on ------------------------------------------------------------------------------
    async def _resume(self, js: JetStreamContext) -> _Reached:
        """Raises Conflict when the stream holds events of ours that our log does not."""
        info = await stream.ensure(js, self._settings)
        made = created_at(info.created)
        try:
            message = await js.get_msg(stream.STREAM, subject=stream.subjects_of(self._peer_id))
        except NotFoundError:
            known = self._saved if self._saved is not None and self._saved.stream == made else None
            sent, own = (_Sent(known.position, known.hash), 0) if known else (_Sent(0, ""), 0)
        else:
            sent, own = _sent(message.data or b""), message.seq or 0
        await self._check_ours(sent)
        return _Reached(made, sent.position, sent.hash, own, max(info.state.last_seq, own))

    async def _check_ours(self, sent: _Sent) -> None:
        if sent.position == 0:
            return
        found = await self._log.read(sent.position - 1, 1) if sent.position <= self._log.head else ()
        if not found or found[0].hash.hex() != sent.hash:
            raise Conflict(
                f"the stream {stream.STREAM} holds another history of {self._peer_id}: its newest event is position "
                f"{sent.position}, which this log (up to {self._log.head}) does not have so. Was the log restored "
                "from an older copy? Delete the stream to send this one"
            )

    # --- sending -------------------------------------------------------------------------------------
    async def _feed(self, link: Link, js: JetStreamContext) -> None:
        reached = self._reached
        if reached is None:
            raise Conflict("the stream was not read yet")
        publisher = Publisher(link.client, f"{inbox_of(self._peer_id)}.stored")
        await publisher.start()
        while True:
            try:
                batches = self._log.subscribe(reached.position)
                async with contextlib.aclosing(batches):
                    async for batch in batches:
                        await self._send_all(link, publisher, reached, batch)
            except Refusal as refusal:
                if refusal.code not in OTHERS_CAME_BETWEEN:
                    raise Unavailable(str(refusal)) from refusal
                self._window, self._quiet = 1, 0
                fresh = await self._resume(js)
                reached.stream, reached.position, reached.hash = fresh.stream, fresh.position, fresh.hash
                reached.own, reached.last = fresh.own, fresh.last

    async def _send_all(self, link: Link, publisher: Publisher, reached: _Reached, batch: Sequence[Recorded]) -> None:
        start = 0
        while start < len(batch):
            window = self._take(batch, start)
            await self._send(link, publisher, reached, window)
            start += len(window)
            self._quiet += len(window)
            if self._window < WINDOW_EVENTS and self._quiet >= QUIET_EVENTS * self._window:
                self._window, self._quiet = self._window * 2, 0
            await self._save(SAVE_SECONDS)

    def _take(self, batch: Sequence[Recorded], start: int) -> Sequence[Recorded]:
        size = end = 0
        for end in range(start, min(start + self._window, len(batch))):
            size += len(batch[end].data) + 512
            if size > WINDOW_BYTES and end > start:
                return batch[start:end]
        return batch[start : end + 1]

    async def _send(self, link: Link, publisher: Publisher, reached: _Reached, window: Sequence[Recorded]) -> None:
        """Returns when all of them are stored. Raises the first error; those before it are counted in."""
        answers: list[asyncio.Future[int]] = []
        for number, recorded in enumerate(window):
            body = cloud_event(recorded, self._peer_id)
            if len(body) + 512 > link.client.max_payload:
                raise ConfigError(
                    f"the event at position {recorded.position} has {len(body)} bytes; NATS takes messages up to "
                    f"{link.client.max_payload} (max_payload)"
                )
            headers = {
                **stream.headers(recorded),
                **(self._expected(link, reached) if number == 0 else {LAST_ID: window[number - 1].event_id}),
            }
            subject = stream.subject(recorded, self._peer_id)
            answers.append(await publisher.publish(subject, body, headers))
            if number % EVENTS_A_TURN == EVENTS_A_TURN - 1:
                await asyncio.sleep(0)
        _, missing = await asyncio.wait(answers, timeout=ANSWER_SECONDS)
        if missing:
            raise Unavailable(f"NATS did not confirm {len(missing)} events within {ANSWER_SECONDS:g} s")
        for recorded, answer in zip(window, answers, strict=True):
            reached.own = reached.last = answer.result()
            reached.position, reached.hash = recorded.position, recorded.hash.hex()

    def _expected(self, link: Link, reached: _Reached) -> dict[str, str]:
        """What the stream must have reached for a window's first event to be next."""
        version = link.client.connected_server_version
        if self._window > 1 or (version.major, version.minor) < FILTERED_EXPECTATION:
            return {"Nats-Expected-Last-Sequence": str(reached.last)}
        return {
            "Nats-Expected-Last-Subject-Sequence": str(reached.own),
            "Nats-Expected-Last-Subject-Sequence-Subject": stream.subjects_of(self._peer_id),
        }

    async def _save(self, every_seconds: float) -> None:
        """Unless it was saved less than so many seconds ago, or says the same."""
        reached, now = self._reached, asyncio.get_running_loop().time()
        if reached is None or reached.position == 0 or now - self._saved_at < every_seconds:
            return
        new = Place(stream=reached.stream, position=reached.position, hash=reached.hash)
        if new != self._saved:
            await asyncio.to_thread(place.save, self._state, new)
            self._saved, self._saved_at = new, now


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancels until they end: nats-py, and wait_for before Python 3.12, can swallow a cancellation."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        done, waiting = await asyncio.wait(waiting, timeout=0.5)
        for task in done:
            if not task.cancelled():
                task.exception()  # seen


def inbox_of(peer_id: str) -> str:
    """Where the server's answers to this DMS go: its own, so that no other user may read them."""
    return f"_INBOX_DMS_{stream.token(peer_id)}"


def created_at(created: object) -> str:
    return created.isoformat() if hasattr(created, "isoformat") else str(created)


def _sent(body: bytes) -> _Sent:
    try:
        return msgspec.json.decode(body, type=_Sent)
    except UNREADABLE as error:
        raise Conflict(f"the newest message on our own subjects in {stream.STREAM} is not ours: {error}") from error
