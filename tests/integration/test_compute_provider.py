"""The compute provider's side on a real log, with child processes for containers: what is decided has its effect,
whatever became of who asked for it, and what could not be written has none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import pytest
from msgspec.structs import replace

from dms.adapters.eventlog import group_commit
from dms.adapters.executors.process import ProcessExecutor
from dms.application.deployments.admission import MOST_CHECKED_OF_A_PEER
from dms.application.network.messages import DeploymentAnswer, DeploymentRequest
from dms.application.ports.executor import Secrets
from dms.application.reactors import MOST_FAULTS
from dms.config import Funding
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.device import Device
from dms.domain.event import new_id
from dms.domain.network import Network
from dms.domain.resources import Resources
from dms.errors import ExecutorUnavailable, LogUnavailable
from tests.fixtures.histories import new_job, request
from tests.fixtures.provider import SERVICE_PROVIDER, end_of, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import ADDRESS, Node, running_node

OFFER_MEMORY_MB = 12_000
OFFER = {"cpu": 6000, "memory": OFFER_MEMORY_MB, "channel": "nunet-test", "payment_addr": ADDRESS}
QUICK = (0.001, 0.01)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, runs_for_peers=True) as made:
        await onboard(made)
        async with providing(made, retry=QUICK):
            yield made
            await end_all(made)


async def onboard(node: Node, payment_addr: str = ADDRESS) -> None:
    async with node.client() as client:
        answer = await client.post("/api/v1/onboarding/onboard", json=OFFER | {"payment_addr": payment_addr})
        assert answer.status_code == 200, answer.text


def wanted(script: str = "true", cpu: int = 100) -> DeploymentRequest:
    job = request(script, cpu=cpu, ram=64, tx_hash=token_hex(32))
    return DeploymentRequest(job_id=new_id(), request=job, price="1", seal_key=token_hex(32))


async def ask(node: Node, message: DeploymentRequest) -> DeploymentAnswer:
    return await node.services.compute_provider.request(SERVICE_PROVIDER, message)


async def decided(node: Node, message: DeploymentRequest) -> asyncio.Task[DeploymentAnswer]:
    """One that is asked for, decided, and waits for the disk."""
    asking = asyncio.create_task(ask(node, message))
    while node.log.load(Deployment, message.job_id) is None:
        await asyncio.sleep(0)
    assert not asking.done()
    return asking


def state(node: Node, job_id: str) -> DeploymentState:
    found = node.log.load(Deployment, job_id)
    return DeploymentState.NEW if found is None else found.state


async def end_all(node: Node) -> None:
    """By the log: what was accepted just now is not yet in the engine."""
    recorded = await node.log.read(0, 10_000, topics=(Deployment.Accepted.TOPIC,))
    for job_id in (one.originator_id.removeprefix(f"{Deployment.KIND}-") for one in recorded):
        if state(node, job_id) is not DeploymentState.ENDED:
            await node.services.compute_provider.stop(job_id, "operator", "the test is over", Fault.PROVIDER)
        await wait_for(lambda job_id=job_id: state(node, job_id) is DeploymentState.ENDED)  # type: ignore[misc]
    await nothing_left(node)


async def nothing_left(node: Node) -> None:
    async with asyncio.timeout(120):
        while await node.executor.list_jobs():
            await asyncio.sleep(0.01)


async def test_a_request_that_is_cut_off_at_its_save_is_run(node: Node) -> None:
    message = wanted("echo ran")
    asking = await decided(node, message)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await end_of(node, message.job_id) == (Fault.NONE, "exit code 0")
    assert (await ask(node, message)).accepted  # a repeat is told the same


async def test_a_stop_that_is_cut_off_at_its_save_stops(node: Node) -> None:
    message = wanted("sleep 300")
    assert (await ask(node, message)).accepted
    await wait_for(lambda: state(node, message.job_id) is DeploymentState.RUNNING)
    compute = node.services.compute_provider
    stopping = asyncio.create_task(compute.stop(message.job_id, "operator", "enough", Fault.PROVIDER))
    while state(node, message.job_id) is not DeploymentState.STOPPING:
        await asyncio.sleep(0)
    assert stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert await end_of(node, message.job_id) == (Fault.PROVIDER, "enough")
    assert not node.services.device.reservations


async def test_a_failed_save_of_another_command_gives_away_no_capacity(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = node.services.device.reservations
    message = wanted("sleep 300", cpu=4000)
    asking = await decided(node, message)
    with monkeypatch.context() as full:
        full.setattr(group_commit, "QUEUED_EVENTS", 0)
        with pytest.raises(LogUnavailable, match="overloaded"):
            await node.log.save(new_job())
    assert message.job_id in held
    assert (await asking).accepted
    late = await ask(node, wanted("sleep 300", cpu=4000))
    assert "no capacity left" in late.reason
    assert held.total.cpu_mhz == 4000


async def test_what_a_job_that_is_over_left_in_memory_is_given_to_no_other_and_told_to_who_is_refused(
    node: Node,
) -> None:
    device = node.services.device
    device.reservations.occupy("a job that is over", OFFER_MEMORY_MB - 10)
    answer = await ask(node, wanted())
    assert answer.reason.startswith(
        f"the provider has no capacity left until files of jobs that are over are removed, {OFFER_MEMORY_MB - 10} MB: "
    )
    assert device.offering().reserved == Resources(), "it is on no record"
    device.reservations.clear("a job that is over")
    assert (await ask(node, wanted())).accepted


async def test_a_job_is_given_its_network_by_the_log_and_refused_where_there_is_none(node: Node) -> None:
    device = node.services.device
    await wait_for(lambda: device.state.network == "internet")  # of a bare process
    assert "internet" in device.offering().features
    needing = needs("internet")
    assert (await ask(node, needing)).accepted
    assert network_given(node, needing) is Network.INTERNET

    await device.give_network(Network.NONE, "the engine lost it")
    refused = await ask(node, needs("internet"))
    assert (refused.accepted, refused.reason) == (False, "the provider gives jobs no internet, which this one needs")
    silent = needs("")
    assert (await ask(node, silent)).accepted  # an older DMS does not say, and gets what there is
    assert network_given(node, silent) is Network.NONE


def needs(network: str) -> DeploymentRequest:
    message = wanted()
    constraints = replace(message.request.constraints, network=network)
    return replace(message, request=replace(message.request, constraints=constraints))


def network_given(node: Node, message: DeploymentRequest) -> Network:
    found = node.log.load(Deployment, message.job_id)
    assert found is not None
    return found.network


async def test_what_is_held_follows_from_the_deployments_alone(node: Node, tmp_path: Path) -> None:
    message = wanted("sleep 300", cpu=4000)
    assert (await ask(node, message)).accepted
    held = node.services.device.reservations
    before = held.total
    held.release(message.job_id)
    node.services.compute_provider.take_up([message.job_id])
    assert held.total == before


async def test_a_driver_that_fails_by_an_error_of_ours_ends_the_job_after_a_few_tries(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    async def fails(_: ProcessExecutor, job_id: str, *_secrets: Secrets) -> None:
        tries.append(job_id)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(ProcessExecutor, "start", fails)
    message = wanted()
    assert (await ask(node, message)).accepted
    reason = "the provider failed to run it: ZeroDivisionError: a bug"
    assert await end_of(node, message.job_id) == (Fault.PROVIDER, reason)
    assert tries == [message.job_id] * MOST_FAULTS
    assert not node.services.device.reservations
    await nothing_left(node)


async def test_that_the_engine_is_away_is_an_event_and_why_jobs_are_refused(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = node.services.device

    tries: list[str] = []

    async def away(_: ProcessExecutor) -> None:
        tries.append("it is away" if not tries else f"still away, try {len(tries)}")
        raise ExecutorUnavailable(tries[-1])

    with monkeypatch.context() as broken:
        broken.setattr(ProcessExecutor, "check", away)
        answer = await ask(node, wanted())
        assert await ask(node, wanted()) == answer
    reason = "the provider's container engine does not answer: it is away"
    assert (answer.accepted, answer.reason) == (False, reason)
    assert (device.state.hindrance, device.offering().online) == (reason, False)
    assert (await ask(node, wanted())).accepted
    assert (device.state.hindrance, device.offering().online) == ("", True)
    topics = [recorded.topic for recorded in await node.log.read(0, 1000)]
    assert topics.count(Device.Hindered.TOPIC) == 1
    hindered, rejected = topics.index(Device.Hindered.TOPIC), topics.index(Deployment.Rejected.TOPIC)
    assert hindered < rejected < topics.index(Device.Unhindered.TOPIC)


async def test_payments_that_are_looked_up_count_until_they_are_decided(tmp_path: Path) -> None:
    """Also those of requests that were cut off. The chain's node is away, so none of them is decided by it."""
    ledger = Funding(check="ledger", rpc_url="http://127.0.0.1:9/", chain_id=1)
    async with running_node(tmp_path, runs_for_peers=True, funding=ledger) as node:
        await onboard(node, "0x" + "ab" * 20)
        async with providing(node):
            messages = [wanted() for _ in range(MOST_CHECKED_OF_A_PEER)]
            for message in messages:
                (await decided(node, message)).cancel()
            late = await ask(node, wanted())
            assert late.reason == "the provider checks too many payments already; try again later"
            compute, job_id = node.services.compute_provider, messages[0].job_id
            await compute.stop(job_id, "operator", "no longer wanted", Fault.PROVIDER)
            await wait_for(lambda: state(node, job_id) is DeploymentState.ENDED)
            assert (await ask(node, wanted())).pending


async def test_a_start_takes_up_what_was_left_and_removes_what_is_over(tmp_path: Path) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node:
        await onboard(node)
        message = wanted("echo ran")
        assert (await ask(node, message)).accepted  # nothing reacts yet
        async with providing(node, message.job_id):
            assert await end_of(node, message.job_id) == (Fault.NONE, "exit code 0")
            await nothing_left(node)
