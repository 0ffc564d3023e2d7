"""Each event type and version as a message of the AsyncAPI document: the CloudEvents envelope, and in it the schema
that is in schemas/events."""

from __future__ import annotations

from typing import Any

from dms.application.records import event_schemas
from dms.application.records.asyncapi import SCHEMAS, Message, Part, Schema, component
from dms.application.records.cloudevents import MEDIA_TYPE, TYPE_PREFIX

ENVELOPE = "CloudEvent"


def part() -> Part:
    """What the messages of all channels refer to: the envelope, each event's `data`, and the two together as
    `event.job.submitted.v1`."""
    found: dict[str, Schema] = {ENVELOPE: component(ENVELOPE, event_schemas.envelope_schema())}
    for name, schema in event_schemas.event_schemas().items():
        found[name] = component(name, schema)
        found[f"event.{name}"] = _enveloped(name, schema["$id"])
    return Part(schemas=found)


def messages(aggregate: str = "", headers: Schema | None = None, group: str = "event") -> tuple[Message, ...]:
    """Of every event, or only those of one aggregate. headers: what travels beside them there; group: a word that
    tells messages with those headers from others."""
    return tuple(
        Message(
            key=f"{group}.{name}",
            name=name,
            payload={"$ref": f"{SCHEMAS}event.{name}"},
            content_type=MEDIA_TYPE,
            title="{}, version {}".format(*name.rsplit(".v", 1)),
            headers=headers,
            more={"correlationId": {"location": "$message.payload#/correlationid", "description": "The job."}},
        )
        for name in event_schemas.names(aggregate)
    )


def names_by_aggregate() -> dict[str, tuple[str, ...]]:
    """`{"job": ("completed", ...), ...}`."""
    found: dict[str, set[str]] = {}
    for name in event_schemas.names():
        aggregate, what, _ = name.split(".")
        found.setdefault(aggregate, set()).add(what)
    return {aggregate: tuple(sorted(names)) for aggregate, names in sorted(found.items())}


def _enveloped(name: str, identity: str) -> dict[str, Any]:
    return {
        "allOf": [
            {"$ref": SCHEMAS + ENVELOPE},
            {
                "type": "object",
                "properties": {
                    "type": {"const": TYPE_PREFIX + name},
                    "dataschema": {"const": identity},
                    "data": {"$ref": SCHEMAS + name},
                },
            },
        ]
    }
