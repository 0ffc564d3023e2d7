"""Strict JSON: each thing that two parsers may read differently is refused, and the error says where."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.adapters.http.strict_json import DEEPEST, load, parse
from dms.domain.request import ResumeJob, ServiceRequest
from dms.errors import InvalidInput


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"  ", ""),
        (b"{", ""),
        (b"\xef\xbb\xbf{}", ""),
        (b'{"a":"\xff"}', ""),
        ("{}".encode("utf-16"), ""),
        (b'{"a":NaN}', "/a"),
        (b'{"a":[1,-Infinity]}', "/a/1"),
        (b'{"a":1e999}', "/a"),
        (b'{"a":' + b"9" * 5000 + b"}", "/a"),
        (b'{"a":{"b":1,"b":2}}', "/a/b"),
        (b'{"CPU":1,"cpu":2}', "/cpu"),
        (b'{"a":null,"A":1}', "/a"),
        (b'{"a":"\\ud800"}', "/a"),
        (b'{"a\\u0000b":1}', ""),
        (b'{"a":["x\\u0000"]}', "/a/0"),
        (b'{"a/b~":1e999}', "/a~1b~0"),
        (b"[" * 100_000, ""),
    ],
)
def test_an_unclear_body_is_refused_where_it_is_unclear(body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(body)
    assert refused.value.problems[0][0] == pointer


def test_nesting_is_bounded() -> None:
    load(nested(DEEPEST))
    with pytest.raises(InvalidInput, match="nested deeper"):
        load(nested(DEEPEST + 1))


def test_keys_are_folded_at_every_depth_and_null_is_absent() -> None:
    assert load(b'{"A":[{"Bc":null,"De":"Fg"}]}') == {"a": [{"de": "Fg"}]}


def test_the_known_clients_upper_case_keys_are_read() -> None:
    body = (
        b'{"max_ntx":1,"service_type":"ml-training-cpu","params":{"image_id":"i","Unknown":1},'
        b'"constraints":{"CPU":500,"RAM":2000,"VRAM":2000,"power":170,"complexity":"Low","time":1}}'
    )
    assert parse(body, ServiceRequest).constraints.cpu == 500


def test_a_wrong_type_and_a_missing_field_are_named_by_pointer() -> None:
    with pytest.raises(InvalidInput) as wrong:
        parse(b'{"service_type":"x","max_ntx":1,"params":{"image_id":3},"constraints":{}}', ServiceRequest)
    assert wrong.value.problems[0][0] == "/params/image_id"
    with pytest.raises(InvalidInput) as missing:
        parse(b'{"service_type":"x","max_ntx":1,"params":{"image_id":"i"},"constraints":{"cpu":1}}', ServiceRequest)
    assert missing.value.problems[0][0].startswith("/constraints/")


PLAIN_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
PLAIN_JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN_JSON)
def test_plain_json_is_read_as_it_is(value: object) -> None:
    assert load(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        load(body)
    except InvalidInput:
        return


@pytest.mark.parametrize(
    "unread",
    [
        '"other":{"a":1,"A":2}',
        '"other":["x\\u0000"]',
        '"x\\u0000":1',
        '"other":' + "9" * 50,
        '"other":' + "[" * 50 + "]" * 50,
        '"OTHER":1,"other":2',
    ],
)
def test_what_nobody_reads_is_ignored_whatever_it_holds(unread: str) -> None:
    assert parse(b'{"resume":true,' + unread.encode() + b"}", ResumeJob).resume is True


@pytest.mark.parametrize(
    ("read", "pointer"),
    [
        ('"progress_file":"x\\u0000"', "/progress_file"),
        ('"resume":true,"Resume":true', "/resume"),
        ('"progress_file":' + "9" * 50, "/progress_file"),
    ],
)
def test_what_is_read_is_refused_where_it_is_unclear(read: str, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(b"{" + read.encode() + b"}", ResumeJob)
    (problem,) = refused.value.problems
    assert problem[0] == pointer
    assert "Expected" not in problem[1]


def test_an_unclear_value_does_not_come_through_where_anything_is_taken() -> None:
    with pytest.raises(InvalidInput, match="64 bits"):
        parse(b'{"anything":[' + b"9" * 50 + b"]}", dict[str, object])


def test_a_whole_number_may_be_written_with_a_point() -> None:
    body = (
        b'{"max_ntx":1,"service_type":"ml-training-cpu","params":{"image_id":"i"},'
        b'"constraints":{"cpu":500.0,"ram":2e3,"complexity":"Low","time":1}}'
    )
    constraints = parse(body, ServiceRequest).constraints
    assert (constraints.cpu, constraints.ram) == (500, 2000)
    with pytest.raises(InvalidInput):
        parse(body.replace(b"500.0", b"500.5"), ServiceRequest)
