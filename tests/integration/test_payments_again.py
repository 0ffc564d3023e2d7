"""A payment whose job never ran can pay for the next one: then, only then, and never for two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dms.domain.job import Job, JobState
from dms.domain.payment import Payment
from dms.domain.reward import Fault
from tests.fixtures.histories import request
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.waiting import wait_for
from tests.integration.cancellation.world import ENDLESS, World, world


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def never_run(pair: World) -> str:
    """A job that its provider refuses once it is paid, since its owner took it off line meanwhile."""
    await pair.quote()
    await pair.provider.device.set_available(False)
    await pair.pay()
    await wait_for(lambda: pair.job_state() is JobState.FAILED)
    await wait_for(lambda: is_told_online(pair) is False)  # else what it heard before would pass for the news
    await pair.provider.device.set_available(True)
    await wait_for(lambda: is_told_online(pair) is True and pair.is_told())  # on record: what is not matches no job
    return pair.key


def is_told_online(pair: World) -> bool | None:
    told = pair.told()
    return None if told is None else told.online


async def run_again(pair: World) -> Job:
    """Another job, paid with the same transaction."""
    await pair.quote()
    await pair.pay()
    await wait_for(lambda: not job(pair).open)
    return job(pair)


def job(pair: World) -> Job:
    found = pair.requester.log.load(Job, pair.key)
    assert found is not None
    return found


async def test_the_payment_of_a_job_that_never_ran_pays_for_the_next_and_for_no_third(pair: World) -> None:
    first = await never_run(pair)
    assert job(pair).failure == "the provider is offline"
    second = await run_again(pair)
    assert (second.key != first, second.state) == (True, JobState.COMPLETED)
    third = await run_again(pair)
    assert third.state is JobState.FAILED
    assert "was used already" in third.failure
    await pair.written()
    for side in ("requester", "provider"):
        assert pair.topics(side).count(Payment.Used.TOPIC) == (2 if side == "requester" else 1)
    assert pair.topics("requester").count(Payment.Released.TOPIC) == 1


async def test_the_refund_is_named_wherever_the_job_is_shown(pair: World) -> None:
    first = await never_run(pair)
    daemon = pair.daemons["requester"]
    async with httpx.AsyncClient(
        timeout=120, base_url=f"http://127.0.0.1:{daemon.port}/api/v1", verify=NO_TLS
    ) as client:
        shown = (await client.get(f"/jobs/{first}")).json()
        assert (shown["status"], shown["refund"]) == ("failed", True)
        (owed,) = (await client.get("/transactions?size_done=10")).json()
        assert (owed["transaction_type"], owed["to_provider"], owed["to_requester"]) == ("refund", "0", owed["price"])
        second = await run_again(pair)
        expected = {first: "done", second.key: "withdraw"}
        found: dict[str, str] = {}
        async with asyncio.timeout(60):
            while found != expected:  # the view follows the log
                rows = (await client.get("/transactions?size_done=10")).json()
                found = {one["job_id"]: one["transaction_type"] for one in rows}
                await asyncio.sleep(0.01)


async def test_a_job_that_runs_or_ran_keeps_its_payment(pair: World) -> None:
    await pair.run(ENDLESS, JobState.RUNNING)
    running = pair.key
    assert "was used already" in (await run_again(pair)).failure
    await pair.requester.service_provider.terminate(running, "enough")
    pair.key = running
    await wait_for(lambda: pair.job_state() is JobState.FAILED)
    assert "was used already" in (await run_again(pair)).failure, "it ran, if only for a moment"


async def test_a_refund_that_was_claimed_or_paid_back_is_no_payment_any_more(pair: World) -> None:
    await never_run(pair)
    await pair.requester.transactions.request_reward(pair.tx_hash)
    assert "was used already" in (await run_again(pair)).failure


async def test_two_jobs_at_once_do_not_share_it(pair: World) -> None:
    await never_run(pair)
    keys = []
    for _ in range(2):
        await pair.quote()
        keys.append(pair.key)

    async def paid(key: str) -> None:
        pair.key = key
        await pair.pay()

    await asyncio.gather(*(paid(key) for key in keys))
    found = [pair.requester.log.load(Job, key) for key in keys]
    await wait_for(lambda: all(one is not None and not one.open for one in found))
    assert sorted(str(one.state) for one in found if one is not None) == ["completed", "failed"]


def test_a_job_that_was_given_up_keeps_its_payment_until_its_provider_knows() -> None:
    failed = Job("01990000-0000-7000-8000-000000000001")
    failed.request_service(request(), "12D3KooWProvider", "1", 0, (), 0)
    failed.trigger(Job.FundStatusReported(transaction_type="fund", transaction_status="success", tx_hash="ab"))
    failed.accept_funding("trust")
    failed.fail("provider did not answer within 30 s", Fault.PROVIDER)
    assert (failed.payment_is_free, failed.attempt.provider_to_tell) == (False, True)
    failed.provider_told()
    assert failed.payment_is_free
