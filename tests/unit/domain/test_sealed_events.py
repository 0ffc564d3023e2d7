"""Personal fields: taken out, put back, and found where a peer has them in the clear or hides what is not personal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms.domain import event as event_module
from dms.domain.checkpoint import archive_bound
from dms.domain.deployment import Deployment
from dms.domain.event import Event, Recorded, Unknown, decode, encode, in_the_clear, misplaced, new_id, open_data
from dms.domain.sealing import ERASED, SEALED, erased, put_back, scope_of, streams_of, take_out, texts
from dms.errors import LogCorrupt
from tests.fixtures.histories import START, request

REJECTED = Deployment.Rejected(reason="no room")
REQUESTED = Deployment.Requested(service_provider="p", request=request(tx_hash="0xAB"), price="1")


class Keys:
    """Opens what was sealed with `seal`, under the topic that it was sealed for."""

    def __init__(self, *, lost: bool = False) -> None:
        self._lost = lost

    def seal(self, plain: bytes, topic: str) -> str:
        return f"{topic}|{plain.decode()}"

    def open(self, token: str, topic: str) -> bytes | None:
        named, _, plain = token.partition("|")
        return None if self._lost or named != topic else plain.encode()


KEYS, LOST = Keys(), Keys(lost=True)


def sealed(event: Event) -> bytes:
    return encode(event, KEYS.seal)


def wrong(event: Event, data: bytes, keys: Keys = KEYS) -> str:
    return misplaced(event.TOPIC, event.VERSION, data, keys)


@pytest.mark.parametrize("event", [REJECTED, REQUESTED], ids=["rejected", "requested"])
def test_what_is_sealed_is_read_with_its_key(event: Event) -> None:
    data = sealed(event)
    assert decode(event.TOPIC, event.VERSION, data, KEYS) == event
    assert wrong(event, data) == ""
    assert not in_the_clear(event.TOPIC, event.VERSION, data)


def test_without_its_key_what_is_personal_is_gone() -> None:
    found = decode(REJECTED.TOPIC, REJECTED.VERSION, sealed(REJECTED), LOST)
    assert isinstance(found, Deployment.Rejected)
    assert found.reason == ERASED
    assert decode(REJECTED.TOPIC, REJECTED.VERSION, sealed(REJECTED)) == found
    asked = decode(REQUESTED.TOPIC, REQUESTED.VERSION, sealed(REQUESTED), LOST)
    assert isinstance(asked, Deployment.Requested)
    assert asked.request.tx_hash == ERASED
    assert asked.request.constraints == REQUESTED.request.constraints
    assert asked.price == "1"


def test_text_of_a_person_in_the_clear() -> None:
    assert in_the_clear(REJECTED.TOPIC, REJECTED.VERSION, encode(REJECTED))
    assert wrong(REJECTED, encode(REJECTED)) == "tells of a person in the clear"
    assert in_the_clear(REQUESTED.TOPIC, REQUESTED.VERSION, encode(REQUESTED))
    empty = Deployment.Accepted(reserved=Deployment("x").reserved)
    assert not in_the_clear(empty.TOPIC, empty.VERSION, encode(empty))
    assert wrong(empty, encode(empty)) == ""


def test_a_token_of_another_key() -> None:
    assert wrong(REJECTED, sealed(REJECTED), LOST) == "is sealed under a key that is not its job's"


def test_what_is_no_person_s_may_not_be_hidden() -> None:
    body: dict[str, Any] = msgspec.to_builtins(REQUESTED)
    price = {"price": body.pop("price")}
    personal = take_out(body, type(REQUESTED).PERSONAL)
    hidden = body | {SEALED: KEYS.seal(msgspec.json.encode(price | personal), REQUESTED.TOPIC)}
    assert wrong(REQUESTED, msgspec.json.encode(hidden)) == "hides what is to be read without a key"
    nested = body | price | {SEALED: KEYS.seal(msgspec.json.encode({"request": {"max_ntx": 3}}), REQUESTED.TOPIC)}
    assert wrong(REQUESTED, msgspec.json.encode(nested)) == "hides what is to be read without a key"
    nothing = body | price | {SEALED: KEYS.seal(msgspec.json.encode({"request": {}}), REQUESTED.TOPIC)}
    assert wrong(REQUESTED, msgspec.json.encode(nothing)) == ""


@pytest.mark.parametrize("data", [b"[]", b"1", b'"\xff"', b"{", b'{"_":{}}'])
def test_a_body_that_is_none(data: bytes) -> None:
    with pytest.raises(LogCorrupt, match=f"{REQUESTED.TOPIC} v{REQUESTED.VERSION} can't be read"):
        decode(REQUESTED.TOPIC, REQUESTED.VERSION, data, KEYS)


def test_no_reader_is_kept_for_what_nobody_knows() -> None:
    decode(REJECTED.TOPIC, REJECTED.VERSION, encode(REJECTED))
    before = len(event_module._readers)
    for number in range(100):
        assert decode(f"made.up_{number}", 1, b"{}") == Unknown(topic=f"made.up_{number}", version=1, body={})
        assert isinstance(decode(REJECTED.TOPIC, 1000 + number, b"{}"), Unknown)
    assert len(event_module._readers) == before


def recorded(event: Event, version: int, data: bytes) -> Recorded:
    stream = f"deployment-{new_id()}"
    return Recorded(1, stream, 1, event.TOPIC, version, START, b"", b"", b"", "", data, b"", event)


def test_a_body_as_others_may_read_it() -> None:
    assert open_data(recorded(REJECTED, REJECTED.VERSION, sealed(REJECTED))) == encode(REJECTED)
    older = recorded(REJECTED, REJECTED.VERSION - 1, b"older")
    assert open_data(older) == b"older"
    plain = Deployment.LogSealed(lines=1, sha256="", truncated=False)
    assert open_data(recorded(plain, plain.VERSION, b"as stored")) == b"as stored"


# --- bodies -------------------------------------------------------------------------------------------
def test_fields_are_taken_out_in_their_nesting_and_put_back() -> None:
    body: dict[str, Any] = {"a": {"b": {"c": 1, "d": 2}}, "e": 3, "f": {"g": 4}, "h": "text"}
    before = msgspec.json.decode(msgspec.json.encode(body))
    taken = take_out(body, {"a.b.c": 0, "e": 0, "f.x": 0, "x.y": 0, "h.z": 0})
    assert taken == {"a": {"b": {"c": 1}}, "e": 3}
    assert body == {"a": {"b": {"d": 2}}, "f": {"g": 4}, "h": "text"}
    put_back(body, taken)
    assert body == before


def test_what_is_put_back_over_another_shape_replaces_it() -> None:
    body: dict[str, Any] = {"a": 1, "b": {"c": 2}}
    put_back(body, {"a": {"x": 1}, "b": 5})
    assert body == {"a": {"x": 1}, "b": 5}


def test_what_stands_in_place_of_erased_fields() -> None:
    assert erased({"a.b": "x", "a.c": [], "d": 0}) == {"a": {"b": "x", "c": []}, "d": 0}


def test_texts_are_found_at_any_depth() -> None:
    assert list(texts({"a": ["x", {"b": ("y", 1)}], "c": None, "d": "z"})) == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("stream", "scope"),
    [("job-1-2", "1-2"), ("deployment-1-2", "1-2"), ("device-x", "device-x"), ("transfer-1", "transfer-1")],
)
def test_whose_key_seals_a_stream(stream: str, scope: str) -> None:
    assert scope_of(stream) == scope
    assert stream in streams_of(scope)


def test_the_bound_of_an_archive_is_above_its_content() -> None:
    assert archive_bound(0) == 64 << 20
    assert archive_bound(1000) == 1000 + 10 + (64 << 20)
