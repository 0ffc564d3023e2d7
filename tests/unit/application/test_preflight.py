"""In which order providers are asked whether they can take a job, and who gets it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from dms.application.jobs import preflight
from dms.application.jobs.preflight import NobodyTakesIt, Placed, Preflight, Wanted
from dms.application.network.messages import PREFLIGHT, PreflightAnswer, PreflightRequest, encode
from dms.domain.matching import Candidate
from dms.domain.reward import Fault
from dms.errors import PeerUnreachable, ProtocolRefused
from tests.fixtures.histories import request
from tests.integration.http.node import LonelyNetwork

YES = PreflightAnswer(possible=True, hold_seconds=600)
UNHELD = PreflightAnswer(possible=True, reason="it keeps places for as many unpaid jobs as it may", kind="busy")
FULL = PreflightAnswer(possible=False, reason="no capacity left", kind="capacity", fault="provider")
NO_IMAGE = PreflightAnswer(
    possible=False, reason="no such image", kind="image", fault=Fault.REQUESTER, field="/params/image_id"
)
OLDER = ProtocolRefused("it does not speak it")
AWAY = PeerUnreachable("it is away")


class Asked(LonelyNetwork):
    """Providers that answer what a test says; None: never."""

    def __init__(self, answers: dict[str, PreflightAnswer | Exception | None]) -> None:
        super().__init__("12D3KooWRequester")
        self._answers = answers
        self.asked: dict[str, PreflightRequest] = {}

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        assert protocol == PREFLIGHT
        self.asked[peer_id] = msgspec.json.decode(body, type=PreflightRequest)
        answer = self._answers[peer_id]
        if answer is None:
            await asyncio.sleep(timeout_seconds)
            raise PeerUnreachable(f"did not answer within {timeout_seconds:g} s")
        if isinstance(answer, Exception):
            raise answer
        return encode(answer)


class Keys:
    peer_id = "12D3KooWRequester"

    def public_key(self, peer_id: str) -> str:
        return f"key of {peer_id}"


class Channel:
    channel = "nunet-test"


async def place(hold_seconds: int = 600, /, **answers: PreflightAnswer | Exception | None) -> tuple[Placed, Asked]:
    network, candidates = Asked(answers), [Candidate(peer_id=name, price=Decimal(1)) for name in answers]
    device: Any = Channel()
    signer: Any = Keys()
    wanted = Wanted(request(), hold_seconds=hold_seconds)
    return await Preflight(network, device, signer).among(wanted, candidates), network


async def test_the_first_that_can_take_it_and_keeps_its_place_gets_it() -> None:
    placed, network = await place(a=FULL, b=AWAY, c=YES, d=YES)
    assert (placed.candidate.peer_id, placed.hold_seconds, placed.doubt) == ("c", 600, "")
    assert [one.peer_id for one in placed.refused] == ["a", "b"]
    assert placed.refused[0].reason == "says: no capacity left"
    assert list(network.asked) == ["a", "b", "c"]


async def test_each_that_is_asked_hears_another_id_and_the_job_gets_that_of_who_takes_it() -> None:
    placed, network = await place(a=FULL, b=UNHELD, c=AWAY, d=YES)
    told = {peer_id: message.job_id for peer_id, message in network.asked.items()}
    assert len(set(told.values())) == 4
    assert placed.job_id == told["d"]
    placed, network = await place(a=UNHELD, b=FULL)
    assert placed.job_id == network.asked["a"].job_id
    placed, network = await place(a=FULL, b=OLDER)
    assert placed.job_id == network.asked["b"].job_id


async def test_what_tells_what_was_asked_for_is_told_and_not_recorded() -> None:
    private = PreflightAnswer(possible=False, reason="image alice/secret:1 is not there", kind="image")
    placed, _ = await place(a=private, b=PeerUnreachable("/ip4/192.0.2.1/tcp/9000 does not answer"), c=YES)
    assert [one.reason for one in placed.refused] == [
        "says: the image can't be had or is not allowed", "does not say whether it can take the job",
    ]  # fmt: skip
    with pytest.raises(NobodyTakesIt, match=r"alice/secret:1.*192\.0\.2\.1"):
        await place(a=private, b=PeerUnreachable("/ip4/192.0.2.1/tcp/9000 does not answer"))


async def test_who_keeps_the_place_goes_before_who_only_can() -> None:
    placed, _ = await place(a=UNHELD, b=FULL, c=YES)
    assert placed.candidate.peer_id == "c"
    placed, _ = await place(a=UNHELD, b=FULL)
    assert (placed.candidate.peer_id, placed.hold_seconds) == ("a", 0)
    assert "as many unpaid jobs" in placed.doubt


async def test_one_that_can_not_be_asked_is_taken_as_before() -> None:
    placed, network = await place(a=FULL, b=OLDER, c=YES)
    assert (placed.candidate.peer_id, "older version" in placed.doubt) == ("b", True)
    assert list(network.asked) == ["a", "b"]


async def test_one_that_is_only_asked_keeps_nothing() -> None:
    placed, network = await place(0, a=UNHELD)
    assert (placed.candidate.peer_id, placed.doubt, network.asked["a"].hold_seconds) == ("a", "", 0)


async def test_nobody_can_take_it() -> None:
    with pytest.raises(NobodyTakesIt, match="a says: no capacity left; b does not say") as nobody:
        await place(a=FULL, b=AWAY)
    assert nobody.value.wrong is None


async def test_when_all_say_that_the_request_is_wrong_it_is() -> None:
    with pytest.raises(NobodyTakesIt) as nobody:
        await place(a=NO_IMAGE)
    assert nobody.value.wrong == ("/params/image_id", "no such image")
    with pytest.raises(NobodyTakesIt) as nobody:
        await place(a=NO_IMAGE, b=FULL)
    assert nobody.value.wrong is None
    with pytest.raises(NobodyTakesIt) as nobody:
        await place(a=NO_IMAGE, b=NO_IMAGE, c=YES)
    assert len(nobody.value.refused) == 2, "two have said so: the others would say the same"


async def test_all_together_have_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(preflight, "PATIENCE_SECONDS", 0.015)
    with pytest.raises(NobodyTakesIt) as nobody:
        await place(a=None, b=None, c=None, d=None, e=None)
    assert "d" not in {one.peer_id for one in nobody.value.refused}


async def test_nobody_is_told_secrets_before_it_is_chosen() -> None:
    asked = request("https://example.com/data.csv?signature=abc", address_user="addr1", tx_hash="ab")
    params = msgspec.structs.replace(asked.params, env={"A": "1"}, secret_env={"TOKEN": "sealed:xyz"})
    network = Asked({"a": YES})
    device: Any = Channel()
    signer: Any = Keys()
    wanted = Wanted(msgspec.structs.replace(asked, params=params))
    await Preflight(network, device, signer).among(wanted, [Candidate(peer_id="a", price=Decimal("0.5"))])
    told = network.asked["a"]
    assert told.request.params.model_url == "https://example.com/data.csv"
    assert (told.request.params.env, told.request.params.secret_env) == ({"A": "1"}, {})
    assert (told.request.address_user, told.request.tx_hash, told.price) == ("", "", "0.5")
    assert (told.request.params.node_id, told.request.params.local_node_id) == ("a", "12D3KooWRequester")
