"""What leaving the network means, told beforehand, and how far apart two nodes are, by two whole daemons."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from dms.domain.deployment import DeploymentState, Fault
from dms.domain.job import JobState
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.waiting import wait_for
from tests.integration.cancellation.world import ENDLESS, OFFER, World, world
from tests.integration.test_device_policy import get


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_jobs_that_run_and_rewards_not_claimed_are_told_before(pair: World) -> None:
    await pair.run("true", JobState.COMPLETED)
    tx_hash = pair.tx_hash
    pair.tx_hash = "ab" * 32
    await pair.run(ENDLESS, JobState.RUNNING)
    found = await get(pair, "/onboarding/offboard")
    assert (found["onboarded"], found["needs_force"]) == (True, True)
    assert [(job["job_id"], job["peer"]) for job in found["running_jobs"]] == [(pair.key, pair.requester_id)]
    assert found["running_jobs"][0]["ends_at"] is not None
    assert found["unclaimed"]["jobs"] == 1
    assert float(found["unclaimed"]["ntx"]) > 0
    assert len(found["means"]) == 4
    assert (await offboarded(pair)).status_code == 409, "as it was told"

    await pair.provider.transactions.request_reward(tx_hash)
    await pair.provider.compute_provider.stop(pair.key, "operator", "enough", Fault.PROVIDER)
    await wait_for(lambda: pair.deployment_state() is DeploymentState.ENDED and not pair.provider.device.reservations)
    found = await get(pair, "/onboarding/offboard")
    assert (found["needs_force"], found["running_jobs"], found["unclaimed"]["jobs"]) == (False, [], 0)
    assert pair.provider.device.state.onboarded, "it only tells"
    assert (await offboarded(pair)).status_code == 200
    assert not (await get(pair, "/onboarding/offboard"))["onboarded"]


async def offboarded(pair: World) -> httpx.Response:
    async with httpx.AsyncClient(verify=NO_TLS, timeout=120) as client:
        return await client.post(f"http://127.0.0.1:{pair.daemons['provider'].port}/api/v1/onboarding/offboard")


async def test_what_may_be_offered_is_told_as_it_is_enforced(pair: World) -> None:
    await pair.run(ENDLESS, JobState.RUNNING)
    found = await get(pair, "/onboarding/provisioned")
    assert found["cpu_limits"] == {"least": 800, "most": 7200, "offered": OFFER.cpu_mhz, "reserved": 500}
    assert found["memory_limits"] == {"least": 1600, "most": 14_400, "offered": OFFER.memory_mb, "reserved": 64}
    assert (found["cpu"], found["memory"], found["total_cores"], found["gpus"]) == (8000, 16_000, 4, [])
    await pair.provider.device.change_resources(found["cpu_limits"]["least"], found["memory_limits"]["most"])
    await pair.provider.compute_provider.stop(pair.key, "operator", "enough", Fault.PROVIDER)
    await wait_for(lambda: pair.deployment_state() is DeploymentState.ENDED)


async def test_a_provider_among_the_peers_is_known_as_one(pair: World) -> None:
    async with httpx.AsyncClient(verify=NO_TLS, timeout=120) as client:
        answer = await client.get(f"http://127.0.0.1:{pair.daemons['requester'].port}/api/v1/peers")
    (peer,) = answer.json()
    assert (peer["ID"], peer["provider"], peer["rtt_ms"]) == (pair.provider_id, True, 1.0)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(peer["since"])) < timedelta(hours=1)
