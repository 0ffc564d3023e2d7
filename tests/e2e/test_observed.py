"""One job, seen from outside: its trace in a collector, its events on NATS, its figures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.fixtures.collector import collecting
from tests.fixtures.dms import Follower, pair, payment, request_body
from tests.fixtures.nats import NatsServer, stored
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


async def test_a_job_is_one_trace_and_all_of_its_events_are_on_nats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = NatsServer(tmp_path / "nats")
    server.start()
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        try:
            async with pair(tmp_path, nats__url=server.url) as (sp, cp):
                async with httpx.AsyncClient(timeout=120, headers=HEADERS) as client:
                    body = request_body("echo hello")
                    asked = await client.post(f"{sp.url}/api/v1/run/request-service", json=body)
                    job_id = asked.json()["job_id"]
                    follower = Follower(sp, job_id)
                    await sp_pays(sp.url, job_id)
                    await follower.until_over()
                    assert follower.names[-1] == "job-completed"
                    await wait_for(lambda: {"job", "deployment"} <= set(collector.spans()), 120)
                    figures = (await client.get(f"{sp.url}/metrics")).text
                assert 'dms_jobs_ended_total{outcome="completed",role="service provider"} 1.0' in figures
                assert 'dms_relay_state{state="connected"} 1.0' in figures
                heads = {(await node.get("/peers/self"))["ID"]: node.head() for node in (sp, cp)}
                await everything_arrived(server, heads)
        finally:
            server.kill9()
    found = collector.spans()
    assert {span.trace_id.hex() for _, span in found.values()} == {TRACE}
    assert found["job"][1].parent_span_id.hex() == CALLER
    assert found["deployment"][1].parent_span_id == found["deploy"][1].span_id
    assert found["run container"][1].parent_span_id == found["deployment"][1].span_id
    sp_id, cp_id = heads
    assert (found["job"][0], found["deployment"][0]) == (sp_id, cp_id)


async def sp_pays(url: str, job_id: str) -> None:
    import websockets

    async with websockets.connect(f"{url.replace('http', 'ws')}/api/v1/run/deploy?job_id={job_id}") as socket:
        await socket.send(payment("tx-observed", job_id))
        async with asyncio.timeout(120):
            while '"job-submitted"' not in str(await socket.recv()):
                pass


async def everything_arrived(server: NatsServer, heads: dict[str, int]) -> None:
    """Each DMS's events up to that position, once and in order (more may have followed)."""
    async with asyncio.timeout(120):
        while True:
            messages = await stored(server)
            seen = {peer: [m["position"] for m in messages if m["source"].endswith(peer)] for peer in heads}
            if all(len(seen[peer]) >= head for peer, head in heads.items()):
                break
            await asyncio.sleep(0.1)
    for positions in seen.values():
        assert positions == list(range(1, len(positions) + 1))
