"""Erasure over the real log, views and files: what is found, what is refused, and what is gone afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from dms.adapters.views import sqlite
from dms.domain.device import Device, Offer
from dms.domain.directory import Offering, Provider
from dms.domain.event import new_id
from dms.domain.resources import Resources
from dms.domain.transfer import Direction, Transfer
from dms.errors import Conflict, InvalidInput, NotFound, Unavailable
from projections.capacity import Capacity
from projections.erasures import Erasures
from projections.transfers import Transfers
from tests.fixtures.worlds import WHOLE
from tests.integration.http.node import ADDRESS, Node, running_node

PEER = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
NAME = "letter-to-alice.txt"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


def on_disk(folder: Path, text: str) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


async def received(node: Node, tmp_path: Path) -> Transfer:
    """A file of the peer's that is here."""
    transfer = Transfer(new_id())
    transfer.offer(Direction.IN, PEER, NAME, 5, "0" * 64, 1)
    transfer.complete(NAME)
    (tmp_path / "received_files").mkdir(exist_ok=True)
    (tmp_path / "received_files" / NAME).write_bytes(b"hello")
    await node.services.log.save(transfer)
    return transfer


async def provider(node: Node, *, lost: bool) -> None:
    found = node.services.log.load(Provider, PEER) or Provider(PEER)
    offering = Offering(
        channel="nunet-test", online=True, onboarded=True, offered=Resources(cpu_mhz=1), payment_address=ADDRESS
    )
    found.advertise(offering, ("/ip4/192.0.2.7/tcp/9000",))
    if lost:
        found.lose("not renewed")
    await node.services.log.save(found)


async def test_a_peers_files_and_their_names_go(node: Node, tmp_path: Path) -> None:
    transfer = await received(node, tmp_path)
    await node.views.wait(node.services.log.head)
    done = await node.services.erasures.erase(PEER, skip_open=False)
    assert (done.scopes, done.keys, done.files) == ((f"transfer-{transfer.key}",), 1, 1)
    assert not (tmp_path / "received_files" / NAME).exists()
    assert on_disk(tmp_path, NAME) == []
    assert on_disk(tmp_path, PEER) == list(done.remaining) == []
    await node.views.wait(node.services.log.head)
    row = await node.views.get(Transfers(), transfer.key)
    assert row is not None
    assert (row.name, row.peer_id, row.state, row.size_bytes) == ("erased", "erased", "completed", 5)


async def test_the_past_is_erased_too(node: Node, tmp_path: Path) -> None:
    transfer = await received(node, tmp_path)
    head = node.services.log.head
    before = await node.views.at(head).get(Transfers(), transfer.key)
    await node.services.erasures.erase(transfer.key, skip_open=False)
    after = await node.views.at(head).get(Transfers(), transfer.key)
    assert before is not None
    assert after is not None
    assert (before.name, after.name) == (NAME, "erased")


async def test_a_provider_that_is_gone_is_erased_but_for_its_peer_id(node: Node, tmp_path: Path) -> None:
    await provider(node, lost=True)
    done = await node.services.erasures.erase(ADDRESS, skip_open=False)
    assert done.scopes == (f"provider-{PEER}",)
    assert on_disk(tmp_path, ADDRESS) == on_disk(tmp_path, "192.0.2.7") == []
    await provider(node, lost=False)  # it comes back: a key of its own, and all works
    await node.views.wait(node.services.log.head)
    row = await node.views.get(Capacity(), PEER)
    assert row is not None


async def test_a_provider_on_the_network_and_an_onboarded_device_are_not_erased(node: Node, tmp_path: Path) -> None:
    await provider(node, lost=False)
    device = Device(node.services.network.peer_id)
    device.onboard(Offer(cpu_mhz=2000, memory_mb=6400, channel="nunet-test", payment_address=ADDRESS), WHOLE)
    await node.services.log.save(device)
    head = node.services.log.head
    with pytest.raises(Conflict, match="nothing can be erased yet"):
        await node.services.erasures.erase(ADDRESS, skip_open=True)
    with pytest.raises(Conflict, match="Nothing was erased"):
        await node.services.erasures.erase(ADDRESS, skip_open=False)
    found = await node.services.erasures.find(ADDRESS)
    assert {one.scope for one in found.open} == {f"provider-{PEER}", device.id}
    assert node.services.log.head == head
    device.offboard(forced=False)
    await node.services.log.save(device)
    done = await node.services.erasures.erase(ADDRESS, skip_open=True)
    assert done.scopes == (device.id,)
    assert on_disk(tmp_path, ADDRESS) == list(done.remaining) == []


@pytest.mark.parametrize("subject", ["", "   ", "0x", "short", "erased  "])
async def test_what_names_nobody_is_refused(node: Node, subject: str) -> None:
    with pytest.raises(InvalidInput, match="too short"):
        await node.services.erasures.find(subject)


async def test_somebody_who_is_not_here_is_said_so(node: Node) -> None:
    with pytest.raises(NotFound, match="nothing on this node"):
        await node.services.erasures.erase("addr_of_a_stranger", skip_open=False)


async def test_while_another_program_reads_the_views_the_erasure_waits_and_then_goes_on(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader holds the old pages of the write-ahead log."""
    monkeypatch.setattr(sqlite, "JOURNAL_SECONDS", 0.2)
    transfer = await received(node, tmp_path)
    await node.views.wait(node.services.log.head)
    with closing(sqlite3.connect(tmp_path / "views.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM view_transfers").fetchone() == (1,)
        with pytest.raises(Unavailable, match="read by another program"):
            await node.services.erasures.erase(PEER, skip_open=False)
        assert on_disk(tmp_path, NAME) == ["views.db-wal"]
    await node.views.wait(node.services.log.head)
    (row,) = (await node.views.page(Erasures(), limit=2)).rows
    assert row.state == "requested"
    with pytest.raises(NotFound):
        await node.services.erasures.erase(PEER, skip_open=False)
    assert on_disk(tmp_path, NAME) == []
    await node.views.wait(node.services.log.head)
    (row,) = (await node.views.page(Erasures(), limit=2)).rows
    assert (row.state, row.scopes) == ("completed", 1)
    assert transfer.ended
