"""Two whole daemons: whose jobs, and which images, the provider's owner takes, from the moment it is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dms.adapters.executors.process import ProcessExecutor
from dms.application.files.user_files import Reach
from dms.application.network.messages import PREFLIGHT, PreflightRequest
from dms.application.ports.images import PreparedImage
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.device_policy import EVERYTHING, PEER_DENIED, PEER_NOT_ALLOWED, DevicePolicy, Lists
from dms.domain.event import new_id
from dms.domain.job import Job, JobState
from dms.domain.transfer import TransferState
from dms.errors import Forbidden, NoProviderMatches
from tests.fixtures.histories import request
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.waiting import wait_for
from tests.integration.cancellation.world import ENDLESS, OFFER, World, world

STRANGER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def change(pair: World, *, images: Lists | None = None, peers: Lists | None = None) -> None:
    await pair.provider.device.change_policy(DevicePolicy(images=images or Lists(), peers=peers or Lists()))


async def asked_before_payment(pair: World) -> tuple[bool, str, str]:
    message = PreflightRequest(job_id=new_id(), request=request(cpu=500, ram=64), price="1", hold_seconds=600)
    answer = await pair.send(PREFLIGHT, message)
    return answer["possible"], answer.get("kind", ""), answer.get("reason", "")


async def asked_with_payment(pair: World) -> tuple[bool, str]:
    pair.key = new_id()
    answer = await pair.ask(pair.deployment_request())
    return answer.accepted, answer.reason


async def get(pair: World, path: str) -> Any:
    async with httpx.AsyncClient(verify=NO_TLS, timeout=120) as client:
        answer = await client.get(f"http://127.0.0.1:{pair.daemons['provider'].port}/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_of_a_denied_peer_nothing_is_taken_and_its_job_that_runs_goes_on(pair: World) -> None:
    await pair.run(ENDLESS, JobState.RUNNING)
    running = pair.key
    await change(pair, peers=Lists(deny=(pair.requester_id,)))

    assert await asked_before_payment(pair) == (False, "peer", PEER_DENIED)
    with pytest.raises(Forbidden, match=PEER_DENIED):
        await asked_with_payment(pair)
    assert pair.deployment_state() is DeploymentState.NEW
    with pytest.raises(Forbidden, match=PEER_DENIED):
        await pair.offer_anew()
    with pytest.raises(Forbidden, match=PEER_DENIED):
        await pair.requester.chats.start(pair.provider_id)
    with pytest.raises(NoProviderMatches, match=PEER_DENIED):
        await pair.quote()
    assert not pair.provider.device.holds

    assert [job["job_id"] for job in (await get(pair, "/jobs?role=cp"))["items"]] == [running]
    of_late = (await get(pair, "/device/refusals"))["items"]
    assert {(one["peer_id"], one["kind"], one["reason"]) for one in of_late} == {
        (pair.requester_id, kind, PEER_DENIED) for kind in ("peer", "file", "chat")
    }
    assert next(one["count"] for one in of_late if one["kind"] == "peer") == 3

    pair.key = running
    assert pair.deployment_state() is DeploymentState.RUNNING
    await change(pair)
    assert (await asked_before_payment(pair))[0]
    await pair.provider.compute_provider.stop(running, "operator", "enough", Fault.PROVIDER)
    await wait_for(lambda: pair.deployment_state() is DeploymentState.ENDED)


async def test_a_chat_and_files_with_a_peer_that_is_denied_end(pair: World) -> None:
    chat = await pair.requester.chats.start(pair.provider_id)
    (waiting,) = pair.provider.chats.waiting()
    joined = pair.provider.chats.join(waiting.chat_id)
    await chat.send("before")
    assert await joined.receive() == "before"
    await pair.requester.chats.start(pair.provider_id)  # waits to be joined
    theirs = await pair.offer_anew()
    ours = await pair.provider.transfers.offer(pair.requester_id, pair.shared / "letter.txt", Reach.DAEMONS)
    await change(pair, peers=Lists(deny=(pair.requester_id,)))

    with pytest.raises(Forbidden, match=PEER_DENIED):
        await chat.send("after")
    assert await joined.receive() is None
    (waiting,) = pair.provider.chats.waiting()
    with pytest.raises(Forbidden, match=PEER_DENIED):
        pair.provider.chats.join(waiting.chat_id)
    with pytest.raises(Forbidden, match=PEER_DENIED):
        await pair.provider.transfers.accept(theirs.key)
    await pair.requester.transfers.accept(ours.key)
    await wait_for(lambda: pair.requester.transfers.get(ours.key).ended)
    received = pair.requester.transfers.get(ours.key)
    assert (received.state, received.reason) == (TransferState.FAILED, PEER_DENIED)


async def test_a_job_that_is_paid_after_its_provider_was_denied_is_not_sent_and_can_be_refunded(pair: World) -> None:
    await pair.quote()
    await pair.requester.device.change_policy(DevicePolicy(peers=Lists(deny=(pair.provider_id,))))
    await pair.pay()
    await wait_for(lambda: pair.job_state() is JobState.FAILED)
    job = pair.requester.log.load(Job, pair.key)
    assert job is not None
    assert PEER_DENIED in job.failure
    assert job.reward is not None
    assert job.reward.to_requester == job.price
    assert pair.deployment_state() is DeploymentState.NEW


async def test_who_is_denied_is_no_acquaintance_any_more(pair: World) -> None:
    await pair.run("true", JobState.COMPLETED)
    is_known = pair.provider.chats._is_known
    assert is_known(pair.requester_id)
    await change(pair, peers=Lists(deny=(pair.requester_id,)))
    assert not is_known(pair.requester_id)


async def test_only_the_jobs_of_peers_on_a_list_are_taken(pair: World) -> None:
    await change(pair, peers=Lists(allow=(STRANGER,)))
    assert await asked_before_payment(pair) == (False, "peer", PEER_NOT_ALLOWED)
    assert await asked_with_payment(pair) == (False, PEER_NOT_ALLOWED)
    await pair.offer_anew()  # a file is for its user to accept
    await change(pair, peers=Lists(allow=(pair.requester_id,)))
    assert (await asked_before_payment(pair))[0]


async def test_an_image_is_taken_only_when_the_owners_lists_and_the_configuration_allow_it(pair: World) -> None:
    image = request().params.image_id
    await change(pair, images=Lists(deny=(image,)))
    possible, kind, reason = await asked_before_payment(pair)
    assert (possible, kind) == (False, "image")
    assert f"is denied by the owner of this provider (by {image!r})" in reason
    assert await asked_with_payment(pair) == (False, reason)
    await change(pair, images=Lists(allow=("some/other",)))
    assert "not on the list of images" in (await asked_before_payment(pair))[2]
    await change(pair, images=Lists(allow=(image,)))
    assert (await asked_before_payment(pair))[0]


async def test_an_image_that_only_its_digest_tells_is_not_begun_and_that_is_nobodys_fault_but_the_owners(
    pair: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepared(*_: Any) -> PreparedImage:
        return PreparedImage(digest=DIGEST)

    monkeypatch.setattr(ProcessExecutor, "prepare", prepared)
    await change(pair, images=Lists(deny=(DIGEST,)))
    assert (await asked_with_payment(pair))[0], "it is not known yet"
    await wait_for(lambda: pair.deployment_state() is DeploymentState.ENDED)
    await pair.provider.log.written()
    events = [one.event for one in await pair.provider.log.read(0, 1000, topics=(Deployment.Failed.TOPIC,))]
    (failed,) = (event for event in events if isinstance(event, Deployment.Failed))
    assert (failed.fault, DIGEST in failed.reason) == (Fault.PROVIDER, True)


async def test_a_denied_provider_is_forgotten_and_chosen_for_no_job_until_it_is_denied_no_more(pair: World) -> None:
    requester = pair.requester
    await requester.device.change_policy(DevicePolicy(peers=Lists(deny=(pair.provider_id,))))
    await wait_for(lambda: not pair.is_known())
    pair.provider.advertisement.stir()
    with pytest.raises(NoProviderMatches):
        await pair.quote()
    await requester.device.change_policy(EVERYTHING)
    requester.directory.refresh()
    await wait_for(lambda: requester.directory.knows(pair.provider_id))
    await wait_for(pair.is_told)


async def test_a_provider_that_was_denied_while_the_log_was_not_followed_is_forgotten_too(pair: World) -> None:
    requester = pair.requester
    await requester.directory.close()
    await requester.device.change_policy(DevicePolicy(peers=Lists(deny=(pair.provider_id,))))
    assert pair.is_known()
    await requester.directory.start()
    await wait_for(lambda: not pair.is_known())


async def test_the_lists_are_kept_and_their_past_is_shown(pair: World) -> None:
    before = pair.provider.log.head
    await change(pair, peers=Lists(deny=(STRANGER,)), images=Lists(allow=("ghcr.io/nunet/*",)))
    nothing: dict[str, list[str]] = {"allow": [], "deny": []}
    assert await get(pair, "/device/policy") == {
        "images": {"allow": ["ghcr.io/nunet/*"], "deny": []}, "peers": {"allow": [], "deny": [STRANGER]},
    }  # fmt: skip
    assert await get(pair, f"/device/policy?as_of={before}") == {"images": nothing, "peers": nothing}
    metadata = await get(pair, "/onboarding/metadata")
    await pair.provider.device.onboard(OFFER)  # another offer leaves the lists as they are
    assert (await get(pair, "/device/policy"))["peers"]["deny"] == [STRANGER]
    assert pair.provider.device.denies(STRANGER)
    assert metadata["reserved"]["cpu"] == OFFER.cpu_mhz
