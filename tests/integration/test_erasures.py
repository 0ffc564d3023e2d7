"""Erasure over the real log, views and files: what is found, what is refused, and what is gone afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path

import httpx
import pytest

from dms.adapters.eventlog import sqlite_keys
from dms.adapters.http import transactions
from dms.adapters.views import sqlite as views
from dms.application.payments.payments import payment_of
from dms.application.records import erasures
from dms.database import connect
from dms.domain.deployment import Fault
from dms.domain.device import Device, Offer
from dms.domain.directory import Offering, Provider
from dms.domain.erasure import Erasure
from dms.domain.event import new_id
from dms.domain.resources import Resources
from dms.domain.run_time import Instant
from dms.domain.transfer import Direction, Transfer
from dms.errors import Conflict, InvalidInput, LogUnavailable, NotFound, Unavailable
from projections.capacity import Capacity
from projections.transfers import Transfers
from tests.fixtures.histories import submitted_job
from tests.fixtures.live_folders import files_with
from tests.fixtures.worlds import WHOLE
from tests.integration.http.node import ADDRESS, Node, running_node

PEER = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
NAME = "letter-to-alice.txt"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite_keys, views):
        monkeypatch.setattr(module, "TRUNCATE_SECONDS", 0.1)


@contextmanager
def another_reader(database: Path) -> Iterator[None]:
    """As `nunet audit verify` reads: one long look, which holds the write-ahead log."""
    with closing(connect(database, read_only=True)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield


async def completed(node: Node) -> None:
    async with asyncio.timeout(120), aclosing(node.services.log.subscribe(0)) as batches:
        async for batch in batches:
            if any(isinstance(recorded.event, Erasure.Completed) for recorded in batch):
                return


async def received(node: Node, tmp_path: Path) -> Transfer:
    """A file of the peer's that is here."""
    transfer = Transfer(new_id())
    transfer.offer(Direction.IN, PEER, NAME, 5, "0" * 64, Instant("", 0, 1))
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


