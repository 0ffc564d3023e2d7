"""The compute provider's side on a real log, with child processes for containers: what is decided has its effect,
whatever became of who asked for it, and what could not be written has none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from secrets import token_hex

import pytest
from msgspec.structs import replace

from dms.adapters.eventlog import group_commit
from dms.adapters.executors.process import ProcessExecutor
from dms.application.deployments import admission, deployment_feed, endings, supervision
from dms.application.deployments.admission import MOST_CHECKED_OF_A_PEER
from dms.application.deployments.furnishing import Furnishing
from dms.application.network.messages import (
    DeploymentAnswer,
    DeploymentRequest,
    FeedItem,
    FeedRequest,
    PreflightAnswer,
    PreflightRequest,
    decode_answer,
    encode,
)
from dms.application.ports.executor import Execution, ExecutionSpec, NetworkUse, Secrets
from dms.application.reactors import MOST_FAULTS
from dms.config import Funding
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.device import Device
from dms.domain.event import new_id
from dms.domain.network import Network
from dms.domain.resources import Resources
from dms.errors import ExecutionError, ExecutorUnavailable, LogUnavailable
from tests.fixtures.histories import new_job, request
from tests.fixtures.provider import SERVICE_PROVIDER, answer_to, end_of, providing
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


def wanted(script: str = "true", cpu: int = 100, network: str = "none") -> DeploymentRequest:
    job = request(script, cpu=cpu, ram=64, tx_hash=token_hex(32), network=network)
    return DeploymentRequest(job_id=new_id(), request=job, price="1", seal_key=token_hex(32))


async def ask(node: Node, message: DeploymentRequest) -> DeploymentAnswer:
    return await answer_to(node, message)


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


async def test_a_stop_ends_the_furnishing_of_a_container_that_was_created(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after a reboot, which empties workspaces: what the job begins with is fetched again."""
    fetching, furnish = asyncio.Event(), Furnishing.furnish

    async def again(self: Furnishing, deployment: Deployment, spec: ExecutionSpec) -> None:
        await furnish(self, deployment, spec)
        if deployment.state is DeploymentState.CREATED:
            fetching.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(Furnishing, "furnish", again)
    message = wanted(f"touch {tmp_path / 'ran'}; sleep 300")
    assert (await ask(node, message)).accepted
    await fetching.wait()
    await node.services.compute_provider.stop(message.job_id, "operator", "enough", Fault.PROVIDER)
    assert await end_of(node, message.job_id) == (Fault.PROVIDER, "enough")
    assert not (tmp_path / "ran").exists()


async def test_what_is_told_to_stop_just_before_its_start_is_not_started(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[str] = []
    inspect, start = ProcessExecutor.inspect, ProcessExecutor.start

    async def stopped_meanwhile(self: ProcessExecutor, job_id: str) -> Execution:
        found = await inspect(self, job_id)
        if state(node, job_id) is DeploymentState.CREATED:
            await node.services.compute_provider.stop(job_id, "operator", "enough", Fault.PROVIDER)
        return found

    async def noted(self: ProcessExecutor, job_id: str, *secrets: Secrets) -> None:
        starts.append(job_id)
        await start(self, job_id, *secrets)

    monkeypatch.setattr(ProcessExecutor, "inspect", stopped_meanwhile)
    monkeypatch.setattr(ProcessExecutor, "start", noted)
    message = wanted("sleep 300")
    assert (await ask(node, message)).accepted
    assert await end_of(node, message.job_id) == (Fault.PROVIDER, "enough")
    assert starts == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "DISK_SECONDS", 0.3)
    monkeypatch.setattr(supervision, "OUTPUT_RETRY_SECONDS", QUICK)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("ordered", [False, True])
