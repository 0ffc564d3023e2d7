"""Results and checkpoints that are fetched: those of the attempt that they were offered by, and none is lost by what
our own log does."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver, FetchCheckpoints
from dms.application.files import receipts
from dms.application.files.file_exchange import FileExchange
from dms.application.files.file_parts import open_regular
from dms.application.loops import Loops
from dms.application.network.messages import CHECKPOINT, RESULTS, CheckpointNoted, ResultsNoted, encode
from dms.application.reactors import Reactors
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_receiver import FetchResults, ReceiverLimits, ResultsReceiver
from dms.domain.deployment import Deployment, Fault
from dms.domain.job import Job, JobState
from dms.errors import PeerUnreachable, Unavailable
from tests.fixtures.disks import conflicting
from tests.fixtures.histories import submitted_job
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork
from tests.fixtures.waiting import wait_for
from tests.unit.domain.test_attempts import report, started

FIRST, SECOND = "12D3KooWFirst", "12D3KooWSecond"
OF = {FIRST: b"of the first attempt", SECOND: b"of the second attempt, which counts"}
SEALED = Deployment.LogSealed(lines=0, sha256="00" * 32)
QUICK = (0.001, 0.01)


def now_us() -> int:
    return time.time_ns() // 1000


async def unchecked(_path: Path, _bytes: int) -> None: ...


class Provider:
    """Gives out the one archive that it has. away: hears nothing of what was received."""

    def __init__(self, line: MemoryLine, peer_id: str, folder: Path) -> None:
        self.network = MemoryNetwork(line, peer_id)
        self.archive = folder / peer_id
        self.archive.write_bytes(OF[peer_id])
        self.asked, self.free = asyncio.Event(), asyncio.Event()
        self.free.set()
        self.has_it, self.away, self.noted = True, False, 0
        self.hears = asyncio.Event()  # of checkpoints that were received
        self.hears.set()
        exchange = FileExchange(self.network)
        for kind in ("results", "checkpoint"):
            exchange.serve(kind, lambda *_: True, self._resolve)
        exchange.start()
        self.network.serve_request(RESULTS, self._on_results)
        self.network.serve_request(CHECKPOINT, self._on_checkpoint)

    async def _resolve(self, _peer_id: str, _deployment: str) -> int | None:
        self.asked.set()
        await self.free.wait()
        return open_regular(self.archive) if self.has_it else None

    async def _on_results(self, _peer_id: str, _body: bytes) -> bytes:
        self._note()
        return encode(ResultsNoted(known=True))

    async def _on_checkpoint(self, _peer_id: str, _body: bytes) -> bytes:
        self._note()
        await self.hears.wait()
        return encode(CheckpointNoted(newest=True))

    def _note(self) -> None:
        self.noted += 1
        if self.away:
            raise PeerUnreachable("it is away")


class World:
    def __init__(self, folder: Path, log: SQLiteEventLog) -> None:
        self.log, self.line, self.folder = log, MemoryLine(), folder
        self.own = MemoryNetwork(self.line, "12D3KooWRequester")
        self.first, self.second = (Provider(self.line, peer_id, folder) for peer_id in (FIRST, SECOND))
        self.files, self.checkpoint_files = ResultFiles(folder), CheckpointFiles(folder)
        for files in (self.files, self.checkpoint_files):
            files.make()
        exchange = FileExchange(self.own)
        self.results = ResultsReceiver(
            log, self.own, self.files, self.checkpoint_files, exchange, unchecked, now_us, ReceiverLimits()
        )
        self.checkpoints = CheckpointReceiver(
            log, self.own, self.checkpoint_files, exchange, unchecked, now_us, grace_seconds=60, max_bytes=2**20
        )
        self.reactors = Reactors(log, Loops(), QUICK)
        self.key = ""

    async def start(self) -> None:
        for network in (self.own, self.first.network, self.second.network):
            await network.start()
        await self.reactors.start([FetchResults(self.results), FetchCheckpoints(self.checkpoints)], lambda _: [])

    async def close(self) -> None:
        await self.reactors.close()

    @property
    def job(self) -> Job:
        found = self.log.load(Job, self.key)
        assert found is not None
        return found

    async def first_attempt(self) -> None:
        """Offers its results, and ends by its provider's fault."""
        job = started(submitted_job(provider=FIRST, attempts=2))
        self.key = job.key
        self.offer(job)
        report(job, Deployment.Failed(reason="its machine went down", fault=Fault.PROVIDER, exit_code=137))
        assert job.state is JobState.RETRYING
        await self.log.save(job)

    async def second_attempt(self) -> None:
        """Offers its results, and completes the job."""
        job = self.job
        job.start_attempt(SECOND, "", None, 0)
        await self.log.save(job)
        started(job)
        self.offer(job)
        report(job, Deployment.ContainerExited(exit_code=0))
        await self.log.save(job)

    def offer(self, job: Job) -> None:
        content = OF[job.provider]
        saved = Deployment.ResultsSaved(
            name="x.tar.gz", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), saved_at=now_us()
        )
        report(job, saved)
        self.results.offer(job, saved)
        report(job, SEALED)

    async def received(self) -> tuple[str, bytes]:
        """(Digest that is recorded, content that is here)."""
        await wait_for(lambda: self.job.results_received is not None or self.job.results_loss)
        received = self.job.results_received
        assert received is not None, self.job.results_loss
        return received.sha256, await asyncio.to_thread(self.files.received(self.key).read_bytes)