async def test_an_erasure_that_is_cut_short_says_so_and_parts_no_job(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job has an attempt that is found with it only."""
    monkeypatch.setattr(erasures, "MOST_SCOPES", 3)
    jobs = [submitted_job(attempts=2) for _ in range(2)]
    for job in jobs:
        job.fail_attempt("gone", Fault.PROVIDER)
        job.start_attempt("12D3KooWOther", "0xPayeeOfTheOther", None, 0)
        job.fail("over", Fault.JOB)
        await node.services.log.save(job)
    done = [await node.services.erasures.erase("0xPayeeOfTheOther", skip_open=False) for _ in jobs]
    assert [one.scopes for one in done] == [tuple(a.deployment_id for a in job.attempts) for job in jobs]
    assert [one.more for one in done] == [True, False]


async def test_a_peers_files_and_their_names_go(node: Node, tmp_path: Path) -> None:
    transfer = await received(node, tmp_path)
    await node.views.wait(node.services.log.head)
    done = await node.services.erasures.erase(PEER, skip_open=False)
    assert (done.scopes, done.keys, done.files) == ((f"transfer-{transfer.key}",), 1, 1)
    assert not (tmp_path / "received_files" / NAME).exists()
    assert files_with(tmp_path, NAME) == []
    assert files_with(tmp_path, PEER) == list(done.remaining) == []
    await node.views.wait(node.services.log.head)
    row = await node.views.get(Transfers(), transfer.key)
    assert row is not None
    assert (row.name, row.peer_id, row.state, row.size_bytes) == ("erased", "erased", "completed", 5)


async def test_a_look_at_the_past_that_began_before_leaves_nothing_in_memory(node: Node, tmp_path: Path) -> None:
    transfer = await received(node, tmp_path)
    begun = node.views.at(node.services.log.head)
    await node.services.erasures.erase(transfer.key, skip_open=False)
    await begun.page(Capacity(), limit=1)
    assert len(node.views._folds) == 0


async def test_what_was_refused_is_remembered_of_nobody_who_is_erased(node: Node, tmp_path: Path) -> None:
    transfer, refusals = await received(node, tmp_path), node.services.refusals
    refusals.note(PEER, "chat", "denied")
    refusals.note("12D3KooWOther", "image", f"image {NAME} is denied")
    refusals.note("12D3KooWOther", "image", "image busybox is denied")
    await node.services.erasures.erase(transfer.key, skip_open=False)
    assert [one.reason for one in refusals.newest()] == ["image busybox is denied"]


async def test_the_past_is_erased_too(node: Node, tmp_path: Path) -> None:
    transfer = await received(node, tmp_path)
    head = node.services.log.head
    before = await node.views.at(head).get(Transfers(), transfer.key)
    done = await node.services.erasures.erase(transfer.key, skip_open=False)
    assert done.remaining == ()  # the id itself is not erased
    after = await node.views.at(head).get(Transfers(), transfer.key)
    assert before is not None
    assert after is not None
    assert (before.name, after.name) == (NAME, "erased")


async def test_a_provider_that_is_gone_is_erased_but_for_its_peer_id(node: Node, tmp_path: Path) -> None:
    await provider(node, lost=True)
    done = await node.services.erasures.erase(ADDRESS, skip_open=False)
    assert done.scopes == (f"provider-{PEER}",)
    assert files_with(tmp_path, ADDRESS) == files_with(tmp_path, "192.0.2.7") == []
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
    assert files_with(tmp_path, ADDRESS) == list(done.remaining) == []


@pytest.mark.parametrize("subject", ["", "   ", "0x", "short", "erased  "])
async def test_what_names_nobody_is_refused(node: Node, subject: str) -> None:
    with pytest.raises(InvalidInput, match="too short"):
        await node.services.erasures.find(subject)


async def test_somebody_who_is_not_here_is_said_so(node: Node) -> None:
    with pytest.raises(NotFound, match="nothing on this node"):
        await node.services.erasures.erase("addr_of_a_stranger", skip_open=False)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("database", ["events.db", "views.db"])
@pytest.mark.slow
async def test_while_another_program_reads_it_is_not_called_done_and_goes_on_by_itself(
    node: Node, tmp_path: Path, database: str
) -> None:
    transfer = await received(node, tmp_path)
    await node.views.wait(node.services.log.head)
    with another_reader(tmp_path / database):
        with pytest.raises(Unavailable, match="decided and not done yet"):
            await node.services.erasures.erase(PEER, skip_open=False)
        again = node.services.log.load(Transfer, transfer.key)
        assert again is not None
        assert again.peer_id == "erased"
    await completed(node)
    assert files_with(tmp_path, NAME) == files_with(tmp_path, PEER) == []
    (erasure,) = [e.event for e in await node.services.log.read(0, 1000) if isinstance(e.event, Erasure.Completed)]
    assert (erasure.keys, erasure.files) == (1, 1)  # those of the first try


async def test_who_does_not_wait_for_the_answer_does_not_stop_it(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await received(node, tmp_path)
    begun, go_on, renew = asyncio.Event(), asyncio.Event(), node.views.renew

    async def when_told() -> None:
        begun.set()
        await go_on.wait()
        await renew()

    monkeypatch.setattr(node.views, "renew", when_told)
    async with httpx.AsyncClient(timeout=120) as client:
        asking = asyncio.create_task(client.post(f"{node.url}/api/v1/erasures", json={"subject": PEER}))
        await begun.wait()
        asking.cancel()
        await asyncio.wait({asking})
        await client.get(f"{node.url}/livez")  # the server has seen the other one go
    go_on.set()
    await completed(node)
    assert files_with(tmp_path, NAME) == []


async def test_views_that_are_no_longer_kept_are_said_so(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(node.views, "_fold", full)
    waiting = asyncio.create_task(node.views.wait(1))
    await provider(node, lost=False)
    async with asyncio.timeout(120):
        with pytest.raises(LogUnavailable, match="disk is full"):
            await waiting


async def test_a_job_that_is_erased_does_not_stand_in_the_way_of_other_transactions(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.job()
    await node.submit(job_id, "0xABCDEF0123456789")
    payment = payment_of(node.log, "0xABCDEF0123456789")
    payment.use(job_id)
    await node.log.save(payment)
    await node.fail(job_id, "exit code 3")
    await node.services.erasures.erase(job_id, skip_open=False)
    monkeypatch.setattr(transactions, "SYNC_AFTER_SECONDS", -60)
    async with node.client() as client:
        assert (await client.post("/api/v1/transactions/update-status")).status_code == 200
        (listed,) = (await client.get("/api/v1/transactions")).json()
        assert listed["tx_hash"] == "erased"
        kind = listed["transaction_type"]
        assert (await client.get("/api/v1/transactions", params={"clean_tx": kind})).json() == []
