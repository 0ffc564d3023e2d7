"""Reads the stream as any monitoring program could: a consumer that leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from dms.adapters.nats.connection import check, connected, why
from dms.adapters.nats.stream import STREAM, SUBJECTS
from dms.application.records.cloudevents import CloudEvent
from dms.backoff import Backoff
from dms.config import Nats
from dms.domain.decoding import UNREADABLE
from dms.domain.event import new_id
from dms.errors import Conflict, NotFound, Unavailable

log = logging.getLogger(__name__)

INBOX = "_INBOX_MONITOR"  # what ops/nats lets a reader use
BATCH, WAIT_SECONDS = 200, 1.0
FORGOTTEN_SECONDS = 60.0  # the server drops a consumer that nobody asks any more

RETRY_SECONDS = (1.0, 60.0)  # first and longest pause


Odd = Callable[[Conflict], object]


def _log_odd(error: Conflict) -> None:
    log.warning("%s", error)


async def read(
    settings: Nats,
    *,
    subjects: str = SUBJECTS,
    follow: bool = False,
    newest: int | None = None,
    odd: Odd = _log_odd,
) -> AsyncGenerator[dict[str, Any], None]:
    """CloudEvents as the stream has them, from its first on (or the newest so many); with follow for ever, through lost
    connections, each once. odd: told of each message that is none, which others may have sent. Raises ConfigError;
    Unavailable and NotFound unless it has begun to follow."""
    check(settings)
    after, backoff = 0, Backoff(*RETRY_SECONDS)
    while True:
        try:
            async with aclosing(_once(settings, subjects, after, follow, newest)) as messages:
                async for sequence, data in messages:
                    after = sequence
                    backoff.reset()
                    try:
                        event = event_of(data, sequence)
                    except Conflict as error:
                        odd(error)
                    else:
                        yield event
        except (Unavailable, NatsError):
            if not follow or not after:
                raise
        if not follow:
            return
        await asyncio.sleep(backoff.next())


async def _once(
    settings: Nats, subjects: str, after: int, follow: bool, newest: int | None
) -> AsyncGenerator[tuple[int, bytes], None]:
    """(sequence, message) over one connection."""
    async with connected(settings, "nunet events tail", INBOX) as link:
        js = link.client.jetstream()
        try:
            if newest is not None and not after:
                after = max(0, (await js.stream_info(STREAM)).state.last_seq - newest)
            made = await js.add_consumer(STREAM, _consumer(subjects, after))
        except NotFoundError as error:
            raise NotFound(f"NATS has no stream {STREAM}: no DMS has relayed to it yet") from error
        except APIError as error:
            raise Unavailable(f"NATS does not let us read {STREAM}: {why(error)}") from error
        left = made.num_pending or 0
        pull = await js.pull_subscribe_bind(consumer=made.name, stream=STREAM)
        while (left or follow) and not link.closed.is_set():
            try:
                messages = await pull.fetch(BATCH, timeout=WAIT_SECONDS)
            except TimeoutError:
                continue
            for message in messages:
                left = message.metadata.num_pending
                sequence = message.metadata.sequence.stream
                yield sequence, message.data


def event_of(data: bytes, sequence: int = 0) -> dict[str, Any]:
    """Raises Conflict for a message that no DMS sent."""
    try:
        msgspec.json.decode(data, type=CloudEvent)
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE as error:
        raise Conflict(f"message {sequence} of {STREAM} is no event: {error}; a DMS did not send it") from error


def _consumer(subjects: str, after: int) -> ConsumerConfig:
    return ConsumerConfig(
        name=f"tail-{new_id()}",
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        filter_subject=subjects,
        inactive_threshold=FORGOTTEN_SECONDS,
        mem_storage=True,
    )
