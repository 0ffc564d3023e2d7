"""Checkpoints and results in the making: what one waits for, and what becomes of one that can't be made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dms.application.checkpoints import checkpoint_keeper
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper, CheckpointTimes
from dms.application.files.file_exchange import FileExchange
from dms.application.network.messages import CheckpointNote, encode
from dms.application.ports.executor import PackedWorkspace
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_keeper import ResultLimits, ResultsKeeper
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.resources import Resources
from dms.domain.reward import Fault
from dms.errors import ExecutionError
from tests.fixtures.histories import request
from tests.fixtures.provider import SERVICE_PROVIDER
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, now_us, running_node


async def running(node: Node) -> str:
    deployment = Deployment(new_id())
    deployment.accept(SERVICE_PROVIDER, request(), "1", Resources(cpu_mhz=1, memory_mb=1), ())
    deployment.container_created("c", "process")
    deployment.container_started(now_us())
    await node.log.save(deployment)
    return deployment.key


async def test_one_that_its_owner_has_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider may notice only after the owner's word that the last piece was read."""
    packed = 0

    async def pack(_job_id: str, into: Path, _max_bytes: int, _known_state: str = "") -> PackedWorkspace:
        nonlocal packed
        packed += 1
        await asyncio.to_thread(into.write_bytes, b"archive")
        return PackedWorkspace(size_bytes=7, sha256=f"{packed:064x}", files=1, skipped=0, state=str(packed))

    async with running_node(tmp_path, runs_for_peers=True) as node:
        monkeypatch.setattr(checkpoint_keeper, "BEING_READ_SECONDS", 3600.0)
        monkeypatch.setattr(node.executor, "pack", pack)
        files, exchange = CheckpointFiles(tmp_path), FileExchange(node.services.network)
        keeper = CheckpointKeeper(
            node.log, node.executor, files, exchange, now_us, CheckpointTimes(interval_seconds=0.01)
        )
        looks, is_being_read = 0, keeper._is_being_read

        def look(job_id: str) -> bool:
            nonlocal looks
            looks += 1
            return is_being_read(job_id)

        async def looked_again() -> None:
            before = looks
            await wait_for(lambda: looks > before + 3)

        monkeypatch.setattr(keeper, "_is_being_read", look)
        job_id = await running(node)
        watching = asyncio.create_task(keeper.watch(job_id))
        await wait_for(lambda: packed > 0)
        keeper._served(SERVICE_PROVIDER, job_id, 7)
        await looked_again()  # one may have been in the making
        held = packed
        await looked_again()
        assert packed == held
        note = CheckpointNote(job_id=job_id, sha256=f"{held:064x}")
        await keeper._on_note(SERVICE_PROVIDER, encode(note))
        keeper._served(SERVICE_PROVIDER, job_id, 7)
        await wait_for(lambda: packed > held)
        watching.cancel()
        await asyncio.wait({watching})


async def test_a_program_that_fails_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are recorded as skipped, and the end of the job behind them."""

    async def pack(*_: object) -> PackedWorkspace:
        raise ExecutionError("sh: can't fork")

    async with running_node(tmp_path, runs_for_peers=True) as node:
        monkeypatch.setattr(node.executor, "pack", pack)
        exchange, job_id = FileExchange(node.services.network), await running(node)
        results = ResultsKeeper(node.log, node.executor, ResultFiles(tmp_path), exchange, now_us, ResultLimits())
        checkpoints = CheckpointKeeper(
            node.log, node.executor, CheckpointFiles(tmp_path), exchange, now_us, CheckpointTimes()
        )
        assert await results.save(job_id) is None
        await checkpoints.save_last(job_id)
        told = [one.event for one in await node.log.read(0, 100, stream=f"{Deployment.KIND}-{job_id}")]
        (skipped,) = [event for event in told if isinstance(event, Deployment.ResultsSkipped)]
        assert (skipped.fault, skipped.reason) == (Fault.PROVIDER, "sh: can't fork")
        assert [event.reason for event in told if isinstance(event, Deployment.CheckpointSkipped)] == [skipped.reason]
