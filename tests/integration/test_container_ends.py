"""What somebody on the provider's machine does to a job's container, in every state of the job: the end on both sides,
whose fault it is, who is paid, and that nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import APIError

from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.profile import LABEL_NODE
from dms.application.deployments import supervision
from tests.fixtures.docker_executors import api
from tests.fixtures.docker_pair import DockerPair, End, Places, docker_pair
from tests.fixtures.jobs_in_states import BY_ITSELF, TERMINATED, JobsInStates, failed
from tests.fixtures.provider import LIMITS

__all__ = ["api"]

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

GONE = failed("the container is gone: it was removed from outside")
STOPPED = failed("the job was stopped on the provider's machine, from outside")
RESTARTED = failed("the container was restarted from outside")
Ends = dict[str, tuple[End, End]]
UNHARMED: Ends = {
    **dict.fromkeys(("created", "starting", "running", "sealing", "over"), BY_ITSELF),
    "stopping": TERMINATED,
}


@pytest.fixture
async def jobs(tmp_path: Path, api: APIClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobsInStates]:
    monkeypatch.setattr(supervision, "STOP_GRACE_SECONDS", 600.0)  # a stop is under way until something ends it
    places = Places()
    places.put_into(monkeypatch)
    async with docker_pair(tmp_path, DockerSettings(limits=LIMITS)) as pair:
        made = JobsInStates(pair, places, api)
        await made.start(*UNHARMED)
        assert await made.are_there()
        yield made
        made.let_go()


def prune(api: APIClient, pair: DockerPair) -> None:
    node_id = pair.provider.services.signer.peer_id
    api.prune_containers({"label": [f"{LABEL_NODE}={node_id}"]})  # type: ignore[no-untyped-call]  # of types-docker


Act = Callable[[APIClient, str], object]
ACTS: dict[str, tuple[Act, Ends]] = {
    "stop": (lambda api, container: api.stop(container, 1), {"starting": STOPPED, "running": STOPPED}),
    "kill": (lambda api, container: api.kill(container), {"starting": STOPPED, "running": STOPPED}),
    "remove": (
        lambda api, container: api.remove_container(container, force=True),
        {"created": GONE, "starting": GONE, "running": GONE},
    ),
    "rename": (lambda api, container: api.rename(container, f"renamed-{container[:12]}"), {}),
    # What is started again before its start was recorded begins then.
    "restart": (lambda api, container: api.restart(container, 1), {"running": RESTARTED}),
}


@pytest.mark.parametrize(("act", "harmed"), ACTS.values(), ids=ACTS)
async def test_what_is_done_to_a_container_in_each_state(
    jobs: JobsInStates, api: APIClient, act: Act, harmed: Ends
) -> None:
    for state in UNHARMED:
        await asyncio.to_thread(done, act, api, jobs.container(state))
    await hold(jobs, UNHARMED | harmed, runs_of_starting=2 if harmed.keys() == {"running"} else 1)


async def test_pruning_takes_what_does_not_run_in_each_state(jobs: JobsInStates, api: APIClient) -> None:
    await asyncio.to_thread(prune, api, jobs.pair)
    await hold(jobs, UNHARMED | {"created": GONE})


def done(act: Act, api: APIClient, container: str) -> None:
    try:
        act(api, container)
    except APIError as error:
        if error.status_code != 409:  # nobody can kill what does not run
            raise


async def hold(jobs: JobsInStates, expected: Ends, runs_of_starting: int = 1) -> None:
    jobs.let_go()
    if expected["starting"] is BY_ITSELF:
        await jobs.tell("starting", runs_of_starting)
    if expected["running"] is BY_ITSELF:
        await jobs.tell("running")
    await jobs.tell("stopping")
    ends = {state: await jobs.pair.ends(job_id) for state, job_id in jobs.of.items()}
    for state in ("starting", "running"):  # the engine kills what it removes by force, and may be asked in between
        if expected[state] is GONE and ends[state] == STOPPED:
            ends[state] = GONE
    assert ends == expected
    await jobs.pair.nothing_stays()