async def test_output_that_stays_unusable_holds_no_end_and_no_capacity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ordered: bool
) -> None:
    waited, waits_too_long = list[bool](), endings.Endings.output_waits_too_long

    def told(self: endings.Endings, job_id: str) -> bool:
        waited.append(waits_too_long(self, job_id))
        return waited[-1]

    monkeypatch.setattr(endings.Endings, "output_waits_too_long", told)
    async with running_node(tmp_path, runs_for_peers=True) as node:
        await onboard(node)
        async with providing(node, retry=QUICK):
            message = wanted("sleep 300" if ordered else "echo ran")
            (tmp_path / "logs" / f"{message.job_id}.ndjson").mkdir()
            assert (await ask(node, message)).accepted
            if ordered:
                await wait_for(lambda: state(node, message.job_id) is DeploymentState.RUNNING)
                await wait_for(lambda: True in waited)  # what runs goes on all the same
                assert state(node, message.job_id) is DeploymentState.RUNNING
                await node.services.compute_provider.stop(message.job_id, "operator", "enough", Fault.PROVIDER)
            reason = "enough" if ordered else "the provider could not keep what the job printed"
            assert await end_of(node, message.job_id) == (Fault.PROVIDER, reason)
            assert not node.services.device.reservations
            await nothing_left(node)


async def test_output_whose_folder_was_removed_is_had_from_the_engine_again(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "OUTPUT_RETRY_SECONDS", QUICK)
    flag = tmp_path / "go"
    message = wanted(f"echo one; until [ -e {flag} ]; do sleep 0.02; done; echo two")
    assert (await ask(node, message)).accepted
    await wait_for((tmp_path / "logs" / f"{message.job_id}.ndjson").exists)
    shutil.rmtree(tmp_path / "logs")
    flag.touch()
    assert await end_of(node, message.job_id) == (Fault.NONE, "exit code 0")
    assert [line.text for line in await node.outputs.read(message.job_id, 0, 10)] == ["one", "two"]


