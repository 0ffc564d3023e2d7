"""Our two kinds of protocol over a stream: request and answer, and a stream of items that one opens.

Frames (see framing.py) hold JSON. The dialler sends one, the body. Back come, for a request,
`{"ok": <body>}` or `{"error": {"kind", "message"}}`; for a stream, any number of `{"item": <body>}`,
`{"heartbeat": true}` after 10 s of silence, and at last `{"end": true}` or an error. A stream without
its last frame was cut. An item may also be raw: a zero byte, which begins no JSON, and then its bytes as
they are (a file's content goes half as fast again as with base64 in JSON, and needs no decoding).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec
import trio
from libp2p.abc import INetStream
from msgspec import Raw, Struct

from dms.adapters.p2p.framing import MAX_FRAME, Wire, encode_frame
from dms.adapters.p2p.links import Links
from dms.adapters.p2p.runtime import Pipe, PipeClosed, Side, TrioThread, task_group
from dms.application.ports.peers import RequestHandler, StreamHandler
from dms.domain.bounds import Unreadable, read
from dms.errors import FAILED, DmsError, InvalidInput, PeerMisbehaved, Unavailable, from_peer, told

logger = logging.getLogger(__name__)

MAX_BODY = MAX_FRAME - 64  # room for what is written around it
_OPENING_SECONDS = 10.0
_WRITE_SECONDS = 150.0  # above the patience with a reader whose window is closed: that error says more
_HANDLER_SECONDS = 120.0
_BATCH = 48 * 1024  # bytes of small frames that go out as one write, and come in as one step
HEARTBEAT_SECONDS = 10.0
SILENCE_SECONDS = 25.0

_RAW = b"\0"
_END, _HEARTBEAT = b'{"end":true}', b'{"heartbeat":true}'


class Problem(Struct):
    kind: str
    message: str


class Answer(Struct):
    """Any frame that comes back. Exactly one field is set."""

    ok: Raw | msgspec.UnsetType = msgspec.UNSET
    item: Raw | msgspec.UnsetType = msgspec.UNSET
    error: Problem | msgspec.UnsetType = msgspec.UNSET
    heartbeat: bool = False
    end: bool = False


class Client:
    """The dialler's side, in trio."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        async with self._links.opened(peer_id, protocol) as wire:
            await wire.write_frame(body, timeout_seconds)
            answer = _decode(await wire.read_frame(timeout_seconds), peer_id)
            await self._links.done(wire)
        if isinstance(answer.error, Problem):
            raise from_peer(answer.error.kind, answer.error.message)
        if isinstance(answer.ok, Raw):
            return bytes(answer.ok)
        raise PeerMisbehaved(f"Peer {peer_id} answered with neither a result nor an error.")

    async def follow(self, peer_id: str, protocol: str, body: bytes, pipe: Pipe) -> None:
        """Fills the pipe with the items, and closes it when and as they end."""
        try:
            async with self._links.opened(peer_id, protocol) as wire:
                await wire.write_frame(body, _OPENING_SECONDS)
                while True:
                    frame = await wire.read_frame(SILENCE_SECONDS)
                    if frame.startswith(_RAW):
                        await pipe.send(frame[1:])
                        continue
                    answer = _decode(frame, peer_id)
                    if isinstance(answer.item, Raw):
                        await pipe.send(bytes(answer.item))
                    elif isinstance(answer.error, Problem) or answer.end:
                        break
                    elif not answer.heartbeat:
                        raise PeerMisbehaved(f"Peer {peer_id} sent a frame that is none of a stream's.")
                await wire.finish()
        except DmsError as error:
            pipe.close(error)
        except PipeClosed:
            return  # our reader has gone
        else:
            pipe.close(
                from_peer(answer.error.kind, answer.error.message) if isinstance(answer.error, Problem) else None
            )


