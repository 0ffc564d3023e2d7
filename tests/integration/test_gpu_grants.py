"""Granting GPUs on a real log: requests at the same time, cards that go in between, what a crash left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import msgspec
import pytest

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.executors.process import ProcessExecutor
from dms.application.device.ml_images import CHECK_PREFIX
from dms.application.network.messages import DeploymentAnswer, DeploymentRequest
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import new_id
from dms.errors import LogUnavailable
from tests.fixtures.disks import broken_disk
from tests.fixtures.histories import request
from tests.fixtures.jobs import shell_spec
from tests.fixtures.provider import answer_to, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import FixedHardware, Node, running_node
from tests.integration.http.test_gpu import onboard, reading

SERVICE_PROVIDER = "12D3KooWServiceProvider"
ENDS = (Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped)


@pytest.fixture
def hardware() -> FixedHardware:
    return FixedHardware(reading("GPU-1"), reading("GPU-2"), reading("GPU-3"))


@pytest.fixture
async def node(tmp_path: Path, hardware: FixedHardware) -> AsyncIterator[Node]:
    """A compute provider; its jobs are child processes."""
    async with running_node(tmp_path, hardware=hardware, runs_for_peers=True) as made:
        await onboard(made)
        async with providing(made):
            yield made
            await end_all(made)


async def ask(node: Node, **constraints: object) -> DeploymentAnswer:
    job = request("sleep 100", machine_type="gpu", cpu=10, ram=16, vram=1000, tx_hash=new_id())
    wanted = msgspec.structs.replace(job, constraints=msgspec.structs.replace(job.constraints, **constraints))
    message = DeploymentRequest(job_id=new_id(), request=wanted, price="0.1", seal_key=token_hex(32))
    return await answer_to(node, message)


async def end_all(node: Node) -> None:
    held = node.services.device.reservations
    for job_id in {job_id for jobs in held.gpu_jobs().values() for job_id in jobs}:
        await node.services.compute_provider.stop(job_id, "operator", "the test is over", Fault.PROVIDER)
    await wait_for(lambda: not held.gpu_jobs())


async def most_jobs_on_a_gpu(node: Node) -> int:
    """Of those that do not share: over all positions of the log, by nothing but its events."""
    held: dict[str, tuple[str, ...]] = {}
    most = 0
    for recorded in await node.log.read(0, 10_000):
        event, job_id = recorded.event, recorded.originator_id
        if isinstance(event, Deployment.Accepted) and not event.gpus_shared:
            held[job_id] = event.gpu_uuids
        elif isinstance(event, ENDS):
            held.pop(job_id, None)
        uuids = [uuid for one in held.values() for uuid in one]
        most = max([most, *(uuids.count(uuid) for uuid in uuids)])
    return most


async def test_many_at_the_same_time_get_one_each_and_the_rest_is_refused(node: Node) -> None:
    for _ in range(2):
        answers = await asyncio.gather(*(ask(node) for _ in range(12)))
        assert [answer.accepted for answer in answers].count(True) == 3
        reasons = {answer.reason for answer in answers if not answer.accepted}
        assert reasons == {"the provider does not have 1 GPU with 1000 MB free now"}
        await end_all(node)
    assert await most_jobs_on_a_gpu(node) == 1


async def test_several_and_shared_ones_mix_with_single_ones(node: Node) -> None:
    wishes: list[dict[str, object]] = [{"gpus": 2}, {"share_gpu": True}, {}] * 4
    answers = await asyncio.gather(*(ask(node, **wish) for wish in wishes))
    assert any(answer.accepted for answer in answers)
    assert await most_jobs_on_a_gpu(node) == 1
    jobs = node.services.device.reservations.gpu_jobs()
    for sharing in (held for held in jobs.values() if len(held) > 1):
        assert all((found := node.log.load(Deployment, job)) and found.gpus_shared for job in sharing)


async def test_a_card_that_fell_out_since_it_was_offered_is_refused(node: Node, hardware: FixedHardware) -> None:
    hardware.gpus = ()
    answer = await ask(node)
    assert (answer.accepted, answer.reason) == (False, "the provider does not have 1 GPU with 1000 MB free now")


async def test_a_card_that_something_took_since_it_was_offered_is_refused(node: Node, hardware: FixedHardware) -> None:
    hardware.gpus = (reading("GPU-1", 100, compute_processes=1), reading("GPU-2", 7500))
    assert not (await ask(node)).accepted
    assert (await ask(node, vram=400)).accepted
    assert list(node.services.device.reservations.gpu_jobs()) == ["GPU-2"]


async def test_what_was_decided_but_could_not_be_written_holds_nothing(node: Node) -> None:
    held = node.services.device.reservations
    assert (await ask(node)).accepted
    assert isinstance(node.log, DurableEventLog)
    with broken_disk(node.log), pytest.raises(LogUnavailable):
        await ask(node)
    await wait_for(lambda: not node.log.trouble, 120)
    assert [len(jobs) for jobs in held.gpu_jobs().values()] == [1]


async def test_a_check_that_a_crash_left_behind_is_removed(tmp_path: Path, hardware: FixedHardware) -> None:
    async with running_node(tmp_path, hardware=hardware, runs_for_peers=True) as node:
        executor = ProcessExecutor(node.services.network.peer_id, tmp_path / "processes")
        own = node.services.network.peer_id
        check = msgspec.structs.replace(shell_spec("sleep 100"), job_id=f"{CHECK_PREFIX}{new_id()}", node_id=own)
        await executor.create(check)
        assert len(await executor.list_jobs()) == 1
        async with providing(node):
            assert await executor.list_jobs() == []
        await executor.close()
