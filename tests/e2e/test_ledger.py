"""Jobs paid on a real chain: two daemons that both look payments up, and what their clients see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets

from dms.adapters.p2p.identity import Identity
from tests.fixtures.dms import Dms, Follower, payment, request_body, unlike_pair
from tests.fixtures.ethereum import CHAIN_ID, Chain, units

pytestmark = [pytest.mark.slow]


def looking_at(chain: Chain, **more: str) -> dict[str, str]:
    return {
        "funding.check": "ledger",
        "funding.rpc_url": chain.url.replace("://", "://reader:hunter2@"),
        "funding.chain_id": str(CHAIN_ID),
        "funding.confirmations": "1",
        **{f"funding.{key}": value for key, value in more.items()},
    }


@asynccontextmanager
async def network(
    folder: Path, chain: Chain, sp: dict[str, str] | None = None, cp: dict[str, str] | None = None
) -> AsyncIterator[tuple[Dms, Dms]]:
    """sp, cp: how each of them checks payments; without it, it trusts."""
    common = {"job.executor": "process", "job.allow_process_for_peers": "true"}
    offer = {"payment_addr": chain.accounts[1]}
    async with unlike_pair(folder, common | (sp or {}), common | (cp or {}), offer) as both:
        yield both


def body(chain: Chain, script: str = "true", **constraints: Any) -> dict[str, Any]:
    asked = request_body(script, **constraints)
    return asked | {"blockchain": "Ethereum", "address_user": chain.accounts[0]}


async def ask(sp: Dms, chain: Chain, script: str = "true") -> tuple[dict[str, Any], str]:
    """The quote, and the price as it was signed."""
    quote = await sp.post("/run/request-service", body(chain, script))
    assert isinstance(quote, dict)
    assert quote["compute_provider_addr"].lower() == chain.accounts[1].lower()
    return quote, str(orjson.loads(quote["oracle_message"])["estimated_price"])


async def outcome(sp: Dms, quote: dict[str, Any], tx_hash: str) -> dict[str, Any]:
    """The last frame that a client of the documented protocol gets."""
    url = f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy"
    async with asyncio.timeout(120), websockets.connect(url, max_size=None) as socket:
        await socket.send(payment(tx_hash, quote["job_id"]))
        while True:
            frame = orjson.loads(await socket.recv())
            if frame["action"] in ("job-completed", "job-failed", "error"):
                assert isinstance(frame, dict)
                return frame


async def until(probe: Callable[[], bool], what: str, seconds: float = 120) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not probe():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


async def test_a_paid_job_runs_and_its_reward_is_the_same_on_both_sides(tmp_path: Path, chain: Chain) -> None:
    async with network(tmp_path, chain, looking_at(chain), looking_at(chain)) as (sp, cp):
        quote, price = await ask(sp, chain, "echo worked")
        tx_hash = chain.pay(chain.accounts[1], price)
        assert (await outcome(sp, quote, tx_hash))["action"] == "job-completed"
        assert "job.funding_accepted" in sp.topics(quote["job_id"])
        assert "deployment.funding_accepted" in cp.topics(quote["job_id"])
        rewards = [await dms.post("/transactions/request-reward", {"tx_hash": tx_hash}) for dms in (sp, cp)]
        for reward in rewards:
            assert reward["reward_type"] == "withdraw"
            assert (reward["to_provider"], reward["to_requester"]) == (price, "0")
        assert rewards[0]["datum"] == rewards[1]["datum"]
        for dms, reward in zip((sp, cp), rewards, strict=True):
            peer_id = (await dms.get("/peers/self"))["ID"]
            for part in ("datum", "action"):
                signature = bytes.fromhex(reward[f"signature_{part}"])
                assert Identity.generate().verify(peer_id, reward[part].encode(), signature)
        reused = await ask(sp, chain)
        refused = await outcome(sp, reused[0], tx_hash)
        assert refused["action"] == "job-failed"
        assert "was used already" in refused["message"]
        short = await ask(sp, chain)
        refused = await outcome(sp, short[0], chain.pay(chain.accounts[1], "0.0001"))
        assert refused["action"] == "job-failed"
        assert f"pays 0.0001 NTX, the job costs {price} NTX" in refused["message"]
        for dms in (sp, cp):
            (row,) = await dms.get("/transactions")
            assert (row["transaction_type"], row["units"]) == ("withdraw", str(units(price)))
            assert row["payer"] == chain.accounts[0].lower()
            for told in (dms.folder / "daemon.log", dms.folder / "events.db", dms.folder / "events.db-wal"):
                assert not told.exists() or b"hunter2" not in told.read_bytes(), told


async def test_the_provider_looks_itself_and_does_not_believe_the_service_provider(
    tmp_path: Path, chain: Chain
) -> None:
    async with network(tmp_path, chain, sp=None, cp=looking_at(chain)) as (sp, cp):
        quote, price = await ask(sp, chain)
        refused = await outcome(sp, quote, chain.pay(chain.accounts[1], "0.00001"))
        assert refused["action"] == "job-failed"
        assert "pays 0.00001 NTX" in refused["message"]
        assert cp.topics(quote["job_id"]) == ["deployment.requested", "deployment.rejected"]
        stranger = await ask(sp, chain)
        refused = await outcome(sp, stranger[0], chain.pay(chain.accounts[2], price))
        assert "pays nothing to the provider's address" in refused["message"]
        good, _ = await ask(sp, chain)
        assert (await outcome(sp, good, chain.pay(chain.accounts[1], price)))["action"] == "job-completed"


@pytest.mark.parametrize("side", ["sp", "cp"])
async def test_waiting_for_confirmations_survives_a_kill(tmp_path: Path, own_chain: Chain, side: str) -> None:
    looking = looking_at(own_chain, confirmations="3")
    roles = {side: looking}
    topic = "job.funding_pending" if side == "sp" else "deployment.funding_pending"
    async with network(tmp_path, own_chain, roles.get("sp"), roles.get("cp")) as (sp, cp):
        checker = sp if side == "sp" else cp
        quote, price = await ask(sp, own_chain)
        job_id = quote["job_id"]
        url = f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy"
        async with websockets.connect(url) as socket:
            await socket.send(payment(own_chain.pay(own_chain.accounts[1], price), job_id))
            await until(lambda: topic in checker.topics(job_id), "the wait is recorded")
        shown = await sp.get(f"/jobs/{job_id}")
        assert shown["status"] in ("funding", "submitted")
        await until(lambda: "job.funding_pending" in sp.topics(job_id), "the service provider knows")
        assert "1 of 3 confirmations" in (await sp.get(f"/jobs/{job_id}"))["reason"]
        checker.kill9()
        checker.start()
        await checker.ready()
        own_chain.mine(2)
        follower = Follower(sp, job_id)
        await follower.until_over()
        assert follower.names[-1] == "job-completed"
        assert "funding-pending" in follower.names


async def test_a_node_that_is_away_is_waited_for_up_to_the_bound(tmp_path: Path, own_chain: Chain) -> None:
    looking = looking_at(own_chain, timeout_seconds="40")
    async with network(tmp_path, own_chain, looking, None) as (sp, _cp):
        back, price = await ask(sp, own_chain)
        tx_hash = own_chain.pay(own_chain.accounts[1], price)
        mined = partial(own_chain.rpc, "eth_getTransactionReceipt", tx_hash)
        await until(lambda: mined() is not None, "the payment is in a block")  # a stop drops what waits
        own_chain.stop()
        waiting = asyncio.create_task(outcome(sp, back, tx_hash))
        await until(lambda: "job.funding_pending" in sp.topics(back["job_id"]), "the wait is recorded")
        assert "does not answer" in (await sp.get(f"/jobs/{back['job_id']}"))["reason"]
        own_chain.start()
        end = await waiting
        assert end["action"] == "job-completed", end
        never, _ = await ask(sp, own_chain)
        failed = await outcome(sp, never, "0x" + "77" * 32)
        assert failed["action"] == "job-failed"
        assert "was not confirmed within 40 s" in failed["message"]


async def test_a_job_paid_in_tokens_that_failed_is_owed_back(tmp_path: Path, own_chain: Chain) -> None:
    token = own_chain.deploy_token()
    looking = looking_at(own_chain, token_address=token)
    async with network(tmp_path, own_chain, looking, looking) as (sp, cp):
        quote, price = await ask(sp, own_chain, "exit 7")
        tx_hash = own_chain.pay_token(token, own_chain.accounts[1], price)
        assert "exit code 7" in (await outcome(sp, quote, tx_hash))["message"]
        for dms in (sp, cp):
            reward = await dms.post("/transactions/request-reward", {"tx_hash": tx_hash})
            assert (reward["reward_type"], reward["to_requester"]) == ("refund", price)
            answer = await dms.post("/transactions/update-status", {"address": token})
            assert answer["updated"] == 0  # younger than five minutes: not looked for yet
