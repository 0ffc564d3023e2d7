"""What a job was asked for with, to be sent again; and whether its record verifies, told in words."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from dms.adapters.p2p.identity import Identity
from dms.application.jobs.job_outputs import JobOutputs
from dms.application.ports.outputs import StoredOutput
from dms.application.records import verification
from dms.application.records.verification import JobVerifier
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.heads import Countersignature, countersign, sign_head
from dms.domain.job import Job
from dms.domain.request import Params
from tests.fixtures.histories import Author, submitted_job
from tests.integration.http.node import ADDRESS, PROVIDER, REQUEST, Node, now_us, running_node

API = "/api/v1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def got(node: Node, path: str) -> tuple[int, Any]:
    async with node.client() as client:
        answer = await client.get(f"{API}/jobs/{path}")
        return answer.status_code, answer.json()


# --- what was asked for ----------------------------------------------------------------------------
async def asked(node: Node, **params: Any) -> str:
    job = Job(new_id())
    wanted = replace(REQUEST, params=Params(**params), tx_hash="0xAB", address_user=ADDRESS)
    job.request_service(wanted, PROVIDER, "0.1", now_us() + 600_000_000, (), 0)
    await node.log.save(job)
    return job.key


async def test_a_request_can_be_sent_again_without_secrets_and_payment(node: Node) -> None:
    secret = node.log.seal("scope", "hunter2", "environment")
    job = await asked(node, image_id="test/image", arguments=("a", "b"), env={"LEVEL": "1"}, secret_env={"KEY": secret})
    status, found = await got(node, f"{job}/request?personal=true")
    assert (status, found["job_id"], found["secrets"], found["left_out"]) == (200, job, ["KEY"], [])
    assert found["request"]["params"] == {"image_id": "test/image", "arguments": ["a", "b"], "env": {"LEVEL": "1"}}
    assert (found["request"]["address_user"], "tx_hash" in found["request"]) == (ADDRESS, False)
    async with node.client() as client:
        again = await client.post(f"{API}/run/request-service", json=found["request"])
        assert again.status_code == 404, f"it was not understood as it is: {again.text}"


async def test_what_tells_of_a_person_comes_only_when_it_is_asked_for(node: Node) -> None:
    job = await asked(node, image_id="test/image", arguments=("mine",), secret_env={"KEY": "x"})
    status, found = await got(node, f"{job}/request")
    assert (status, found["request"]["params"], found["secrets"]) == (200, {}, [])
    assert found["left_out"] == ["/address_user", "/params/image_id", "/params/arguments", "/params/secret_env"]
    assert found["request"]["constraints"]["cpu"] == 500


async def test_what_can_not_be_asked_again_says_why(node: Node) -> None:
    job = await node.job()
    await node.fail(job, "it was")
    await node.erase(job)
    status, found = await got(node, f"{job}/request?personal=true")
    assert (status, "was erased" in found["error"]) == (409, True)
    assert (await got(node, f"{new_id()}/request"))[0] == 404
    deployment = Deployment(new_id())
    deployment.trigger(Deployment.Requested(service_provider="12D3KooWRequester", request=REQUEST, price="0.1"))
    await node.log.save(deployment)
    status, found = await got(node, f"{deployment.key}/request")
    assert (status, "only its requester" in found["error"]) == (409, True)


# --- whether the record verifies -------------------------------------------------------------------
async def reported(node: Node) -> tuple[str, Author]:
    """A job that its provider began, and signed so."""
    author = Author()
    job = submitted_job(provider=author.peer_id)
    await node.log.save(job)
    begun = Deployment.Requested(service_provider=node.services.network.peer_id, request=REQUEST, price="0.02728")
    for event in (begun, Deployment.Accepted(reserved=REQUEST.resources)):
        job.report_from_provider(author.record(job.key, event), event)
    await node.log.save(job)
    return job.key, author


async def verified(node: Node, job: str) -> tuple[str, dict[str, tuple[str, str]]]:
    status, found = await got(node, f"{job}/verification")
    assert status == 200
    return found["result"], {check["name"]: (check["result"], check["detail"]) for check in found["checks"]}


def results(checks: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: result for name, (result, _) in checks.items()}


async def test_a_running_job_s_record_verifies_as_far_as_it_goes(node: Node) -> None:
    job, _ = await reported(node)
    result, checks = await verified(node, job)
    assert result == "open"
    assert results(checks) == {"history": "verified", "provider": "verified", "output": "open", "witnesses": "open"}
    assert checks["provider"][1].startswith("2 records")
    assert (await got(node, f"{new_id()}/verification"))[0] == 404


async def test_an_output_that_was_changed_is_told(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, ("stdout", "one"), ("stdout", "two"))
    await node.complete(job)
    assert results((await verified(node, job))[1])["output"] == "verified"
    path = node.services.database_path.with_name("logs") / f"{job}.ndjson"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"two", b"ten"))
    result, checks = await verified(node, job)
    assert (result, checks["output"][0], "were sealed" in checks["output"][1]) == ("wrong", "wrong", True)


async def test_an_output_that_is_sealed_during_the_look_is_not_taken_for_what_it_was_before(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, ("stdout", "one"))

    class Sealed(JobOutputs):
        looks = 0

        async def about(self, job_id: str) -> StoredOutput:
            found = await super().about(job_id)
            self.looks += 1
            if self.looks == 1:
                await node.complete(job)
                path = node.services.database_path.with_name("logs") / f"{job}.ndjson"
                path.chmod(0o600)
                path.write_bytes(path.read_bytes().replace(b"one", b"two"))
            return found

    outputs = Sealed(node.log, node.services.outputs.store)
    found = await JobVerifier(node.log, outputs, node.services.signer, tuple, now_us).of(job)
    assert {check.name: check.result for check in found.checks}["output"] == "wrong"


def changed(node: Node, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(node.services.database_path)) as connection, connection:
        connection.execute(statement, values)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE event SET time = time + 1 WHERE position = ?", "position 2 (job.fund_status_reported) was changed"),
        ("UPDATE event SET data = '{}' WHERE position = ?", "position 2"),
        ("UPDATE event SET hash = zeroblob(32) WHERE position = ?", "position 2"),
    ],
)
async def test_a_record_that_was_changed_is_told(node: Node, statement: str, says: str) -> None:
    job, _ = await reported(node)
    changed(node, statement, 2)
    result, checks = await verified(node, job)
    assert (result, checks["history"][0]) == ("wrong", "wrong")
    assert says in checks["history"][1]


async def test_the_record_is_looked_at_again_only_when_something_of_the_job_changed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, author = await reported(node)
    first = (await got(node, f"{job}/verification"))[1]
    await node.job()
    assert (await got(node, f"{job}/verification"))[1] == first, "also when it was looked at"
    one = node.log.load(Job, job)
    assert one is not None
    event = Deployment.ContainerCreated(container_id="c", executor="docker")
    one.report_from_provider(author.record(job, event), event)
    await node.log.save(one)
    second = (await got(node, f"{job}/verification"))[1]
    assert second["events"] > first["events"]
    monkeypatch.setattr(verification, "FRESH_US", 0)
    assert (await got(node, f"{job}/verification"))[1]["checked_at"] > second["checked_at"]


async def test_of_very_many_events_it_is_said_that_they_are_not_looked_at(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = await reported(node)
    monkeypatch.setattr(verification, "MOST_EVENTS", 3)
    result, checks = await verified(node, job)
    assert (result, "nunet audit verify" in checks["history"][1]) == ("open", True)


async def test_what_peers_have_signed_is_held_against_the_log(node: Node) -> None:
    job, _ = await reported(node)
    peer, own = Identity.generate(), node.services.signer
    head, heads = node.log.head, list[Countersignature]()

    def signed(position: int, link: bytes) -> Countersignature:
        said = sign_head(own.peer_id, position, link, time.time_ns() // 1000, own.sign)
        return countersign(said, peer.peer_id, time.time_ns() // 1000, peer.sign)

    async def witnessed(*found: Countersignature) -> tuple[str, str]:
        heads[:] = found
        checks = (await verifier.of(job)).checks
        return next((str(check.result), check.detail) for check in checks if check.name == "witnesses")

    def kept() -> Sequence[Countersignature]:
        return heads

    verifier = JobVerifier(node.log, node.services.outputs, own, kept, now_us)
    await node.job()
    link = node.log.previous_hash(head + 2)
    assert await witnessed(signed(head - 1, b"\0" * 32)) == (
        "open",
        "no peer has signed this log up to the job's newest event yet",
    )
    assert (await witnessed(signed(head + 1, link)))[0] == "verified"
    assert "another event at position" in (await witnessed(signed(head + 1, b"\0" * 32)))[1]
    assert "end is missing" in (await witnessed(signed(head + 2, link)))[1]
    forged = replace(signed(head + 1, link), signature="00" * 64)
    assert "is not its own" in (await witnessed(forged))[1]


async def test_of_a_job_whose_events_are_archived_all_can_be_had(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, ("stdout", "one"))
    await node.complete(job)
    before = await verified(node, job)
    async with node.client(headers={"x-log-token": node.services.log_token(job)}) as client:
        run = await client.post(f"{API}/archive/run", json={"older_than_days": 0})
        assert run.json()["first_position"] == node.log.head + 1
        assert (await client.get(f"{API}/jobs/{job}/request")).status_code == 200
        shown = (await client.get(f"{API}/jobs/{job}/output")).json()
        assert ([line["text"] for line in shown["lines"]], shown["sealed"]) == (["one"], True)
    assert await verified(node, job) == before
    async with node.connect(path=f"{API}/live/ws") as socket:
        await socket.send(f'{{"id":"e","subscribe":"events","after":0,"job_id":"{job}"}}')
        await socket.send(f'{{"id":"o","subscribe":"output","after":0,"job_id":"{job}"}}')
        heard: dict[str, list[Any]] = {"event": [], "lines": [], "caught_up": [], "sealed": []}
        async with asyncio.timeout(120):
            while not (heard["caught_up"] and any(heard["sealed"])):
                for name, value in msgspec.json.decode(await socket.recv()).items():
                    heard.setdefault(name, []).append(value)
    assert heard["event"][-1]["type"] == "io.nunet.dms.job.completed.v1"
    assert heard["lines"][0][0]["text"] == "one"
