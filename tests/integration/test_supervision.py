"""Every long-lived loop of a whole daemon is killed, once and for ever: it comes back, or is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from dms.application import loops
from dms.application.loops import Body, Loop, Patience
from dms.bootstrap import build
from dms.config import Eventlog, Job
from dms.daemon import Daemon
from dms.process import started
from projections.capacity import Capacity
from tests.fixtures.dms import ADDRESS
from tests.fixtures.own_daemon import own_settings
from tests.fixtures.waiting import wait_for

NEEDED = {"event log writer", "views", "websocket actions", "live events", "peer-to-peer host", "reactors", "erasures"}
OTHERS = {
    "metadata file", "metrics", "websocket pings", "engine watch", "GPU watch", "tidying of checkpoints", "cleanup",
    "tidying of results", "tidying of received results", "tidying of opened archives", "workspace watch",
    "retention", "own advertisement", "recording of providers", "expiry of providers", "asking of neighbours",
    "heads at the end of jobs", "heads of running jobs", "event log watch", "event log check", "remembering of peers",
    "news of availability", "channel of providers", "network watch", "network of a machine just onboarded",
    "usage of the machine", "live heartbeats", "providers over their budget", "expired tokens",
    "sandbox test", "sandbox watch", "sandbox of a machine just onboarded",
}  # fmt: skip


class Wounds:
    """Kills loops from within: what they wait for is broken off, and they raise."""

    def __init__(self) -> None:
        self._doomed: dict[str, asyncio.Event] = {}
        self._forever: set[str] = set()

    def wrap(self, name: str, body: Body) -> Body:
        async def wounded() -> None:
            doomed = self._doomed.setdefault(name, asyncio.Event())
            work, end = asyncio.ensure_future(body()), asyncio.ensure_future(doomed.wait())
            try:
                await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return work.result()
            finally:
                for task in (work, end):
                    task.cancel()
                await asyncio.wait({work, end})
            if name not in self._forever:
                doomed.clear()
            raise ZeroDivisionError("killed by a test")

        return wounded

    def kill(self, name: str, *, forever: bool = False) -> None:
        if forever:
            self._forever.add(name)
        self._doomed[name].set()

    def heal(self) -> None:
        self._forever.clear()
        for event in self._doomed.values():
            event.clear()


@pytest.fixture
async def wounds(monkeypatch: pytest.MonkeyPatch) -> Wounds:
    made = Wounds()
    plain = Loop.__init__

    def wounded(self: Loop, name: str, body: Body, *rest: Any) -> None:
        plain(self, name, made.wrap(name, body), *rest)

    monkeypatch.setattr(loops.Loop, "__init__", wounded)
    return made


@pytest.fixture
async def daemon(tmp_path: Path, wounds: Wounds, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daemon]:
    quick = Patience(first=0.001, longest=0.01)
    for module in ("dms.adapters.eventlog.group_commit.WRITER_PATIENCE", "dms.adapters.p2p.network._PATIENCE"):
        monkeypatch.setattr(module, quick)
    job = Job(executor="process", allow_process_for_peers=True)  # so that nothing hinders it
    made = await build(own_settings(tmp_path, eventlog=Eventlog(archive_after_days=30), job=job))
    made.loops._patience = quick
    await made.start()
    yield made
    await made.close()
    assert list(made.loops) == []  # all of them are ended with the daemon


@pytest.fixture
async def client(daemon: Daemon) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{daemon.port}", timeout=120) as made:
        yield made


def of(daemon: Daemon, name: str) -> Loop:
    [found] = [loop for loop in daemon.loops if loop.name == name]
    return found


def has_failed(daemon: Daemon, name: str) -> Callable[[], bool]:
    return lambda: of(daemon, name).quick >= 5


def works(daemon: Daemon, name: str, deaths: int = 0) -> Callable[[], bool]:
    return lambda: daemon.loops.deaths[name] >= deaths and of(daemon, name).trouble is None


async def onboard(client: httpx.AsyncClient) -> httpx.Response:
    whole = (await client.get("/api/v1/onboarding/provisioned")).json()
    share = {"cpu": int(whole["cpu"] * 0.8), "memory": int(whole["memory"] * 0.5)}
    body = {**share, "channel": "nunet-test", "payment_addr": ADDRESS}
    return await client.post("/api/v1/onboarding/onboard", json=body)


async def test_each_loop_that_dies_once_comes_back_and_the_daemon_works(
    daemon: Daemon, client: httpx.AsyncClient, wounds: Wounds
) -> None:
    assert {loop.name for loop in daemon.loops} == NEEDED | OTHERS
    for name in sorted(NEEDED | OTHERS):
        wounds.kill(name)
        await wait_for(works(daemon, name, deaths=1))
    assert daemon.ready() is None

    assert (await onboard(client)).status_code == 200  # the writer and the views
    async with asyncio.timeout(120):  # what follows from the onboarding may be on its way
        while any(view["behind"] for view in (await client.get("/api/v1/projections")).json()["items"]):
            await asyncio.sleep(0.01)
    await wait_for((daemon.parts.settings.general.work_dir / "metadataV2.json").is_file)
    figures = (await client.get("/metrics")).text
    assert 'dms_events_total{topic="device.onboarded"} 1.0' in figures
    assert 'dms_loop_failures_total{loop="views"} 1.0' in figures
    assert 'dms_loop_works{loop="views"} 1.0' in figures
    assert (await client.get("/readyz")).json()["degraded"] == []


@pytest.mark.slow
async def test_each_loop_that_keeps_dying_is_named(daemon: Daemon, client: httpx.AsyncClient, wounds: Wounds) -> None:
    for name in sorted(NEEDED | OTHERS):
        wounds.kill(name, forever=True)
        await wait_for(has_failed(daemon, name))
        answer = await client.get("/readyz")
        if name in NEEDED:
            assert answer.status_code == 503
            assert f"{name}: ZeroDivisionError: killed by a test" in answer.json()["error"]
            assert name in str(daemon.loops.fault)  # what the service manager hears
        else:
            assert answer.status_code == 200
            assert answer.json()["degraded"] == [f"{name}: ZeroDivisionError: killed by a test"]
        figures = await client.get("/metrics")
        assert f'dms_loop_works{{loop="{name}"}} 0.0' in figures.text
        wounds.heal()
        of(daemon, name).quick = 0  # as if it had lived for a minute
        await wait_for(works(daemon, name))
    async with asyncio.timeout(60):  # the last death may still be on its way
        while (await client.get("/readyz")).json()["degraded"]:
            await asyncio.sleep(0.01)


async def test_commands_fail_at_once_while_nothing_can_be_written(
    daemon: Daemon, client: httpx.AsyncClient, wounds: Wounds
) -> None:
    wounds.kill("event log writer", forever=True)
    await wait_for(lambda: of(daemon, "event log writer").quick >= 5)
    of(daemon, "event log writer")._patience = Patience(first=3600, longest=3600)
    deaths = of(daemon, "event log writer").quick
    await wait_for(lambda: of(daemon, "event log writer").quick > deaths and of(daemon, "event log writer").resting)
    refused = await onboard(client)
    assert refused.status_code == 503
    assert "nothing can be written just now (event log writer: ZeroDivisionError" in refused.json()["error"]
    assert (await client.get("/api/v1/events")).status_code == 200  # what was written is read all the same


# --- the views, as a whole daemon has them ---------------------------------------------------------


async def test_views_in_trouble_keep_only_what_reads_them_from_being_answered(
    daemon: Daemon, client: httpx.AsyncClient
) -> None:
    daemon.parts.views._file.use(lambda c: c.execute("PRAGMA query_only = ON"))
    assert (await onboard(client)).status_code in (200, 503)  # recorded in any case; its answer reads a view
    await wait_for(lambda: of(daemon, "views").quick >= 5)  # then it counts as failed also while it tries again
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "views.db can't be read or written just now" in answer.json()["error"]
    assert daemon.loops.fault is None  # a new process would not help
    assert (await client.get("/livez")).status_code == 200
    assert "device.onboarded" in (await client.get("/api/v1/events")).text
    refused = await client.get("/api/v1/jobs")
    assert refused.status_code == 503
    assert "the views are not kept" in refused.json()["error"]
    assert "dms_ready 0.0" in (await client.get("/metrics")).text
    daemon.parts.views._file.use(lambda c: c.execute("PRAGMA query_only = OFF"))
    await wait_for(lambda: daemon.ready() is None)
    assert (await client.get("/api/v1/jobs")).status_code == 200


async def test_what_a_view_left_out_is_seen_everywhere(
    daemon: Daemon, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = daemon.services.log.head + 1
    with monkeypatch.context() as broken:
        broken.setattr(Capacity, "apply", lambda *_: 1 // 0)
        assert (await onboard(client)).status_code == 200
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    [told] = ready.json()["degraded"]
    assert told.startswith("view capacity: ")
    assert f"the first at position {position}" in told
    await daemon.parts.views.wait(daemon.services.log.head)
    views = {view["name"]: view for view in (await client.get("/api/v1/projections")).json()["items"]}
    assert views["jobs"]["left_out"] is None
    assert views["capacity"]["left_out"]["topic"] == "device.onboarded"
    assert views["capacity"]["behind"] == 0
    assert 'dms_view_left_out_events{view="jobs"} 0.0' in (await client.get("/metrics")).text
    assert (await client.post("/api/v1/projections/capacity/rebuild")).status_code == 200
    assert (await client.get("/readyz")).json()["degraded"] == []


async def test_a_damaged_file_of_views_does_not_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "views.db").write_bytes(b"noise" * 1000)
    daemon = await build(own_settings(tmp_path))
    await daemon.start()
    assert daemon.ready() is None
    assert [path.read_bytes() for path in (tmp_path / "data").glob("views.db.damaged-*")] == [b"noise" * 1000]
    await daemon.close()


async def test_a_start_that_waits_says_why_and_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "views.db").symlink_to(tmp_path / "not mounted" / "views.db")
    daemon, told = await build(own_settings(tmp_path)), asyncio.Event()
    starting = asyncio.create_task(started(daemon, told))
    await wait_for(lambda: any(loop.quick >= 5 for loop in daemon.loops))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{daemon.port}", timeout=120) as client:
        assert (await client.get("/livez")).status_code == 200
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "reading the log; views: " in answer.json()["error"]
    told.set()
    async with asyncio.timeout(120):
        assert await starting is False
    assert list(daemon.loops) == []