class Server:
    """The listener's side: makes libp2p stream handlers, which run in trio, of ours, which run in asyncio."""

    def __init__(self, thread: TrioThread) -> None:
        self._thread = thread

    def requests(self, handler: RequestHandler) -> Callable[[INetStream], Awaitable[None]]:
        async def serve(stream: INetStream) -> None:
            wire = Wire(stream)
            try:
                body = await wire.read_frame(_OPENING_SECONDS)
                with trio.move_on_after(_HANDLER_SECONDS) as hurry:
                    answer = await self._answer(handler, wire, body)
                if hurry.cancelled_caught:
                    answer = _encode_error(Unavailable("The request took too long here."))
            except PeerMisbehaved as error:  # a frame over the bound
                answer = _encode_error(InvalidInput(str(error)))
            await wire.write_frame(answer, _WRITE_SECONDS)
            await wire.finish()

        return serve

    async def _answer(self, handler: RequestHandler, wire: Wire, body: bytes) -> bytes:
        """Stops the handler when the peer resets the stream or disappears."""
        answer = b""
        async with task_group() as nursery:
            nursery.start_soon(_cancel_when_ended, wire, nursery.cancel_scope)
            answer = await self._thread.ask(lambda: _handle(handler, wire.peer_id, body))
            nursery.cancel_scope.cancel()
        if not answer:
            raise trio.BrokenResourceError("the peer gave up")
        return answer

    def streams(self, handler: StreamHandler, *, raw: bool = False) -> Callable[[INetStream], Awaitable[None]]:
        async def serve(stream: INetStream) -> None:
            wire = Wire(stream)
            try:
                body = await wire.read_frame(_OPENING_SECONDS)
            except PeerMisbehaved as error:  # a frame over the bound
                await wire.write_frame(_encode_error(InvalidInput(str(error))), _WRITE_SECONDS)
                return await wire.finish()
            pipe = Pipe(Side.asyncio(self._thread), Side.trio(self._thread))
            try:
                async with task_group() as nursery:
                    nursery.start_soon(_cancel_when_ended, wire, nursery.cancel_scope)
                    nursery.start_soon(self._thread.ask, lambda: _pump(handler, wire.peer_id, body, pipe, raw))
                    await _send_all(pipe, wire)
                    nursery.cancel_scope.cancel()
            finally:
                pipe.abandon()
            return await wire.finish()

        return serve


async def _cancel_when_ended(wire: Wire, scope: trio.CancelScope) -> None:
    await wire.ended()
    scope.cancel()


async def _send_all(pipe: Pipe, wire: Wire) -> None:
    while True:
        frames = [_HEARTBEAT]
        with trio.move_on_after(HEARTBEAT_SECONDS):
            try:
                frames = await pipe.receive(_BATCH)
            except PipeClosed:
                return
        await wire.write(b"".join(map(encode_frame, frames)), _WRITE_SECONDS)


async def _handle(handler: RequestHandler, peer_id: str, body: bytes) -> bytes:
    try:
        return _wrap("ok", await handler(peer_id, body))
    except DmsError as error:
        return _encode_error(error)
    except Exception:  # the outermost loop of a peer's request
        logger.exception("a request of peer %s failed", peer_id)
        return _encode_error(DmsError("The request failed at this peer; its log says why."))


async def _pump(handler: StreamHandler, peer_id: str, body: bytes, pipe: Pipe, raw: bool) -> None:
    """Fills the pipe with encoded frames, the last one included."""
    last = _END
    try:
        async with aclosing(handler(peer_id, body)) as items:
            async for item in items:
                await pipe.send(_wrap_raw(item) if raw else _wrap("item", item))
    except PipeClosed:
        return
    except DmsError as error:
        last = _encode_error(error)
    except Exception:  # the outermost loop of a peer's stream
        logger.exception("a stream of peer %s failed", peer_id)
        last = _encode_error(DmsError("The stream failed at this peer; its log says why."))
    try:
        await pipe.send(last)
    except PipeClosed:
        return
    pipe.close()


async def consume(thread: TrioThread, start: Callable[[Pipe], Awaitable[None]]) -> AsyncGenerator[bytes, None]:
    """The asyncio end of `Client.follow`, which `start` calls. Closing this resets the stream."""
    pipe = Pipe(Side.trio(thread), Side.asyncio(thread))
    job = asyncio.ensure_future(start(pipe))
    job.add_done_callback(lambda done: pipe.close(_exception(done)))
    try:
        while True:
            try:
                frames = await pipe.receive(_BATCH)
            except PipeClosed:
                return
            for frame in frames:
                yield frame
            await asyncio.sleep(0)  # a full pipe must not keep the loop from its other work
    finally:
        pipe.abandon()
        job.cancel()


def _exception(job: asyncio.Future[None]) -> Exception | None:
    error = None if job.cancelled() else job.exception()
    return error if isinstance(error, Exception) else None


def check_body(body: bytes) -> None:
    if len(body) > MAX_BODY:
        raise InvalidInput(f"A message of {len(body)} bytes is too long for a peer; at most {MAX_BODY} are sent.")


def _wrap(name: str, body: bytes) -> bytes:
    check_body(body)
    return b'{"' + name.encode() + b'":' + body + b"}"


def _wrap_raw(body: bytes) -> bytes:
    check_body(body)
    return _RAW + body


def _decode(frame: bytes, peer_id: str) -> Answer:
    try:
        return read(frame, Answer)
    except Unreadable as error:
        raise PeerMisbehaved(f"Peer {peer_id} sent a frame that can't be read: {error}.") from error


def _encode_error(error: DmsError) -> bytes:
    return msgspec.json.encode({"error": Problem(told(error).peer_word or FAILED, str(error)[:4096])})
