"""A peer's connection is reset while the answer to it waits for a slow disk: what it asked for is done all the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from secrets import token_hex

import msgspec
import pytest

from dms.adapters.eventlog import group_commit
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.deployments.compute_provider import ComputeProvider
from dms.application.network.messages import DEPLOYMENT_REQUEST, DeploymentAnswer, DeploymentRequest
from dms.bootstrap import build
from dms.config import Job as JobSettings
from dms.daemon import Daemon
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.errors import PeerUnreachable
from dms.wiring.overrides import Overrides
from tests.fixtures.histories import request
from tests.fixtures.local_peers import LOCAL
from tests.fixtures.own_daemon import own_settings
from tests.fixtures.resets import proxy
from tests.fixtures.waiting import wait_for
from tests.integration.cancellation.world import OFFER
from tests.integration.http.node import FixedHardware

JOBS = JobSettings(executor="process", allow_process_for_peers=True)


class SlowDisk:
    """Holds up the commits of a log from `hold` until `release`."""

    def __init__(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self._commit, self._go_on = daemon.parts.event_log.recorder.commit, threading.Event()
        self._go_on.set()
        monkeypatch.setattr(group_commit, "QUICK_COMMIT_SECONDS", 0.0)  # all in a thread
        monkeypatch.setattr(daemon.parts.event_log.recorder, "commit", self._slow)

    def hold(self) -> None:
        self._go_on.clear()

    def release(self) -> None:
        self._go_on.set()

    def _slow(self) -> float:
        assert self._go_on.wait(300)
        return self._commit()


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = await build(own_settings(tmp_path, job=JOBS), Overrides(hardware=FixedHardware()))
    await daemon.start()
    await daemon.services.device.onboard(OFFER)
    yield daemon
    for job_id in await daemon.parts.executor.list_jobs():
        await daemon.parts.executor.remove(job_id)
    await daemon.close()


@pytest.fixture
async def asking() -> AsyncIterator[Libp2pNetwork]:
    network = Libp2pNetwork(Identity.generate(), LOCAL)
    await network.start()
    yield network
    await network.close()


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs whose requests were cancelled."""
    found: list[str] = []
    plain = ComputeProvider.request

    async def watched(self: ComputeProvider, peer_id: str, message: DeploymentRequest) -> DeploymentAnswer:
        try:
            return await plain(self, peer_id, message)
        except asyncio.CancelledError:
            found.append(message.job_id)
            raise

    monkeypatch.setattr(ComputeProvider, "request", watched)
    return found


async def until_exited(daemon: Daemon, job_id: str) -> int:
    stream = f"{Deployment.KIND}-{job_id}"
    async with asyncio.timeout(120), aclosing(daemon.parts.event_log.subscribe(0, stream=stream)) as batches:
        async for batch in batches:
            for recorded in batch:
                if isinstance(recorded.event, Deployment.ContainerExited):
                    return recorded.event.exit_code
    raise AssertionError("the log ended")


async def test_a_job_whose_request_is_reset_while_it_is_written_runs(
    provider: Daemon, asking: Libp2pNetwork, cut_off: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, log, peer_id = SlowDisk(provider, monkeypatch), provider.parts.event_log, provider.services.signer.peer_id
    wanted = request("echo ran", cpu=500, ram=64, tx_hash=token_hex(32))
    message = DeploymentRequest(job_id=new_id(), request=wanted, price="1", seal_key=token_hex(32))
    body, job_id = msgspec.json.encode(message), message.job_id
    port = int(provider.parts.host.listen_addresses[0].split("/")[4])
    async with proxy(port) as line:
        asking.add_addresses(peer_id, [f"/ip4/127.0.0.1/tcp/{line.port}/p2p/{peer_id}"])
        await asking.ping(peer_id, 60)
        disk.hold()
        sending = asyncio.create_task(asking.request(peer_id, DEPLOYMENT_REQUEST, body, 60))
        await wait_for(lambda: log.load(Deployment, job_id) is not None)
        line.reset()
        with pytest.raises(PeerUnreachable):
            await sending
        await wait_for(lambda: cut_off == [job_id])
        disk.release()
        assert await until_exited(provider, job_id) == 0
        answer = await asking.request(peer_id, DEPLOYMENT_REQUEST, body, 60)
        assert msgspec.json.decode(answer, type=DeploymentAnswer).accepted
