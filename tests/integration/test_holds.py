"""Two whole daemons, before and after a payment: what the provider keeps for a job that is quoted, from whom, and for
how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import httpx
import pytest

from dms.application.deployments import holds
from dms.application.device import engine
from dms.application.network.budgets import BUDGETS, HOLDS, QUESTIONS
from dms.application.network.messages import (
    PREFLIGHT,
    DeploymentAnswer,
    DeploymentRequest,
    PreflightAnswer,
    PreflightRequest,
    encode,
)
from dms.domain.event import new_id
from dms.domain.hold import EXPIRED, PAID, YIELDED, Hold
from dms.domain.job import FundStatus, JobState
from dms.domain.reward import Fault
from dms.errors import Conflict, Forbidden, NoProviderMatches
from tests.fixtures.histories import request
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.provider import SERVICE_PROVIDER
from tests.fixtures.waiting import wait_for
from tests.integration.cancellation.world import OFFER, World, world

ALL, MOST = OFFER.cpu_mhz, OFFER.cpu_mhz * 2 // 3


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def preflight(cpu: int = 500, seconds: int = 600, job_id: str = "") -> PreflightRequest:
    asked = request(cpu=cpu, ram=64)
    return PreflightRequest(job_id=job_id or new_id(), request=asked, price="1", hold_seconds=seconds)


async def ask(pair: World, message: PreflightRequest, peer_id: str = SERVICE_PROVIDER) -> PreflightAnswer:
    return await pair.provider.compute_provider.preflights.answer(peer_id, message)


async def ends(pair: World) -> list[str]:
    """Why holds ended, in the order in which they did."""
    await pair.written()
    found = await pair.provider.log.read(0, 1000, topics=(Hold.Ended.TOPIC,))
    return [one.event.reason for one in found if isinstance(one.event, Hold.Ended)]


async def pay(pair: World, job_id: str) -> None:
    status = FundStatus(transaction_type="fund", transaction_status="success", tx_hash=token_hex(32))
    await pair.requester.service_provider.report_fund_status(status, job_id)


def state(pair: World, job_id: str) -> JobState:
    pair.key = job_id
    return pair.job_state()


async def test_a_quoted_job_has_its_place_until_it_is_paid(pair: World) -> None:
    quote = await pair.requester.service_provider.request_service(request(cpu=MOST, ram=64))
    assert quote.held_until > pair.requester.now()
    assert quote.warnings == ()
    device = pair.provider.device
    assert device.holds.total.cpu_mhz == MOST
    assert device.free().cpu_mhz == ALL, "who pays finds all that no job has"
    await pay(pair, quote.job_id)
    await wait_for(lambda: state(pair, quote.job_id) is JobState.COMPLETED)
    assert not device.holds
    assert await ends(pair) == [PAID]


async def test_what_is_held_is_in_the_capacity_of_its_provider(pair: World) -> None:
    daemon = pair.daemons["provider"]
    await pair.requester.service_provider.request_service(request(cpu=MOST, ram=64))
    async with httpx.AsyncClient(timeout=120, base_url=f"http://127.0.0.1:{daemon.port}", verify=NO_TLS) as client:
        (row,) = [one for one in (await client.get("/api/v1/capacity")).json()["providers"] if one["own"]]
    assert (row["on_hold"]["cpu_mhz"], row["reserved"]["cpu_mhz"]) == (MOST, 0)


async def test_a_place_that_is_held_is_no_second_quotes_and_goes_to_who_pays_first(pair: World) -> None:
    service = pair.requester.service_provider
    first = await service.request_service(request(cpu=MOST, ram=64))
    second = await service.request_service(request(cpu=MOST, ram=64, time=2))
    assert (second.held_until, second.warnings[0][0]) == (0, "")
    assert "keeps what is free for another" in second.warnings[0][1]
    await pay(pair, second.job_id)
    await wait_for(lambda: state(pair, second.job_id) in (JobState.RUNNING, JobState.COMPLETED))
    assert await ends(pair) == [YIELDED]
    assert first.held_until


async def test_a_place_beside_jobs_that_run_is_refused_before_the_payment_with_the_reason(pair: World) -> None:
    service = pair.requester.service_provider
    running = await service.request_service(request("sleep 600", cpu=MOST, ram=64))
    await pay(pair, running.job_id)
    await wait_for(lambda: state(pair, running.job_id) is JobState.RUNNING)
    answer = await ask(pair, preflight(cpu=MOST))
    assert (answer.possible, answer.kind, answer.fault) == (False, "capacity", Fault.PROVIDER)
    with pytest.raises(NoProviderMatches):
        await service.request_service(request(cpu=MOST, ram=64))
    await service.terminate(running.job_id, "enough")
    await wait_for(lambda: state(pair, running.job_id) is JobState.FAILED)


async def test_a_paid_job_whose_place_is_held_waits_for_an_engine_that_is_briefly_away(
    pair: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, asked = pair.provider.compute_provider, list[str]()
    request_of_peer = provider.request

    async def counted(peer_id: str, message: DeploymentRequest) -> DeploymentAnswer:
        asked.append(message.job_id)
        return await request_of_peer(peer_id, message)

    monkeypatch.setattr(provider, "request", counted)
    quote = await pair.requester.service_provider.request_service(request(cpu=MOST, ram=64))
    pair.lose_engine()
    await pay(pair, quote.job_id)
    await wait_for(lambda: len(asked) > 1)
    assert state(pair, quote.job_id) is JobState.SUBMITTED
    pair.find_engine()
    await wait_for(lambda: state(pair, quote.job_id) is JobState.COMPLETED)


async def test_for_an_engine_that_is_away_for_long_no_place_is_kept(
    pair: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ENGINE_GRACE_SECONDS", 0.0)
    quote = await pair.requester.service_provider.request_service(request(cpu=MOST, ram=64))
    pair.lose_engine()
    await pay(pair, quote.job_id)
    await wait_for(lambda: state(pair, quote.job_id) is JobState.FAILED)


async def test_a_hold_ends_by_itself(pair: World) -> None:
    assert (await ask(pair, preflight(seconds=1))).hold_seconds == 1
    await wait_for(lambda: not pair.provider.device.holds)
    assert await ends(pair) == [EXPIRED]


async def test_asked_again_it_stays_as_it_is_and_asked_without_a_hold_nothing_is_kept(pair: World) -> None:
    message = preflight()
    await ask(pair, message)
    await ask(pair, message)
    await ask(pair, preflight(seconds=0))
    await pair.written()
    assert pair.topics("provider").count(Hold.Placed.TOPIC) == 1
    with pytest.raises(Forbidden, match="belongs to another peer"):
        await ask(pair, message, peer_id="12D3KooWSomebodyElse")


async def test_a_job_that_was_asked_for_is_held_no_more(pair: World) -> None:
    await pair.run("true", JobState.COMPLETED)
    with pytest.raises(Conflict, match="asked for here already"):
        await ask(pair, preflight(job_id=pair.key), peer_id=pair.requester_id)


async def test_strangers_hold_a_few_places_and_are_told_that_no_more_is_kept(
    pair: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "MOST_HELD_OF_A_PEER", 2)
    monkeypatch.setattr(holds, "MOST_HELD", 3)
    answers = [await ask(pair, preflight(cpu=100)) for _ in range(3)]
    answers += [await ask(pair, preflight(cpu=100), peer_id=f"12D3KooW{name}") for name in ("Second", "Third")]
    assert [answer.possible for answer in answers] == [True] * 5
    assert [bool(answer.hold_seconds) for answer in answers] == [True, True, False, True, False]
    assert answers[2].kind == "held"
    assert "as many unpaid jobs" in answers[2].reason


async def test_the_log_does_not_grow_with_what_strangers_ask(pair: World) -> None:
    most, held = int(BUDGETS[HOLDS].stranger.burst), 0
    for _ in range(most + 5):
        job_id = new_id()
        held += bool((await ask(pair, preflight(cpu=1, job_id=job_id))).hold_seconds)
        hold = pair.provider.log.load(Hold, job_id)
        if hold is not None and hold.end(EXPIRED):
            await pair.provider.log.save(hold)
    assert held == 0, "less than the least is refused"
    answers = []
    for _ in range(3 * most):
        message = preflight(cpu=100)
        answers.append(await ask(pair, message))
        hold = pair.provider.log.load(Hold, message.job_id)
        if hold is not None and hold.end(EXPIRED):
            await pair.provider.log.save(hold)
    assert most <= sum(bool(answer.hold_seconds) for answer in answers) < len(answers), "a little comes back meanwhile"
    assert all(answer.possible for answer in answers)
    assert "too often" in answers[-1].reason


async def test_what_is_held_is_held_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as before:
        message = preflight(cpu=MOST)
        await ask(before, message)
        ending = preflight(cpu=100, seconds=1)
        await ask(before, ending)
    async with world(tmp_path) as after:
        assert message.job_id in after.provider.device.holds
        answer = await ask(after, preflight(cpu=MOST), peer_id="12D3KooWSomebodyElse")
        assert (answer.possible, answer.hold_seconds) == (True, 0)
        await wait_for(lambda: ending.job_id not in after.provider.device.holds)
        assert message.job_id in after.provider.device.holds


async def test_an_older_provider_is_quoted_as_before(pair: World) -> None:
    host = pair.daemons["provider"].parts.host
    host._requests.pop(PREFLIGHT)  # type: ignore[attr-defined]
    quote = await pair.requester.service_provider.request_service(request(cpu=500, ram=64))
    assert (quote.compute_provider_id, quote.held_until) == (pair.provider_id, 0)
    assert "older version" in quote.warnings[0][1]
    await pay(pair, quote.job_id)
    await wait_for(lambda: state(pair, quote.job_id) is JobState.COMPLETED)


async def test_who_asks_too_often_is_told_so(pair: World) -> None:
    served = pair.daemons["provider"].parts.host.served(PREFLIGHT)  # type: ignore[attr-defined]
    answers = await asyncio.gather(
        *(served(SERVICE_PROVIDER, encode(preflight(seconds=0))) for _ in range(250)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert 0 < len(refused) <= 250 - BUDGETS[QUESTIONS].stranger.burst
    assert all("takes no more questions of you" in str(error) for error in refused)
