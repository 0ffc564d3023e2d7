"""When the sandbox is tried: once a machine is onboarded, at a start, when the engine is another one or comes back, and
again while a row fails; never of a machine that offers nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.application.device import engine, sandbox
from dms.application.ports.executor import SandboxTrial
from dms.domain.engine_facts import EngineFacts
from dms.domain.sandbox import not_started
from dms.errors import ExecutorUnavailable
from tests.fixtures.provider import providing
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import Node, running_node
from tests.integration.test_compute_provider import onboard


class Engine:
    """What a node's executor says of itself; the process one says nothing."""

    def __init__(self, node: Node) -> None:
        self.name, self.weak, self.away, self.tried = "Docker 20", False, False, 0
        self.looks = 0
        for method in ("try_sandbox", "engine_facts", "check"):
            setattr(node.executor, method, getattr(self, method))

    async def try_sandbox(self) -> SandboxTrial:
        self.tried += 1
        await self.check()
        return SandboxTrial(engine=self.name, rows=not_started("weak") if self.weak else ())

    async def engine_facts(self) -> EngineFacts | None:
        await self.check()
        return EngineFacts(name=self.name)

    async def check(self) -> None:
        self.looks += 1
        await asyncio.sleep(0)
        if self.away:
            raise ExecutorUnavailable("no socket")


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(sandbox, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(engine, "SOON_SECONDS", 0.05)
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.1)
    async with running_node(tmp_path, runs_for_peers=True) as made:
        yield made


async def test_it_is_tried_when_it_may_be_another_one_and_while_it_fails(node: Node) -> None:
    found, device = Engine(node), node.services.device
    found.weak = True
    async with providing(node):
        await wait_for(lambda: found.looks > 4)
        assert found.tried == 0  # it offers nothing
        await onboard(node)
        await wait_for(lambda: "start: weak" in device.hindrance)
        before = found.tried
        await wait_for(lambda: found.tried > before)  # while it fails
        found.weak = False
        await wait_for(lambda: not device.hindrance)

        before, found.name = found.tried, "Docker 21"
        await wait_for(lambda: found.tried > before)

        before, found.away = found.tried, True
        await wait_for(lambda: "does not answer" in device.hindrance)
        found.weak, found.away = True, False
        await wait_for(lambda: "start: weak" in device.hindrance)
        assert found.tried > before


async def test_an_engine_that_is_away_leaves_what_is_known_as_it_is(node: Node) -> None:
    found, device = Engine(node), node.services.device
    await onboard(node)
    found.weak = True
    await node.services.compute_provider.sandbox.trial()
    found.away = True
    examined = await node.services.doctor.examine()
    assert [(row.name, row.state) for row in examined.sandbox] == [("start", "failed")]
    assert [row.state for row in examined.machine if row.name == "engine"] == ["failed"]
    assert "start: weak" in device.state.sandbox_trouble


async def test_what_was_found_earlier_is_not_told_as_what_is(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine answers, and can't run the test container any more: as where a runtime is not there."""
    Engine(node)
    await onboard(node)
    await node.services.compute_provider.sandbox.trial()
    assert (await node.services.doctor.examine()).trouble == ""

    async def try_sandbox() -> SandboxTrial:
        await asyncio.sleep(0)
        raise ExecutorUnavailable("it has no runtime runsc")

    monkeypatch.setattr(node.executor, "try_sandbox", try_sandbox)
    examined = await node.services.doctor.examine()
    assert [row.state for row in examined.machine if row.name == "engine"] == ["passed"]
    assert [(row.state, row.found) for row in examined.machine if row.name == "sandbox"] == [
        ("failed", "can't be tried now: it has no runtime runsc")
    ]
    assert (examined.verdict, "no runtime runsc" in examined.trouble) == ("failed", True)


async def test_those_who_ask_at_the_same_time_share_one_test(node: Node) -> None:
    found = Engine(node)
    watch = node.services.compute_provider.sandbox
    await asyncio.gather(*(watch.trial() for _ in range(5)))
    assert found.tried == 1
