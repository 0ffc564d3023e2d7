"""Every command may be cut off wherever it waits: what is decided has all its effects, what is not has none, and who
asks again gets the answer that anybody gets who asks again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from itertools import count, product
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

import msgspec
import pytest

from dms.adapters.eventlog import group_commit
from dms.application.files import move_files
from dms.errors import DmsError
from tests.fixtures.commands import commands
from tests.fixtures.no_server import NoServer
from tests.integration.cancellation import world as world_module
from tests.integration.cancellation.cut import Watched, cut_off
from tests.integration.cancellation.scenarios import GPUS_SEEN_ON_THE_WAY, SCENARIOS, Scenario, nothing
from tests.integration.cancellation.world import Seen, World, world

COMMIT_IN_A_THREAD, COMMIT_ON_THE_LOOP = 0.0, math.inf  # commits expected to be quicker are made on the loop


class Outcome(NamedTuple):
    """answer: the last one that the client got."""

    answer: Any
    seen: Seen


class Whole(NamedTuple):
    """The command, not cut off: how often it waits, and what comes of it."""

    waits: int
    once: Outcome
    twice: Outcome


async def answer_to(world: World, coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        answer = await coroutine
    except DmsError as error:
        return type(error).__name__, world.plain(str(error))
    return world.plain(msgspec.to_builtins(answer, enc_hook=_kind_of))


def _kind_of(aggregate: Any) -> str:
    """Its events tell the rest."""
    return type(aggregate).__name__


async def outcome(world: World, scenario: Scenario, coroutine: Coroutine[Any, Any, Any]) -> Outcome:
    answer = await answer_to(world, coroutine)
    await world.settle(scenario.done)
    return Outcome(answer, await world.seen())


async def whole(folder: Path, scenario: Scenario) -> Whole:
    async with world(folder, scenario.window_seconds, NoServer()) as made:
        await scenario.before(made)
        watched = Watched(scenario.give(made))
        once = await outcome(made, scenario, _awaited(watched))
        return Whole(watched.waits, once, await outcome(made, scenario, scenario.give(made)))


async def _awaited(watched: Watched[Any]) -> Any:
    return await watched


async def cut_and_repeated(folder: Path, scenario: Scenario, at: int, *, late: bool) -> Outcome:
    async with world(folder, scenario.window_seconds, NoServer()) as made:
        await scenario.before(made)
        await made.written()
        before = await made.seen()
        assert await cut_off(scenario.give(made), at, late=late), f"it ended before its wait {at}"
        await made.written()
        if await made.seen() != before:  # decided: all that follows comes without being asked for again
            await made.settle(scenario.done)
        return await outcome(made, scenario, scenario.give(made))


def test_every_command_has_a_scenario() -> None:
    assert commands() - GPUS_SEEN_ON_THE_WAY == SCENARIOS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("quick", [COMMIT_ON_THE_LOOP, COMMIT_IN_A_THREAD], ids=["on the loop", "in a thread"])
@pytest.mark.parametrize("command", SCENARIOS, ids=str)
async def test_a_command_that_is_cut_off_anywhere_is_as_done_or_as_never_given(
    command: Any, quick: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUICK_COMMIT_SECONDS", quick)
    monkeypatch.setattr(move_files, "OWN_CALL_SECONDS", 0.5)  # asking twice tells the same
    await check(SCENARIOS[command], tmp_path)


async def check(scenario: Scenario, folder: Path) -> None:
    folders = (folder / str(number) for number in count())
    expected = await whole(next(folders), scenario)
    assert expected.waits > 0
    for at in range(1, expected.waits + 1):
        for late in (False, True):
            found = await cut_and_repeated(next(folders), scenario, at, late=late)
            assert found in (expected.once, expected.twice), f"wait {at}, late: {late}\n{pformat(found)}"


async def test_an_effect_that_is_begun_by_hand_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second decision belongs to the first, and is lost with its caller."""
    monkeypatch.setattr(world_module, "PATIENCE_SECONDS", 2.0)

    async def by_hand(made: World) -> None:
        await made.provider.device.set_available(False)
        await made.requester.device.change_default_provider(made.provider_id)

    scenario = Scenario(nothing, by_hand, lambda w: bool(w.requester.device.state.default_provider))
    with pytest.raises(TimeoutError):
        await check(scenario, tmp_path)


async def test_waits_are_counted_and_cut_where_they_are() -> None:
    seen: list[int] = []

    async def three() -> int:
        for number in range(3):
            await asyncio.sleep(0)
            seen.append(number)
        return 7

    watched = Watched(three())
    assert (await _awaited(watched), watched.waits) == (7, 3)
    for at, late in product((1, 2, 3), (False, True)):
        seen.clear()
        assert await cut_off(three(), at, late=late)
        assert seen == list(range(at - 1))
    assert not await cut_off(three(), 4)
