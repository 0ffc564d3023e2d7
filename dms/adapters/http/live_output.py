"""Jobs' output for many subscriptions: each reads on at its own pace, from the store, in bounded batches; those that
stand at the same line, as all do that have caught up, share what was read and encoded for the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec

from dms.adapters.http.connection import text_frame
from dms.adapters.http.live_events import EventFeed
from dms.adapters.http.output_lines import shown
from dms.application.growing_lines import GrowingLine
from dms.application.jobs.job_outputs import JobOutputs
from dms.application.ports.outputs import LogLine
from dms.application.tasks import background, cancelled
from dms.application.wakeup import Wakeup
from dms.errors import LogUnavailable

LINES_A_READ = 512
BYTES_A_BATCH = 128 * 1024
PAUSE_SECONDS = 0.05  # between two batches of a job that prints all the time
RETRY_SECONDS = 1.0

_encode = msgspec.json.Encoder().encode


class Batch(NamedTuple):
    """lines: a JSON array of those behind line `after` up to `last`."""

    after: int
    last: int
    lines: bytes


class OutputFeed:
    """One job's. round: moves whenever there may be something new."""

    def __init__(self, job_id: str, outputs: JobOutputs, events: EventFeed) -> None:
        self.job_id, self._outputs, self._events = job_id, outputs, events
        self.users, self.round = 0, 0
        self._changed, self._stirred = Wakeup(), asyncio.Event()
        self._newest: Batch | None = None
        self.task = background(self._run(), f"live output of job {job_id}")

    async def read(self, after: int) -> Batch | None:
        """What stands behind line `after`, as far as it fits into one batch; None: nothing yet."""
        known = self._newest
        if known is not None and known.after == after and await self._outputs.last(self.job_id) >= known.last:
            return known
        lines = await self._outputs.read(self.job_id, after, LINES_A_READ)
        self._newest = _batch(after, lines) if lines else None
        return self._newest

    @property
    def is_complete(self) -> bool:
        """See JobOutputs.is_complete."""
        return self._outputs.is_complete(self.job_id)

    @property
    def growing(self) -> tuple[GrowingLine, ...]:
        return self._outputs.growing(self.job_id)

    async def later(self, known_round: int) -> None:
        """Returns once the feed is in another round. Raises LogUnavailable when it has died, which was logged."""
        while self.round == known_round:
            if self.task.done():
                raise LogUnavailable(f"the output of job {self.job_id} can't be followed now; try again")
            await self._changed.wait()

    async def _run(self) -> None:
        try:
            with self._events.watching(self.job_id, self._stirred.set):
                while True:
                    await self._begin_round()
        finally:
            self._changed.wake()

    async def _begin_round(self) -> None:
        """What changes while readers look at this round begins the next one."""
        try:
            last, growing = await self._outputs.last(self.job_id), self.growing
            self.round += 1
            self._changed.wake()
            await asyncio.sleep(PAUSE_SECONDS)
            await self._outputs.changed(self.job_id, last, growing, self._stirred)
        except LogUnavailable:  # its readers are told by their own reads
            await asyncio.sleep(RETRY_SECONDS)


class OutputFeeds:
    """Those of all jobs that someone follows."""

    def __init__(self, outputs: JobOutputs, events: EventFeed) -> None:
        self._outputs, self._events = outputs, events
        self._feeds: dict[str, OutputFeed] = {}

    async def follow(
        self, name: str, job_id: str, after: int, send: Callable[[bytes], Awaitable[None]], *, progress: bool
    ) -> None:
        """Until nothing more comes; the last frame says so. progress: also lines that have no end yet."""
        feed = self._feeds.get(job_id)
        if feed is None or feed.task.done():
            feed = self._feeds[job_id] = OutputFeed(job_id, self._outputs, self._events)
        feed.users += 1
        try:
            await _send_all(feed, _encode(name), after, send, progress=progress)
        finally:
            feed.users -= 1
            if feed.users == 0:
                if self._feeds.get(job_id) is feed:
                    del self._feeds[job_id]
                feed.task.cancel()

    async def close(self) -> None:
        for feed in list(self._feeds.values()):
            await cancelled(feed.task)


async def _send_all(
    feed: OutputFeed, encoded_name: bytes, after: int, send: Callable[[bytes], Awaitable[None]], *, progress: bool
) -> None:
    growing: tuple[GrowingLine, ...] = ()
    while True:
        known_round, complete = feed.round, feed.is_complete
        while (batch := await feed.read(after)) is not None:
            await send(text_frame(b'{"id":%s,"lines":%s,"sealed":false}' % (encoded_name, batch.lines)))
            after = batch.last
        if complete:
            await send(text_frame(b'{"id":%s,"lines":[],"sealed":true}' % encoded_name))
            return
        if progress and feed.growing != growing:
            growing = feed.growing
            texts = [{"stream": line.stream, "text": line.text} for line in growing]
            await send(text_frame(b'{"id":%s,"growing":%s}' % (encoded_name, _encode(texts))))
        await feed.later(known_round)


def _batch(after: int, lines: Sequence[LogLine]) -> Batch:
    """At least one line, and no more than fit."""
    encoded: list[bytes] = []
    size = 0
    for line in lines:
        encoded.append(_encode(shown(line)))
        size += len(encoded[-1])
        if size >= BYTES_A_BATCH:
            break
    return Batch(after, lines[len(encoded) - 1].seq, b"[%s]" % b",".join(encoded))