async def test_a_network_that_can_not_be_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kept the looks from working: a limit that is used up later still counts."""
    spent = NetworkUse(received_bytes=2**20, sent_bytes=0, most_bytes=2**20)
    troubles = [ExecutionError("no such gateway"), LogUnavailable("the disk is full"), ZeroDivisionError("a bug")]

    async def use(*_: object) -> NetworkUse:
        if troubles:
            raise troubles.pop(0)
        return spent

    monkeypatch.setattr(supervision, "NETWORK_LOOK_SECONDS", 0.01)
    async with running_node(tmp_path, runs_for_peers=True, network="internet") as node:
        await onboard(node)
        async with providing(node, retry=QUICK):
            await wait_for(lambda: node.services.device.state.network == "internet")
            message = wanted("sleep 300", network="internet")
            monkeypatch.setattr(ProcessExecutor, "network_use", use)
            assert (await ask(node, message)).accepted
            assert await end_of(node, message.job_id) == (Fault.REQUESTER, "network limit of 1 MiB reached")
            await nothing_left(node)


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
    hindered, unhindered = topics.index(Device.Hindered.TOPIC), topics.index(Device.Unhindered.TOPIC)
    assert hindered < unhindered < topics.index(Deployment.Accepted.TOPIC)


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


@pytest.mark.parametrize(
    "funding", [Funding(), Funding(check="ledger", rpc_url="http://127.0.0.1:9/", chain_id=1)], ids=["trust", "ledger"]
)
async def test_more_jobs_of_a_peer_than_it_can_be_told_of_are_refused_before_they_are_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funding: Funding
) -> None:
    """Also of one that is trusted, and those whose payment is looked up count as well."""
    monkeypatch.setattr(admission, "FEEDS_OF_A_PEER", 2)
    async with running_node(tmp_path, runs_for_peers=True, funding=funding) as node:
        await onboard(node, "0x" + "ab" * 20)
        async with providing(node):
            first, second, third = wanted("sleep 300"), wanted("sleep 300"), wanted()
            for message in (first, second):
                answer = await ask(node, message)
                assert answer.accepted or answer.pending
            compute = node.services.compute_provider
            asked = PreflightRequest(job_id=third.job_id, request=third.request, price="1")
            told = await compute.preflights.answer(SERVICE_PROVIDER, asked)
            reason = "the provider has as many open jobs of this peer as it can tell it of at once, 2"
            assert (told.possible, told.reason, told.kind, told.fault) == (False, reason, "capacity", Fault.PROVIDER)
            assert (await ask(node, third)).reason == reason
            await compute.stop(first.job_id, "operator", "enough", Fault.PROVIDER)
            await wait_for(lambda: state(node, first.job_id) is DeploymentState.ENDED)
            answer = await ask(node, wanted())
            assert answer.accepted or answer.pending
            await end_all(node)


async def test_a_peer_that_follows_too_many_waits_its_turn_and_others_are_told(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_feed, "FEEDS_OF_A_PEER", 2)
    message = wanted("sleep 300")
    assert (await ask(node, message)).accepted
    feed = node.services.compute_provider._feed
    body = encode(FeedRequest(job_id=message.job_id))
    opened = [feed._on_feed(SERVICE_PROVIDER, body) for _ in range(3)]
    for each in opened:
        assert await anext(each) == encode(FeedItem())  # it is there
    for each in opened[:2]:
        assert decode_answer(SERVICE_PROVIDER, await anext(each), FeedItem).records
    with pytest.raises(StopAsyncIteration):  # it has no turn, and asks again
        await anext(opened[2])
    await opened[0].aclose()
    async with aclosing(feed._on_feed(SERVICE_PROVIDER, body)) as again:
        await anext(again)
        assert decode_answer(SERVICE_PROVIDER, await anext(again), FeedItem).records
    await opened[1].aclose()
    assert not feed._open


async def test_how_a_job_ended_is_told_though_its_peer_follows_too_many(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a refusal, for which the peer would wait while its other jobs run."""
    monkeypatch.setattr(deployment_feed, "FEEDS_OF_A_PEER", 0)
    message = wanted("sleep 300")
    assert (await ask(node, message)).accepted
    compute, body = node.services.compute_provider, encode(FeedRequest(job_id=message.job_id))
    assert [item async for item in compute._feed._on_feed(SERVICE_PROVIDER, body)] == [encode(FeedItem())]
    await compute.stop(message.job_id, "operator", "enough", Fault.PROVIDER)
    await wait_for(lambda: state(node, message.job_id) is DeploymentState.ENDED)
    told = [item async for item in compute._feed._on_feed(SERVICE_PROVIDER, body)]
    last = decode_answer(SERVICE_PROVIDER, told[-1], FeedItem).records[-1]
    assert last.topic in deployment_feed.TERMINAL_TOPICS


async def test_what_could_never_be_seen_paid_is_refused_before_it_is_paid(tmp_path: Path) -> None:
    ledger = Funding(check="ledger", rpc_url="http://127.0.0.1:9/", chain_id=1)
    async with running_node(tmp_path, runs_for_peers=True, funding=ledger) as node:
        provider = node.services.compute_provider

        async def told(blockchain: str) -> PreflightAnswer:
            asked = replace(wanted().request, blockchain=blockchain)
            message = PreflightRequest(job_id=new_id(), request=asked, price="1")
            return await provider.preflights.answer(SERVICE_PROVIDER, message)

        await onboard(node)  # with an address of Cardano
        refused = await told("")
        assert (refused.possible, refused.fault) == (False, Fault.PROVIDER)
        assert refused.reason.endswith("is not one of Ethereum")
        await onboard(node, "0x" + "ab" * 20)
        assert (await told("")).possible
        assert (await told("ethereum")).possible
        refused = await told("Cardano")
        assert (refused.possible, refused.fault, refused.field) == (False, Fault.REQUESTER, "/blockchain")


async def test_a_start_takes_up_what_was_left_and_removes_what_is_over(tmp_path: Path) -> None:
    async with running_node(tmp_path, runs_for_peers=True) as node:
        await onboard(node)
        message = wanted("echo ran")
        assert (await ask(node, message)).accepted  # nothing reacts yet
        async with providing(node, message.job_id):
            assert await end_of(node, message.job_id) == (Fault.NONE, "exit code 0")
            await nothing_left(node)
