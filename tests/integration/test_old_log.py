"""A node goes on with the log of an earlier version: every job that was open then comes to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.bootstrap import Overrides, build
from dms.config import Job as JobSettings
from dms.daemon import Daemon
from dms.domain.deployment import Deployment
from dms.domain.event import Event
from dms.domain.job import Job
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork
from tests.fixtures.old_log import STATES, unpacked
from tests.fixtures.own_daemon import own_settings
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import FixedHardware

IMPATIENT = JobSettings(
    executor="process", allow_process_for_peers=True, funding_window=1.0, answer_timeout=0.1, provider_grace=1.0
)
KINDS: dict[str, type[Job] | type[Deployment]] = {"job": Job, "deployment": Deployment}
PROVIDER, REQUESTER = "provider", "requester"
ENDS = {  # the providers of the jobs are away for good, and of the containers nothing is left
    ("job", "awaiting"): ("job.expired", ""),
    ("job", "funding"): ("job.failed", PROVIDER),
    ("job", "submitted"): ("job.failed", PROVIDER),
    ("job", "running"): ("job.failed", PROVIDER),
    ("job", "stopping"): ("job.failed", PROVIDER),
    ("deployment", "checking"): ("deployment.container_exited", ""),
    ("deployment", "accepted"): ("deployment.container_exited", ""),
    ("deployment", "created"): ("deployment.failed", PROVIDER),
    ("deployment", "running"): ("deployment.stopped", REQUESTER),  # its time was over
    ("deployment", "stopping"): ("deployment.stopped", REQUESTER),
}


def ended_by(events: list[Event]) -> tuple[str, str]:
    """The topic of the event that ended it, and whose fault that was."""
    ends = (Job.Expired, Job.Failed, Deployment.ContainerExited, Deployment.Failed, Deployment.Stopped)
    found = [event for event in events if isinstance(event, ends)]
    assert len(found) == 1
    return found[0].TOPIC, str(getattr(found[0], "fault", ""))


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    settings = own_settings(tmp_path, job=IMPATIENT)
    with unpacked(settings.general.data_dir) as data:
        settings.general.work_dir.mkdir()
        (data / "node.key").rename(settings.general.work_dir / "node.key")
    line = MemoryLine()
    made = await build(
        settings, Overrides(hardware=FixedHardware(), network=lambda own: MemoryNetwork(line, own.peer_id))
    )
    await made.start()
    yield made
    await made.close()


async def test_what_was_open_in_any_state_comes_to_its_end(daemon: Daemon) -> None:
    log, device = daemon.parts.event_log, daemon.services.device
    streams = dict.fromkeys(one.originator_id for one in await log.read(0, 1000))
    names = [stream for stream in streams if stream.partition("-")[0] in KINDS]
    were = dict(zip(STATES, names, strict=True))
    assert device.state.onboarded

    def open_still(name: str) -> bool:
        kind, _, key = name.partition("-")
        found = log.load(KINDS[kind], key)
        return found.open if isinstance(found, Job) else not (found and found.ended)

    await wait_for(lambda: not any(map(open_still, were.values())))
    ends = {
        state: ended_by([one.event for one in await log.read(0, 1000, stream=name)]) for state, name in were.items()
    }
    assert ends == ENDS
    assert not device.reservations
    await wait_for(lambda: not any((daemon.parts.settings.general.data_dir / "processes").glob("*/")))
    assert list(log.verify())
