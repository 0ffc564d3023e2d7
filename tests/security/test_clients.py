"""Clients with tokens of their own: each sees and steers its own jobs alone, and has its share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

import msgspec
import pytest
import websockets

from dms.config import Rest
from dms.domain.access import Caller, Need
from dms.domain.api_token import Role
from dms.domain.deployment import Fault
from dms.domain.event import Recorded, new_id
from dms.domain.job import FundStatus, Job
from dms.domain.payment import Payment, payment_key
from dms.errors import NotFound, TooMany
from tests.fixtures.other_users import Answer, ask
from tests.integration.http.node import PROVIDER, REQUEST, now_us, running_node
from tests.security.access_world import ALL_ROUTES, API, World, filled, world

__all__ = ["world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_client_sees_nothing_of_the_jobs_of_others(world: World) -> None:
    seen_by = Caller(role=Role.SPD, client="team-b")
    foreign = [world.jobs["team-a"], world.jobs[""]]
    for route in (r for r in ALL_ROUTES if r.method == "GET" and seen_by.meets(r.needs) and r.needs != Need.NOTHING):
        for job_id in foreign:
            answer = await world.ask("team-b", "GET", filled(route.address, job_id))
            if "<job_id>" in route.address:
                assert answer.status == 404, (route.address, answer.body)
            else:
                assert job_id.encode() not in answer.body, route.address
    jobs = (await world.ask("team-b", "GET", f"{API}/jobs")).json["items"]
    assert [job["job_id"] for job in jobs] == [world.jobs["team-b"]]
    assert (await world.ask("team-b", "GET", f"{API}/jobs/summary")).json["total"] == 1
    assert (await world.ask("team-b", "GET", f"{API}/jobs?role=cp")).json["items"] == []


async def test_a_providers_token_knows_nothing_of_what_this_node_paid_for(world: World) -> None:
    job = Job(new_id())
    job.request_service(REQUEST, PROVIDER, "0.1", now_us() + 600_000_000, (), 0)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash=token_hex(32)))
    job.accept_funding("trust")
    job.fail("the provider went away", Fault.PROVIDER)
    paid = Payment(payment_key(job.tx_hash))
    paid.use(job.key)
    await world.node.log.save(job, paid)
    path, body = f"{API}/transactions", {"tx_hash": job.tx_hash, "transaction_status": "success"}

    def listed(answer: Answer) -> set[str]:
        return {one["job_id"] for one in answer.json}

    async with asyncio.timeout(60):
        while job.key not in listed(await world.ask("ops", "GET", path)):
            await asyncio.sleep(0.01)
    assert listed(await world.ask("machine", "GET", f"{path}?clean_tx=refund")) == set()
    earned = (await world.ask("machine", "GET", f"{API}/earnings?by=job")).json
    assert (earned["items"], earned["total"]["spent_ntx"]) == ([], "0")
    assert (await world.ask("machine", "POST", f"{path}/request-reward", {"tx_hash": job.tx_hash})).status == 404
    assert (await world.ask("machine", "POST", f"{path}/send-status", body)).status == 404
    assert (await world.ask("machine", "POST", "/api/v1/run/send-status", body)).status == 404
    assert job.key in listed(await world.ask("ops", "GET", path))
    kept = world.node.log.load(Job, job.key)
    assert kept is not None
    assert not kept.settled
    assert (await world.ask("ops", "POST", f"{path}/request-reward", {"tx_hash": job.tx_hash})).status == 200


async def test_a_checkpoint_is_downloaded_by_whom_its_list_shows_it_alone(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        world = World(node)
        await world.make()
        folder, content = tmp_path / "received_checkpoints", token_hex(500_000).encode()
        names = {client: f"{job_id}.tar.gz" for client, job_id in world.jobs.items()}
        for name in (*names.values(), "placed.tar.gz"):
            (folder / name).write_bytes(content)
        for client in ("ops", "machine", "auditor", "team-a", "team-b"):
            listed = {one["filename_path"] for one in (await world.ask(client, "GET", f"{API}/run/checkpoints")).json}
            for name in (*names.values(), "placed.tar.gz"):
                answer = await world.ask(client, "GET", f"{API}/run/checkpoints/{name}")
                assert answer.status == (200 if name in listed else 404), (client, name)
        assert (await world.ask("", "GET", f"{API}/run/checkpoints/{names['']}")).status == 401
        path = f"{API}/run/checkpoints/{names['team-a']}"
        async with node.client(headers={"authorization": f"Bearer {world.tokens['team-a']}"}) as own:
            whole = await own.get(path)
            assert whole.content == content
            assert whole.headers["content-disposition"] == f"attachment; filename*=UTF-8''{names['team-a']}"
            part = {"range": "bytes=10-19", "if-range": whole.headers["etag"]}
            assert (await own.get(path, headers=part)).content == content[10:20]
            assert (await own.head(path)).headers["content-length"] == str(len(content))
            (folder / "newer").write_bytes(content[::-1])
            (folder / "newer").replace(folder / names["team-a"])
            assert (await own.get(path, headers=part)).content == content[::-1], "it is another one"


async def test_nothing_but_received_checkpoints_is_downloaded(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        world, folder = World(node), tmp_path / "received_checkpoints"
        await world.make()
        (tmp_path / "else.tar.gz").write_bytes(b"x")
        (folder / "link.tar.gz").symlink_to(tmp_path / "else.tar.gz")
        os.mkfifo(folder / "pipe.tar.gz")
        (folder / "folder.tar.gz").mkdir()
        (folder / "foreign.tar.gz").write_bytes(b"x")
        os.chown(folder / "foreign.tar.gz", 65534, 65534)
        for name in (
            "missing.tar.gz", "link.tar.gz", "pipe.tar.gz", "folder.tar.gz", "foreign.tar.gz", "../else.tar.gz",
            "..%2felse.tar.gz", "%2e%2e/else.tar.gz", "..", ".", "%00.tar.gz", f"{'a' * 5000}.tar.gz",
            str(tmp_path / "else.tar.gz"), quote(str(tmp_path / "else.tar.gz"), safe=""), "events.db",
        ):  # fmt: skip
            for client in ("ops", "team-a"):
                answer = await world.ask(client, "GET", f"{API}/run/checkpoints/{name}")
                assert answer.status in (400, 404), (client, name, answer.body)


async def test_a_client_steers_no_job_of_another(world: World) -> None:
    head, theirs = world.node.log.head, world.jobs["team-a"]
    assert (await world.ask("team-b", "POST", f"{API}/jobs/{theirs}/stop", {})).status == 404
    told = (await world.ask("team-b", "POST", f"{API}/jobs/stop", {"job_ids": [theirs]})).json["jobs"]
    assert [one["outcome"] for one in told] == ["unknown"]
    async with world.connect("team-b", "/api/v1/run/deploy") as talk:
        await talk.recv()
        for message in (
            {"action": "terminate-job", "message": {"job_id": theirs}},
            {"action": "send-status", "message": {"transaction_status": "success", "tx_hash": "1", "job_id": theirs}},
        ):
            await talk.send(msgspec.json.encode(message).decode())
            assert "no job" in str(await talk.recv())
    with pytest.raises(websockets.InvalidStatus) as refused:
        await world.connect("team-b", f"/api/v1/run/deploy?job_id={theirs}")
    assert refused.value.response.status_code == 404
    assert world.node.log.head == head


async def test_the_events_of_a_client_are_those_of_its_jobs(world: World) -> None:
    mine, theirs = world.jobs["team-b"], world.jobs["team-a"]
    for path, first in (("/api/v1/events/ws?after=0&follow=false", None),
                        ("/api/v1/live/ws", {"subscribe": "events", "id": "all", "after": 0})):  # fmt: skip
        async with world.connect("team-b", path) as stream:
            if first is not None:
                await stream.send(msgspec.json.encode(first).decode())
            heard = ""
            try:
                async with asyncio.timeout(120):
                    while '"caught_up"' not in heard:
                        heard += str(await stream.recv())
            except websockets.ConnectionClosedOK:
                pass
        assert mine in heard, path
        assert theirs not in heard, path
        assert "token.created" not in heard, path


async def test_how_many_events_there_were_when_is_told_of_a_clients_own_jobs_alone(world: World) -> None:
    """That is of those which its events are of, by position and by number."""
    await world.job("team-b")
    await world.job("team-a")
    events = await world.node.log.read(0, 10_000)
    for client in ("team-b", "team-a", "auditor"):
        of = {job.key for job in _jobs_of(world, events, client)} if client != "auditor" else {e.key for e in events}
        seen = [event.position for event in events if event.key in of]
        found = (await world.ask(client, "GET", f"{API}/events/density?buckets=1000")).json
        told = [bucket for bucket in found["buckets"] if bucket["count"]]
        assert sum(bucket["count"] for bucket in told) == len(seen) > 0
        assert {bucket["position"] for bucket in told} <= set(seen)
        assert (found["first_position"], found["head"]) == (seen[0], world.node.log.head)
        assert len(found["buckets"]) <= 1000
    nothing = (await world.ask("machine", "GET", f"{API}/events/density")).json
    assert (nothing["buckets"], nothing["first_position"], nothing["last_time"]) == ([], 0, None)


def _jobs_of(world: World, events: Sequence[Recorded], client: str) -> Iterator[Job]:
    for key in {event.key for event in events if event.kind == Job.KIND}:
        job = world.node.log.load(Job, key)
        if job is not None and job.client == client:
            yield job


async def test_output_of_anothers_job_and_the_machines_usage_are_no_clients(world: World) -> None:
    async with world.connect("team-b", "/api/v1/live/ws") as live:
        await live.recv()
        for asked in (
            {"subscribe": "output", "id": "o", "job_id": world.jobs["team-a"]},
            {"subscribe": "usage", "id": "u"},
        ):
            await live.send(msgspec.json.encode(asked).decode())
            while '"error"' not in (told := str(await live.recv())):
                continue
            assert '"status":40' in told, told


async def test_a_payment_without_a_job_funds_only_a_job_of_the_same_client(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        world = World(node)
        theirs, older = await world.job("team-a"), await world.job("")
        provider, paid = node.services.service_provider, FundStatus(
            transaction_type="fund", transaction_status="success", tx_hash="ab01"
        )  # fmt: skip
        with pytest.raises(NotFound, match="no request awaits funding"):
            await provider.report_fund_status(paid, client="team-b")
        mine = await world.job("team-b")
        newest = await world.job("team-a")
        assert await provider.report_fund_status(paid, client="team-b") == mine
        assert await provider.report_fund_status(paid, client="team-b") == mine, "it is reported again"
        another = msgspec.structs.replace(paid, tx_hash="ab04")
        with pytest.raises(NotFound):
            await provider.report_fund_status(another, client="team-b")
        assert await provider.report_fund_status(msgspec.structs.replace(paid, tx_hash="ab02")) == older
        again = msgspec.structs.replace(paid, tx_hash="ab03")
        assert await provider.report_fund_status(again, client="team-a") == newest
        assert newest != theirs


# --- limits ------------------------------------------------------------------------------------------
async def test_each_client_has_its_share_and_no_more(tmp_path: Path) -> None:
    async with running_node(tmp_path, Rest(requests_a_minute=20, max_sockets=1, max_unpaid_jobs=1)) as node:
        world = World(node)
        await world.make()
        async with world.connect("team-a", "/api/v1/live/ws"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await world.connect("team-a", "/api/v1/live/ws")
            assert refused.value.response.status_code == 429
            async with world.connect("team-b", "/api/v1/live/ws"):
                pass
        with pytest.raises(TooMany, match="await their payment"):
            await node.services.service_provider.request_service(REQUEST, client="team-a")
        statuses = [(await world.ask("team-a", "GET", f"{API}/session")).status for _ in range(25)]
        assert 429 in statuses
        assert (await world.ask("team-b", "GET", f"{API}/session")).status == 200
        guesses = [
            await ask(world.address, "GET", f"{API}/session", headers={"authorization": "Bearer x"}) for _ in range(25)
        ]
        assert {guess.status for guess in guesses} == {401, 429}
        async with node.client() as operator:
            assert {(await operator.get(f"{API}/session")).status_code for _ in range(25)} == {200}
