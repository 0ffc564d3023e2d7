"""An event of the log as CloudEvents 1.0 in JSON: the one form in which it leaves the machine, over
HTTP and over NATS.

The stored body goes out as it is, byte for byte and at the schema version it was written with, so
that a receiver can recompute the hash and an event of a newer program passes through unharmed. What it
tells of a person stays sealed in it, unless a reader on this machine asks for it open.
Source: CloudEvents 1.0.2, JSON Event Format; its extensions "Distributed Tracing" (traceparent)
and "Correlation" (correlationid, causationid).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dms.domain.event import Recorded, open_data

MEDIA_TYPE = "application/cloudevents+json"
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
TYPE_PREFIX = "io.nunet.dms."

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
Uuid = Annotated[str, Meta(pattern=rf"^{_UUID}\Z")]
_encode = msgspec.json.Encoder().encode


class CloudEvent(Struct, frozen=True, kw_only=True):
    """What `cloud_event` writes, for those who read it. `dataschema` is the `$id` of the schema that
    `data` fits, in schemas/events. position: in the log of the source, gap-free from 1.
    streamversion: of the subject, gap-free from 1. hash: the chain's link at this event (hex)."""

    specversion: Literal["1.0"]
    id: Uuid
    source: Annotated[str, Meta(pattern=r"^urn:nunet:dms:peer:.+\Z", description="the DMS whose log it is")]
    type: Annotated[str, Meta(pattern=r"^io\.nunet\.dms\..+\.v[1-9][0-9]*\Z", description="topic and schema version")]
    subject: Annotated[str, Meta(min_length=1, description="the stream: <aggregate>-<key>")]
    time: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\Z")]
    datacontenttype: Literal["application/json"]
    dataschema: Annotated[str, Meta(pattern=r"^urn:nunet:dms:event:.+:v[1-9][0-9]*\Z")]
    position: Annotated[int, Meta(ge=1)]
    streamversion: Annotated[int, Meta(ge=1)]
    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    data: dict[str, Any]
    correlationid: Annotated[Uuid, Meta(description="the job")] | UnsetType = UNSET
    causationid: Annotated[Uuid, Meta(description="the event or command that caused it")] | UnsetType = UNSET
    traceparent: Annotated[str, Meta(min_length=1, description="W3C Trace Context")] | UnsetType = UNSET


def source_of(peer_id: str) -> str:
    """The URN of the DMS with that peer id."""
    return f"urn:nunet:dms:peer:{peer_id}"


def cloud_event(recorded: Recorded, peer_id: str, *, personal: bool = False) -> bytes:
    """One JSON object without a line break. peer_id: of the DMS whose log it is. personal: `data` with its personal
    fields open; the hash is of the stored form all the same."""
    seconds, microseconds = divmod(recorded.time, 1_000_000)
    more = ""
    if recorded.correlation_id:
        more += f',"correlationid":"{recorded.correlation_id}"'
    if recorded.causation_id:
        more += f',"causationid":"{recorded.causation_id}"'
    if recorded.traceparent:
        more += f',"traceparent":{_text(recorded.traceparent)}'
    head = (
        f'{{"specversion":"1.0","id":"{recorded.event_id}",{_source(peer_id)},'
        f'{_kind(recorded.topic, recorded.schema_version)},"subject":{_text(recorded.originator_id)},'
        f'"time":"{_second(seconds)}.{microseconds:06d}Z","datacontenttype":"application/json",'
        f'"position":{recorded.position},"streamversion":{recorded.originator_version}'
        f'{more},"hash":"{recorded.hash.hex()}","data":'
    )
    return b"%s%s}" % (head.encode(), open_data(recorded) if personal else recorded.data)


def _text(value: str) -> str:
    """As a JSON string."""
    return _encode(value).decode()


@lru_cache(maxsize=16)
def _source(peer_id: str) -> str:
    return f'"source":{_text(source_of(peer_id))}'


@lru_cache(maxsize=1024)
def _kind(topic: str, version: int) -> str:
    kind, schema = f"{TYPE_PREFIX}{topic}.v{version}", f"urn:nunet:dms:event:{topic}:v{version}"
    return f'"type":{_text(kind)},"dataschema":{_text(schema)}'


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
