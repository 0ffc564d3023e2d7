"""An engine that goes away just then, and comes back: nothing of a job stays on the machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from dms.adapters.executors.canary import TRIAL_PREFIX
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.application.device import engine
from dms.application.device.ml_images import CHECK_PREFIX
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import new_id
from dms.errors import ExecutorUnavailable
from tests.fixtures.dms import containers_of
from tests.fixtures.engine_proxy import engine_proxy
from tests.fixtures.jobs import launch, shell_spec
from tests.fixtures.provider import LIMITS, accepted, docker_provider
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]


def mounts_below(folder: Path) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if f" {folder}/" in line]


async def test_what_could_not_be_removed_is_removed_once_the_engine_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after it is, not at the next of the looks that there always are."""
    monkeypatch.setattr(engine, "LOOK_SECONDS", 36_000.0)
    async with engine_proxy(tmp_path) as proxy:
        settings = DockerSettings(limits=LIMITS, network="none", base_url=proxy.base_url, workspaces=tmp_path / "ws")
        async with docker_provider(tmp_path, settings) as node:
            at_removal = DockerExecutor.remove

            async def away(self: DockerExecutor, job_id: str) -> None:
                await proxy.cut()
                await at_removal(self, job_id)

            monkeypatch.setattr(DockerExecutor, "remove", away)
            job_id = await accepted(node, "true", ram=16)

            def left_behind() -> bool:
                found = node.log.load(Deployment, job_id)
                return found is not None and found.ended and not proxy.path.exists()

            await wait_for(left_behind)
            assert await asyncio.to_thread(containers_of, job_id) == [f"dms-{job_id}"]
            assert len(mounts_below(tmp_path / "ws")) == 1

            monkeypatch.setattr(DockerExecutor, "remove", at_removal)
            await proxy.open()
            await wait_for(lambda: not mounts_below(tmp_path / "ws"))
            assert await asyncio.to_thread(containers_of, job_id) == []
            await wait_for(lambda: not node.services.device.hindrance)


async def test_an_outage_of_the_engine_ends_with_a_sweep_also_of_checks_and_tries_but_not_of_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try whose start the engine did not live to see has a container that never ran."""
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.1)
    async with engine_proxy(tmp_path) as proxy:
        settings = DockerSettings(limits=LIMITS, network="none", base_url=proxy.base_url, workspaces=tmp_path / "ws")
        async with docker_provider(tmp_path, settings) as node:
            own = node.services.signer.peer_id
            check = msgspec.structs.replace(
                shell_spec("sleep 300", 16), job_id=f"{CHECK_PREFIX}{new_id()}", node_id=own
            )
            await launch(node.executor, check)
            cut_off = msgspec.structs.replace(check, job_id=f"{TRIAL_PREFIX}{new_id()}")
            await node.executor.create(cut_off)
            running = await accepted(node, "sleep 300", ram=16)
            await wait_for(lambda: node.services.device.hindrance == "" and _runs(node.log.load(Deployment, running)))
            await proxy.cut()
            await wait_for(lambda: node.services.device.hindrance)
            with pytest.raises(ExecutorUnavailable):
                await node.executor.remove(check.job_id)
            await proxy.open()
            while {check.job_id, cut_off.job_id} & {*await node.executor.list_jobs()}:
                await asyncio.sleep(0.02)
            assert await asyncio.to_thread(containers_of, running) == [f"dms-{running}"]
            await node.services.compute_provider.stop(running, "operator", "the test is over", Fault.PROVIDER)


def _runs(deployment: Deployment | None) -> bool:
    return deployment is not None and deployment.stops_at > 0
