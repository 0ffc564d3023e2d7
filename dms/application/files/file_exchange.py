"""Files from peer to peer: the one who wants a file pulls it, goes on after a cut, and checks it before use.

Whoever has a file of a `kind` answers which peer may read which id (`serve`); the other side fetches what a
FileRef names. The content comes as raw frames from the byte that is asked for; the part that is there already
is kept in `<name>.part`, so neither a cut nor a killed process on either side costs more than what was in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from dms.application.files.file_parts import PartFile, digest_of, read_pieces
from dms.application.network.messages import decode_request, encode
from dms.application.ports.peers import PeerNetwork
from dms.backoff import Backoff
from dms.errors import Conflict, DiskTrouble, NotFound, PeerMisbehaved, PeerUnreachable, Unavailable

log = logging.getLogger(__name__)

FILE = "/nunet/dms/file/0.1.0"
MAX_SIZE_BYTES = 1 << 50
FETCHES_AT_ONCE = 4
SERVED_AT_ONCE = 8
SERVED_TO_A_PEER = 4
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
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class FetchRequest(Struct, frozen=True, kw_only=True):
    """after: the first byte that is wanted. size_bytes: of the whole file, as the asker knows it."""

    kind: Annotated[str, Meta(max_length=32)]
    id: Annotated[str, Meta(max_length=128)]
    size_bytes: Annotated[int, Meta(ge=0, le=MAX_SIZE_BYTES)]
    after: Annotated[int, Meta(ge=0, le=MAX_SIZE_BYTES)] = 0


Resolve = Callable[[str, str], Awaitable[Path | None]]
"""(peer id, id) -> the file that this peer may read, None: there is none for it. The path is a resolved one
(Path.resolve): a symbolic link on it is refused, so nobody can exchange a folder for one after the check."""

Served = Callable[[str, str, int], None]
"""(peer id, id, bytes that have gone over in all) -> None"""


class FileExchange:
    def __init__(self, network: PeerNetwork, *, away_seconds: float = AWAY_SECONDS) -> None:
        self._network, self._away = network, away_seconds
        self._kinds: dict[str, tuple[Resolve, Served | None]] = {}
        self._serving: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._fetching: set[Path] = set()

    def start(self) -> None:
        """Before the network starts, so that a file may be asked for from its first moment."""
        self._network.serve_stream(FILE, self._on_fetch, raw=True)

    def serve(self, kind: str, resolve: Resolve, served: Served | None = None) -> None:
        """Gives out files of that kind. served: told as a peer reads."""
        self._kinds[kind] = (resolve, served)

    # --- giving --------------------------------------------------------------------------------
    async def _on_fetch(self, peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        request = decode_request(body, FetchRequest)
        if self._serving.total() >= SERVED_AT_ONCE or self._serving[peer_id] >= SERVED_TO_A_PEER:
            raise Unavailable("This peer gives out as many files as it can at once; try again.")
        self._serving[peer_id] += 1
        try:
            resolve, served = self._kinds.get(request.kind, (None, None))
            path = await resolve(peer_id, request.id) if resolve else None
            if path is None:
                raise NotFound(f"There is no file {request.kind}/{request.id} for you here.")
            done = request.after
            async with aclosing(read_pieces(path, request.after, request.size_bytes)) as pieces:
                async for piece in pieces:
                    yield piece
                    done += len(piece)
                    if served is not None:
                        served(peer_id, request.id, done)
        finally:
            self._serving[peer_id] -= 1
            if not self._serving[peer_id]:
                del self._serving[peer_id]

    # --- getting -------------------------------------------------------------------------------
    async def fetch(self, peer_id: str, ref: FileRef, into: Path, progress: Progress | None = None) -> Path:
        """The peer's file, whole and checked, at `into`; what was there is replaced only then. Safe to repeat:
        goes on behind what `<into>.part` holds, and returns at once when the file is there already. Tries again
        over cuts until it is cancelled. Raises PeerUnreachable when the peer gave nothing for `away_seconds`,
        PeerMisbehaved for a content that is not the ref's, Unavailable when the disk is full, Conflict when `into`
        is being fetched, or what the peer refuses with (NotFound, Conflict: the file is another one now)."""
        if into in self._fetching:
            raise Conflict(f"{into.name} is being fetched already.")
        self._fetching.add(into)
        try:
            async with self._slots:
                return await self._fetch(peer_id, ref, into, progress or _nothing)
        finally:
            self._fetching.discard(into)

    async def _fetch(self, peer_id: str, ref: FileRef, into: Path, progress: Progress) -> Path:
        if await digest_of(into, ref.size_bytes) == ref.sha256:
            progress(ref.size_bytes)
            return into
        async with await PartFile.open(into, ref.size_bytes) as part:
            resumed = part.size > 0
            while True:
                await self._complete(peer_id, ref, part, progress)
                if part.sha256 == ref.sha256:
                    await part.publish()
                    return into
                part.clear()
                if not resumed:
                    part.discard()
                    raise PeerMisbehaved(f"Peer {peer_id} sent {ref.name!r} with another content than it announced.")
                log.warning("what was there of %r is not part of it; it is fetched from its first byte", ref.name)
                resumed = False

    async def _complete(self, peer_id: str, ref: FileRef, part: PartFile, progress: Progress) -> None:
        """Until the part has the file's size; over cuts, with pauses."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(*PAUSES_SECONDS)
        gained_at = loop.time()
        while part.size < ref.size_bytes:
            before = part.size
            part.check_room()
            try:
                await self._follow(peer_id, ref, part, progress)
            except DiskTrouble:
                raise
            except Unavailable as error:
                if part.size > before:
                    gained_at = loop.time()
                    backoff.reset()
                if loop.time() - gained_at >= self._away:
                    raise
                log.info("the fetch of %r from peer %s waits: %s", ref.name, peer_id, error)
            else:
                if part.size < ref.size_bytes:
                    raise PeerMisbehaved(f"Peer {peer_id} sent only {part.size} of {ref.size_bytes} bytes.")
                return
            await asyncio.sleep(backoff.spread())

    async def _follow(self, peer_id: str, ref: FileRef, part: PartFile, progress: Progress) -> None:
        request = FetchRequest(kind=ref.kind, id=ref.id, size_bytes=ref.size_bytes, after=part.size)
        waiting = bytearray()
        progress(part.size)
        try:
            async with aclosing(self._network.stream(peer_id, FILE, encode(request))) as frames:
                async for frame in frames:
                    if not frame or part.size + len(waiting) + len(frame) > ref.size_bytes:
                        raise PeerMisbehaved(
                            f"Peer {peer_id} sent an empty frame, or more than the whole of {ref.name!r}."
                        )
                    waiting += frame
                    if len(waiting) >= WRITE_BYTES:
                        await part.append(waiting)
                        waiting = bytearray()
                        progress(part.size)
        except PeerUnreachable:
            await part.append(waiting)  # what came before a cut is kept
            raise
        await part.append(waiting)
        progress(part.size)


def _nothing(_size: int) -> None:
    return
