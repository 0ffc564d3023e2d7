"""A daemon starts while the files of its archive lie elsewhere: what needs them waits, all else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from dms.bootstrap import build
from dms.config import Rest
from dms.daemon import Daemon
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import new_id
from dms.wiring.overrides import Overrides
from tests.fixtures.jobs import launch, shell_spec
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import REQUEST, FixedHardware, LonelyNetwork, Node, running_node, settings


@asynccontextmanager
async def starting(folder: Path) -> AsyncIterator[tuple[Daemon, asyncio.Task[None]]]:
    """A whole daemon, as it comes up."""
    overrides = Overrides(network=lambda identity: LonelyNetwork(identity.peer_id), hardware=FixedHardware())
    daemon = await build(settings(folder, Rest(), runs_for_peers=True), overrides)
    task = asyncio.create_task(daemon.start())
    try:
        yield daemon, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await daemon.close()


async def left_behind(node: Node) -> str:
    """A job that has ended, with all that a crash can leave of one."""
    deployment = Deployment(new_id())
    deployment.trigger(Deployment.Requested(service_provider="12D3KooWRequester", request=REQUEST, price="0.1"))
    deployment.trigger(Deployment.Accepted(reserved=REQUEST.resources))
    deployment.fail("it was", Fault.JOB)
    await node.log.save(deployment)
    spec = replace(shell_spec("true"), job_id=deployment.key, node_id=node.services.signer.peer_id)
    await launch(node.executor, spec)
    await node.executor.stop(deployment.key, 0.0)
    return deployment.key


def files_of(folder: Path, job_id: str) -> list[Path]:
    """What a job that is over may not keep here."""
    return [folder / "inputs" / "jobs" / job_id / "1", folder / "resumes" / "out" / f"{job_id}.tar.gz"]


async def with_an_archive(folder: Path) -> tuple[str, Path]:
    """(the job that was left behind, the archive's folder, moved away)"""
    async with running_node(folder, runs_for_peers=True) as node:
        job_id = await left_behind(node)
        while (await node.services.retention.archive(0.0)).more:
            pass
        assert node.log.first == node.log.head + 1
    for path in files_of(folder, job_id):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return job_id, (folder / "archive").rename(folder.with_name("away"))


async def test_what_is_left_of_an_archived_job_stays_until_its_events_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "dms"
    job_id, away = await with_an_archive(folder)
    async with starting(folder) as (daemon, task):
        async with asyncio.timeout(120):
            await task
        assert daemon.ready() is None
        assert await daemon.parts.executor.list_jobs() == [job_id]
        assert all(path.exists() for path in files_of(folder, job_id))
        away.rename(folder / "archive")
        assert await daemon.services.compute_provider.leftovers.sweep() == []
        assert await daemon.parts.executor.list_jobs() == []
        daemon.services.checkpoints.tidy()
        assert not any(path.exists() for path in files_of(folder, job_id))


async def test_a_start_that_has_to_make_its_views_waits_and_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "dms"
    _, away = await with_an_archive(folder)
    for path in folder.glob("views.db*"):
        path.unlink()
    async with starting(folder) as (daemon, task):
        await wait_for(lambda: "events-000000000001-" in str(daemon.ready()))
        assert daemon.loops.fault is None, "no new process would help"
        away.rename(folder / "archive")
        async with asyncio.timeout(120):
            await task
        assert daemon.ready() is None
