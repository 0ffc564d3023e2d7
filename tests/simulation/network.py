"""Peers without sockets, over wires that delay, reorder, double and lose what is sent, and that can be cut. What the
contract of PeerNetwork says holds (tests/contract); who is asked works in a task of its own, which outlives neither its
node nor, when the wire says so, the connection of who asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from random import Random
from typing import Any

from dms.application.ports.peers import GossipHandler, Heard, PeerInfo, RequestHandler, StreamHandler
from dms.errors import DmsError, PeerUnreachable, ProtocolRefused
from tests.fixtures.memory_network import AHEAD, as_told, send_frames

SILENCE_SECONDS = 25.0  # after which a connection counts as cut
LIKELY_SECONDS, LONGEST_SECONDS = 0.05, 4.0
Pair = frozenset[str]


class Wires:
    """Between all who were started on them. trouble: how likely what is sent meets a fault, 0 to 1."""

    def __init__(self, random: Random) -> None:
        self.trouble = 0.0
        self.hosts: dict[str, SimulatedNetwork] = {}
        self.met: dict[str, int] = {}  # fault -> how often
        self.on_answer: Callable[[str, str, bytes, bytes], None] = lambda *_: None
        """Gets (peer id of who answers, protocol, what was asked, the answer) before anybody hears of it."""
        self._random = random
        self._cut: set[Pair] = set()
        self._open: dict[asyncio.Future[Any], tuple[Pair, asyncio.Task[Any]]] = {}  # who waits -> the task for it

    # --- faults ---------------------------------------------------------------------------------------
    def meets(self, fault: str, share: float = 1.0) -> bool:
        """share: of the trouble."""
        met = self._random.random() < self.trouble * share
        if met:
            self.met[fault] = self.met.get(fault, 0) + 1
        return met

    def delay(self) -> float:
        """Seconds on the way. Each thing sent has its own, so what is sent later may come first."""
        longest = LONGEST_SECONDS if self.meets("delay") else LIKELY_SECONDS
        return self._random.random() * longest

    def cut(self, one: str, other: str) -> None:
        """Both notice it at some time, at the latest when nothing was heard for too long."""
        self._cut.add(frozenset((one, other)))
        self._tell(one, other, connected=False)
        self._reset(lambda pair: pair == {one, other}, SILENCE_SECONDS)

    def mend(self) -> None:
        for one, other in sorted(tuple(sorted(pair)) for pair in self._cut):
            self._cut.discard(frozenset((one, other)))
            self._tell(one, other, connected=True)

    def reaches(self, one: str, other: str) -> bool:
        return one in self.hosts and other in self.hosts and frozenset((one, other)) not in self._cut

    # --- hosts ----------------------------------------------------------------------------------------
    def add(self, host: SimulatedNetwork) -> None:
        self.hosts[host.peer_id] = host
        for other in sorted(self.hosts):
            if other != host.peer_id:
                self._tell(host.peer_id, other, connected=True)

    def remove(self, peer_id: str) -> None:
        """It stopped, or was killed."""
        if self.hosts.pop(peer_id, None) is None:
            return
        self._reset(lambda pair: peer_id in pair, LONGEST_SECONDS)
        for other in sorted(self.hosts):
            self.hosts[other].tell(peer_id, connected=False)

    def _tell(self, one: str, other: str, *, connected: bool) -> None:
        for told, about in ((one, other), (other, one)):
            host = self.hosts.get(told)
            if (
                host is not None
                and (about in self.hosts or not connected)
                and (not connected or self.reaches(one, other))
            ):
                host.tell(about, connected=connected)

    # --- what is under way ------------------------------------------------------------------------------
    @contextmanager
    def connection(self, one: str, other: str, task: asyncio.Task[Any]) -> Iterator[asyncio.Future[None]]:
        """A future that fails when the connection is reset. task: the other's work for this one, which a reset, or that
        nobody waits any more, ends at times."""
        reset: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open[reset] = frozenset((one, other)), task
        try:
            yield reset
        finally:
            self._open.pop(reset, None)
            if not reset.done():
                reset.cancel()
            if not task.done():
                self._end_soon(task)

    def _reset(self, which: Callable[[Pair], bool], within_seconds: float) -> None:
        for reset, (pair, task) in list(self._open.items()):
            if which(pair):
                after = self._random.random() * within_seconds
                Context().run(asyncio.get_running_loop().call_later, after, _fail, reset)
                self._end_soon(task, after)

    def _end_soon(self, task: asyncio.Task[Any], after: float = 0.0) -> None:
        after += self._random.random() * LIKELY_SECONDS
        Context().run(asyncio.get_running_loop().call_later, after, _cancel, task)


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _fail(reset: asyncio.Future[None]) -> None:
    if not reset.done():
        reset.set_exception(PeerUnreachable("the connection was reset"))
        reset.exception()


class SimulatedNetwork:
    """Implements the port Host, for one life of a node."""

    def __init__(self, wires: Wires, peer_id: str) -> None:
        self.peer_id, self._wires = peer_id, wires
        self._requests: dict[str, RequestHandler] = {}
        self._streams: dict[str, StreamHandler] = {}
        self._gossip: dict[str, GossipHandler] = {}
        self._callbacks: list[Callable[[str, bool], None]] = []
        self._context = copy_context()  # of the node's life

    @property
    def listen_addresses(self) -> Sequence[str]:
        return [f"/ip4/127.0.0.1/tcp/9000/p2p/{self.peer_id}"]

    async def start(self) -> None:
        self._context = copy_context()
        self._wires.add(self)

    async def close(self) -> None:
        if self._wires.hosts.get(self.peer_id) is self:
            self._wires.remove(self.peer_id)

    def serve_request(self, protocol: str, handler: RequestHandler) -> None:
        self._requests[protocol] = handler

    def serve_stream(self, protocol: str, handler: StreamHandler, *, raw: bool = False) -> None:
        self._streams[protocol] = handler

    def refused_connections(self) -> int:
        return 0

    def is_local(self, peer_id: str) -> bool:
        """All are: what they report as paid is believed."""
        return True

    def serve_gossip(self, topic: str, handler: GossipHandler) -> None:
        self._gossip[topic] = handler

    async def publish(self, topic: str, body: bytes) -> None:
        for peer_id in sorted(self._wires.hosts):
            if peer_id != self.peer_id and self._wires.reaches(self.peer_id, peer_id) and not self._wires.meets("loss"):
                for _ in range(1 + self._wires.meets("double")):
                    self._wires.hosts[peer_id]._hear(topic, self.peer_id, body, self._wires.delay())

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_seconds):
                other, handler = await self._dial(peer_id, protocol, "_requests")
                if self._wires.meets("double", 0.5):
                    other._begin(_answer(handler, self.peer_id, body))  # its answer is not heard
                answering = other._begin(_answer(handler, self.peer_id, body))
                with self._wires.connection(self.peer_id, peer_id, answering) as reset:
                    if self._wires.meets("reset"):
                        asyncio.get_running_loop().call_later(self._wires.delay(), _fail, reset)
                    await asyncio.wait(_both(answering, reset), return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done() or answering.cancelled():
                        raise PeerUnreachable(f"{peer_id} went away")
                    answer: bytes | DmsError = answering.result()
                    if not isinstance(answer, DmsError):
                        self._wires.on_answer(peer_id, protocol, body, answer)
                    if self._wires.meets("lost answer"):
                        await asyncio.Event().wait()
                    await asyncio.sleep(self._wires.delay())
                    if isinstance(answer, DmsError):
                        raise answer
                    return answer
        except TimeoutError as error:
            raise PeerUnreachable(f"{peer_id} did not answer within {timeout_seconds:g} s") from error

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        other, handler = await self._dial(peer_id, protocol, "_streams")
        frames: asyncio.Queue[bytes | DmsError | None] = asyncio.Queue(AHEAD)
        sending = other._begin(send_frames(handler, self.peer_id, body, frames))
        with self._wires.connection(self.peer_id, peer_id, sending) as reset:
            while (frame := await _next(frames, reset)) is not None:
                if self._wires.meets("cut stream", 0.3):
                    raise PeerUnreachable(f"the stream of {peer_id} was cut")
                await asyncio.sleep(self._wires.delay())
                if isinstance(frame, DmsError):
                    raise frame
                yield frame

    async def ping(self, peer_id: str, timeout_seconds: float) -> float:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._dial(peer_id, "", "")
        except TimeoutError as error:
            raise PeerUnreachable(f"{peer_id} did not answer within {timeout_seconds:g} s") from error
        return 0.001

    def heard(self, peer_id: str) -> Heard | None:
        return Heard(0.0, 0.001) if self._wires.reaches(self.peer_id, peer_id) else None

    def add_addresses(self, peer_id: str, addresses: Sequence[str]) -> None: ...

    def on_peer(self, callback: Callable[[str, bool], None]) -> None:
        self._callbacks.append(callback)

    def peers(self) -> Sequence[PeerInfo]:
        others = [peer_id for peer_id in sorted(self._wires.hosts) if peer_id != self.peer_id]
        return [PeerInfo(peer_id, ()) for peer_id in others if self._wires.reaches(self.peer_id, peer_id)]

    def tell(self, peer_id: str, *, connected: bool) -> None:
        for callback in self._callbacks:
            self._context.copy().run(asyncio.get_running_loop().call_soon, callback, peer_id, connected)

    def _hear(self, topic: str, sender: str, body: bytes, after: float) -> None:
        handler = self._gossip.get(topic)
        if handler is not None:
            self._context.copy().run(asyncio.get_running_loop().call_later, after, handler, sender, body)

    async def _dial(self, peer_id: str, protocol: str, served: str) -> tuple[SimulatedNetwork, Any]:
        """Raises PeerUnreachable, ProtocolRefused. What was sent and lost is waited for."""
        await asyncio.sleep(self._wires.delay())
        if self._wires.meets("loss"):
            await asyncio.sleep(SILENCE_SECONDS)
            raise PeerUnreachable(f"{peer_id} was silent")
        if not self._wires.reaches(self.peer_id, peer_id):
            raise PeerUnreachable(f"{peer_id} is not there")
        other = self._wires.hosts[peer_id]
        handler = getattr(other, served)[protocol] if served and protocol in getattr(other, served) else None
        if served and handler is None:
            raise ProtocolRefused(f"{peer_id} does not speak {protocol}")
        return other, handler

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """This node's work for a peer: it is of this node's life."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())


def _both(*futures: asyncio.Future[Any]) -> list[asyncio.Future[Any]]:
    return list(futures)


async def _answer(handler: RequestHandler, peer_id: str, body: bytes) -> bytes | DmsError:
    try:
        return await handler(peer_id, body)
    except Exception as error:  # noqa: BLE001  what the asking side gets is all that is seen of it
        return as_told(error)


async def _next(frames: asyncio.Queue[bytes | DmsError | None], reset: asyncio.Future[None]) -> bytes | DmsError | None:
    if not frames.empty():
        return frames.get_nowait()
    taking = asyncio.ensure_future(frames.get())
    try:
        await asyncio.wait(_both(taking, reset), return_when=asyncio.FIRST_COMPLETED)
        if taking.done():
            return taking.result()
        raise PeerUnreachable("the peer went away")
    finally:
        taking.cancel()
