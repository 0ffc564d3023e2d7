"""Checkpoints that are no longer kept: the event comes first, then the file goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.application.checkpoints import checkpoint_keeper
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.resources import Resources
from tests.fixtures.histories import request
from tests.fixtures.provider import SERVICE_PROVIDER, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, now_us, running_node

SHA = "ab" * 32


async def over(node: Node, folder: Path, *, recorded: bool = True) -> tuple[str, Path]:
    """A job that has ended, and the file of its checkpoint. recorded: of its checkpoint, too."""
    deployment = Deployment(new_id())
    deployment.accept(SERVICE_PROVIDER, request(), "1", Resources(cpu_mhz=1, memory_mb=1), ())
    deployment.container_created("c", "process")
    deployment.container_started(now_us())
    archive = folder / "created_checkpoints" / f"{deployment.key}.tar.gz"
    archive.write_bytes(b"archive")
    if recorded:
        deployment.save_checkpoint(archive.name, 7, SHA, now_us())
    deployment.exited(0, False, 1.0)
    await node.log.save(deployment)
    return deployment.key, archive


def load(node: Node, job_id: str) -> Deployment:
    found = node.log.load(Deployment, job_id)
    assert found is not None
    return found


async def reasons(node: Node) -> list[str]:
    found = await node.log.read(0, 1000, topics=(Deployment.CheckpointDeleted.TOPIC,))
    return [one.event.reason for one in found if isinstance(one.event, Deployment.CheckpointDeleted)]


async def test_one_that_its_owner_has_is_deleted_once_the_job_is_over(tmp_path: Path) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node, providing(node):
        job_id, archive = await over(node, tmp_path)
        deployment = load(node, job_id)
        deployment.checkpoint_delivered(SHA)
        await node.log.save(deployment)
        await wait_for(lambda: not archive.exists())
        assert await reasons(node) == ["delivered"]
        assert not load(node, job_id).checkpoint_here


@pytest.mark.parametrize(("recorded", "told"), [(True, ["expired"]), (False, [])])
async def test_one_that_nobody_fetches_goes_in_the_end_and_one_without_a_record_at_once(
    tmp_path: Path, recorded: bool, told: list[str]
) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node:
        _, archive = await over(node, tmp_path, recorded=recorded)
        kept_id, kept = await over(node, tmp_path)
        if recorded:
            os.utime(archive, (1, 1))
        async with providing(node):
            await wait_for(lambda: not archive.exists())
        assert await reasons(node) == told
        assert kept.exists()
        assert load(node, kept_id).checkpoint_here


@pytest.mark.parametrize("days", [5, -5])
async def test_a_step_of_the_clock_is_no_time_that_it_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr(checkpoint_keeper, "TIDY_SECONDS", 0.01)
    step_us = 0
    async with running_node(tmp_path, runs_for_peers=True, now=lambda: now_us() + step_us) as node:
        job_id, archive = await over(node, tmp_path)
        async with providing(node):
            await tidied(node, tmp_path)
            step_us = days * 86_400 * 1_000_000
            await tidied(node, tmp_path)
        assert archive.exists()
        assert load(node, job_id).checkpoint_here


async def tidied(node: Node, folder: Path) -> None:
    """Once all of it was looked at anew."""
    for _ in range(2):  # a look that had begun may have passed the file's place
        _, stray = await over(node, folder, recorded=False)
        await wait_for(lambda stray=stray: not stray.exists())  # type: ignore[misc]


async def test_a_crash_between_the_event_and_the_file_leaves_no_file(tmp_path: Path) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node:
        job_id, archive = await over(node, tmp_path)
        deployment = load(node, job_id)
        deployment.delete_checkpoint("delivered")
        await node.log.save(deployment)
        async with providing(node):
            await wait_for(lambda: not archive.exists())
