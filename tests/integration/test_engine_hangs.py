"""The container engine takes connections and does not answer any more, in every state of a job: a job that runs goes
on, and so does its container. What the DMS asks meanwhile it gives up in bounded time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.docker_settings import DockerSettings
from dms.application.deployments import run_containers
from dms.errors import ExecutorUnavailable
from tests.fixtures.docker_pair import DockerPair
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.engine_jobs import api, jobs, pair, places, plainly, registry, settings_for
from tests.fixtures.jobs import NODE, shell_spec
from tests.fixtures.jobs_in_states import BY_ITSELF, STATES, TERMINATED, JobsInStates, failed
from tests.fixtures.registry import Registry, Trouble
from tests.fixtures.waiting import wait_for

__all__ = ["api", "jobs", "pair", "places", "registry"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]

WORK_SECONDS = 15.0  # how long one answer is waited for


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as made:
        yield made


@pytest.fixture
def containers(engine: OwnEngine) -> DockerSettings:
    return replace(settings_for(engine), work_seconds=WORK_SECONDS, silent_seconds=WORK_SECONDS)


async def test_an_engine_that_hangs_for_a_while_ends_no_job(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.start(*STATES)
    assert await jobs.are_there()
    await asyncio.to_thread(engine.hang)
    try:
        jobs.let_go()  # what the provider was about to do it tries without an answer
        await wait_for(lambda: pair.provider.services.device.hindrance)
    finally:
        await asyncio.to_thread(engine.start)
    for state in ("starting", "running", "stopping"):
        await jobs.tell(state)
    ends = {state: await pair.ends(job_id) for state, job_id in jobs.of.items()}
    assert ends == dict.fromkeys(STATES, BY_ITSELF) | {"stopping": TERMINATED}
    for state in ("pulling", "created", "starting", "running", "sealing", "over"):
        assert await pair.printed(jobs.of[state], "done") == 1
    await pair.nothing_stays()
    await wait_for(lambda: not pair.provider.services.device.hindrance)


async def test_an_engine_that_hangs_for_too_long_is_the_providers_fault(
    engine: OwnEngine, pair: DockerPair, jobs: JobsInStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its grace is over. What it goes on running meanwhile is removed when it answers again. An order to stop that
    the engine has already is left to it for as long as the job's own grace lasts: here for ten minutes."""
    states = [state for state in STATES if state != "stopping"]
    await jobs.start(*states)
    assert await jobs.are_there()
    await asyncio.to_thread(engine.hang)
    try:
        monkeypatch.setattr(run_containers, "ENGINE_GRACE_SECONDS", 1.0)
        jobs.let_go()
        ends = {state: plainly(await pair.ends(job_id)) for state, job_id in jobs.of.items()}
    finally:
        await asyncio.to_thread(engine.start)
    assert ends == dict.fromkeys(ends, failed("the provider's container engine")) | {
        "sealing": BY_ITSELF,
        "over": BY_ITSELF,
    }
    await pair.nothing_stays()
    await wait_for(lambda: not pair.provider.services.device.hindrance)


async def test_a_pull_of_which_nothing_comes_is_not_the_registrys_doing_while_the_engine_hangs(
    engine: OwnEngine, containers: DockerSettings, registry: Registry
) -> None:
    registry.publish("nunet/silent", "1")
    # Patient: a pull that was silent before it came to the registry is tried again.
    settings = replace(containers, silent_seconds=2.0, call_seconds=120.0, patience_seconds=120.0)
    executor = DockerExecutor(NODE, settings)
    spec, held = shell_spec("true", image=f"{registry.address}/nunet/silent:1"), threading.Event()

    def hang(path: str) -> Trouble | None:
        if "/blobs/" not in path:
            return None
        executor._calls._call_seconds = 2.0  # only now: what it was asked before may take longer
        engine.hang()
        return Trouble(held=held)

    registry.trouble = hang
    try:
        with pytest.raises(ExecutorUnavailable):
            await executor.prepare(spec)
        assert any("/blobs/" in path for path in registry.asked)
    finally:
        registry.trouble = lambda _: None
        held.set()
        await asyncio.to_thread(engine.start)
        await executor.close()
