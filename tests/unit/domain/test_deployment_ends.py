"""How long a deployment ran is recorded only of one that ran, with the clock that it ran by."""

from __future__ import annotations

import pytest

from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Event
from dms.domain.resources import Resources
from tests.fixtures.histories import MINUTE, START, request


def created() -> Deployment:
    deployment = Deployment("job")
    for event in (
        Deployment.Requested(service_provider="s", request=request(time=3), price="1"),
        Deployment.Accepted(reserved=Resources()),
        Deployment.ContainerCreated(container_id="c", executor="docker"),
    ):
        deployment.apply(event)
    return deployment


def news(deployment: Deployment) -> list[Event]:
    return [event for _, event in deployment.collect_pending()]


@pytest.mark.parametrize(("given", "boot_id", "boot_us"), [((START,), "", 0), ((START, "boot", 7), "boot", 7)])
def test_a_start_has_its_time_limit_and_its_boot(given: tuple[int, str, int], boot_id: str, boot_us: int) -> None:
    deployment = created()
    deployment.container_started(*given)
    started = Deployment.ContainerStarted(stops_at=START + 3 * MINUTE, boot_id=boot_id, started_boot_us=boot_us)
    assert news(deployment) == [started]


@pytest.mark.parametrize(("ran", "seconds"), [(True, 5.0), (False, 0.0)])
def test_only_what_ran_lasted(ran: bool, seconds: float) -> None:
    failed, stopped = created(), created()
    for one in (failed, stopped):
        if ran:
            one.container_started(START)
    news(failed)
    failed.fail("gone", Fault.PROVIDER, 137, 5.0)
    end = Deployment.Failed(reason="gone", fault=Fault.PROVIDER, exit_code=137, duration_seconds=seconds)
    assert news(failed) == [end]
    stopped.request_stop("s", "enough", Fault.REQUESTER)
    stopped.stopped(5.0)
    last = news(stopped)[-1]
    assert isinstance(last, Deployment.Stopped)
    assert last.duration_seconds == seconds
