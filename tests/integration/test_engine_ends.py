"""The container engine itself is stopped, killed or gone for good, in every state of a job: the end on both sides,
whose fault it is, who is paid, and that nothing stays behind. The engine is one of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.application.deployments import run_containers, supervision
from dms.application.device import engine as engine_watch
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.job import Job
from dms.domain.reward import RewardType
from tests.fixtures.docker_pair import DockerPair, End, Places, docker_pair
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.images import SHELL_IMAGE
from tests.fixtures.provider import LIMITS
from tests.fixtures.registry import Registry, Trouble, serve_registry
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SHORT = "echo done"
UNTIL_TOLD = "trap 'echo done; exit 0' HUP; echo up; while true; do sleep 0.2 & wait; done"
DEAF = "trap 'echo told' TERM; echo up; while true; do sleep 0.2; done"

COMPLETED = End(Job.Completed.TOPIC, Fault.NONE, "", RewardType.WITHDRAW)
EXITED = End(Deployment.ContainerExited.TOPIC, Fault.NONE, "", RewardType.WITHDRAW)
BY_ITSELF = (COMPLETED, EXITED)
TERMINATED = (
    End(Job.Failed.TOPIC, Fault.REQUESTER, "enough", RewardType.REFUND),
    End(Deployment.Stopped.TOPIC, Fault.REQUESTER, "enough", RewardType.REFUND),
)


def failed(reason: str) -> tuple[End, End]:
    """By the provider's fault."""
    return (
        End(Job.Failed.TOPIC, Fault.PROVIDER, reason, RewardType.REFUND),
        End(Deployment.Failed.TOPIC, Fault.PROVIDER, reason, RewardType.REFUND),
    )


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
    monkeypatch.setattr(engine_watch, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(supervision, "STOP_GRACE_SECONDS", 600.0)  # a stop is under way until a test lets it end
    monkeypatch.setattr(run_containers, "ENGINE_GRACE_SECONDS", 600.0)
    policy = ImagePolicy(allow=("dms-test/*", f"{engine.host.ours}:*/*"))
    async with docker_pair(tmp_path, DockerSettings(limits=LIMITS, policy=policy, base_url=engine.base_url)) as made:
        yield made
        places.let_go()


class Jobs:
    """One in each state that a job can be in, and kept there."""

    def __init__(self, pair: DockerPair, places: Places, registry: Registry, api: APIClient) -> None:
        self._pair, self._places, self._registry, self._api = pair, places, registry, api
        self._pulled = threading.Event()
        self.of: dict[str, str] = {}  # state -> the job's id

    async def start(self, *states: str) -> None:
        for state in states:
            self.of[state] = await getattr(self, f"_{state}")()

    async def are_there(self) -> bool:
        """Whether each is in its state, by the provider's log, by where the provider is, and by the engine."""
        states = {
            name: (self._pair.deployment(job_id).state, await self._container(name)) for name, job_id in self.of.items()
        }
        return states == {name: STATES[name] for name in self.of}

    def let_go(self) -> None:
        self._places.let_go()
        self._pulled.set()

    async def tell(self, state: str) -> None:
        """To end by itself, once the provider follows it again."""
        job_id = self.of[state]
        await wait_for(lambda: self._pair.deployment(job_id).state is DeploymentState.RUNNING)
        await asyncio.to_thread(self._api.kill, self._pair.deployment(job_id).container_id, "SIGHUP")

    async def _container(self, state: str) -> str:
        wanted = {"label": f"io.nunet.dms.job_id={self.of[state]}"}
        found = await asyncio.to_thread(lambda: self._api.containers(all=True, filters=wanted))
        return found[0]["State"] if found else ""

    async def _asked(self, script: str, place: str = "", image: str = SHELL_IMAGE) -> str:
        job_id = await self._pair.quote(script, image)
        if place:
            self._places.hold(place, job_id)
        await self._pair.pay(job_id)
        if place:
            await wait_for(lambda: (place, job_id) in self._places.reached)
        return job_id

    async def _pulling(self) -> str:
        self._registry.publish("nunet/demo", "1")
        self._registry.trouble = lambda path: Trouble(held=self._pulled) if "/blobs/" in path else None
        job_id = await self._asked(SHORT, image=f"{self._registry.address}/nunet/demo:1")
        await wait_for(lambda: any("/blobs/" in path for path in self._registry.asked))
        return job_id

    async def _created(self) -> str:
        return await self._asked(SHORT, "start")

    async def _starting(self) -> str:
        return await self._asked(UNTIL_TOLD, "started")

    async def _running(self) -> str:
        return await self._printing(UNTIL_TOLD, "up")

    async def _stopping(self) -> str:
        job_id = await self._printing(DEAF, "up")
        await self._pair.terminate(job_id)
        await self._prints(job_id, "told")
        return job_id

    async def _sealing(self) -> str:
        return await self._asked(SHORT, "sealing")

    async def _over(self) -> str:
        return await self._asked(SHORT, "removal")

    async def _printing(self, script: str, line: str) -> str:
        job_id = await self._asked(script)
        await self._prints(job_id, line)
        return job_id

    async def _prints(self, job_id: str, line: str) -> None:
        async with asyncio.timeout(120):
            while not await self._pair.printed(job_id, line):
                await asyncio.sleep(0.02)


# By the provider's log, and by the engine.
STATES = {
    "pulling": (DeploymentState.ACCEPTED, ""),
    "created": (DeploymentState.CREATED, "created"),
    "starting": (DeploymentState.CREATED, "running"),
    "running": (DeploymentState.RUNNING, "running"),
    "stopping": (DeploymentState.STOPPING, "running"),
    "sealing": (DeploymentState.RUNNING, "exited"),
    "over": (DeploymentState.ENDED, "exited"),
}


@pytest.fixture
def jobs(pair: DockerPair, places: Places, registry: Registry, api: APIClient) -> Iterator[Jobs]:
    made = Jobs(pair, places, registry, api)
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
    engine: OwnEngine, pair: DockerPair, jobs: Jobs, outage: Outage, monkeypatch: pytest.MonkeyPatch
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
    engine: OwnEngine, pair: DockerPair, jobs: Jobs, outage: Outage, monkeypatch: pytest.MonkeyPatch
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
    engine: OwnEngine, pair: DockerPair, jobs: Jobs, outage: Outage, monkeypatch: pytest.MonkeyPatch
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
