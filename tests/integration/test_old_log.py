"""A node goes on with the log of an earlier version: every job that was open then comes to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from dms.application.ports.event_log import EventLog
from dms.bootstrap import build
from dms.config import Job as JobSettings
from dms.config import Strangers
from dms.daemon import Daemon
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.wiring.overrides import Overrides
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork
from tests.fixtures.old_log import STATES, unpacked
from tests.fixtures.own_daemon import own_settings
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import FixedHardware

IMPATIENT = JobSettings(
    executor="process", allow_process_for_peers=True, funding_window=1.0, answer_timeout=0.1, provider_grace=1.0
)
KINDS = (Job.KIND, Deployment.KIND)
PROVIDER, REQUESTER = "provider", "requester"
ENDS = {  # the providers of the jobs are away for good, and of the containers nothing is left
    ("job", "awaiting"): ("job.expired", ""),
    ("job", "funding"): ("job.failed", PROVIDER),
    ("job", "submitted"): ("job.failed", PROVIDER),
    ("job", "running"): ("job.failed", PROVIDER),
    ("job", "stopping"): ("job.failed", REQUESTER),  # whose order it was
    ("deployment", "checking"): ("deployment.container_exited", ""),
    ("deployment", "accepted"): ("deployment.container_exited", ""),
    ("deployment", "created"): ("deployment.failed", PROVIDER),
    ("deployment", "running"): ("deployment.failed", PROVIDER),  # it is gone, and nobody had ordered its end
    ("deployment", "stopping"): ("deployment.stopped", REQUESTER),
}


async def end_of(log: EventLog, stream: str) -> tuple[str, str]:
    """The topic of the event that ended it, and whose fault that was; once it is on the disk."""
    async with asyncio.timeout(120), aclosing(log.subscribe(0, stream=stream)) as batches:
        async for batch in batches:
            for event in (recorded.event for recorded in batch):
                if isinstance(event, Job.Expired | Job.Failed | Deployment.ContainerExited):
                    return event.TOPIC, str(getattr(event, "fault", ""))
                if isinstance(event, Deployment.Failed | Deployment.Stopped):
                    return event.TOPIC, str(event.fault)
    raise AssertionError("the log ended")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    settings = own_settings(tmp_path, job=IMPATIENT, strangers=Strangers(trust_payments=True))  # as it was then
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

    assert {state: await end_of(log, name) for state, name in were.items()} == ENDS
    ended = [topic for topic, _ in ENDS.values()]
    assert sorted(one.topic for one in await log.read(0, 1000) if one.topic in ended) == sorted(ended)
    await wait_for(lambda: not device.reservations)
    await wait_for(lambda: not any((daemon.parts.settings.general.data_dir / "processes").glob("*/")))
    assert list(log.verify())
