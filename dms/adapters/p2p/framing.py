"""Frames on a libp2p stream: a varint length, then that many bytes; and the choice of a stream's protocol.

A length is checked before a byte of the frame is read. js-libp2p's `lpStream` speaks the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from dms.adapters.p2p.coming import coming_frames
from dms.errors import PeerMisbehaved, PeerSlow, PeerUnreachable, ProtocolRefused

MAX_FRAME = 256 * 1024
"""Bytes; more is refused in either direction."""

_READ_SIZE = 64 * 1024
_MULTISTREAM = b"/multistream/1.0.0\n"
_REFUSED = b"na\n"

LINE_ERRORS = (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What the library raises when a stream or its connection breaks."""


@contextmanager
def cut_as_unreachable(peer_id: str) -> Iterator[None]:
    """Everything that a broken line raises becomes PeerUnreachable, and a missed deadline PeerSlow, which is one."""
    try:
        yield
    except trio.TooSlowError as error:
        raise PeerSlow(f"Peer {peer_id} did not answer in time.") from error
    except LINE_ERRORS as error:
        raise PeerUnreachable(f"The connection to peer {peer_id} was cut.") from error


def encode_frame(body: bytes) -> bytes:
    length, prefix = len(body), bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + body


class Wire:
    """One libp2p stream, read and written in frames. Every step has a deadline.

    Raises PeerUnreachable for a cut or silence, PeerMisbehaved for a frame over the bound."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._muxed = cast("YamuxStream", cast("NetStream", stream).muxed_stream)  # no other muxer is offered
        self._buffer = bytearray()
        self._filling = trio.CancelScope()
        self.peer_id = str(stream.muxed_conn.peer_id)

    async def begun(self) -> None:
        """Returns when a frame begins, however long that takes."""
        with cut_as_unreachable(self.peer_id):
            await self._fill(1)

    async def read_frame(self, timeout_seconds: float, limit: int = MAX_FRAME) -> bytes:
        with cut_as_unreachable(self.peer_id), trio.fail_after(timeout_seconds):
            return await self.read_bytes(await self._read_length(limit))

    async def _read_length(self, limit: int) -> int:
        length = shift = 0
        while shift < 35:
            byte = (await self.read_bytes(1))[0]
            length |= (byte & 0x7F) << shift
            if length > limit:
                break
            if byte < 0x80:
                return length
            shift += 7
        raise PeerMisbehaved(f"Peer {self.peer_id} sent a frame longer than {limit} bytes.")

    async def read_bytes(self, count: int) -> bytes:
        await self._fill(count)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _fill(self, count: int) -> None:
        """Own loop: the library's read_exactly gives up after 101 short reads."""
        if len(self._buffer) >= count:
            return
        with trio.CancelScope() as self._filling:
            try:
                await self._read_until(count)
            finally:
                coming_frames().done(self)
        if self._filling.cancelled_caught:
            raise trio.TooSlowError

    async def _read_until(self, count: int) -> None:
        while len(self._buffer) < count:
            chunk = await self._stream.read(_READ_SIZE)
            if not chunk:
                raise PeerUnreachable(f"The connection to peer {self.peer_id} was cut.")
            self._buffer += chunk
            if len(self._buffer) < count:
                coming_frames().have(self, len(self._buffer))

    def give_up(self) -> None:
        """See Reading."""
        self._filling.cancel()

    async def write_frame(self, body: bytes, timeout_seconds: float) -> None:
        await self.write(encode_frame(body), timeout_seconds)

    async def write(self, data: bytes, timeout_seconds: float) -> None:
        with cut_as_unreachable(self.peer_id), trio.fail_after(timeout_seconds):
            await self._stream.write(data)

    async def choose(self, protocol: str, timeout_seconds: float) -> None:
        """The dialler's half of multistream-select. Both proposals go out at once, which saves a round trip.
        Raises ProtocolRefused."""
        proposal = protocol.encode() + b"\n"
        await self.write(encode_frame(_MULTISTREAM) + encode_frame(proposal), timeout_seconds)
        greeting = await self.read_frame(timeout_seconds, limit=1024)
        answer = await self.read_frame(timeout_seconds, limit=1024)
        if greeting == _MULTISTREAM and answer == proposal:
            return
        if greeting == _MULTISTREAM and answer == _REFUSED:
            raise ProtocolRefused(f"Peer {self.peer_id} does not speak {protocol}.")
        raise PeerMisbehaved(f"Peer {self.peer_id} did not follow multistream-select.")

    async def ended(self) -> None:
        """Returns when the peer can't want anything more: it reset the stream, or its connection ended.
        The end of the peer's own sending is not that. What it sends meanwhile is a fault, and ends it too."""
        try:
            await self._stream.read(1)
        except LINE_ERRORS:
            if not self._muxed.reset_received:
                await self._muxed.conn.event_closed.wait()

    async def finish(self) -> None:
        """Ends our side, and gives the peer a moment to end its own; then nothing of the stream stays behind."""
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            try:
                await self._stream.close()
                await self._stream.read(1)
            except LINE_ERRORS:
                return
        await self.reset()  # it says nothing, or more than it was asked for

    async def reset(self) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            try:
                await self._stream.reset()
            except LINE_ERRORS:
                return