@pytest.fixture
async def world(tmp_path: Path, log: SQLiteEventLog) -> AsyncIterator[World]:
    made = World(tmp_path, log)
    await made.start()
    yield made
    await made.close()


THE_SECOND = hashlib.sha256(OF[SECOND]).hexdigest(), OF[SECOND]


@pytest.mark.parametrize("has_it", [True, False], ids=["gives them late", "has them no more"])
async def test_a_slow_provider_of_an_attempt_before_has_no_part_in_the_results(world: World, has_it: bool) -> None:
    world.first.free.clear()
    await world.first_attempt()
    await world.first.asked.wait()
    await world.second_attempt()
    world.first.has_it = has_it
    world.first.free.set()
    assert await world.received() == THE_SECOND


async def test_results_are_not_waited_for_once_another_attempt_has_begun(world: World) -> None:
    world.first.free.clear()
    await world.first_attempt()
    await world.first.asked.wait()
    await world.second_attempt()
    assert await world.received() == THE_SECOND


async def test_a_provider_that_is_away_keeps_nobody_from_the_results_of_the_next(world: World) -> None:
    await world.first.network.close()
    await world.first_attempt()
    await wait_for(lambda: world.reactors.keys(FetchResults.name))
    await world.second_attempt()
    assert await world.received() == THE_SECOND


async def test_a_receipt_that_nobody_takes_holds_up_no_other_results(world: World) -> None:
    world.first.away = True
    await world.first_attempt()
    assert (await world.received())[1] == OF[FIRST]
    await world.second_attempt()
    assert await world.received() == THE_SECOND


async def test_a_conflict_in_our_own_log_loses_no_results(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with conflicting(world.log, Job.ResultsReceived.TOPIC):
        await world.first_attempt()
        await wait_for(lambda: f"{FetchResults.name} {world.key} failed" in caplog.text)
    assert (await world.received())[1] == OF[FIRST]


async def test_a_conflict_in_our_own_log_fetches_no_checkpoint_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    content = OF[FIRST]
    saved = Deployment.CheckpointSaved(
        number=1, name="x", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), saved_at=now_us()
    )
    with conflicting(world.log, Job.CheckpointReceived.TOPIC):
        job = started(submitted_job(provider=FIRST))
        world.key = job.key
        world.checkpoints.offer(job, saved)
        await world.log.save(job)
        await wait_for(lambda: f"{FetchCheckpoints.name} {world.key} failed" in caplog.text)
    await wait_for(lambda: world.job.checkpoint_received)
    assert world.job.checkpoint_settled == 1


async def test_an_error_at_the_provider_that_passes_loses_no_results(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles, real_open = [errno.EMFILE, errno.EIO], os.open

    def short(path: Any, *args: Any, **more: Any) -> int:
        if troubles and path == world.first.archive:
            raise OSError(number := troubles.pop(), os.strerror(number))
        return real_open(path, *args, **more)

    monkeypatch.setattr(os, "open", short)
    await world.first_attempt()
    assert (await world.received())[1] == OF[FIRST]
    assert not troubles


def checkpoint(number: int, content: bytes) -> Deployment.CheckpointSaved:
    digest = hashlib.sha256(content).hexdigest()
    return Deployment.CheckpointSaved(
        number=number, name="x", size_bytes=len(content), sha256=digest, saved_at=now_us()
    )


async def test_a_checkpoint_that_is_here_and_not_recorded_yet_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies over the one before, which is not to be had any more."""
    monkeypatch.setattr(receipts, "NOTE_SECONDS", 600.0)
    job = started(submitted_job(provider=FIRST, attempts=2))
    world.key = job.key
    world.checkpoints.offer(job, checkpoint(1, OF[FIRST]))
    await world.log.save(job)
    await wait_for(lambda: world.job.checkpoint_settled == 1)

    newer = b"further " + OF[FIRST]
    await asyncio.to_thread(world.first.archive.write_bytes, newer)
    world.first.hears.clear()
    job = world.job
    world.checkpoints.offer(job, checkpoint(2, newer))
    await world.log.save(job)
    await wait_for(lambda: world.first.noted == 2)
    job = world.job
    job.fail_attempt("provider lost", Fault.PROVIDER)
    await world.log.save(job)
    with pytest.raises(Unavailable, match="is not recorded yet"):
        await world.checkpoints.keep_for_next_attempt(world.job)

    world.first.hears.set()
    await wait_for(lambda: world.job.checkpoint_settled == 2)
    kept = await world.checkpoints.keep_for_next_attempt(world.job)
    assert kept is not None
    assert kept.sha256 == hashlib.sha256(newer).hexdigest()


async def test_a_checkpoint_that_a_crash_left_unrecorded_is_received_also_when_the_time_to_fetch_it_is_over(
    world: World,
) -> None:
    await world.first.network.close()
    content = OF[FIRST]
    job = started(submitted_job(provider=FIRST, attempts=2))
    world.key = job.key
    await asyncio.to_thread(world.checkpoint_files.received(job.key).write_bytes, content)
    job.offer_checkpoint(checkpoint(1, content), 1, 2**20)
    job.fail_attempt("provider lost", Fault.PROVIDER)
    await world.log.save(job)
    await wait_for(lambda: world.job.checkpoint_settled == 1)
    assert world.job.checkpoint_received is not None
    kept = await world.checkpoints.keep_for_next_attempt(world.job)
    assert kept is not None
