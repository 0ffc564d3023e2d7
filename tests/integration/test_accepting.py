"""Each reason that the owner is shown for taking no jobs is the one that a peer is told which asks for a small one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from msgspec.structs import replace

from dms.adapters.executors.process import ProcessExecutor
from dms.application.deployments import admission
from dms.application.network.messages import DeploymentRequest, PreflightRequest
from dms.config import Funding
from dms.domain.event import new_id
from dms.errors import ExecutorUnavailable
from tests.fixtures.disks import broken_disk
from tests.fixtures.histories import request
from tests.fixtures.provider import SERVICE_PROVIDER, answer_to, providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, running_node
from tests.integration.test_compute_provider import OFFER, onboard


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, runs_for_peers=True) as made, providing(made):
        yield made


async def status(node: Node) -> Any:
    async with node.client() as client:
        return (await client.get("/api/v1/device/status")).json()


async def told(node: Node) -> str:
    """Why the smallest job is refused before it is paid; empty when it is not."""
    least = node.services.device.least()
    asked = request(cpu=max(least.cpu_mhz, 10), ram=least.memory_mb)
    message = PreflightRequest(job_id=new_id(), request=asked, price="1")
    return (await node.services.compute_provider.preflights.answer(SERVICE_PROVIDER, message)).reason


async def shown_and_told(node: Node) -> tuple[list[str], str]:
    reason, found = await told(node), await status(node)
    assert found["accepting"] is not bool(found["reasons"])
    return [one["reason"] for one in found["reasons"]], reason


async def test_a_machine_that_is_not_onboarded_or_offline_says_so(node: Node) -> None:
    assert await shown_and_told(node) == (["the provider is not onboarded"], "the provider is not onboarded")
    await onboard(node)
    assert await shown_and_told(node) == ([], "")
    await node.services.device.set_available(False)
    assert await shown_and_told(node) == (["the provider is offline"], "the provider is offline")


async def test_an_address_that_payments_are_not_looked_up_at_is_the_reason(tmp_path: Path) -> None:
    ledger = Funding(check="ledger", rpc_url="http://127.0.0.1:9/", chain_id=1)
    async with running_node(tmp_path, runs_for_peers=True, funding=ledger) as node, providing(node):
        await onboard(node)  # with an address of Cardano
        shown, reason = await shown_and_told(node)
        assert shown == [reason]
        assert reason.endswith("is not one of Ethereum")
        await onboard(node, "0x" + "ab" * 20)
        assert await shown_and_told(node) == ([], "")


async def test_an_engine_that_is_away_is_the_reason_and_so_is_all_that_comes_with_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: ProcessExecutor) -> None:
        raise ExecutorUnavailable("it is away")

    await onboard(node)
    monkeypatch.setattr(ProcessExecutor, "check", away)
    reason = "the provider's container engine does not answer: it is away"
    assert await shown_and_told(node) == ([reason], reason)
    await node.services.device.set_available(False)
    assert await shown_and_told(node) == (["the provider is offline", reason], "the provider is offline")


async def test_an_engine_that_takes_seconds_on_a_busy_machine_is_not_away(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    clock, passed = loop.time, 0.0

    async def slow(_: ProcessExecutor) -> None:
        nonlocal passed
        passed += 8  # seconds, at once
        await wait_for(due.done)

    await onboard(node)
    monkeypatch.setattr(loop, "time", lambda: clock() + passed)
    monkeypatch.setattr(ProcessExecutor, "check", slow)
    due = loop.create_future()
    loop.call_later(7, due.set_result, None)
    await node.services.compute_provider._engine.ping()
    assert passed == 8
    assert node.services.device.hindrance == ""


@pytest.mark.parametrize("full", ["cpu", "memory", "what is left"])
async def test_a_machine_that_is_full_says_what_of(node: Node, full: str) -> None:
    await onboard(node)
    device = node.services.device
    offered, held = device.state.offered, device.reservations
    if full == "cpu":
        held.hold("a job", replace(offered, memory_mb=1))
    elif full == "memory":
        held.hold("a job", replace(offered, cpu_mhz=1))
    else:
        held.occupy("a job that is over", OFFER["memory"])  # type: ignore[arg-type]
    shown, reason = await shown_and_told(node)
    assert shown == [reason]
    assert reason.startswith("the provider has no capacity left")
    assert ("CPU" if full == "cpu" else "memory") in reason


async def test_a_log_that_can_not_be_written_is_the_reason_until_it_can(node: Node) -> None:
    await onboard(node)
    with broken_disk(node.log):  # type: ignore[arg-type]
        async with node.client() as client:
            await client.post("/api/v1/device/status", json={"is_available": False})
        shown, reason = await shown_and_told(node)
        assert shown == [reason]
        assert reason.startswith("nothing can be recorded: ")
    await node.log.try_to_write()  # type: ignore[attr-defined]
    assert await shown_and_told(node) == ([], "")


async def test_too_many_payments_to_check_are_a_reason(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    await onboard(node)
    monkeypatch.setattr(admission, "MOST_CHECKED", 0)
    (shown,) = (one["reason"] for one in (await status(node))["reasons"])
    asked = request(cpu=100, ram=64, tx_hash=token_hex(32))
    message = DeploymentRequest(job_id=new_id(), request=asked, price="1", seal_key=token_hex(32))
    answer = await answer_to(node, message)
    assert (answer.accepted, answer.reason) == (False, shown)
