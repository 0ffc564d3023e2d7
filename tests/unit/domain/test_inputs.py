"""Inputs and environment of a job: what can't be had is named by its field, before anyone is asked or paid."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms.adapters.http.strict_json import parse
from dms.domain.environment import MOST_BYTES, MOST_VARIABLES
from dms.domain.inputs import Input
from dms.domain.request import MOST_REQUEST_BYTES, ServiceRequest, problems_of
from dms.errors import InvalidInput
from tests.fixtures.histories import request


def asked(**params: Any) -> ServiceRequest:
    made = request()
    return msgspec.structs.replace(made, params=msgspec.structs.replace(made.params, **params))


def problems(**params: Any) -> list[str]:
    return [pointer for pointer, _ in problems_of(asked(**params))]


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"url": "https://example.org/data/train.csv?token=x#top"}, "train.csv"),
        ({"url": "https://example.org/a%20b.csv"}, "a b.csv"),
        ({"url": "https://example.org/x", "path": "data//./train.csv"}, "data/train.csv"),
        ({"url": "https://example.org/cifar.tar.gz", "unpack": "tar.gz"}, "cifar"),
        ({"url": "https://example.org/cifar.TGZ", "unpack": "tar.gz"}, "cifar"),
        ({"url": "https://example.org/cifar.tar.gz"}, "cifar.tar.gz"),
        ({"url": "https://example.org/.zip", "unpack": "zip"}, ".zip"),
        ({"url": "file:/home/user/model.bin"}, "model.bin"),
    ],
)
def test_an_input_is_named_after_its_url_unless_a_path_is_given(given: dict[str, Any], place: str) -> None:
    assert Input(**given).place == place
    assert problems(inputs=(Input(**given),)) == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "ftp://example.org/x"}, "url"),
        ({"url": "s3://bucket/key"}, "url"),
        ({"url": "train.csv"}, "url"),
        ({"url": "https:///x"}, "url"),
        ({"url": "https://user:secret@example.org/x"}, "url"),
        ({"url": "https://example.org:99999/x"}, "url"),
        ({"url": "https://example.org:0/x"}, "url"),
        ({"url": "https://[::1/x"}, "url"),
        ({"url": "https://example.org/a b"}, "url"),
        ({"url": "https://example.org/a\nHost:b"}, "url"),
        ({"url": "file://other/x"}, "url"),
        ({"url": "file:/"}, "url"),
        ({"url": "https://example.org/"}, "path"),
        ({"url": "https://example.org/%2e%2e"}, "path"),
        ({"url": "https://example.org/x", "path": "/etc/passwd"}, "path"),
        ({"url": "https://example.org/x", "path": "a/../../b"}, "path"),
        ({"url": "https://example.org/x", "path": "."}, "path"),
        ({"url": "https://example.org/x", "path": "a\\b"}, "path"),
        ({"url": "https://example.org/x", "path": "./.dms-incoming/content"}, "path"),
        ({"url": "https://example.org/.dms-incoming"}, "path"),
        ({"url": "https://example.org/x", "path": "a\x1bb"}, "path"),
        ({"url": "https://example.org/x", "path": "x" * 256}, "path"),
        ({"url": "https://example.org/x", "path": "/".join("d" * 33)}, "path"),
        ({"url": "https://example.org/x", "unpack": "rar"}, "unpack"),
    ],
)
def test_an_input_that_can_not_be_is_named_by_its_field(given: dict[str, Any], field: str) -> None:
    found = problems_of(asked(inputs=(Input(**given),)))
    assert [pointer for pointer, _ in found] == [f"/params/inputs/0/{field}"]
    assert len(found[0][1]) < 300
    assert "secret" not in found[0][1]


@pytest.mark.parametrize("second", ["data", "data/x", "data/x/y"])
def test_two_inputs_do_not_share_a_place(second: str) -> None:
    first = Input(url="https://example.org/a", path="data")
    assert problems(inputs=(Input(url="https://example.org/b", path=second), first)) != []
    assert problems(inputs=(first, Input(url="https://example.org/b", path="data2"))) == []


@pytest.mark.parametrize(
    "name", ["HOME", "LD_PRELOAD", "ld_audit", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "DMS_X", "NUNET_X"]
)
def test_what_the_provider_sets_itself_is_refused_by_name(name: str) -> None:
    for field in ("env", "secret_env"):
        found = problems_of(asked(**{field: {name: "x"}}))
        assert [pointer for pointer, _ in found] == [f"/params/{field}/{name}"]
        assert name in found[0][1]


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "A B", "É"])
def test_a_name_is_one_that_a_shell_takes(name: str) -> None:
    assert problems(env={name: "x"}) == [f"/params/env/{name}"]


def test_no_problem_of_a_variable_repeats_its_value() -> None:
    found = problems_of(asked(env={"A": "x"}, secret_env={"A": "hush", "HOME": "hush", "B": "hu\0sh"}))
    assert len(found) == 3
    assert not any("hu" in text for _, text in found)


def test_variables_are_bounded_by_count_and_size() -> None:
    assert problems(env={"A": "x" * (MOST_BYTES - 1)}) == []
    assert problems(env={"A": "x" * (MOST_BYTES - 1)}, secret_env={"B": ""}) == ["/params/env"]
    many = {f"A{number}": "" for number in range(MOST_VARIABLES)}
    assert problems(env=many) == []
    assert problems(env=many, secret_env={"B": ""}) == ["/params/env"]


def test_a_request_fits_into_a_frame() -> None:
    inputs = tuple(Input(url=f"https://example.org/{number}/" + "x" * 3_000, path=str(number)) for number in range(60))
    assert len(msgspec.json.encode(inputs)) > MOST_REQUEST_BYTES
    assert problems(inputs=inputs) == [""]


def test_names_of_variables_keep_their_case_and_other_keys_do_not() -> None:
    body = msgspec.to_builtins(asked(env={"HF_Token": "a", "hf_token": "b"}))
    body["PARAMS"] = body.pop("params")
    read = parse(msgspec.json.encode(body), ServiceRequest)
    assert dict(read.params.env) == {"HF_Token": "a", "hf_token": "b"}


def test_a_variable_that_is_there_twice_is_refused() -> None:
    body = msgspec.json.encode(asked(env={"A": "a", "B": "b"})).replace(b'"B"', b'"A"')
    with pytest.raises(InvalidInput, match="the key is there twice") as refused:
        parse(body, ServiceRequest)
    assert refused.value.problems[0][0] == "/params/env/A"
