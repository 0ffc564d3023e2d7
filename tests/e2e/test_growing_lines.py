"""A progress bar, from the job's provider to who watches it: as it is drawn, and its line once, whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import websockets

from tests.fixtures.dms import Dms, pair, payment, request_body

pytestmark = pytest.mark.slow
BAR = r"printf '10%%\r'; while [ ! -e go ]; do sleep 0.05; done; printf '99%%'; sleep 1; printf '\rdone\n'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dmses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Dms, Dms]]:
    settings = {"job__executor": "process", "job__allow_process_for_peers": "true"}
    async with pair(tmp_path_factory.mktemp("pair"), **settings) as both:
        yield both


async def frames_of(sp: Dms, job_id: str, query: str, seen: asyncio.Event) -> list[dict[str, Any]]:
    """Until the end; seen: set with the first frame of a line that grows."""
    url = f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy?job_id={job_id}&after=0{query}"
    found: list[dict[str, Any]] = []
    protocols = [websockets.Subprotocol("dms.actions.v2")]
    async with websockets.connect(url, subprotocols=protocols, open_timeout=120) as socket:
        async for text in socket:
            found.append(json.loads(text))
            if found[-1]["action"] == "log-progress":
                seen.set()
            if found[-1]["action"] in ("job-completed", "job-failed"):
                return found
    raise AssertionError("the socket was closed before the end")


def go(cp: Dms, job_id: str) -> None:
    work = cp.folder / "processes" / job_id / "work"
    (work / "go").touch()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_progress_bar_is_seen_while_it_is_drawn_and_by_who_asked_for_it_alone(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    quote = await sp.post("/run/request-service", request_body(BAR))
    job_id, seen = quote["job_id"], asyncio.Event()
    watching = asyncio.create_task(frames_of(sp, job_id, "&progress=true", seen))
    plain = asyncio.create_task(frames_of(sp, job_id, "", asyncio.Event()))
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment(f"tx-{job_id}", job_id))
        async with asyncio.timeout(120):
            await seen.wait()
            while not (samples := (await cp.get(f"/deployments/{job_id}/usage"))["samples"]):
                await asyncio.sleep(0.05)
            go(cp, job_id)
            watched, told = await watching, await plain
    assert (samples[0]["cpu_cores"], samples[0]["gpus"]) == (None, [])  # the first look has nothing to compare with
    assert samples[0]["memory_mb"] >= 0
    growing = [frame for frame in watched if frame["action"] == "log-progress"]
    assert {(frame["stream"], frame["job_id"]) for frame in growing} == {("stdout", job_id)}
    assert growing[0]["text"] == "10%"
    assert all(set(frame) == {"action", "job_id", "stream", "text"} for frame in growing)
    assert [frame["action"] for frame in told if frame["action"] == "log-progress"] == []
    for frames in (watched, told):
        lines = [frame["stdout"] for frame in frames if frame["action"] == "log-stream-response"]
        assert lines == ["10%\r99%\rdone\n"]
        assert frames[-1]["action"] == "job-completed"
