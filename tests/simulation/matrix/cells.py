"""Each effect, before and after, of each role, under each fault: the cells are generated from what happens when nothing
fails, and each must come to the same end."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import unified_diff
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from dms.domain.deployment import Deployment
from dms.domain.job import Job
from tests.fixtures.fault_points import Point
from tests.simulation.invariants import Violation, require
from tests.simulation.matrix.scenarios import SCENARIOS, Scenario
from tests.simulation.matrix.story import Story, left_to_do, story_of
from tests.simulation.matrix.world import Fault, MatrixWorld, Strike
from tests.simulation.run import BEGIN_SECONDS, CALM_SECONDS, begin, prepared, roomy, run_until_done, simulated

SEED = 0  # of delays alone
LOOK_SECONDS = 1.0
CELLS_A_RUN = 4


class Run(NamedTuple):
    """met: (role, point), in order. reactors: names of those that were started. struck: the faults that happened.
    failure: empty for none."""

    story: Story
    met: tuple[tuple[str, Point], ...]
    reactors: frozenset[str]
    struck: frozenset[Strike]
    failure: str


class Cell(NamedTuple):
    scenario: Scenario
    strike: Strike

    def __str__(self) -> str:
        return f"{self.scenario.name}: {self.strike}"


def play(scenario: Scenario, strikes: Sequence[Strike] = (), tell: Callable[[str], None] = lambda _: None) -> Run:
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=roomy()) as folder:
        shutil.copytree(prepared(), folder, dirs_exist_ok=True)
        with simulated(SEED, Path(folder), tell, BEGIN_SECONDS, scenario.providers, make=MatrixWorld) as (world, loop):
            world.strikes, world.has_gpu = strikes, scenario.has_gpu
            stories: list[Story] = []
            failure = run_until_done(loop, world, _play(world, scenario, stories))
            story = stories[0] if stories else {}
            return Run(story, tuple(world.met_points), frozenset(world.reactors), frozenset(world.struck), failure)


async def _play(world: MatrixWorld, scenario: Scenario, stories: list[Story]) -> None:
    await begin(world)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CALM_SECONDS
    try:
        async with asyncio.timeout(CALM_SECONDS):
            await scenario.play(world)
    except TimeoutError as error:
        raise Violation(f"what was asked for is not done in {CALM_SECONDS:g} s") from error
    while left := left_to_do(world):
        require(loop.time() < deadline, f"forgotten: {left}")
        await asyncio.sleep(LOOK_SECONDS)
    world.durable.check_ends()
    stories.append(await story_of(world, cut_short=scenario.cut_short))
    await _check_logs(world)


async def _check_logs(world: MatrixWorld) -> None:
    """What was acknowledged is there, and nothing else than what was written."""
    for name, node in world.nodes.items():
        assert node.daemon is not None
        events = await node.daemon.parts.event_log.read(0, 100_000)
        read = [(event.originator_id, event.topic) for event in events]
        for (of, stream), drafts in world.durable.streams.items():
            written = [(stream, draft.topic) for draft in drafts]
            require(of != name or written == [one for one in read if one[0] == stream][-len(written) :],
                    f"{name} has lost something of {stream}")  # fmt: skip
        for of, stream, topic in world.client.acknowledged:
            require(
                of != name or (stream, topic) in read, f"{name} has lost {topic} of {stream}, which it acknowledged"
            )


@cache
def uninterrupted(scenario: Scenario) -> Run:
    run = play(scenario)
    gc.freeze()  # what was loaded for it stays: the end of each run need not look through it
    return run


def cells(faults: Iterable[Fault] = Fault) -> Iterator[Cell]:
    """A point that several scenarios come by is tried in the first of them."""
    known = set[tuple[str, Point]]()
    for scenario in SCENARIOS:
        for role, point in uninterrupted(scenario).met:
            if (role, point) not in known:
                known.add((role, point))
                yield from (Cell(scenario, Strike(role, point, fault)) for fault in faults)


def spread(wanted: Iterable[Cell]) -> Iterator[Sequence[Cell]]:
    """In rows that are played in one run each: of the same scenario and fault, and as far from each other as can be."""
    kinds: dict[tuple[str, Fault], list[Cell]] = {}
    for cell in wanted:
        kinds.setdefault((cell.scenario.name, cell.strike.fault), []).append(cell)
    for row in kinds.values():
        runs = -(-len(row) // CELLS_A_RUN)
        yield from (row[first::runs] for first in range(runs))


def troubles(row: Sequence[Cell]) -> list[str]:
    """Of each cell that comes to another end than when nothing fails. One that fails only beside others is not meant
    here: the seeds are for that."""
    scenario = row[0].scenario
    run = play(scenario, [cell.strike for cell in row])
    if not run.failure and len(run.struck) == len(row) and run.story == uninterrupted(scenario).story:
        return []
    return [found for cell in row if (found := difference(cell))]


def difference(cell: Cell, tell: Callable[[str], None] = lambda _: None) -> str:
    """Between this and what happens when nothing fails; empty for none."""
    run, expected = play(cell.scenario, [cell.strike], tell), uninterrupted(cell.scenario)
    if run.failure or not run.struck:
        return f"{cell}: {run.failure or 'the fault did not happen'}"
    if _may_be_refused(cell, expected) and _is_refused(run.story):
        return ""
    differing = list(_differing(run.story, expected.story))
    return "\n    ".join((str(cell), *differing)) if differing else ""


def played(names: list[str], tell: Callable[[str], None] = lambda _: None) -> list[str]:
    """What is wrong with them."""
    known: dict[str, Cell] = {str(cell): cell for cell in cells()}
    return [trouble for name in names if (trouble := difference(known[name], tell))]


def _may_be_refused(cell: Cell, expected: Run) -> bool:
    """A provider whose engine is away takes no job: what it had not accepted by then it refuses."""
    before = list(takewhile(lambda met: Deployment.Accepted.TOPIC not in met[1].effect, expected.met))
    away = cell.strike.fault in (Fault.ENGINE_KILLED, Fault.ENGINE_HUNG)
    return away and (cell.strike.role, cell.strike.point) in before


def _is_refused(story: Story) -> bool:
    """On both sides, and nothing was run."""
    decided = {key: [topic for topic, _ in value["decided"]] for key, value in story.items() if isinstance(value, dict)}
    ends = sorted(topics[-1] for topics in decided.values())
    return not story["engine starts"] and ends == [Deployment.Rejected.TOPIC, Job.Failed.TOPIC]


def _differing(story: Story, expected: Story) -> Iterator[str]:
    now, then = ([*_lines(one)] for one in (story, expected))
    yield from (line for line in unified_diff(then, now, n=0, lineterm="") if not line.startswith(("---", "+++", "@@")))


def _lines(value: object, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in sorted(value.items()):
            yield from _lines(part, f"{name} {key}".strip())
    elif isinstance(value, list):
        yield from (f"{name}: {part}" for part in value)
    else:
        yield f"{name}: {value}"
