"""The container engine itself is stopped, killed or gone for good, in every state of a job: the end on both sides,
whose fault it is, who is paid, and that nothing stays behind. The engine is one of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.application.deployments import run_containers, supervision
from dms.application.device import engine as engine_watch
from tests.fixtures.docker_pair import DockerPair, End, Places, docker_pair
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.jobs_in_states import BY_ITSELF, STATES, TERMINATED, JobsInStates, failed
from tests.fixtures.provider import LIMITS
from tests.fixtures.registry import Registry, serve_registry
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BY_THE_ENGINE = failed("the provider's container engine ended the job: it was restarted or went down")
FROM_OUTSIDE = failed("the job was stopped on the provider's machine, from outside")


@pytest.fixture(scope="module", params=[False, True], ids=["stops-them", "live-restore"])
def engine(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    with own_engine(live_restore=request.param) as made:
        yield made


@pytest.fixture
def registry(engine: OwnEngine) -> Iterator[Registry]:
    with serve_registry(engine.host.ours) as served:
        yield served


@pytest.fixture
def api(engine: OwnEngine) -> Iterator[APIClient]:
    client = APIClient(engine.base_url, version="auto")
    yield client
    client.close()


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    made = Places()
    made.put_into(monkeypatch)
    return made


@pytest.fixture
async def pair(
    tmp_path: Path, engine: OwnEngine, places: Places, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DockerPair]:
    monkeypatch.setattr(engine_watch, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(supervision, "STOP_GRACE_SECONDS", 600.0)  # a stop is under way until a test lets it end
    monkeypatch.setattr(run_containers, "ENGINE_GRACE_SECONDS", 600.0)
    policy = ImagePolicy(allow=("dms-test/*", f"{engine.host.ours}:*/*"))
    async with docker_pair(
        tmp_path, DockerSettings(limits=LIMITS, network="none", policy=policy, base_url=engine.base_url)
    ) as made:
        yield made
        places.let_go()


@pytest.fixture
def jobs(pair: DockerPair, places: Places, registry: Registry, api: APIClient) -> Iterator[JobsInStates]:
    made = JobsInStates(pair, places, api, registry)
    yield made
    made.let_go()


def plainly(ends: tuple[End, End]) -> tuple[End, End]:
    """Without what the engine itself says of its absence: it differs."""
    theirs, ours = ends
    cut = [End(end.how, end.fault, end.reason.partition(" is away")[0], end.reward) for end in (theirs, ours)]
    return cut[0], cut[1]


Outage = Callable[[OwnEngine], None]
OUTAGES = pytest.mark.parametrize("outage", [OwnEngine.stop, OwnEngine.kill], ids=["stopped", "killed"])


@OUTAGES
async def test_an_engine_that_comes_back(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had not begun begins then; what ran is lost, unless the engine lets it go on; what is over stays as it
    ended."""
    await jobs.start(*STATES)
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
    assert {state: await pair.ends(job_id) for state, job_id in jobs.of.items()} == {
        "pulling": BY_ITSELF,
        "created": BY_ITSELF,
        "starting": lost,
        "running": lost,
        "stopping": TERMINATED,
        "sealing": BY_ITSELF,
        "over": BY_ITSELF,
    }
    for state in ("pulling", "created", "sealing", "over", *(("starting", "running") if engine.live_restore else ())):
        assert await pair.printed(jobs.of[state], "done")
    await pair.nothing_stays()
    await wait_for(lambda: not pair.provider.services.device.hindrance)


@OUTAGES
async def test_an_engine_that_stays_away_is_the_providers_fault(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its grace is over. What it goes on running meanwhile is removed when it is back."""
    await jobs.start(*STATES)
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
    assert ends == dict.fromkeys(ends, away) | {
        "stopping": TERMINATED,
        "sealing": BY_ITSELF,
        "over": BY_ITSELF,
    }
    await pair.nothing_stays()
    await wait_for(lambda: not pair.provider.services.device.hindrance)


@OUTAGES
async def test_an_engine_that_comes_back_before_the_dms_does(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.start("created", "starting", "running", "stopping", "sealing", "over")
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
    assert {state: await pair.ends(job_id) for state, job_id in jobs.of.items()} == {
        "created": BY_ITSELF,
        "starting": BY_ITSELF if engine.live_restore else lost,
        "running": BY_ITSELF if engine.live_restore else lost,
        "stopping": TERMINATED,
        "sealing": BY_ITSELF,
        "over": BY_ITSELF,
    }
    await pair.nothing_stays()
