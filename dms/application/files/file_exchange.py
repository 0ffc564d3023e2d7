"""Files from peer to peer: the one who wants a file pulls it, goes on after a cut, and checks it before use.

Whoever has a file of a `kind` answers which peer may read which id (`serve`); the other side fetches what a
FileRef names. The content comes as raw frames from the byte that is asked for; the part that is there already
is kept in `<name>.part`, so neither a cut nor a killed process on either side costs more than what was in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from dms.application.files.file_parts import PartFile, digest_of, read_pieces
from dms.application.files.least_pace import LEAST_BYTES, PACE_SECONDS, LeastPace
from dms.application.files.turns import Turn, Turns
from dms.application.network.messages import decode_request, encode
from dms.application.ports.peers import PeerNetwork
from dms.backoff import Backoff
from dms.errors import (
    Conflict,
    DiskTrouble,
    DmsError,
    NotFound,
    PeerMisbehaved,
    PeerSlow,
    PeerUnreachable,
    Unavailable,
)

log = logging.getLogger(__name__)

FILE = "/nunet/dms/file/0.1.0"
MAX_SIZE_BYTES = 1 << 50
FETCHES_AT_ONCE = 16
FETCHES_FROM_A_PEER = 2
SERVED_AT_ONCE = 8
SERVED_TO_A_PEER = 4
ENDING_AT_ONCE = 16  # more than those: who is to make room for others, but has not heard of it yet
END_TOLD_SECONDS = 10.0  # for the word of why a file is given no further, which comes by another stream
AWAY_SECONDS = 3600.0  # how long a peer may give nothing before a fetch gives up
PAUSES_SECONDS = (0.2, 15.0)  # first and longest between two tries
WRITE_BYTES = 1 << 20

Progress = Callable[[int], None]
"""Bytes that have gone over in all, those of earlier tries included."""


class FileRef(Struct, frozen=True, kw_only=True):
    """A file that a peer has. kind: who gives it out there; sha256: 64 hex digits."""

    kind: Annotated[str, Meta(max_length=32)]  # "offer" | "checkpoint" | "resume"
    id: Annotated[str, Meta(max_length=128)]
    name: Annotated[str, Meta(max_length=1024)]  # the owner's: for people, never a path here
    size_bytes: Annotated[int, Meta(ge=0, le=MAX_SIZE_BYTES)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class FetchRequest(Struct, frozen=True, kw_only=True):
    """after: the first byte that is wanted. size_bytes: of the whole file, as the asker knows it."""

    kind: Annotated[str, Meta(max_length=32)]
    id: Annotated[str, Meta(max_length=128)]
    size_bytes: Annotated[int, Meta(ge=0, le=MAX_SIZE_BYTES)]
    after: Annotated[int, Meta(ge=0, le=MAX_SIZE_BYTES)] = 0


MayRead = Callable[[str, str], bool]
"""(peer id, id) -> whether that peer may read that file. Asked before each piece: who may no more gets no more."""

Resolve = Callable[[str, str], Awaitable[int | None]]
"""(peer id, id) -> a descriptor of the file that this peer may read, which the exchange closes; None: there is none for
it any more. It is the file itself that was checked: nobody can put another in its place."""

Served = Callable[[str, str, int], None]
"""(peer id, id, bytes that have gone over in all) -> None"""


class _Kind(NamedTuple):
    may_read: MayRead
    resolve: Resolve
    served: Served | None


class _Fetch(NamedTuple):
    """limit: of the whole of it."""

    peer_id: str
    ref: FileRef
    progress: Progress
    limit: asyncio.Timeout


class FileExchange:
    def __init__(self, network: PeerNetwork, *, away_seconds: float = AWAY_SECONDS) -> None:
        self._network, self._away = network, away_seconds
        self._kinds: dict[str, _Kind] = {}
        self._given, self._taken = Turns(), Turns()
        self._waiting = 0  # for a slot
        self._slots = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._slots_of: dict[str, asyncio.Semaphore] = {}  # of a peer
        self._fetches_of: Counter[str] = Counter()
        self._fetching: set[Path] = set()

    def start(self) -> None:
        """Before the network starts, so that a file may be asked for from its first moment."""
        self._network.serve_stream(FILE, self._on_fetch, raw=True)

    def serve(self, kind: str, may_read: MayRead, resolve: Resolve, served: Served | None = None) -> None:
        """Gives out files of that kind. resolve: only asked for what the peer may read. served: told as a peer
        reads."""
        self._kinds[kind] = _Kind(may_read, resolve, served)

    # --- giving --------------------------------------------------------------------------------
    async def _on_fetch(self, peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        request, clock = decode_request(body, FetchRequest), asyncio.get_running_loop().time
        kind = self._kinds.get(request.kind)
        if kind is None or not kind.may_read(peer_id, request.id):  # before anybody makes room for it
            raise _no_file(request)
        if not self._has_place(peer_id, clock):
            raise Unavailable("This peer gives out as many files as it can at once; try again.")
        with self._given.turn(peer_id, clock) as turn:
            fd = await kind.resolve(peer_id, request.id)
            if fd is None:
                raise _no_file(request)
            done, pace = request.after, LeastPace()
            async with aclosing(read_pieces(fd, request.after, request.size_bytes)) as pieces:
                async for piece in pieces:
                    if not kind.may_read(peer_id, request.id):
                        await asyncio.sleep(END_TOLD_SECONDS)  # who leaves off by that word ends this
                        raise _no_file(request)
                    began = clock()
                    yield piece
                    pace.waited(clock() - began, len(piece))
                    turn.moved(len(piece))
                    done += len(piece)
                    if kind.served is not None:
                        kind.served(peer_id, request.id, done)
                    if done < request.size_bytes:
                        _keep_on(pace, turn)

    def _has_place(self, peer_id: str, clock: Callable[[], float]) -> bool:
        if self._given.of(peer_id) >= SERVED_TO_A_PEER or len(self._given) >= SERVED_AT_ONCE + ENDING_AT_ONCE:
            return False
        return len(self._given) - self._given.ending < SERVED_AT_ONCE or self._given.make_room(clock)

    # --- getting -------------------------------------------------------------------------------
    async def fetch(
        self,
        peer_id: str,
        ref: FileRef,
        into: Path,
        progress: Progress | None = None,
        *,
        limit_seconds: float | None = None,
    ) -> Path:
        """The peer's file, whole and checked, at `into`; what was there is replaced only then. Safe to repeat:
        goes on behind what `<into>.part` holds, and returns at once when the file is there already. Tries again
        over cuts until it is cancelled. limit_seconds: how long that may take, waiting for other fetches left out;
        then it raises TimeoutError. Raises PeerUnreachable when the peer gave next to nothing for `away_seconds`,
        PeerMisbehaved for a content that is not the ref's, Unavailable when the disk is full, Conflict when `into`
        is being fetched, or what the peer refuses with (NotFound, Conflict: the file is another one now)."""
        if into in self._fetching:
            raise Conflict(f"{into.name} is being fetched already.")
        self._fetching.add(into)
        try:
            async with asyncio.timeout(limit_seconds) as limit:
                return await self._fetch(_Fetch(peer_id, ref, progress or _nothing, limit), into)
        finally:
            self._fetching.discard(into)

    @asynccontextmanager
    async def _turn(self, fetch: _Fetch) -> AsyncIterator[Turn]:
        """For one try: who is away, or slow, is not in the way of others."""
        clock, peer_id, limit = asyncio.get_running_loop().time, fetch.peer_id, fetch.limit
        left = None if (end := limit.when()) is None else end - clock()
        limit.reschedule(None)
        self._fetches_of[peer_id] += 1
        try:
            async with self._slots_of.setdefault(peer_id, asyncio.Semaphore(FETCHES_FROM_A_PEER)), self._slot():
                limit.reschedule(None if left is None else clock() + left)
                with self._taken.turn(peer_id, clock) as turn:
                    yield turn
        finally:
            self._fetches_of[peer_id] -= 1
            if not self._fetches_of[peer_id]:
                del self._fetches_of[peer_id], self._slots_of[peer_id]

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _fetch(self, fetch: _Fetch, into: Path) -> Path:
        ref = fetch.ref
        if await digest_of(into, ref.size_bytes) == ref.sha256:
            fetch.progress(ref.size_bytes)
            return into
        async with await PartFile.open(into, ref.size_bytes) as part:
            resumed = part.size > 0
            while True:
                await self._complete(fetch, part)
                if part.sha256 == ref.sha256:
                    await part.publish()
                    return into
                part.clear()
                if not resumed:
                    part.discard()
                    raise PeerMisbehaved(
                        f"Peer {fetch.peer_id} sent {ref.name!r} with another content than it announced."
                    )
                log.warning("what was there of %r is not part of it; it is fetched from its first byte", ref.name)
                resumed = False

    async def _complete(self, fetch: _Fetch, part: PartFile) -> None:
        """Until the part has the file's size; over cuts, with pauses."""
        peer_id, ref, clock = fetch.peer_id, fetch.ref, asyncio.get_running_loop().time
        backoff, away, began = Backoff(*PAUSES_SECONDS), 0.0, 0.0
        while part.size < ref.size_bytes:
            before = part.size
            part.check_room()
            try:
                async with self._turn(fetch) as turn:
                    began = clock()
                    await self._follow(fetch, part, turn)
            except DiskTrouble:
                raise
            except Unavailable as error:
                away += clock() - began
                if part.size - before >= LEAST_BYTES:
                    away = 0.0
                    backoff.reset()
                if away >= self._away:
                    if isinstance(error, PeerUnreachable):
                        raise
                    raise PeerUnreachable(f"Peer {peer_id} does not give {ref.name!r}: {error}") from error
                log.info("the fetch of %r from peer %s waits: %s", ref.name, peer_id, error)
            else:
                if part.size < ref.size_bytes:
                    raise PeerMisbehaved(f"Peer {peer_id} sent only {part.size} of {ref.size_bytes} bytes.")
                return
            away += (pause := backoff.spread())
            await asyncio.sleep(pause)

    async def _follow(self, fetch: _Fetch, part: PartFile, turn: Turn) -> None:
        peer_id, ref, progress, _ = fetch
        request = FetchRequest(kind=ref.kind, id=ref.id, size_bytes=ref.size_bytes, after=part.size)
        waiting = bytearray()
        progress(part.size)
        try:
            stream = self._network.stream(peer_id, FILE, encode(request))
            async with aclosing(stream), aclosing(_in_time(stream, peer_id)) as frames:
                async for frame in frames:
                    if not frame or part.size + len(waiting) + len(frame) > ref.size_bytes:
                        raise PeerMisbehaved(
                            f"Peer {peer_id} sent an empty frame, or more than the whole of {ref.name!r}."
                        )
                    waiting += frame
                    self._make_room(turn, len(frame))
                    if len(waiting) >= WRITE_BYTES:
                        await part.append(waiting)
                        waiting = bytearray()
                        progress(part.size)
        except (DiskTrouble, PeerMisbehaved):
            raise
        except DmsError:
            await part.append(waiting)  # what came before a cut, or before the peer gave no more, is kept
            raise
        await part.append(waiting)
        progress(part.size)

    def _make_room(self, turn: Turn, size_bytes: int) -> None:
        """For fetches that wait. Raises PeerSlow."""
        turn.moved(size_bytes)
        if self._waiting > self._taken.ending:
            self._taken.make_room(asyncio.get_running_loop().time)
        if turn.is_over:
            raise PeerSlow(f"Other files wait, and peer {turn.peer_id} gives its own more slowly than others.")


def _keep_on(pace: LeastPace, turn: Turn) -> None:
    """Raises Unavailable where a reader has to leave its place to others."""
    if not pace.is_kept:
        raise Unavailable("You read too slowly to keep others waiting; go on from there later.")
    if turn.is_over:
        raise Unavailable("Others wait for files from this peer, too; go on from there later.")


def _no_file(request: FetchRequest) -> NotFound:
    return NotFound(f"There is no file {request.kind}/{request.id} for you here.")


async def _in_time(stream: AsyncGenerator[bytes, None], peer_id: str) -> AsyncGenerator[bytes, None]:
    """Its frames, while they come fast enough. Raises PeerSlow."""
    clock, pace = asyncio.get_running_loop().time, LeastPace()
    while True:
        began = clock()
        try:
            async with asyncio.timeout(pace.seconds_left):
                frame = await anext(stream, None)
        except TimeoutError as error:
            raise PeerSlow(f"Peer {peer_id} gives less than {LEAST_BYTES} bytes in {PACE_SECONDS:g} s.") from error
        if frame is None:
            return
        pace.waited(clock() - began, len(frame))
        yield frame


def _nothing(_size: int) -> None:
    return
