"""What follows from a transfer's state, on each side.

The receiver pulls when its user has accepted; the sender asks now and then what became of its offer, so a message that
is lost, or a side that is killed at any point, costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dms.application.files.file_exchange import FileExchange, FileRef
from dms.application.files.transfers import ASK_SECONDS, KIND, Transfers
from dms.application.files.user_files import Inbox
from dms.application.loops import said
from dms.application.network.messages import FILE_END, FileEnd, encode
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import News, Reactor
from dms.domain.run_time import Instant
from dms.domain.transfer import Direction, Transfer, TransferState
from dms.errors import (
    Conflict,
    DiskTrouble,
    DmsError,
    Forbidden,
    InvalidInput,
    NotFound,
    PeerMisbehaved,
    PeerUnreachable,
    Unavailable,
)

log = logging.getLogger(__name__)

OWN_CALL_SECONDS = ASK_SECONDS  # in which the user's own call has asked the peer, or was cut off
POLL_SECONDS = 60.0
LOOK_SECONDS = 3600.0  # of an offer that nobody accepts
TELL_SECONDS, TELL_AGAIN_SECONDS = 600.0, 5.0  # how long a peer that is away is told of an end, and how often


class SendFiles(Reactor[Transfer]):
    """The peer tells when it is over; asking is for when that was lost."""

    name = "files that are offered"
    kind = Transfer

    def __init__(self, log: EventLog, transfers: Transfers, clock: Callable[[], Instant]) -> None:
        """clock: of this machine."""
        self._log, self._transfers, self._clock = log, transfers, clock

    def due(self, aggregate: Transfer) -> bool:
        return aggregate.direction is Direction.OUT and not aggregate.ended

    def waits_for(self, aggregate: Transfer) -> str:
        return aggregate.peer_id

    async def react(self, aggregate: Transfer, news: News) -> None:
        if aggregate.is_late(self._clock()):
            await record_end(self._log, aggregate, TransferState.FAILED, "the peer did not fetch it in time")
            return
        if news.newest is not None and isinstance(news.newest.event, Transfer.Offered):
            await news.changed(OWN_CALL_SECONDS)
        await self._ask(aggregate)
        if self.due(self._transfers.get(aggregate.key)):
            await news.changed(POLL_SECONDS)

    async def give_up(self, aggregate: Transfer, error: Exception) -> None:
        await record_end(self._log, aggregate, TransferState.FAILED, f"it could not be sent: {said(error)}")

    async def _ask(self, transfer: Transfer) -> None:
        try:
            await self._transfers.ask(transfer)
        except PeerUnreachable:
            log.debug("peer %s is away; transfer %s waits for it", transfer.peer_id, transfer.key)
        except (Forbidden, NotFound, InvalidInput, PeerMisbehaved) as error:
            await record_end(self._log, self._transfers.get(transfer.key), TransferState.FAILED, str(error))
        except DmsError as error:
            log.info("transfer %s: %s", transfer.key, error)


class ReceiveFiles(Reactor[Transfer]):
    name = "files that are received"
    kind = Transfer

    def __init__(
        self, log: EventLog, exchange: FileExchange, transfers: Transfers, inbox: Inbox, clock: Callable[[], Instant]
    ) -> None:
        """clock: of this machine."""
        self._log, self._exchange, self._transfers, self._inbox, self._clock = log, exchange, transfers, inbox, clock

    def due(self, aggregate: Transfer) -> bool:
        return aggregate.direction is Direction.IN and not aggregate.ended

    async def react(self, aggregate: Transfer, news: News) -> None:
        transfer_id = aggregate.key
        while self.due(transfer := self._transfers.get(transfer_id)):
            if transfer.state is TransferState.ACCEPTED:
                await self._receive(transfer, news)
            elif transfer.is_late(self._clock()):
                await record_end(self._log, transfer, TransferState.CANCELLED, "nobody accepted it in time")
            else:
                await news.changed(LOOK_SECONDS)
        await asyncio.to_thread(self._inbox.forget, transfer_id)

    async def give_up(self, aggregate: Transfer, error: Exception) -> None:
        await record_end(self._log, aggregate, TransferState.FAILED, f"it could not be received: {said(error)}")

    async def _receive(self, transfer: Transfer, news: News) -> None:
        """Fetches, checks, publishes, records; each step finds what an earlier try did."""
        try:
            fetched = await news.during(
                self._fetch(transfer), lambda: self.due(self._transfers.get(transfer.key)), f"fetch {transfer.key}"
            )
            if fetched is None:  # the transfer was over first
                return
            saved_as = await asyncio.to_thread(self._inbox.publish, transfer.key, transfer.name)
        except (DiskTrouble, PeerUnreachable, NotFound, Forbidden, Conflict, PeerMisbehaved, InvalidInput) as error:
            await record_end(self._log, self._transfers.get(transfer.key), TransferState.FAILED, str(error))
            return
        received = self._transfers.get(transfer.key)
        received.complete(saved_as)
        await self._log.save(received)

    async def _fetch(self, transfer: Transfer) -> Path:
        ref = FileRef(
            kind=KIND, id=transfer.key, name=transfer.name, size_bytes=transfer.size_bytes, sha256=transfer.sha256
        )
        return await self._exchange.fetch(
            transfer.peer_id, ref, self._inbox.place(transfer.key),
            lambda size: self._transfers.note(transfer.peer_id, transfer.key, size),
        )  # fmt: skip


class TellTransferEnds(Reactor[Transfer]):
    """To the peer; one that is away for long asks, or is asked."""

    name = "ends of transfers"
    kind = Transfer
    recorded = False

    def __init__(self, network: PeerNetwork) -> None:
        self._network = network

    def due(self, aggregate: Transfer) -> bool:
        return aggregate.ended

    def waits_for(self, aggregate: Transfer) -> str:
        return aggregate.peer_id

    async def react(self, aggregate: Transfer, news: News) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + TELL_SECONDS
        level = logging.INFO
        while not await self._told(aggregate, level) and clock() < deadline:
            level = logging.DEBUG  # once is enough in the log of who mistyped a peer
            await news.changed(TELL_AGAIN_SECONDS)

    async def _told(self, transfer: Transfer, level: int) -> bool:
        """False while the peer is away, which the log has at that level."""
        end = FileEnd(transfer_id=transfer.key, state=transfer.state, reason=transfer.reason)
        try:
            await self._network.request(transfer.peer_id, FILE_END, encode(end), ASK_SECONDS)
        except Unavailable as error:
            log.log(
                level, "peer %s is not told yet of the end of transfer %s: %s", transfer.peer_id, transfer.key, error
            )
            return False
        except DmsError as refused:
            log.info("peer %s, told of the end of transfer %s, says: %s", transfer.peer_id, transfer.key, refused)
        return True


class WakeWatchers(Reactor[Transfer]):
    name = "watchers of transfers"
    kind = Transfer
    recorded = False

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def due(self, aggregate: Transfer) -> bool:
        return True

    async def react(self, aggregate: Transfer, news: News) -> None:
        self._transfers.wake_watchers()


async def record_end(event_log: EventLog, transfer: Transfer, state: TransferState, reason: str) -> None:
    if state is TransferState.FAILED:
        transfer.fail(reason)
    else:
        transfer.cancel(reason)
    await event_log.save(transfer)


def reactors_of(
    transfers: Transfers,
    event_log: EventLog,
    network: PeerNetwork,
    exchange: FileExchange,
    inbox: Inbox,
    clock: Callable[[], Instant],
) -> Sequence[Reactor[Transfer]]:
    """All that follows from transfers. clock: of this machine."""
    return (
        SendFiles(event_log, transfers, clock),
        ReceiveFiles(event_log, exchange, transfers, inbox, clock),
        TellTransferEnds(network),
        WakeWatchers(transfers),
    )
