"""A provider that takes long to archive what a job left, and tells its end only then: whether the job was stopped or
came to its time limit, its results come, and both sides tell the same of the money."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from dms.application.ports.executor import ExecutionState, PackedWorkspace
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.domain.overdue import MARGIN_SECONDS, STOP_SECONDS
from dms.domain.results import EVERYTHING, Selection
from dms.domain.reward import RewardType, reward_type
from tests.simulation.engine import SimulatedExecutor
from tests.simulation.matrix.cells import SEED
from tests.simulation.matrix.scenarios import ask_and_pay, job_of, terminated_after
from tests.simulation.matrix.story import left_to_do
from tests.simulation.matrix.world import MatrixWorld, WorkingExecutor
from tests.simulation.run import BEGIN_SECONDS, begin, prepared, roomy, run_until_done, simulated, until
from tests.simulation.world import LASTING_SECONDS, Node

pytestmark = pytest.mark.slow

PACKING_SECONDS = 2 * max(STOP_SECONDS, MARGIN_SECONDS)
MINUTES = 4
REASON = "no longer wanted"


class SlowExecutor(WorkingExecutor):
    """What is left of a job that runs no more takes long to be archived."""

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str = "", selection: Selection = EVERYTHING
    ) -> PackedWorkspace | None:
        container = self._engine.containers.get(job_id)
        if container is not None and container.state(self._engine.now()) is not ExecutionState.RUNNING:
            await asyncio.sleep(PACKING_SECONDS)
        return await super().pack(job_id, into, max_bytes, known_state, selection)


class SlowWorld(MatrixWorld):
    def executor_of(self, node: Node) -> SimulatedExecutor:
        return SlowExecutor(node, LASTING_SECONDS)


async def play(world: MatrixWorld, stopped_after: float | None, found: list[tuple[Job, Deployment]]) -> None:
    """stopped_after: so many seconds of its run; None for the time limit to do that."""
    await begin(world)
    job_id = await ask_and_pay(world, "1000 0", MINUTES)
    if stopped_after is not None:
        await terminated_after(world, job_id, stopped_after, REASON)
    await until(lambda: (job := job_of(world, job_id)) is not None and not job.open)
    await until(lambda: not left_to_do(world))
    job, daemon = job_of(world, job_id), world.nodes[world.providers[0]].daemon
    assert daemon is not None
    deployment = daemon.services.log.load(Deployment, job_id)
    assert job is not None
    assert deployment is not None
    found.append((job, deployment))


def ends_of(stopped_after: float | None) -> tuple[Job, Deployment]:
    found: list[tuple[Job, Deployment]] = []
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=roomy()) as folder:
        shutil.copytree(prepared(), folder, dirs_exist_ok=True)
        with simulated(SEED, Path(folder), lambda _: None, BEGIN_SECONDS, 1, make=SlowWorld) as (world, loop):
            assert not run_until_done(loop, world, play(world, stopped_after, found))
    return found[0]


@pytest.mark.parametrize("stopped_after", [MINUTES * 60 * 0.9, None], ids=["stopped", "at its time limit"])
def test_who_archives_slowly_is_waited_for_while_it_is_there(stopped_after: float | None) -> None:
    job, deployment = ends_of(stopped_after)
    assert job.results_received is not None
    for end in (job, deployment):
        assert end.outcome is not None
        assert reward_type(end.outcome, MINUTES) is RewardType.DISTRIBUTE_75
    assert job.outcome == deployment.outcome
