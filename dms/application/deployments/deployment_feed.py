"""What the service provider hears of its deployment: signed events and output, from where it left off, live."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager

from dms.application.deployments.ownership import deployment_of
from dms.application.growing_lines import GrowingLine
from dms.application.network.messages import FEED, FeedItem, FeedRequest, decode_request, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import LogLine, OutputStore
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.application.records.export import signed_record
from dms.application.tasks import cancelled, either
from dms.domain.chain import SignedRecord
from dms.domain.deployment import Deployment
from dms.domain.event import Recorded
from dms.errors import OutputUnavailable

log = logging.getLogger(__name__)

LINES_A_READ = 512
OUTPUT_RETRY_SECONDS = 5.0  # until output that can't be read is tried again
FEEDS_OF_A_PEER = 96  # each is a stream for a job's whole life; what a peer asks needs streams as well
FRAME_BYTES = 48 * 1024  # of output in one frame, well below the frame limit even when escaped
TERMINAL_TOPICS = {
    Deployment.Rejected.TOPIC,
    Deployment.ContainerExited.TOPIC,
    Deployment.Failed.TOPIC,
    Deployment.Stopped.TOPIC,
}


class DeploymentFeed:
    def __init__(self, log: EventLog, outputs: OutputStore, signer: Signer) -> None:
        self._log, self._outputs, self._signer = log, outputs, signer
        self._open: Counter[str] = Counter()  # feeds, by peer

    def serve(self, network: PeerNetwork) -> None:
        network.serve_stream(FEED, self._on_feed)

    async def _on_feed(self, peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        message = decode_request(body, FeedRequest)
        deployment = deployment_of(self._log, message.job_id, peer_id)
        yield encode(FeedItem())  # says that we are here, before there is anything to tell
        if self._is_full(peer_id) and not deployment.ended:  # else how it ended, as by a refusal, would never be told
            return  # asked again, not lost: after a reconnect the feeds of before may still be open
        with self._counted(peer_id):
            async with aclosing(self.items(message)) as items:
                async for item in items:
                    yield encode(item)

    def _is_full(self, peer_id: str) -> bool:
        return self._open[peer_id] >= FEEDS_OF_A_PEER

    @contextmanager
    def _counted(self, peer_id: str) -> Generator[None]:
        self._open[peer_id] += 1
        try:
            yield
        finally:
            self._open[peer_id] -= 1
            if not self._open[peer_id]:
                del self._open[peer_id]

    async def items(self, message: FeedRequest) -> AsyncGenerator[FeedItem, None]:
        """The deployment's signed events and its output, live until the end. Every line counted by
        LogSealed comes before it; no other event waits for output that can't be read."""
        job_id, sent = message.job_id, message.log_after
        growing: tuple[GrowingLine, ...] = ()
        async with aclosing(self._log.subscribe(0, stream=f"{Deployment.KIND}-{job_id}")) as batches:
            while True:
                more = asyncio.ensure_future(anext(batches))
                try:
                    while not more.done():
                        async for item in self._readable_lines(job_id, sent):
                            sent = item.lines[-1].seq
                            yield item
                        if message.growing and (now := self._outputs.growing.of(job_id)) != growing:
                            growing = now
                            yield FeedItem(growing=now)
                            continue
                        await either(more, self._more_output(job_id, sent, growing if message.growing else None))
                finally:
                    await cancelled(more)
                for event in more.result():
                    if isinstance(event.event, Deployment.LogSealed):
                        async for item in self._lines(job_id, sent):
                            sent = item.lines[-1].seq
                            yield item
                    if event.originator_version > message.after:
                        yield FeedItem(records=(self._sign(event),))
                    if event.topic in TERMINAL_TOPICS:
                        return

    async def _more_output(self, job_id: str, sent: int, growing: tuple[GrowingLine, ...] | None) -> None:
        """Returns once there is a line behind line `sent`, or another one that grows than those."""
        if growing is None:
            await self._more_lines(job_id, sent)
            return
        line = asyncio.ensure_future(self._more_lines(job_id, sent))
        try:
            await either(line, self._outputs.growing.wait(job_id, growing))
            if line.done():
                line.result()
        finally:
            await cancelled(line)

    async def _more_lines(self, job_id: str, sent: int) -> None:
        try:
            await self._outputs.wait(job_id, sent)
        except OutputUnavailable:
            await asyncio.sleep(OUTPUT_RETRY_SECONDS)

    async def _readable_lines(self, job_id: str, after: int) -> AsyncGenerator[FeedItem, None]:
        try:
            async for item in self._lines(job_id, after):
                yield item
        except OutputUnavailable as error:
            log.debug("the output of job %s is not sent now: %s", job_id, error)

    async def _lines(self, job_id: str, after: int) -> AsyncGenerator[FeedItem, None]:
        """What is stored behind line `after`, in frames of a bounded size."""
        while lines := await self._outputs.read(job_id, after, LINES_A_READ):
            for frame in frames(lines):
                yield FeedItem(lines=frame)
            after = lines[-1].seq

    def _sign(self, recorded: Recorded) -> SignedRecord:
        return signed_record(recorded, self._log.previous_hash(recorded.position), self._signer)


def frames(lines: Sequence[LogLine]) -> list[tuple[LogLine, ...]]:
    """Cut into frames of at most about FRAME_BYTES of text; a longer line has a frame of its own."""
    found: list[tuple[LogLine, ...]] = []
    frame: list[LogLine] = []
    size = 0
    for line in lines:
        length = 2 * len(line.text.encode()) + 48
        if frame and size + length > FRAME_BYTES:
            found.append(tuple(frame))
            frame, size = [], 0
        frame.append(line)
        size += length
    return [*found, tuple(frame)] if frame else found
