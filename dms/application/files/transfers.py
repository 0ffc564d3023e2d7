"""Files that users give to peers: offered, accepted by the other user, pulled, checked, and then in a folder.

Each side has its own record of a transfer. What follows from it is done by reactors: see move_files.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from msgspec import Struct

from dms.application.device.refusals import Door
from dms.application.files.file_exchange import FileExchange
from dms.application.files.file_parts import measure, on_disk, opened
from dms.application.files.user_files import Inbox, Outbox, Reach
from dms.application.network.budgets import FILE_OFFERS, Budgets
from dms.application.network.messages import (
    FILE_END,
    FILE_OFFER,
    FileEnd,
    FileOffer,
    FileOfferAnswer,
    decode_answer,
    decode_request,
    encode,
)
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.wakeup import Wakeup
from dms.domain.event import new_id
from dms.domain.run_time import Instant
from dms.domain.transfer import Direction, Transfer, TransferState
from dms.errors import (
    Conflict,
    DmsError,
    Forbidden,
    InvalidInput,
    NotFound,
)

log = logging.getLogger(__name__)

KIND = "offer"
OPEN_AT_ONCE = 100  # of each direction
WAITING_OF_STRANGERS = 50  # of all of them: the others are for peers that we know
ASK_SECONDS = 15.0
TICK_SECONDS = 1.0
EMPTY_ANSWER = b"null"


class TransferLimits(Struct, frozen=True, kw_only=True):
    """max_bytes: of one received file. max_offers: of one peer that wait for a decision."""

    max_bytes: int = 100 << 30
    max_offers: int = 5


class Snapshot(Struct, frozen=True, kw_only=True):
    """A transfer now. bytes_per_second: over what has gone over in this run of the daemon."""

    transfer: Transfer
    done_bytes: int
    bytes_per_second: float


class Transfers:
    def __init__(
        self,
        log: EventLog,
        network: PeerNetwork,
        exchange: FileExchange,
        outbox: Outbox,
        inbox: Inbox,
        clock: Callable[[], Instant],
        door: Door,
        budgets: Budgets,
        limits: TransferLimits | None = None,
    ) -> None:
        """clock: of this machine."""
        self._log, self._network, self._exchange = log, network, exchange
        self._outbox, self._inbox, self._clock, self._limits = outbox, inbox, clock, limits or TransferLimits()
        self._door, self._budgets = door, budgets
        self._open: dict[str, None] = {}  # in the order offered; kept by the log
        self._progress: dict[str, tuple[int, int, float]] = {}  # bytes at first, bytes now, loop time at first
        self._stirred = Wakeup()
        log.index(Transfer, self._restate)

    def serve(self) -> None:
        self._network.serve_request(FILE_OFFER, self._on_offer)
        self._network.serve_request(FILE_END, self._on_end)
        self._exchange.serve(KIND, self._may_read, self._resolve, self.note)

    async def take_up(self, open_ids: Iterable[str]) -> None:
        """open_ids: the transfers that were not over when the log was last written, oldest first."""
        self._open.update(dict.fromkeys(open_ids))
        await asyncio.to_thread(self._inbox.prepare, list(self._open))

    # --- what users do ---------------------------------------------------------------------------
    async def check(self, peer_id: str, path: Path, reach: Reach) -> Path:
        """The resolved path of a file that can be offered. Raises InvalidInput, NotFound, Forbidden, Conflict."""
        if peer_id == self._network.peer_id:
            raise InvalidInput("peerID can not be self peerID", [("/peerID", "another peer")])
        if sum(self.get(i).direction is Direction.OUT for i in self._open) >= OPEN_AT_ONCE:
            raise Conflict(f"{OPEN_AT_ONCE} files are being sent already; wait, or cancel some: nunet file list")
        return await on_disk(self._outbox.check, path, reach)

    async def offer(self, peer_id: str, path: Path, reach: Reach) -> Transfer:
        """Once the peer has it before it. Raises as `check`, PeerUnreachable, or what the peer refuses with."""
        real = await self.check(peer_id, path, reach)
        size_bytes, sha256 = await measure(await opened(self._outbox.open, real, reach))
        transfer = Transfer(new_id())
        transfer.offer(Direction.OUT, peer_id, real.name, size_bytes, sha256, self._clock(), str(real))
        await self._log.save(transfer)
        try:
            await self.ask(transfer)
        except DmsError as error:
            transfer = self.get(transfer.key)
            transfer.fail(str(error))
            await self._log.save(transfer)
            raise
        return self.get(transfer.key)

    async def accept(self, transfer_id: str) -> Transfer:
        """Begins to fetch. Raises NotFound, Conflict when it is over or not ours to accept, Forbidden when its peer was
        denied since."""
        transfer = self.get(transfer_id)
        if transfer.direction is not Direction.IN:
            raise Conflict(f"transfer {transfer_id} was offered by this node: the receiver accepts it")
        self._door.check(transfer.peer_id, "file")
        transfer.accept()
        await self._log.save(transfer)
        return transfer

    async def cancel(self, transfer_id: str) -> Transfer:
        """By this side's user. Raises NotFound, Conflict when it is over."""
        transfer = self.get(transfer_id)
        if transfer.ended:
            raise Conflict(f"transfer {transfer_id} is over: {transfer.state}")
        transfer.cancel(f"cancelled by the {'receiver' if transfer.direction is Direction.IN else 'sender'}")
        await self._log.save(transfer)
        return transfer

    async def clear(self) -> int:
        """Refuses all offers that wait; how many there were."""
        waiting = self.waiting()
        for transfer in waiting:
            transfer.cancel("refused by the receiver")
        if waiting:
            await self._log.save(*waiting)
        return len(waiting)

    def waiting(self) -> list[Transfer]:
        """Offers of peers for this node's user to accept, oldest first."""
        return [t for t in map(self.get, self._open) if t.waits]

    def get(self, transfer_id: str) -> Transfer:
        """Raises NotFound."""
        transfer = self._log.load(Transfer, transfer_id)
        if transfer is None:
            raise NotFound(f"there is no transfer {transfer_id} here")
        return transfer

    def saved_path(self, transfer: Transfer) -> Path:
        return self._inbox.folder / transfer.saved_as

    def snapshot(self, transfer_id: str) -> Snapshot:
        """Raises NotFound."""
        transfer = self.get(transfer_id)
        first, now, since = self._progress.get(transfer_id, (0, 0, 0.0))
        seconds = asyncio.get_running_loop().time() - since
        done = transfer.size_bytes if transfer.state is TransferState.COMPLETED else now
        return Snapshot(
            transfer=transfer, done_bytes=done, bytes_per_second=(now - first) / seconds if seconds > 0 else 0.0
        )

    async def watch(self, transfer_id: str) -> AsyncGenerator[Snapshot, None]:
        """Now, about every second while bytes go over, at each change of state, and last of all at its end."""
        state, told = None, -1
        while True:
            seen = self.snapshot(transfer_id)
            if seen.transfer.state is not state or seen.done_bytes != told:
                state, told = seen.transfer.state, seen.done_bytes
                yield seen
                continue  # it may have changed meanwhile
            if state not in {TransferState.OFFERED, TransferState.ACCEPTED}:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stirred.wait()

    # --- what peers say --------------------------------------------------------------------------
    async def _on_offer(self, peer_id: str, body: bytes) -> bytes:
        message = decode_request(body, FileOffer)
        transfer = self._log.load(Transfer, message.transfer_id)
        if transfer is None:
            self._check_offer(peer_id, message)
            transfer = Transfer(message.transfer_id)
            transfer.offer(Direction.IN, peer_id, message.name, message.size_bytes, message.sha256, self._clock())
        elif transfer.direction is not Direction.IN or transfer.peer_id != peer_id:
            raise Forbidden(f"transfer {message.transfer_id} is another peer's")
        await self._log.save(transfer)
        return encode(FileOfferAnswer(state=transfer.state, reason=transfer.reason))

    def _check_offer(self, peer_id: str, message: FileOffer) -> None:
        self._door.check(peer_id, "file")
        if message.size_bytes > self._limits.max_bytes:
            raise InvalidInput(
                f"the file has {message.size_bytes} bytes; this peer takes {self._limits.max_bytes} at most"
            )
        waiting = Counter(t.peer_id for t in self.waiting())
        known = self._budgets.is_known(peer_id)
        of_strangers = sum(count for peer, count in waiting.items() if not self._budgets.is_known(peer))
        if (
            waiting[peer_id] >= self._limits.max_offers
            or waiting.total() >= OPEN_AT_ONCE
            or (not known and of_strangers >= WAITING_OF_STRANGERS)
        ):
            raise Conflict("too many files wait for a decision at this peer; try again later")
        if not self._budgets.allows(FILE_OFFERS, peer_id):
            raise Conflict("too many files were offered to this peer of late; try again later")

    async def _on_end(self, peer_id: str, body: bytes) -> bytes:
        message = decode_request(body, FileEnd)
        transfer = self._log.load(Transfer, message.transfer_id)
        if transfer is None or transfer.peer_id != peer_id:
            raise NotFound(f"there is no transfer {message.transfer_id} of yours here")
        await self._settle(transfer, message.state, message.reason)
        return EMPTY_ANSWER

    def _may_read(self, peer_id: str, transfer_id: str) -> bool:
        transfer = self._log.load(Transfer, transfer_id)
        if transfer is None or transfer.ended:
            return False
        return (transfer.direction, transfer.peer_id) == (Direction.OUT, peer_id)

    async def _resolve(self, peer_id: str, transfer_id: str) -> int | None:
        """The receiver reads: that is its yes. Where the file lies is looked at again each time."""
        self._door.check(peer_id, "file")
        source = Path(self.get(transfer_id).source)
        with ExitStack() as unread:
            fd = await opened(self._outbox.open, source, Reach.DAEMONS)
            unread.callback(os.close, fd)
            if (transfer := self.get(transfer_id)).ended:  # meanwhile
                return None
            transfer.accept()
            await self._log.save(transfer)
            unread.pop_all()  # closed by who reads it
            return fd

    # --- the record --------------------------------------------------------------------------------
    async def ask(self, transfer: Transfer) -> None:
        """Offers it, or asks what became of it, and records that. Raises PeerUnreachable, or what the peer refuses
        with."""
        offer = FileOffer(
            transfer_id=transfer.key, name=transfer.name, size_bytes=transfer.size_bytes, sha256=transfer.sha256
        )
        body = await self._network.request(transfer.peer_id, FILE_OFFER, encode(offer), ASK_SECONDS)
        answer = decode_answer(transfer.peer_id, body, FileOfferAnswer)
        await self._settle(self.get(transfer.key), answer.state, answer.reason)

    async def _settle(self, transfer: Transfer, state: TransferState, reason: str) -> None:
        """Follows what the peer says of it. Only a receiver can say that it is complete."""
        outgoing = transfer.direction is Direction.OUT
        match state:
            case TransferState.ACCEPTED if outgoing and not transfer.ended:
                transfer.accept()
            case TransferState.COMPLETED if outgoing:
                transfer.complete()
            case TransferState.CANCELLED:
                transfer.cancel(reason or "cancelled by the peer")
            case TransferState.FAILED:
                transfer.fail(reason or "failed at the peer")
        await self._log.save(transfer)

    def note(self, peer_id: str, transfer_id: str, size: int) -> None:
        """Bytes that have gone over. Raises Forbidden once the peer is denied: then no more of them are wanted."""
        self._door.check(peer_id, "file")
        if transfer_id not in self._open:  # it ended as they went
            return
        first, _, since = self._progress.get(transfer_id, (size, size, asyncio.get_running_loop().time()))
        self._progress[transfer_id] = (min(first, size), size, since)

    def wake_watchers(self) -> None:
        self._stirred.wake()

    def _restate(self, transfer_id: str, transfer: Transfer | None) -> None:
        if transfer is not None and not transfer.ended:
            self._open.setdefault(transfer_id)
        else:
            self._open.pop(transfer_id, None)
            self._progress.pop(transfer_id, None)
