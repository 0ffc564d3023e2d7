"""The websocket over real sockets: what a client sees of its jobs, and what happens to clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from dms.adapters.http import connection, deploy, fanout, sockets
from dms.adapters.http.action_frames import REFUND
from dms.adapters.http.sockets import Sockets
from dms.adapters.http.streams import Kind
from dms.application.payments.payments import Paying
from dms.application.ports.outputs import OutputLine
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.job import FundStatus, Job, JobState
from dms.domain.resources import Resources
from dms.errors import Conflict, LogCorrupt, NotFound
from tests.fixtures.histories import request
from tests.integration.http.node import Node, frames, is_last, running_node

CONNECTED = {"action": "connected", "message": "You are connected to DMS for docker (GPU/CPU) deployment."}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


def actions(found: list[dict[str, Any]]) -> list[str]:
    return [frame["action"] for frame in found]


def payment(tx_hash: str = "ab01", status: str = "success", **more: Any) -> str:
    message = {"transaction_type": "fund", "transaction_status": status, "tx_hash": tx_hash, **more}
    return json.dumps({"message": message, "action": "send-status"})


async def next_frame(ws: ClientConnection, seconds: float = 120) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        found: dict[str, Any] = msgspec.json.decode(await ws.recv())
        return found


async def closed(ws: ClientConnection, seconds: float = 120) -> tuple[int | None, str | None]:
    """The code and reason that the server closed with; what comes before is read and dropped."""
    async with asyncio.timeout(seconds):
        try:
            while True:
                await ws.recv()
        except websockets.ConnectionClosed:
            return ws.close_code, ws.close_reason


async def test_a_whole_job_in_version_1(node: Node) -> None:
    job = await node.job()
    async with node.connect(f"?job_id={job}") as ws:
        await node.submit(job)
        await node.respond(job)
        await node.print_lines(job, ("stdout", "one"), ("stderr", "two"))
        await node.complete(job)
        found = await frames(ws, is_last)
    url = f"{node.url}/api/v1/jobs/{job}/logs?token={node.services.log_token(job)}"
    assert found == [
        CONNECTED,
        {"action": "job-submitted"},
        {"action": "deployment-response", "message": {"success": True, "content": url}},
        {"action": "log-stream-response", "stdout": "one\n"},
        {"action": "log-stream-response", "stderr": "two\n"},
        {"action": "job-completed"},
    ]


async def test_send_status_funds_the_latest_request_and_the_socket_follows_it(node: Node) -> None:
    await node.job()
    job = await node.job()
    await node.follow_jobs(job)
    async with node.connect(path="/run/deploy", v2=True) as ws:
        await ws.send(payment())
        found = await frames(ws, lambda frame: frame["action"] == "job-submitted")
    assert found[-1]["job_id"] == job


async def test_a_refused_payment_is_a_job_failed_exactly_once(node: Node) -> None:
    job = await node.job()
    await node.follow_jobs(job)
    async with node.connect() as ws:
        await ws.send(payment(status="failed"))
        found = await frames(ws, is_last)
        await ws.send(payment(status="failed"))
        found.append(await next_frame(ws))
    assert actions(found) == ["connected", "job-failed", "error"]
    assert found[1]["message"] == "payment was reported as 'failed'"


async def test_pending_is_recorded_and_the_job_waits(node: Node) -> None:
    job = await node.job()
    await node.follow_jobs(job)
    async with node.connect(v2=True) as ws:
        await ws.send(payment(status="pending"))
        await ws.send(payment(job_id=job))
        found = await frames(ws, lambda frame: frame["action"] == "job-submitted")
    assert actions(found) == ["connected", "job-submitted"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("{", "invalid request data"),
        ("[]", "invalid request data"),
        ('{"action":"dance"}', "unknown action 'dance'"),
        ('{"action":"send-status"}', "message must be an object"),
        ('{"action":"send-status","message":{}}', "transaction_status"),
        (payment(tx_hash=""), "tx_hash is missing"),
        (payment(job_id="0" * 8), "no job"),
        (payment(), "no request awaits funding"),
        ('{"action":"terminate-job"}', "funded no job"),
        ('{"action":"a","ACTION":"b"}', "twice"),
        (b"\x00\x01", "binary"),
    ],
)
async def test_bad_input_is_answered_and_the_socket_stays(node: Node, sent: str | bytes, said: str) -> None:
    async with node.connect() as ws:
        assert await next_frame(ws) == CONNECTED
        for _ in range(2):
            await ws.send(sent)
            frame = await next_frame(ws)
            assert frame["action"] == "error"
            assert said in frame["message"]
    assert node.log.head == 0


async def test_a_second_socket_can_not_end_another_clients_job(node: Node) -> None:
    job = await node.job()
    await node.follow_jobs(job)
    async with node.connect(v2=True) as first:
        await first.send(payment())
        await frames(first, lambda frame: frame["action"] == "job-submitted")
        async with node.connect() as second:
            await second.send('{"action":"terminate-job"}')
            assert actions(await frames(second, lambda frame: frame["action"] == "error"))[-1] == "error"
        loaded = node.log.load(Job, job)
        assert loaded is not None
        assert loaded.open
        assert loaded.termination is None
        await first.send('{"action":"terminate-job"}')
        assert (await frames(first, is_last))[-1]["message"] == f"{deploy.TERMINATED}; {REFUND}"


async def test_core_sends_only_the_documented_actions(node: Node) -> None:
    job = await node.job()
    async with node.connect(f"?job_id={job}&actions=core") as ws:
        await ws.send("{")
        await node.submit(job)
        await node.respond(job)
        await node.print_lines(job, ("stdout", "x"))
        await node.fail(job, "broken")
        assert actions(await frames(ws, is_last)) == ["job-submitted", "deployment-response", "job-failed"]


async def test_a_job_that_is_over_tells_its_end_to_who_comes_without_a_position(node: Node) -> None:
    job = await finished_job(node, lines=3)
    async with node.connect(f"?job_id={job}") as ws:
        assert await frames(ws, is_last) == [CONNECTED, {"action": "job-completed"}]


async def test_of_jobs_that_are_over_a_long_lived_socket_keeps_nothing_but_some_ids(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "MOST_OVER", 2)
    jobs = [await node.job() for _ in range(3)]
    await node.follow_jobs(*jobs)
    async with node.connect(v2=True) as ws:
        for number, job in enumerate(jobs):
            await ws.send(payment(f"ab0{number}", job_id=job))
            await frames(ws, lambda frame: frame["action"] == "job-submitted")
            await node.fail(job, "broken")
            assert (await frames(ws, is_last))[-1]["job_id"] == job
        await until(lambda: not node.app.ctx.hub._streams)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("follower of job")]
        await ws.send('{"action":"terminate-job"}')
        told = (await frames(ws, lambda frame: frame["action"] == "error"))[-1]["message"]
        assert told == f"job {jobs[1]}, {jobs[2]} is over"


async def test_a_version_1_socket_is_closed_when_all_is_said(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "LINGER_SECONDS", 0.1)
    job = await finished_job(node, lines=1)
    async with node.connect(f"?job_id={job}&after=0") as ws:
        assert await closed(ws) == (1000, "all jobs are over")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?job_id={job}&after=99999", 400),
        ("?job_id={job}&after=-1", 400),
        ("?job_id={job}&after=1x", 400),
        ("?job_id={job}&after=0&log_after=5", 400),
        ("?after=0", 400),
        ("?actions=some", 400),
        ("?job_id={job}&job_id={job}", 400),
        ("?job_id=01900000-0000-7000-8000-000000000000", 404),
        ("?job_id=../../etc", 404),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_before_the_upgrade(node: Node, query: str, status: int) -> None:
    job = await node.job()
    with pytest.raises(websockets.InvalidStatus) as refused:
        await node.connect(query.format(job=job))
    assert refused.value.response.status_code == status
    assert msgspec.json.decode(refused.value.response.body)["status"] == status


async def test_limits_of_what_a_client_may_send(node: Node) -> None:
    async with node.connect() as ws:
        await ws.send("x" * 70_000)
        assert (await closed(ws))[0] == 1009
    async with node.connect() as ws:
        with suppress(websockets.ConnectionClosed):
            for _ in range(200):
                await ws.send("{}")
        assert (await closed(ws))[0] == 1008
    async with node.connect() as ws:
        await ws.send(b"\xff\xfe", text=True)
        assert (await closed(ws))[0] == 1007
    async with node.connect() as ws:
        await ws.send(iter(['{"action"', ':"dance"}']))  # fragments are one message
        assert (await frames(ws, lambda frame: frame["action"] == "error"))[-1]["action"] == "error"


async def test_closing_the_server_says_goodbye(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        ws = await node.connect()
    assert (await closed(ws))[0] == 1001


async def test_a_client_that_vanishes_leaves_nothing(node: Node) -> None:
    job = await node.job()
    endpoint, places = sockets_of(node), node.app.ctx.live.api.streams
    ws = await node.connect(f"?job_id={job}")
    await next_frame(ws)
    ws.transport.abort()
    await until(lambda: not endpoint._open and not node.app.ctx.hub._streams and not places.open(Kind.SOCKET))


async def test_a_client_that_answers_no_ping_is_cut(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PING_SECONDS", 0.05)
    endpoint = sockets_of(node)
    assert endpoint._sweeping is not None
    await endpoint._sweeping.close()
    endpoint.start()
    live = await node.connect()
    await until(lambda: len(endpoint._open) == 1)
    (answers,) = endpoint._open
    dead = raw_websocket(node, "/run/deploy")
    await until(lambda: len(endpoint._open) == 2)
    (is_silent,) = endpoint._open - {answers}
    begun = is_silent.heard_at
    await until(lambda: answers.heard_at > begun + 0.2)
    assert is_silent.heard_at == begun
    is_silent.heard_at -= sockets.SILENT_SECONDS  # as if the time had passed for it alone
    await until(lambda: endpoint._open == {answers})
    await asyncio.wait_for(await live.ping(), 120)
    await live.close()
    dead.close()


async def test_a_stream_that_fails_tells_its_clients_and_the_next_one_works(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends the task that feeds a socket, the client hears of it and can go on where it was."""
    job = await node.job()
    async with node.connect(f"?job_id={job}", v2=True) as ws:
        await next_frame(ws)
        await node.submit(job)
        submitted = await next_frame(ws)
        with monkeypatch.context() as broken:
            broken.setattr(fanout.JobStream, "_line_frames", lambda *_: 1 // 0)
            await node.print_lines(job, ("stdout", "a line"))
            told = await next_frame(ws)
            assert told["action"] == "error"
            assert "can't be followed: internal error" in told["message"]
            position = submitted["position"]
            assert await closed(ws) == (1011, f"the stream failed; resume with after={position}&log_after=1")
    assert [r.getMessage() for r in caplog.records if r.exc_info] == [f"stream of job {job}: unexpected error"]
    async with node.connect(f"?job_id={job}&after={position}", v2=True) as ws:
        await next_frame(ws)
        assert (await next_frame(ws))["stdout"] == "a line\n"
        await node.respond(job)
        assert (await next_frame(ws))["action"] == "deployment-response"
        await node.complete(job)
        assert (await next_frame(ws))["action"] == "job-completed"


async def test_a_stream_that_can_not_begin_tells_who_comes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await node.job()

    async def damaged(_job_id: str) -> int:
        raise LogCorrupt("the output of the job is damaged")

    async with node.connect() as ws:
        await next_frame(ws)
        monkeypatch.setattr(node.outputs, "last", damaged)
        await ws.send(payment(job_id=job))
        told = await frames(ws, lambda frame: frame["action"] == "error")
        assert told[-1]["message"] == "the job's stream can't be read: the output of the job is damaged"
        assert await closed(ws) == (1013, "the job's stream can't be read now; come back and resume")


async def test_an_absurd_time_of_an_old_line_silences_nobody(node: Node) -> None:
    job = await node.job()
    await node.outputs.append(job, [OutputLine("stdout", 10**30, "late"), OutputLine("stdout", -(10**30), "early")])
    async with node.connect(f"?job_id={job}&after=0", v2=True) as ws:
        found = await frames(ws, lambda frame: frame.get("stdout") == "early\n")
    assert [frame["time"][:4] for frame in found[-2:]] == ["2262", "1970"]  # the ends of what is shown


@pytest.mark.slow
async def test_a_reader_that_stops_is_let_go_and_slows_nobody(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "MAX_UNSENT_BYTES", 200_000)
    for name in ("CLOSE_SECONDS", "STUCK_SECONDS"):
        monkeypatch.setattr(connection, name, 600.0)  # who waited for it would be too late for the other one
    job = await node.job()
    stuck = raw_websocket(node, f"/run/deploy?job_id={job}", buffer=4096)
    text = "x" * 1000
    async with node.connect(f"?job_id={job}", v2=True) as ws:
        await next_frame(ws)
        await until(lambda: any(len(stream._followers) == 2 for stream in node.app.ctx.hub._streams.values()))
        received = 0
        for _ in range(100):
            await node.print_lines(job, *[("stdout", text)] * 50)
            for _ in range(50):
                received = (await next_frame(ws))["seq"]
        assert received == 5000
        assert [len(stream._followers) for stream in node.app.ctx.hub._streams.values()] == [1]
    await asyncio.to_thread(read_until, stuck, b"\x03\xf5too slow; resume with after=")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
async def test_every_action_and_line_exactly_once_over_any_cuts(node: Node, seed: int) -> None:
    """Clients are cut at random points while the job goes on, and resume with after and log_after."""
    rng = random.Random(seed)
    job = await node.job()
    total = 2000

    async def live() -> None:
        await node.submit(job)
        await node.respond(job)
        written = 0
        while written < total:
            count = min(rng.randint(1, 60), total - written)
            batch = [(rng.choice(["stdout", "stderr"]), f"line {written + n + 1}") for n in range(count)]
            await node.print_lines(job, *batch)
            written += count
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
        await node.complete(job)

    async def client(seed: int) -> tuple[list[str], list[int]]:
        cuts = random.Random(seed)
        seen_actions: list[str] = []
        seqs: list[int] = []
        after = 0
        while not seen_actions or seen_actions[-1] != "job-completed":
            query = f"?job_id={job}&after={after}&log_after={seqs[-1] if seqs else 0}"
            ws = await node.connect(query, v2=True)
            for _ in range(cuts.randint(1, 400)):
                frame = await next_frame(ws)
                if frame["action"] == "log-stream-response":
                    assert frame.get("stdout", frame.get("stderr")) == f"line {frame['seq']}\n"
                    seqs.append(frame["seq"])
                elif frame["action"] != "connected":
                    seen_actions.append(frame["action"])
                    after = frame["position"]
                    if frame["action"] == "job-completed":
                        break
            ws.transport.abort()
        return seen_actions, seqs

    async with asyncio.timeout(400), asyncio.TaskGroup() as group:
        clients = [group.create_task(client(seed * 100 + n)) for n in range(4)]
        group.create_task(live())
    for seen_actions, seqs in (task.result() for task in clients):
        assert seen_actions == ["job-submitted", "deployment-response", "job-completed"]
        assert seqs == list(range(1, total + 1))


async def test_a_version_1_replay_has_the_whole_output_before_the_end(node: Node) -> None:
    job = await finished_job(node, lines=3000)
    async with node.connect(f"?job_id={job}&after=0") as ws:
        found = await frames(ws, is_last)
    text = "".join(frame["stdout"] for frame in found if frame["action"] == "log-stream-response")
    assert text == "".join(f"line {n}\n" for n in range(1, 3001))
    assert len(found) < 100


async def test_a_line_arrives_soon(node: Node) -> None:
    job = await node.job()
    async with node.connect(f"?job_id={job}", v2=True) as ws:
        await next_frame(ws)
        took = []
        for _ in range(20):
            begun = time.monotonic()
            await node.print_lines(job, ("stdout", "x"))
            await next_frame(ws)
            took.append(time.monotonic() - begun)
    assert min(took) < 1, took  # a busy machine holds up some


# --- helpers -------------------------------------------------------------------------------------------
async def finished_job(node: Node, lines: int) -> str:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, *[("stdout", f"line {n}") for n in range(1, lines + 1)])
    await node.complete(job)
    return job


