"""What a provider cleans up, and what it leaves alone: a real daemon, a real engine, a registry of our own."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
import websockets
from msgspec.structs import replace

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.profile import ContainerLimits
from dms.adapters.outputs.files import FileOutputStore
from dms.adapters.p2p.identity import Identity
from dms.adapters.web.files import WebFiles
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper, CheckpointTimes
from dms.application.deployments.cleanup import Cleaner
from dms.application.deployments.compute_provider import ComputeProvider
from dms.application.device.device import DeviceService
from dms.application.device.refusals import Refusals
from dms.application.files.file_exchange import FileExchange
from dms.application.inputs.input_fetcher import InputFetcher, Pace
from dms.application.inputs.input_files import InputFiles
from dms.application.inputs.input_keeper import InputKeeper
from dms.application.network.acquaintances import Acquaintances
from dms.application.network.budgets import Budgets
from dms.application.ports.executor import ExecutionState
from dms.application.results.result_files import ResultFiles
from dms.application.results.results_keeper import ResultLimits, ResultsKeeper
from dms.clock import machine_clock
from dms.domain.event import new_id
from tests.fixtures.dms import Dms, Follower, pair, payment, request_body
from tests.fixtures.jobs import launch, read_all, shell_spec, until
from tests.fixtures.registry import ALLOW, Registry, registry
from tests.integration.http.node import FixedHardware, LonelyNetwork, now_us

__all__ = ["registry"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]


def docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def image_id(name: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", name)


def image_ids() -> set[str]:
    return set(docker("images", "--all", "--quiet", "--no-trunc").split())


async def run_job(sp: Dms, image: str, tx_hash: str) -> None:
    body = request_body("true")
    body["params"]["image_id"] = image
    quote = await sp.post("/run/request-service", body)
    follower = Follower(sp, quote["job_id"])
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/run/deploy") as socket:
        await socket.send(payment(tx_hash, quote["job_id"]))
        await follower.until_over()
    assert follower.names[-1] == "job-completed", follower.last_message


async def test_a_start_removes_the_images_that_this_node_pulled_and_a_newer_one_replaced(
    tmp_path: Path, registry: Registry
) -> None:
    ours, theirs = (f"{registry.address}/nunet/{name}:1" for name in ("ours", "theirs"))
    for name in ("ours", "theirs"):
        registry.publish(f"nunet/{name}", "1", release=f"{name} 1")
    docker("pull", "--quiet", theirs)  # by the machine's owner, for a job to use later
    async with pair(tmp_path, job__image_allow=ALLOW) as (sp, cp):
        await run_job(sp, ours, "tx-ours")
        await run_job(sp, theirs, "tx-theirs")
        old = {name: image_id(name) for name in (ours, theirs)}
        for name in ("ours", "theirs"):
            registry.publish(f"nunet/{name}", "1", release=f"{name} 2")
            docker("pull", "--quiet", f"{registry.address}/nunet/{name}:1")
        assert set(old.values()) <= image_ids()

        assert cp.stop() == 0
        cp.start()
        await cp.ready()

        async def gone() -> bool | None:
            return old[ours] not in await asyncio.to_thread(image_ids) or None

        await until(gone)
        await run_job(sp, ours, "tx-new")
    left = image_ids()
    assert left >= {old[theirs], image_id(ours), image_id(theirs)}


async def test_it_cleans_again_after_each_interval_and_touches_no_strangers_container(tmp_path: Path) -> None:
    event_log = SQLiteEventLog(tmp_path / "events.db", now_us)
    await event_log.start()
    identity = Identity.load_or_create(tmp_path / "node.key")
    settings = DockerSettings(limits=ContainerLimits(core_mhz=2_000, cores=1))
    executor, other = DockerExecutor(identity.peer_id, settings), DockerExecutor("12D3KooWOther", settings)
    outputs = FileOutputStore(tmp_path / "logs", 64)
    device = DeviceService(event_log, FixedHardware(), identity.peer_id)
    exchange = FileExchange(LonelyNetwork(identity.peer_id))
    keeper = CheckpointKeeper(event_log, executor, CheckpointFiles(tmp_path), exchange, now_us, CheckpointTimes())
    results = ResultsKeeper(event_log, executor, ResultFiles(tmp_path), exchange, now_us, ResultLimits())
    web, files = WebFiles(), InputFiles(tmp_path, 0)
    inputs = InputKeeper(event_log, executor, web, InputFetcher(web, exchange, files, Pace()), files, 0)
    compute = ComputeProvider(
        event_log,
        device,
        executor,
        outputs,
        identity,
        keeper,
        inputs,
        results,
        machine_clock,
        Refusals(now_us),
        Budgets(lambda _: False),
        Acquaintances(event_log, device, LonelyNetwork(identity.peer_id)),
        confined=True,
    )
    cleaner = Cleaner(event_log, compute, executor, 0.1)
    stranger = "dms-test-" + new_id()
    docker("run", "--name", stranger, "--entrypoint", "/bin/sh", shell_spec("").image, "-c", "true")
    over, running = (replace(shell_spec(script), node_id=identity.peer_id) for script in ("true", "sleep 300"))
    others = replace(shell_spec("true"), node_id="12D3KooWOther")
    try:
        await launch(executor, running)  # of a job that its log does not know: whole before anybody sweeps
        await cleaner.start()

        async def removed() -> bool | None:
            return (await executor.inspect(over.job_id)).state is ExecutionState.ABSENT or None

        for _ in range(2):  # also when it has cleaned before
            await launch(executor, over)
            await until(removed)
        await launch(other, others)
        await read_all(other, others.job_id)
        await cleaner.clean()
        assert (await executor.inspect(running.job_id)).state is ExecutionState.RUNNING
        assert (await other.inspect(others.job_id)).state is ExecutionState.EXITED
        assert docker("inspect", "--format", "{{.State.Status}}", stranger) == "exited"
    finally:
        await cleaner.close()
        docker("rm", "--force", stranger)
        for owner, spec in ((executor, running), (executor, over), (other, others)):
            await owner.remove(spec.job_id)
        for closing in (executor, other, outputs, event_log):
            await closing.close()
