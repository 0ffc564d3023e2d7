"""What is said of a request: how it is asked again, what may be meant otherwise in it, whom it names."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from dms.domain.environment import SEALED, unsealed_names
from dms.domain.inputs import Input
from dms.domain.pricing import OUTCOMES, outcome_hashes, terms
from dms.domain.request import PERSONAL_FIELDS, ServiceRequest, is_key_of, strangers_of
from dms.domain.request_again import request_again
from dms.domain.request_doubts import doubts_of
from tests.fixtures.histories import request

CARDANO_ADDRESS = "addr_test1vpu5vlrf4xkxv2qpwngf6cjhtw542ayty80v8dyr49rf5eg57c2qv"
ETHEREUM_ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def personal_request() -> ServiceRequest:
    made = request(tx_hash="0xAB", address_user=ETHEREUM_ADDRESS)
    params = msgspec.structs.replace(made.params, env={"A": "b"}, secret_env={"S": f"{SEALED}x"}, arguments={"lr": "1"})
    return msgspec.structs.replace(made, params=params)


# --- asked again --------------------------------------------------------------------------------------
def test_all_of_it_but_the_payment_and_the_secrets_is_asked_again() -> None:
    found = request_again(personal_request(), personal=True)
    assert found.secrets == ("S",)
    assert found.left_out == ()
    assert "tx_hash" not in found.request
    assert "secret_env" not in found.request["params"]
    assert found.request["params"]["env"] == {"A": "b"}
    assert found.request["address_user"] == ETHEREUM_ADDRESS
    assert found.request["constraints"]["cpu"] == 1000


def test_what_tells_of_a_person_is_left_out_and_named() -> None:
    found = request_again(personal_request(), personal=False)
    assert found.secrets == ()
    assert {"/params/env", "/params/image_id", "/address_user"} <= set(found.left_out)
    assert "/tx_hash" not in found.left_out  # the payment never is among it
    assert not {"env", "image_id", "model_url", "secret_env"} & set(found.request["params"])
    assert "address_user" not in found.request
    assert found.request["service_type"] == "ml-training-cpu"


def test_what_was_not_there_is_not_named() -> None:
    asked = msgspec.structs.replace(request(), params=msgspec.structs.replace(request().params, model_url=""))
    there = {f"/{path.replace('.', '/')}" for path in PERSONAL_FIELDS}
    body: dict[str, Any] = msgspec.to_builtins(asked)
    named = request_again(asked, personal=False).left_out
    assert set(named) <= there
    for pointer in named:
        steps = pointer.strip("/").split("/")
        assert steps[0] in body
        assert len(steps) == 1 or steps[1] in body["params"]


# --- doubts -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("service_type", "machine_type", "pointers"),
    [
        ("ml-training-gpu", "gpu", []),
        ("ml-training-gpu", "cpu", ["/params/machine_type"]),
        ("ml-training-cpu", "gpu", ["/params/machine_type"]),
        ("ml-training-cpu", "cpu", []),
        ("other", "gpu", []),
        ("other", "cpu", []),
    ],
)
def test_a_gpu_that_is_or_is_not_given(service_type: str, machine_type: str, pointers: list[str]) -> None:
    found = doubts_of(request(service_type=service_type, machine_type=machine_type))
    assert [pointer for pointer, _ in found] == pointers


def test_the_two_doubts_about_a_gpu_say_which_it_is() -> None:
    (_, none), *_ = doubts_of(request(service_type="ml-training-gpu"))
    assert "no GPU" in none
    (_, one), *_ = doubts_of(request(machine_type="gpu"))
    assert "gets a GPU" in one


def test_no_gpu_can_be_shared_where_there_is_none() -> None:
    def shared(machine_type: str) -> list[str]:
        asked = request(machine_type=machine_type, service_type="other")
        constraints = msgspec.structs.replace(asked.constraints, share_gpu=True)
        return [place for place, _ in doubts_of(msgspec.structs.replace(asked, constraints=constraints))]

    assert shared("cpu") == ["/constraints/share_gpu"]
    assert shared("gpu") == []


@pytest.mark.parametrize(
    ("arguments", "packages", "pointers"),
    [(None, (), ["/params/arguments"]), (None, ("numpy",), []), ((), (), []), (("true",), (), [])],
)
def test_two_empty_arguments_are_hardly_meant(
    arguments: tuple[str, ...] | None, packages: tuple[str, ...], pointers: list[str]
) -> None:
    asked = request(script="")
    params = msgspec.structs.replace(asked.params, arguments=arguments, packages=packages)
    found = doubts_of(msgspec.structs.replace(asked, params=params))
    assert [place for place, _ in found] == pointers


@pytest.mark.parametrize(
    ("blockchain", "address", "pointer"),
    [
        ("", "", ""),
        ("", ETHEREUM_ADDRESS, ""),
        ("Ethereum", ETHEREUM_ADDRESS, ""),
        ("ETHEREUM", ETHEREUM_ADDRESS, ""),
        ("cardano", CARDANO_ADDRESS, ""),
        ("Cardano", ETHEREUM_ADDRESS, "/address_user"),
        ("Ethereum", CARDANO_ADDRESS, "/address_user"),
        ("Dogecoin", ETHEREUM_ADDRESS, "/blockchain"),
        ("Dogecoin", "", "/blockchain"),
        ("Ethereum", "0x12", "/address_user"),
    ],
)
def test_addresses_and_blockchains_that_do_not_fit(blockchain: str, address: str, pointer: str) -> None:
    found = doubts_of(request(blockchain=blockchain, address_user=address))
    assert [place for place, _ in found] == ([pointer] if pointer else [])


def test_a_doubt_about_an_address_names_both_sides() -> None:
    ((_, text),) = doubts_of(request(blockchain="cardano", address_user=ETHEREUM_ADDRESS))
    assert text == "is an address of Ethereum; the blockchain is Cardano"
    ((_, text),) = doubts_of(request(blockchain="X" * 200))
    assert text == f"unknown blockchain {'X' * 64!r}; Cardano or Ethereum"


# --- whom it names ------------------------------------------------------------------------------------
@pytest.mark.parametrize("named", ["", "RSA", "rsa", "Ed25519", "AB" * 32, "ab" * 32])
def test_what_stands_for_a_key(named: str) -> None:
    assert is_key_of(named, "ab" * 32)


@pytest.mark.parametrize("named", ["ac" * 32, "x", "XXXX"])
def test_what_does_not(named: str) -> None:
    assert not is_key_of(named, "ab" * 32)


PROVIDER, ASKER = ("provider", "aa"), ("asker", "bb")


@pytest.mark.parametrize(
    ("field", "right", "wrong", "told"),
    [
        ("node_id", "provider", "asker", "node_id is asker, not provider"),
        ("local_node_id", "asker", "provider", "local_node_id is provider, not asker"),
        ("public_key", "aa", "bb", "public_key is not the key of that node"),
        ("local_public_key", "bb", "aa", "local_public_key is not the key of that node"),
    ],
)
def test_strangers_in_a_request(field: str, right: str, wrong: str, told: str) -> None:
    params = request().params
    assert strangers_of(params, PROVIDER, ASKER) == []
    assert strangers_of(msgspec.structs.replace(params, **{field: right}), PROVIDER, ASKER) == []
    assert strangers_of(msgspec.structs.replace(params, **{field: wrong}), PROVIDER, ASKER) == [told]


def test_a_stranger_s_id_is_told_cut() -> None:
    params = msgspec.structs.replace(request().params, node_id="x" * 200)
    assert strangers_of(params, PROVIDER, ASKER) == [f"node_id is {'x' * 64}, not provider"]


def test_secret_values_that_can_be_read() -> None:
    assert list(unsealed_names({"A": f"{SEALED}x", "B": "plain", "C": ""})) == ["B", "C"]


def test_who_gives_an_input() -> None:
    assert Input(url="https://a/b").source("peer") == "https://a/b"
    assert Input(url="file:///b").source("peer") == "peer"


# --- what is signed of it -----------------------------------------------------------------------------
def test_the_terms_are_one_text_whatever_the_order() -> None:
    text = terms("job", "provider", "asker", Decimal("1.50"), 7)
    assert text == (
        '{"compute_provider":"provider","estimated_price":"1.5","job_id":"job","minutes":7,"service_provider":"asker"}'
    )
    assert json.loads(text)["minutes"] == 7


def test_each_outcome_has_a_hash_of_its_own() -> None:
    found = outcome_hashes("terms")
    assert list(found) == [f"{name}_hash" for name in OUTCOMES]
    assert found["refund_hash"] == sha256(b"refund:terms").hexdigest()
    assert len(set(found.values())) == len(OUTCOMES)
