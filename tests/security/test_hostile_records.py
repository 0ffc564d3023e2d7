"""A compute provider whose records can't be read, or could not be erased: its job fails, and nothing of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.adapters.p2p.identity import Identity
from dms.application.network.messages import DeploymentAnswer, DeploymentRequest, FeedItem, encode
from dms.application.records.export import signed_record
from dms.application.records.redaction import holding
from dms.domain.chain import GENESIS, SignedRecord, link
from dms.domain.deployment import Deployment
from dms.domain.device_policy import DevicePolicy, Lists
from dms.domain.event import UNREAD, Recorded, new_id, new_id_bytes
from dms.domain.job import FundStatus, Job
from dms.errors import InvalidInput
from tests.fixtures.histories import request
from tests.fixtures.keys import keyring
from tests.integration.http.node import ADDRESS, Node, now_us, running_node

HOSTILE = Identity.generate()
CLEAR = "alice lives at 12 Main Street"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


def record(job_id: str, topic: str, version: int, body: bytes) -> SignedRecord:
    """The first of the job's deployment, signed as it should be."""
    stream, at, event_id = f"deployment-{job_id}", now_us(), new_id_bytes()
    found = link(GENESIS, 1, stream.encode(), 1, topic.encode(), version, at, event_id, b"", b"", b"", body)
    recorded = Recorded(1, stream, 1, topic, version, at, event_id, b"", b"", "", body, found, UNREAD)
    return signed_record(recorded, GENESIS, HOSTILE)


async def fate(node: Node, monkeypatch: pytest.MonkeyPatch, topic: str, version: int, body: Any) -> str:
    """Why a job failed whose provider sends that. body: JSON, or that of (job id, its key)."""
    job = Job(new_id())
    job.request_service(request(), HOSTILE.peer_id, "0.1", now_us() + 60_000_000, (), 0)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash=new_id()))
    job.accept_funding("trust")
    await node.services.log.save(job)
    content = body(job.key, node.services.log.seal_key(job.key)) if callable(body) else body

    async def accepted(*_: object) -> bytes:
        return encode(DeploymentAnswer(accepted=True))

    async def records(*_: object) -> AsyncGenerator[bytes, None]:
        yield encode(FeedItem(records=(record(job.key, topic, version, content),)))
        await asyncio.Event().wait()

    monkeypatch.setattr(node.services.network, "request", accepted)
    monkeypatch.setattr(node.services.network, "stream", records)
    await node.follow_jobs(job.key)
    async with asyncio.timeout(120), aclosing(node.services.log.subscribe(0, stream=job.id)) as batches:
        async for batch in batches:
            for recorded in batch:
                if isinstance(recorded.event, Job.Failed):
                    return recorded.event.reason
    raise AssertionError


def sealed(value: Any, secret: bytes | None = None) -> Any:
    """A rejection with that in its sealed part. secret: another key than the job's."""

    def body(job_id: str, own: bytes) -> bytes:
        token = keyring({job_id: secret or own}).seal(job_id, msgspec.json.encode(value), Deployment.Rejected.TOPIC)
        return msgspec.json.encode({"sealed": token})

    return body


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"sealed":5}',
        b'{"sealed":{"a":"b"}}',
        b"{}",
        b"null",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        sealed([]),
        sealed("text"),
        sealed({"reason": {"reason": 5}}),
    ],
    ids=lambda body: body[:20].decode() if isinstance(body, bytes) else "sealed",
)
async def test_what_can_not_be_read_ends_the_job(node: Node, monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    reason = await fate(node, monkeypatch, "deployment.rejected", 2, body)
    assert reason.startswith("the provider broke the protocol: ")


async def test_an_older_version_that_lacks_what_it_had_ends_the_job(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "can't be read" in await fate(node, monkeypatch, "device.onboarded", 1, b'{"total":{}}')


@pytest.mark.parametrize("version", [1, 2])
async def test_what_tells_of_a_person_in_the_clear_is_not_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int
) -> None:
    body = msgspec.json.encode({"reason": CLEAR})
    assert "in the clear" in await fate(node, monkeypatch, "deployment.rejected", version, body)
    assert holding(tmp_path, [CLEAR.encode()]) == []


async def test_what_is_sealed_under_another_key_is_not_kept(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = await fate(node, monkeypatch, "deployment.rejected", 2, sealed({"reason": "no"}, bytes(32)))
    assert "under a key that is not its job's" in reason


async def test_what_bills_are_made_of_is_not_taken_from_the_sealed_part(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read without a key, by auditors and after an erasure: both must read the same."""
    body = sealed({"reason": "no", "fault": "requester"})
    assert "without a key" in await fate(node, monkeypatch, "deployment.rejected", 2, body)


async def test_a_service_provider_that_uses_one_key_for_two_jobs_is_refused(node: Node) -> None:
    """The erasure of one would leave the key with the other."""
    asked, secret = request(address_user=ADDRESS), "ab" * 32
    await node.services.device.change_policy(DevicePolicy(peers=Lists(allow=(HOSTILE.peer_id,))))  # or nothing is kept

    async def ask() -> str:
        message = DeploymentRequest(job_id=new_id(), request=asked, price="0.1", seal_key=secret)
        await node.services.compute_provider.request(HOSTILE.peer_id, message)
        return message.job_id

    job_id = await ask()
    with pytest.raises(InvalidInput, match="needs its own"):
        await ask()
    await node.services.erasures.erase(job_id, skip_open=False)
    with pytest.raises(InvalidInput, match="needs its own"):  # it would make the erased one readable again
        await ask()
