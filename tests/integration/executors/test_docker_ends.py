"""What somebody else does to a container or to its engine, in every state of a job: what the executor says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.profile import LABEL_NODE
from dms.application.ports.executor import Execution, ExecutionState
from dms.clock import machine_clock
from dms.domain.run_end import EndedBy
from tests.fixtures.docker_executors import SETTINGS
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.images import demo_images
from tests.fixtures.jobs import NODE, ended, launch, read_all, run, shell_spec, texts

__all__ = ["demo_images"]

pytestmark = pytest.mark.docker

SLEEPS = "echo up; sleep 600"
SAVES = "trap 'echo saved; exit 0' TERM; echo up; sleep 600 & wait"
DEAF = "trap '' TERM; echo up; while true; do sleep 1; done"
SOON = 60.0  # seconds; it is told at once, but the machine may be busy


async def up(executor: DockerExecutor, script: str) -> tuple[str, str]:
    """(job id, the engine's id) of a job that has printed its first line."""
    spec = shell_spec(script)
    await launch(executor, spec)
    async with asyncio.timeout(120), aclosing(executor.follow(spec.job_id, None)) as batches:
        await anext(batches)
    return spec.job_id, await executor.create(spec)


async def gone(executor: DockerExecutor, job_id: str) -> Execution:
    async with asyncio.timeout(SOON):
        while (execution := await executor.inspect(job_id)).state is not ExecutionState.ABSENT:
            await asyncio.sleep(0.05)
        return execution


# --- who ended it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [SLEEPS, SAVES], ids=["plain", "trap"])
async def test_an_operators_stop_is_not_the_jobs_end(executor: DockerExecutor, api: APIClient, script: str) -> None:
    job_id, container = await up(executor, script)
    await asyncio.to_thread(api.stop, container, 30)
    execution = await ended(executor, job_id)
    assert (execution.ended_by, execution.exit_code) == (EndedBy.OPERATOR, 0 if script is SAVES else 143)


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM", "SIGINT"])
async def test_an_operators_kill_is_not_the_jobs_end(executor: DockerExecutor, api: APIClient, signal: str) -> None:
    job_id, container = await up(executor, "trap 'exit 5' INT TERM; echo up; sleep 600 & wait")
    await asyncio.to_thread(api.kill, container, signal)
    execution = await ended(executor, job_id)
    assert (execution.ended_by, execution.exit_code) == (EndedBy.OPERATOR, 137 if signal == "SIGKILL" else 5)


@pytest.mark.parametrize("script", [SLEEPS, SAVES, DEAF], ids=["plain", "trap", "deaf"])
async def test_our_own_stop_is_ours(executor: DockerExecutor, script: str) -> None:
    job_id, _ = await up(executor, script)
    await executor.stop(job_id, 30 if script is SAVES else 1)
    assert (await ended(executor, job_id)).ended_by is EndedBy.DMS


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$; sleep 9", 143)]
)
async def test_what_no_signal_from_outside_explains_is_the_jobs_own_end(
    executor: DockerExecutor, script: str, code: int
) -> None:
    _, execution = await run(executor, shell_spec(f"sh -c '{script}'"))
    assert (execution.ended_by, execution.exit_code) == (EndedBy.JOB, code)


async def test_a_signal_that_a_job_takes_as_news_does_not_end_it(executor: DockerExecutor, api: APIClient) -> None:
    job_id, container = await up(executor, "trap 'echo again; exit 4' HUP; echo up; sleep 600 & wait")
    reading = asyncio.create_task(read_all(executor, job_id))
    await asyncio.to_thread(api.kill, container, "SIGHUP")
    assert texts(await reading) == ["up", "again"]
    assert (await ended(executor, job_id)).ended_by is EndedBy.JOB


async def test_a_dms_that_was_down_knows_it_too(executor: DockerExecutor, api: APIClient) -> None:
    stopped, container = await up(executor, SAVES)
    itself, _ = await up(executor, "echo up; exit 0")
    await ended(executor, itself)
    await asyncio.to_thread(api.stop, container, 30)
    later = DockerExecutor(NODE, SETTINGS)
    try:
        assert (await later.inspect(stopped)).ended_by is EndedBy.OPERATOR
        assert (await later.inspect(itself)).ended_by is EndedBy.JOB
    finally:
        await later.close()


async def test_what_was_found_out_outlives_the_engines_memory(executor: DockerExecutor, api: APIClient) -> None:
    """The engine keeps its last 256 events, and other containers make many."""
    job_id, container = await up(executor, SAVES)
    await asyncio.to_thread(api.stop, container, 30)
    other, busy = await up(executor, DEAF)
    for _ in range(300):
        await asyncio.to_thread(api.kill, busy, "SIGWINCH")
    assert (await executor.inspect(job_id)).ended_by is EndedBy.OPERATOR
    await executor.remove(other)


