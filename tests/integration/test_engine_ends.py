"""The container engine itself is stopped, killed or gone for good, in every state of a job: the end on both sides,
whose fault it is, who is paid, and that nothing stays behind. The engine is one of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from dms.adapters.executors.engine_output import OUTPUT_UNSEEN
from dms.application.deployments import run_containers, supervision
from dms.application.ports.outputs import OutputCursor
from tests.fixtures.docker_pair import DockerPair, End, Places
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.engine_jobs import api, containers, jobs, pair, places, plainly, registry
from tests.fixtures.jobs_in_states import BY_ITSELF, STATES, TERMINATED, JobsInStates, failed
from tests.fixtures.waiting import wait_for

__all__ = ["api", "containers", "jobs", "pair", "places", "registry"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BY_THE_ENGINE = failed("the provider's container engine ended the job: it was restarted or went down")
FROM_OUTSIDE = failed("the job was stopped on the provider's machine, from outside")


@pytest.fixture(scope="module", params=[False, True], ids=["stops-them", "live-restore"])
def engine(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    with own_engine(live_restore=request.param) as made:
        yield made


Outage = Callable[[OwnEngine], None]
EVERY_CELL = os.environ.get("ENGINE_FAULTS") == "all"
RUNNING = ("starting", "running", "stopping")
"""The states of jobs whose containers run."""


def chosen(engine: OwnEngine, outage: Outage, *states: str) -> tuple[str, ...]:
    """All of them by ENGINE_FAULTS=all. Else all for one kind of outage, and for the others those whose containers run:
    they are what it treats in its own way."""
    whole = outage is OwnEngine.kill and not engine.live_restore
    return states if whole or EVERY_CELL else RUNNING


def of(jobs: JobsInStates, ends: dict[str, tuple[End, End]]) -> dict[str, tuple[End, End]]:
    """Those of the jobs that there are."""
    return {state: end for state, end in ends.items() if state in jobs.of}


OUTAGES = pytest.mark.parametrize("outage", [OwnEngine.stop, OwnEngine.kill], ids=["stopped", "killed"])


@OUTAGES
async def test_an_engine_that_comes_back(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had not begun begins then; what ran is lost, unless the engine lets it go on; what is over stays as it
    ended."""
    await jobs.start(*chosen(engine, outage, *STATES))
    assert await jobs.are_there()
    await asyncio.to_thread(outage, engine)
    monkeypatch.setattr(supervision, "STOP_GRACE_SECONDS", 1.0)
    jobs.let_go()  # what the provider was about to do it tries without an engine
    await wait_for(lambda: pair.provider.services.device.hindrance)
    await asyncio.to_thread(engine.start)
    if engine.live_restore:
        for state in ("starting", "running"):
            await jobs.tell(state)
    lost = BY_ITSELF if engine.live_restore else BY_THE_ENGINE
    expected = {
        "pulling": BY_ITSELF,
        "created": BY_ITSELF,
        "starting": lost,
        "running": lost,
        "stopping": TERMINATED,
        "sealing": BY_ITSELF,
        "over": BY_ITSELF,
    }
    # What still ran while nobody read it, until the engine came up and ended it.
    unseen = RUNNING if outage is OwnEngine.kill and not engine.live_restore else ()
    assert {state: await pair.ends(job_id) for state, job_id in jobs.of.items()} == of(jobs, expected)
    for state, job_id in jobs.of.items():
        assert bool(await pair.printed(job_id, "done")) == (expected[state] is BY_ITSELF)
        assert await pair.printed(job_id, OUTPUT_UNSEEN) == (state in unseen), state
    await pair.nothing_stays()
    await wait_for(lambda: not pair.provider.services.device.hindrance)


async def test_what_a_job_printed_before_it_ended_without_its_engine_is_missed_in_words(
    engine: OwnEngine, pair: DockerPair, places: Places, jobs: JobsInStates, api: APIClient
) -> None:
    """An engine that comes back reads no more of a container which ended meanwhile."""
    await jobs.start("running")
    job_id = jobs.of["running"]
    places.hold("removal", job_id)
    pid = api.inspect_container(jobs.container("running"))["State"]["Pid"]
    await asyncio.to_thread(engine.kill)
    os.kill(pid, signal.SIGHUP)
    await wait_for(lambda: not Path(f"/proc/{pid}").exists())
    await asyncio.to_thread(engine.start)
    assert await pair.ends(job_id) == BY_ITSELF
    assert await pair.printed(job_id, "up")
    assert await pair.printed(job_id, OUTPUT_UNSEEN) == 1
    executor = pair.provider.parts.executor
    lines = [line async for some in executor.follow(job_id, None) for line in some]
    assert lines[-1].text == OUTPUT_UNSEEN
    behind_it = OutputCursor(lines[-1].time_ns, 1)
    assert not [some async for some in executor.follow(job_id, behind_it)], "a provider that is started again reads on"
    jobs.let_go()
    await pair.nothing_stays()


@OUTAGES
async def test_an_engine_that_stays_away_is_the_providers_fault(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its grace is over. What it goes on running meanwhile is removed when it is back."""
    await jobs.start(*chosen(engine, outage, *STATES))
    assert await jobs.are_there()
    await asyncio.to_thread(outage, engine)
    monkeypatch.setattr(run_containers, "ENGINE_GRACE_SECONDS", 1.0)
    jobs.let_go()
    away = failed("the provider's container engine")
    try:
        ends = {state: plainly(await pair.ends(job_id)) for state, job_id in jobs.of.items()}
    finally:
        await asyncio.to_thread(engine.start)
    if not engine.live_restore and outage is OwnEngine.stop:  # it told of the ends that it made before it went
        assert ends.pop("running") in (away, BY_THE_ENGINE)
    ended = {"stopping": TERMINATED, "sealing": BY_ITSELF, "over": BY_ITSELF}
    assert ends == dict.fromkeys(ends, away) | of(jobs, ended)
    await pair.nothing_stays()
    await wait_for(lambda: not pair.provider.services.device.hindrance)


@OUTAGES
async def test_an_engine_that_comes_back_before_the_dms_does(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.start(*(("created", *RUNNING, "sealing", "over") if EVERY_CELL else RUNNING))
    assert await jobs.are_there()
    await pair.provider.close()
    await asyncio.to_thread(outage, engine)
    await asyncio.to_thread(engine.start)
    monkeypatch.setattr(supervision, "STOP_GRACE_SECONDS", 1.0)
    jobs.let_go()
    await pair.start_provider()
    if engine.live_restore:
        for state in ("starting", "running"):
            await jobs.tell(state)
    lost = BY_THE_ENGINE if outage is OwnEngine.stop else FROM_OUTSIDE  # a signal of nobody knows whom
    expected = {
        "created": BY_ITSELF,
        "starting": BY_ITSELF if engine.live_restore else lost,
        "running": BY_ITSELF if engine.live_restore else lost,
        "stopping": TERMINATED,
        "sealing": BY_ITSELF,
        "over": BY_ITSELF,
    }
    assert {state: await pair.ends(job_id) for state, job_id in jobs.of.items()} == of(jobs, expected)
    await pair.nothing_stays()
