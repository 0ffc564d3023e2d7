"""Results are kept for a time that no step of the clock shortens; then they go, with an event."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.files.file_exchange import FileExchange
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_keeper import ResultLimits, ResultsKeeper
from dms.application.results.results_receiver import ReceiverLimits, ResultsReceiver
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.domain.resources import Resources
from tests.fixtures.histories import request
from tests.fixtures.provider import SERVICE_PROVIDER
from tests.integration.http.node import Node, now_us, running_node

SHA = "ab" * 32
DAY_US = 86_400 * 1_000_000


class Clock:
    def __init__(self) -> None:
        self.step_us = 0

    def __call__(self) -> int:
        return now_us() + self.step_us


async def given_back(node: Node, files: ResultFiles) -> str:
    """A job of a peer's that is over, with results that nobody has fetched."""
    deployment = Deployment(new_id())
    deployment.accept(SERVICE_PROVIDER, request(), "1", Resources(cpu_mhz=1, memory_mb=1), ())
    deployment.container_created("c", "process")
    deployment.container_started(now_us())
    archive = files.created(deployment.key)
    archive.write_bytes(b"archive")
    deployment.save_results(archive.name, 7, SHA, now_us())
    deployment.exited(0, False, 1.0)
    await node.log.save(deployment)
    return deployment.key


def keeper(node: Node, files: ResultFiles, clock: Clock) -> ResultsKeeper:
    exchange = FileExchange(node.services.network)
    return ResultsKeeper(node.log, node.executor, files, exchange, clock, ResultLimits())


async def received(node: Node, files: ResultFiles) -> str:
    """A job of our own whose results are here."""
    job_id = await node.job()
    await node.submit(job_id)
    await node.respond(job_id)
    job = node.log.load(Job, job_id)
    assert job is not None
    saved = Deployment.ResultsSaved(name=f"{job_id}.tar.gz", size_bytes=7, sha256=SHA, saved_at=now_us())
    job.offer_results(saved, now_us() + DAY_US, 2**30)
    assert job.results_wanted is not None
    assert job.results_are_here(job.results_wanted, f"{job_id}.tar.gz", now_us())
    await node.log.save(job)
    await node.complete(job_id)
    files.received(job_id).write_bytes(b"archive")
    return job_id


def receiver(node: Node, files: ResultFiles, clock: Clock, keep_days: float = 3) -> ResultsReceiver:
    async def check(_path: Path, _bytes: int) -> None: ...

    network, exchange = node.services.network, FileExchange(node.services.network)
    limits = ReceiverLimits(keep_seconds=keep_days * 86_400)
    checkpoints = CheckpointFiles(files.received("x").parent.parent)
    return ResultsReceiver(node.log, network, files, checkpoints, exchange, check, clock, limits)


@pytest.mark.parametrize("days", [5, -5])
async def test_a_provider_keeps_them_over_a_step_of_its_clock(tmp_path: Path, days: int) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node:
        files, clock = ResultFiles(tmp_path), Clock()
        keeping, job_id = keeper(node, files, clock), await given_back(node, files)
        await keeping._tidy()
        clock.step_us = days * DAY_US
        await keeping._tidy()
        assert files.created(job_id).exists()


async def test_a_provider_deletes_what_nobody_fetches(tmp_path: Path) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node:
        files = ResultFiles(tmp_path)
        job_id = await given_back(node, files)
        os.utime(files.created(job_id), (1, 1))
        await keeper(node, files, Clock())._tidy()
        assert not files.created(job_id).exists()
        deleted = await node.log.read(0, 1000, topics=(Deployment.ResultsDeleted.TOPIC,))
        assert [one.event.reason for one in deleted if isinstance(one.event, Deployment.ResultsDeleted)] == ["expired"]


@pytest.mark.parametrize("days", [5, -5])
async def test_who_asked_keeps_them_over_a_step_of_its_clock(tmp_path: Path, days: int) -> None:
    async with running_node(tmp_path) as node:
        files, clock = ResultFiles(tmp_path), Clock()
        keeping, job_id = receiver(node, files, clock), await received(node, files)
        await keeping.tidy()
        clock.step_us = days * DAY_US
        await keeping.tidy()
        assert files.received(job_id).exists()


async def test_who_asked_removes_them_once_their_time_is_over(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        files = ResultFiles(tmp_path)
        job_id = await received(node, files)
        await receiver(node, files, Clock(), keep_days=-1).tidy()
        assert not files.received(job_id).exists()
        job = node.log.load(Job, job_id)
        assert job is not None
        assert job.results_removed
