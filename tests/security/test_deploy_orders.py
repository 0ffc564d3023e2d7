"""A client that says anything in any order on /run/deploy: no payment starts two deployments, no job is started twice,
and what a provider writes beside its records reaches no client."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.application.network.messages import DEPLOYMENT_REQUEST, DeploymentAnswer, DeploymentRequest, FeedItem, encode
from dms.application.reactors import Reactors
from dms.domain.deployment import Deployment
from dms.domain.event import Event, new_id
from dms.domain.event import encode as encode_event
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.domain.sealing import take_out
from tests.fixtures.dms import payment
from tests.fixtures.histories import Author
from tests.fixtures.keys import keyring
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import REQUEST, LonelyNetwork, Node, now_us, running_node

JOBS, SEQUENCES, STEPS = 3, 60, 12
HASHES = ("ab01", "ab02")
STATUSES = ("success", "success", "success", "pending", "error", "SUCCESS")
HARMFUL = "javascript:alert(document.cookie)//"


class Taking(LonelyNetwork):
    """A provider that takes each job and then says what `records` has for it."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self.deployed: Counter[str] = Counter()
        self.records: FeedItem = FeedItem()
        self.answer: bytes = encode(DeploymentAnswer(accepted=True))

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        if protocol != DEPLOYMENT_REQUEST:
            return await super().request(peer_id, protocol, body, timeout_seconds)
        self.deployed[msgspec.json.decode(body, type=DeploymentRequest).job_id] += 1
        return self.answer

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        yield encode(self.records)
        await asyncio.Event().wait()


@asynccontextmanager
async def requesting(folder: Path) -> AsyncIterator[tuple[Node, Taking]]:
    async with running_node(folder, make_network=Taking) as node:
        reactors = Reactors(node.log, node.services.loops)
        node.services.service_provider.take_up(())
        await reactors.start(node.services.service_provider.reactors, lambda _: ())
        network = node.services.network
        assert isinstance(network, Taking)
        try:
            yield node, network
        finally:
            await reactors.close()


# What is said, of which job, with which payment, in which status.
ORDER = st.tuples(
    st.sampled_from(["pay", "pay for", "pay for", "stop", "job", "reconnect"]),
    st.integers(0, JOBS - 1),
    st.sampled_from(HASHES),
    st.sampled_from(STATUSES),
)


def sequences() -> list[list[tuple[str, int, str, str]]]:
    found: list[list[tuple[str, int, str, str]]] = []

    @settings(max_examples=SEQUENCES, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ORDER, min_size=4, max_size=STEPS))
    def collect(orders: list[tuple[str, int, str, str]]) -> None:
        found.append(orders)

    collect()
    return found


async def follow(node: Node, number: int, orders: list[tuple[str, int, str, str]]) -> list[str]:
    """Says all that, and ends when it was heard. The ids of the jobs."""
    jobs = [await node.job() for _ in range(JOBS)]
    remaining = list(orders)
    while remaining:
        async with node.connect() as client:
            while remaining:
                what, job, tx_hash, status = remaining.pop(0)
                if what == "reconnect":
                    break
                if what == "job":
                    jobs.append(await node.job())
                elif what == "stop":
                    await client.send(json.dumps({"action": "terminate-job", "message": {"job_id": jobs[job]}}))
                else:
                    named = jobs[job] if what == "pay for" else ""
                    await client.send(payment(f"{tx_hash}{number:04x}", named, status))
            await client.send('{"action": "that was all"}')
            async with asyncio.timeout(120):
                while "that was all" not in str(await client.recv()):
                    continue
    return jobs


@pytest.mark.slow
async def test_no_order_of_messages_starts_two_deployments_with_a_payment(tmp_path: Path) -> None:
    async with requesting(tmp_path) as (node, provider):
        jobs = [job for number, orders in enumerate(sequences()) for job in await follow(node, number, orders)]
        last = await node.job()
        async with node.connect() as client:
            await client.send(payment("abff", last))
            await wait_for(lambda: last in provider.deployed)
        paid_with: Counter[str] = Counter()
        for job_id in (*jobs, last):
            job = node.log.load(Job, job_id)
            assert job is not None
            events = [type(recorded.event) for recorded in await node.log.read(0, 1000, stream=job.id)]
            assert events.count(Job.Submitted) <= 1
            assert (job_id not in provider.deployed) or Job.Submitted in events, "it was not paid"
            paid_with.update([job.tx_hash] if Job.Submitted in events else [])
        assert len(paid_with) > SEQUENCES / 4, "few orders led to a deployment: they prove little"
        assert set(paid_with.values()) == {1}
        assert set(provider.deployed.values()) == {1}


def sealed(node: Node, job_id: str, event: Event) -> dict[str, Any]:
    """As a provider sends it: what tells of a person under the job's key."""
    body = json.loads(encode_event(event))
    personal = take_out(body, type(event).PERSONAL)
    if not personal:
        return dict(body)
    keys = keyring({job_id: node.services.log.seal_key(job_id)})
    return {**body, "sealed": keys.seal(job_id, msgspec.json.encode(personal), type(event).TOPIC)}


async def test_an_address_that_a_provider_names_reaches_no_client(tmp_path: Path) -> None:
    """What was the log's address in the original's answer is made here, and a reason stays a text."""
    async with requesting(tmp_path) as (node, provider):
        author = Author()
        for ends_well in (True, False):
            job = Job(new_id())
            job.request_service(REQUEST, author.peer_id, "0.1", now_us() + 600_000_000, (), 0)
            await node.log.save(job)
            said: list[Event] = [Deployment.Rejected(reason=HARMFUL + "x" * 900)]
            if ends_well:
                said = [
                    Deployment.Accepted(reserved=Resources()),
                    Deployment.ContainerCreated(container_id="c", executor="docker"),
                    Deployment.ContainerStarted(stops_at=now_us() + 10**9),
                ]
            asked = Deployment.Requested(service_provider=node.services.network.peer_id, request=REQUEST, price="0.1")
            named = {"content": HARMFUL, "log_url": HARMFUL, "url": HARMFUL}
            provider.answer = msgspec.json.encode({"accepted": ends_well, "pending": not ends_well, **named})
            provider.records = FeedItem(
                records=tuple(
                    author.record(job.key, event, data=json.dumps({**sealed(node, job.key, event), **named}))
                    for event in (asked, *said)
                )
            )
            heard: list[dict[str, Any]] = []
            async with node.connect(f"?job_id={job.key}") as client, asyncio.timeout(120):
                await client.send(payment(f"cd0{ends_well:d}", job.key))
                while not heard or heard[-1]["action"] not in ("deployment-response", "job-failed"):
                    heard.append(json.loads(await client.recv()))
            if ends_well:
                assert heard[-1]["action"] == "deployment-response", heard
                assert heard[-1]["message"]["content"].startswith(node.url)
                assert HARMFUL not in json.dumps(heard)
            else:
                assert [frame["action"] for frame in heard if HARMFUL in json.dumps(frame)] == ["job-failed"]
                assert isinstance(heard[-1]["message"], str)