def sockets_of(node: Node) -> Sockets:
    found = node.app.ctx.sockets
    assert isinstance(found, Sockets)
    return found


async def until(condition: Any, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def raw_websocket(node: Node, target: str, buffer: int = 0) -> socket.socket:
    """A client that upgrades, and then neither reads nor answers."""
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.connect(("127.0.0.1", node.port))
    sock.sendall(
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return sock


def read_until(sock: socket.socket, words: bytes) -> None:
    """Closes it once they have come."""
    sock.settimeout(120)
    tail = b""
    with sock:
        while words not in tail:
            data = sock.recv(65536)
            assert data, tail
            tail = (tail + data)[-4096:]


async def test_a_payment_that_is_reported_again_stays_with_its_job_while_that_is_open(node: Node) -> None:
    """As old clients do when their first socket breaks: a newer request must not be lost on it."""
    provider = node.services.service_provider
    status = FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab02")
    first = await node.job()
    await provider.report_fund_status(status, first)
    second = await node.job()
    assert await provider.report_fund_status(status) == first, "it is being looked up"
    paying, job = Paying(node.log, "ab02", first), node.log.load(Job, first)
    assert job is not None
    paying.use()
    job.accept_funding("trust")
    await node.log.save(job, paying.payment)
    with suppress(Conflict):
        assert await provider.report_fund_status(status) == first, "it runs"
    awaiting = node.log.load(Job, second)
    assert awaiting is not None
    assert awaiting.state is JobState.AWAITING
    await node.fail(first, "the provider is away")
    assert await provider.report_fund_status(status) == second


async def test_what_a_peer_paid_with_is_unknown_to_who_reports_it(node: Node) -> None:
    """A deployment's id must not be told: it would be enough to ask for its next attempt."""
    deployment = Deployment(new_id())
    deployment.ask("12D3KooWPeer", request(tx_hash="ab03"), "1")
    paying = Paying(node.log, "ab03", deployment.key, "12D3KooWPeer")
    paying.use()
    deployment.grant(Resources(), ())
    await node.log.save(deployment, paying.payment)
    status = FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab03")
    with pytest.raises(NotFound) as told:
        await node.services.service_provider.report_fund_status(status)
    assert deployment.key not in str(told.value)
    assert await node.services.service_provider.report_fund_status(status, await node.job())