# --- absence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["created", "running", "stopping", "ended"])
async def test_a_container_that_was_removed_is_absent_at_once(
    executor: DockerExecutor, api: APIClient, state: str
) -> None:
    spec = shell_spec({"ended": "exit 3", "stopping": DEAF}.get(state, SLEEPS))
    await executor.prepare(spec)
    container = await executor.create(spec)
    following = asyncio.create_task(read_all(executor, spec.job_id))  # while it is removed
    stopping: asyncio.Task[None] | None = None
    if state != "created":
        await executor.start(spec.job_id)
    if state == "ended":
        await ended(executor, spec.job_id)
    if state == "stopping":
        stopping = asyncio.create_task(executor.stop(spec.job_id, 600))
    await asyncio.to_thread(api.remove_container, container, force=True)
    execution = await gone(executor, spec.job_id)
    assert execution.ended_by is EndedBy.OPERATOR
    async with asyncio.timeout(SOON):
        await following
        if stopping is not None:
            await stopping
    await executor.start(spec.job_id)
    await executor.stop(spec.job_id, 1)
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.ABSENT


async def test_pruning_takes_what_does_not_run(executor: DockerExecutor, api: APIClient) -> None:
    created, over = shell_spec(SLEEPS), shell_spec("exit 0")
    await executor.prepare(created)
    await executor.create(created)
    await launch(executor, over)
    await ended(executor, over.job_id)
    running, _ = await up(executor, SLEEPS)
    await asyncio.to_thread(api.prune_containers, {"label": [f"{LABEL_NODE}={NODE}"]})
    for job_id in (created.job_id, over.job_id):
        await gone(executor, job_id)
    assert (await executor.inspect(running)).state is ExecutionState.RUNNING


# --- names and restarts -----------------------------------------------------------------------------


async def test_a_renamed_container_stays_the_jobs(executor: DockerExecutor, api: APIClient) -> None:
    """Before and after the start, and for the next DMS."""
    spec = shell_spec(SAVES)
    await executor.prepare(spec)
    container = await executor.create(spec)
    await asyncio.to_thread(api.rename, container, f"first-{spec.job_id}")
    assert await executor.create(spec) == container
    await executor.start(spec.job_id)
    await asyncio.to_thread(api.rename, container, f"second-{spec.job_id}")
    later = DockerExecutor(NODE, SETTINGS)
    try:
        assert (await later.inspect(spec.job_id)).state is ExecutionState.RUNNING
        await later.remove(spec.job_id)
        await gone(executor, spec.job_id)
    finally:
        await later.close()


@pytest.mark.parametrize("how", ["restart", "start"])
async def test_a_container_that_somebody_else_started_again_shows_another_start(
    executor: DockerExecutor, api: APIClient, how: str
) -> None:
    job_id, container = await up(executor, SAVES if how == "restart" else "echo up")
    if how == "start":
        await ended(executor, job_id)
    first = await executor.inspect(job_id)
    following = asyncio.create_task(read_all(executor, job_id))
    if how == "start":
        assert texts(await following) == ["up"]
    await asyncio.to_thread(getattr(api, how), container)
    async with asyncio.timeout(SOON):
        await following
    assert (await executor.inspect(job_id)).started_at != first.started_at != 0


async def test_the_start_of_a_running_job_is_on_the_boot_clock(executor: DockerExecutor) -> None:
    before = machine_clock().boot_us
    job_id, _ = await up(executor, SLEEPS)
    after = machine_clock().boot_us
    tick = 10_000
    later = DockerExecutor(NODE, SETTINGS)
    assert before - tick <= (await later.inspect(job_id)).started_boot_us <= after
    await later.close()


# --- the engine -------------------------------------------------------------------------------------


@pytest.fixture
def engine() -> Iterator[OwnEngine]:
    with own_engine() as made:
        yield made


def executor_of(engine: OwnEngine) -> DockerExecutor:
    return DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, base_url=engine.base_url))


Outage = Callable[[OwnEngine], None]


@pytest.mark.parametrize("outage", [OwnEngine.stop, OwnEngine.kill], ids=["stopped", "killed"])
@pytest.mark.parametrize("dms", ["up", "down"])
async def test_a_restart_of_the_engine_is_the_engines_doing(engine: OwnEngine, outage: Outage, dms: str) -> None:
    """In each state of a job. Only an engine that is stopped while nobody listens leaves a job that saves its work and
    exits with 0 unexplained."""
    executor = executor_of(engine)
    jobs = {name: (await up(executor, script))[0] for name, script in {"plain": SLEEPS, "saves": SAVES}.items()}
    over, created = shell_spec("exit 0"), shell_spec(SLEEPS)
    await launch(executor, over)
    await ended(executor, over.job_id)
    await executor.create(created)
    if dms == "down":
        await executor.close()
    await asyncio.to_thread(outage, engine)
    await asyncio.to_thread(engine.start)
    if dms == "down":
        executor = executor_of(engine)
    who = {name: (await ended(executor, job_id)).ended_by for name, job_id in jobs.items()}
    unexplained = dms == "down" and outage is OwnEngine.stop
    known = EndedBy.ENGINE if dms == "up" or outage is OwnEngine.stop else EndedBy.OPERATOR
    assert who == {"plain": known, "saves": EndedBy.JOB if unexplained else known}
    assert (await executor.inspect(over.job_id)).ended_by is EndedBy.JOB
    assert (await executor.inspect(created.job_id)).state is ExecutionState.CREATED
    for job_id in await executor.list_jobs():
        await executor.remove(job_id)
    await executor.close()
