"""Transfers whose other side never comes, over the real log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.p2p.identity import Identity
from dms.application.device.device import DeviceService
from dms.application.device.refusals import Door, Refusals
from dms.application.files import move_files
from dms.application.files.file_exchange import FileExchange
from dms.application.files.move_files import reactors_of
from dms.application.files.transfers import Snapshot, Transfers
from dms.application.files.user_files import Inbox, Outbox, Reach
from dms.application.loops import Loops
from dms.application.network.budgets import Budgets
from dms.application.network.messages import FILE_END, FileOfferAnswer, encode
from dms.application.reactors import Reactors
from dms.clock import machine_clock
from dms.domain.event import new_id
from dms.domain.run_time import Instant
from dms.domain.transfer import Direction, Transfer, TransferState
from dms.errors import PeerUnreachable
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import FixedHardware, LonelyNetwork, now_us

PEER = Identity.generate().peer_id
DAY_US = 24 * 3600 * 1_000_000


@pytest.fixture
async def event_log(tmp_path: Path) -> AsyncIterator[SQLiteEventLog]:
    log = SQLiteEventLog(tmp_path / "events.db", now_us)
    await log.start()
    yield log
    await log.close()


class Side:
    """One node's transfers, and what follows from them."""

    def __init__(self, folder: Path, log: SQLiteEventLog, network: LonelyNetwork) -> None:
        inbox, exchange = Inbox(folder / "received"), FileExchange(network)
        self.ahead_us = 0  # of the wall clock
        self.passed_us = 0  # by either clock
        outbox = Outbox([folder], [], folder / "received")
        door = Door(DeviceService(log, FixedHardware(), network.peer_id), Refusals(now_us))
        self.transfers = Transfers(log, network, exchange, outbox, inbox, self.clock, door, Budgets(lambda _: False))
        self._effects = reactors_of(self.transfers, log, network, exchange, inbox, self.clock)
        self.reactors = Reactors(log, Loops())

    def clock(self) -> Instant:
        true = machine_clock()
        wall_us = true.wall_us + self.ahead_us
        return Instant(true.boot_id, true.boot_us + self.passed_us, wall_us + self.passed_us)

    async def start(self, open_ids: Sequence[str]) -> None:
        await self.transfers.take_up(open_ids)
        await self.reactors.start(self._effects, lambda _: open_ids)


@pytest.fixture
async def side(tmp_path: Path, event_log: SQLiteEventLog) -> AsyncIterator[Side]:
    made = Side(tmp_path, event_log, LonelyNetwork(Identity.generate().peer_id))
    yield made
    await made.reactors.close()


@pytest.fixture
def transfers(side: Side) -> Transfers:
    return side.transfers


async def offered(log: SQLiteEventLog, direction: Direction, days_ago: int) -> str:
    transfer = Transfer(new_id())
    now = machine_clock()
    then = Instant(now.boot_id, now.boot_us - days_ago * DAY_US, now.wall_us - days_ago * DAY_US)
    transfer.offer(direction, PEER, "a.txt", 1, "0" * 64, then, "/a.txt")
    await log.save(transfer)
    return transfer.key


@pytest.mark.parametrize("step_days", [0, 5, -5])
async def test_what_nobody_decides_on_ends_after_a_week(
    event_log: SQLiteEventLog, side: Side, transfers: Transfers, step_days: int
) -> None:
    """By the clock that nobody sets."""
    side.ahead_us = step_days * DAY_US
    ids = [await offered(event_log, direction, days) for direction in Direction for days in (6, 8)]
    await side.start(ids)
    await wait_for(lambda: sum(transfers.get(i).ended for i in ids) == 2)
    assert [transfers.get(i).state for i in ids] == [
        TransferState.OFFERED,
        TransferState.FAILED,
        TransferState.OFFERED,
        TransferState.CANCELLED,
    ]
    assert [t.key for t in transfers.waiting()] == [ids[2]]


async def test_an_offer_of_this_run_ends_after_a_week_too(
    event_log: SQLiteEventLog, side: Side, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing was heard of it since it was made."""
    monkeypatch.setattr(move_files, "OWN_CALL_SECONDS", 0.01)
    monkeypatch.setattr(move_files, "POLL_SECONDS", 0.01)
    await side.start([])
    transfer_id = await offered(event_log, Direction.OUT, 0)
    await wait_for(lambda: side.reactors.keys(move_files.SendFiles.name))
    assert not transfers.get(transfer_id).ended
    side.passed_us = 8 * DAY_US
    await wait_for(lambda: transfers.get(transfer_id).ended)
    assert transfers.get(transfer_id).state is TransferState.FAILED
    assert "in time" in transfers.get(transfer_id).reason


async def test_a_fetch_from_a_peer_that_stays_away_fails_and_leaves_nothing(
    event_log: SQLiteEventLog, side: Side, transfers: Transfers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers._exchange, "_away", 0.3)
    transfer_id = await offered(event_log, Direction.IN, 0)
    await side.start([transfer_id])
    await transfers.accept(transfer_id)
    await wait_for(lambda: transfers.get(transfer_id).ended)
    assert transfers.get(transfer_id).state is TransferState.FAILED
    assert "not there" in transfers.get(transfer_id).reason
    await wait_for(lambda: not list((tmp_path / "received" / ".incoming").iterdir()))


async def test_cancelling_does_not_wait_for_a_peer_that_is_away(
    event_log: SQLiteEventLog, side: Side, transfers: Transfers
) -> None:
    transfer_id = await offered(event_log, Direction.OUT, 0)
    await side.start([transfer_id])
    seen = [snapshot.transfer.state async for snapshot in _cancelled_meanwhile(transfers, transfer_id)]
    assert seen[-1] is TransferState.CANCELLED


class Undecided(LonelyNetwork):
    """A peer whose user has not looked at the offer yet."""

    asked = 0

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)  # a network takes its time
        return encode(FileOfferAnswer(state=TransferState.OFFERED, reason=""))


async def test_a_peer_that_has_not_decided_is_not_asked_all_the_time(tmp_path: Path, event_log: SQLiteEventLog) -> None:
    network = Undecided(Identity.generate().peer_id)
    side = Side(tmp_path, event_log, network)
    await side.start([await offered(event_log, Direction.OUT, 0)])
    await wait_for(lambda: network.asked)
    for _ in range(20):
        await offered(event_log, Direction.OUT, 0)
    assert network.asked == 1
    await side.reactors.close()


async def _cancelled_meanwhile(transfers: Transfers, transfer_id: str) -> AsyncIterator[Snapshot]:
    first = True
    async for snapshot in transfers.watch(transfer_id):
        yield snapshot
        if first:
            first = False
            await transfers.cancel(transfer_id)


class Deaf(LonelyNetwork):
    """Counts what it could not tell."""

    def __init__(self) -> None:
        super().__init__(Identity.generate().peer_id)
        self.untold = 0

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        self.untold += protocol == FILE_END
        return await super().request(peer_id, protocol, body, timeout_seconds)


async def test_a_peer_that_was_never_there_is_one_line_in_the_log(
    event_log: SQLiteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(move_files, "TELL_AGAIN_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    network = Deaf()
    side = Side(tmp_path, event_log, network)
    await side.start([])
    try:
        (tmp_path / "a.txt").write_text("a")
        with pytest.raises(PeerUnreachable):
            await side.transfers.offer(PEER, tmp_path / "a.txt", Reach.DAEMONS)
        await wait_for(lambda: network.untold > 3)
    finally:
        await side.reactors.close()
    assert sum("is not told yet" in record.message for record in caplog.records) == 1
