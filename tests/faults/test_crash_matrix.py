"""Some cells of the crash matrix with real daemons and a real engine, at least one of each fault and role; all of them:
`make crash-matrix`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crash_matrix import CUT, ENGINE_KILLED, FAULTS, ROLES, Run, Strike, differences, play
from tests.fixtures.engine import OwnEngine, own_engine
from tests.fixtures.faulty_dms import KILLED, STOPPED

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

SAMPLE = (
    Strike("sp", "after save job.service_requested (commands)", KILLED),
    Strike("cp", "after engine: start (running of containers)", KILLED),
    Strike("cp", "before save deployment.log_sealed, deployment.container_exited (running of containers)", STOPPED),
    Strike("sp", "after save job.results_received (fetching of results)", STOPPED),
    Strike("cp", "after engine: create (running of containers)", ENGINE_KILLED),
    Strike("sp", "before stream /nunet/dms/feed/0.1.0 (following of deployments)", CUT),
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return asyncio.run(play(tmp_path_factory.mktemp("uninterrupted") / "both"))


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    """That is killed and started again; its containers go on meanwhile."""
    with own_engine(live_restore=True) as made:
        yield made


@pytest.mark.parametrize("strike", SAMPLE, ids=str)
async def test_whatever_happens_at_an_effect_the_job_comes_to_the_same_end(
    tmp_path: Path, uninterrupted: Run, strike: Strike, request: pytest.FixtureRequest
) -> None:
    own = request.getfixturevalue("engine") if strike.fault == ENGINE_KILLED else None
    assert not differences((await play(tmp_path, strike, own)).story, uninterrupted.story, strike.fault)


def test_the_sample_has_each_fault_and_both_sides() -> None:
    assert {strike.fault for strike in SAMPLE} == set(FAULTS)
    assert {strike.side for strike in SAMPLE} == set(ROLES)
