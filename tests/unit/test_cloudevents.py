"""Events as CloudEvents: valid by the committed schema, lossless, and safe against odd content."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import orjson
import pytest
from jsonschema import Draft202012Validator

from dms.application.records.cloudevents import CloudEvent, cloud_event
from dms.domain.chain import GENESIS, id_bytes, link
from dms.domain.event import Event, Recorded, encode, new_id
from dms.domain.job import Job
from dms.domain.payment import Payment
from ops.schemas import schemas
from tests.fixtures.histories import START, new_job

PEER = "12D3KooWExample"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENVELOPE = Draft202012Validator(schemas()["cloudevent.v1.json"])


def recorded(event: Event, stream: str = "job-0198c0de-0000-7000-8000-000000000000", **more: Any) -> Recorded:
    given = {
        "position": 7,
        "originator_id": stream,
        "originator_version": 3,
        "topic": event.TOPIC,
        "schema_version": event.VERSION,
        "time": START + 42,
        "id": id_bytes(new_id()),
        "correlation": id_bytes("0198c0de-0000-7000-8000-000000000000"),
        "causation": id_bytes(new_id()),
        "traceparent": TRACE,
        "data": encode(event),
        "hash": bytes(range(32)),
        "event": event,
        **more,
    }
    return Recorded(**given)


def shown(one: Recorded) -> dict[str, Any]:
    text = cloud_event(one, PEER)
    assert b"\n" not in text
    ENVELOPE.validate(orjson.loads(text))
    found: dict[str, Any] = orjson.loads(text)
    return found


def test_an_event_carries_all_attributes() -> None:
    one = recorded(Job.Submitted(provider="12D3KooWProvider"))
    assert shown(one) == {
        "specversion": "1.0",
        "id": one.event_id,
        "source": "urn:nunet:dms:peer:12D3KooWExample",
        "type": "io.nunet.dms.job.submitted.v1",
        "dataschema": "urn:nunet:dms:event:job.submitted:v1",
        "subject": "job-0198c0de-0000-7000-8000-000000000000",
        "time": "2025-10-09T08:53:20.000042Z",
        "datacontenttype": "application/json",
        "position": 7,
        "streamversion": 3,
        "correlationid": one.correlation_id,
        "causationid": one.causation_id,
        "traceparent": TRACE,
        "hash": bytes(range(32)).hex(),
        "data": {"provider": "12D3KooWProvider"},
    }


def test_attribute_names_are_those_that_cloudevents_allows() -> None:
    names = [field.name for field in msgspec.structs.fields(CloudEvent)]
    assert all(name.isascii() and name.isalnum() and name == name.lower() and len(name) <= 20 for name in names)


def test_absent_attributes_are_left_out() -> None:
    found = shown(recorded(Job.Submitted(provider="x"), correlation=b"", causation=b"", traceparent=""))
    assert not {"correlationid", "causationid", "traceparent"} & set(found)


def test_every_event_of_a_job_fits_the_schema_that_it_names() -> None:
    by_id = {schema["$id"]: schema for schema in schemas().values() if "$id" in schema}
    events = [event for _, event in new_job().pending]
    assert events
    for event in events:
        found = shown(recorded(event))
        Draft202012Validator(by_id[found["dataschema"]]).validate(found["data"])


@pytest.mark.parametrize("key", ['a"b', "a\\b", "a\nb", "ключ", "a\x00b", "</script>"])
def test_keys_that_users_choose_stay_inside_their_attribute(key: str) -> None:
    assert shown(recorded(Payment.Used(job_id="j"), f"payment-{key}"))["subject"] == f"payment-{key}"
    assert shown(recorded(Payment.Used(job_id="j"), traceparent=key))["traceparent"] == key


def test_an_event_of_a_newer_program_passes_through_unharmed() -> None:
    body = b'{"provider":"x","invented_later":[1,{"deep":"\\u00e9"}]}'
    one = recorded(Job.Submitted(provider="x"), schema_version=9, data=body)
    found = shown(one)
    assert found["type"] == "io.nunet.dms.job.submitted.v9"
    assert cloud_event(one, PEER).endswith(b'"data":' + body + b"}")


def test_time_is_exact_to_the_microsecond() -> None:
    for time in (0, 1, START, START + 999_999, 4_102_444_800_000_001):
        text = shown(recorded(Job.Submitted(provider="x"), time=time))["time"]
        assert round(datetime.fromisoformat(text).timestamp() * 1_000_000) == time


def test_a_receiver_can_recompute_the_hash() -> None:
    """From the attributes, the bytes of data and the hash before."""
    one = recorded(Job.Submitted(provider="x"))
    text = cloud_event(one, PEER)
    found = msgspec.json.decode(text, type=CloudEvent)
    assert msgspec.json.decode(msgspec.json.encode(found)) == orjson.loads(text)
    topic, _, version = found.dataschema.removeprefix("urn:nunet:dms:event:").rpartition(":v")
    time = round(datetime.fromisoformat(found.time).timestamp() * 1_000_000)
    data = text[text.index(b'"data":') + 7 : -1]
    values = (
        GENESIS, found.position, found.subject.encode(), found.streamversion, topic.encode(), int(version), time,
        id_bytes(found.id), id_bytes(str(found.correlationid)), id_bytes(str(found.causationid)),
        str(found.traceparent).encode(), data,
    )  # fmt: skip
    stored = (
        GENESIS, one.position, one.originator_id.encode(), one.originator_version, one.topic.encode(),
        one.schema_version, one.time, one.id, one.correlation, one.causation, one.traceparent.encode(), one.data,
    )  # fmt: skip
    assert link(*values) == link(*stored)
