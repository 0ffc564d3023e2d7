"""What the relay publishes, for the AsyncAPI document: a channel for each aggregate. Pure."""

from __future__ import annotations

import msgspec

from dms.adapters.nats.stream import HEADERS, STREAM, SUBJECT, wanted
from dms.application.records import event_messages
from dms.application.records.asyncapi import Channel, Operation, Part, Schema
from dms.config import Nats

SERVER = "nats"
_PART = "Characters beyond letters, digits, - and _ are percent-encoded; a long one is cut and ends in ~ and a digest."
_SERVERS: dict[str, Schema] = {
    SERVER: {
        "host": "{address}",
        "protocol": "nats",
        "description": "NATS with JetStream, where `nats.url` is set.",
        "variables": {"address": {"default": "127.0.0.1:4222", "description": "From the setting nats.url."}},
    }
}


def part() -> Part:
    return Part(
        servers=_SERVERS,
        channels=tuple(_channel(*found) for found in event_messages.names_by_aggregate().items()),
    )


def _channel(aggregate: str, events: tuple[str, ...]) -> Channel:
    told = event_messages.messages(aggregate, HEADERS, "nats")
    return Channel(
        key=f"nats.{aggregate}",
        address=SUBJECT.replace("{aggregate}", aggregate),
        server=SERVER,
        title=f"Events of each {aggregate}, in JetStream.",
        description=f"Each event of the log once and in order, in the JetStream stream {STREAM}.",
        operations=(Operation(sends=True, summary=f"What happened to each {aggregate}.", messages=told),),
        tags=("events",),
        parameters={
            "peer": {"description": f"Peer id of the DMS whose log it is. {_PART}"},
            "id": {"description": f"Which {aggregate}: the key behind `{aggregate}-` in the event's subject. {_PART}"},
            "event": {"description": "What happened.", "enum": list(events)},
        },
        more={"x-jetstream": _stream()},
    )


def _stream() -> Schema:
    """As it is made where it is missing; its size is its operator's matter."""
    config = wanted(Nats())
    return {
        "stream": config.name,
        "subjects": config.subjects,
        "retention": msgspec.to_builtins(config.retention),
        "discard": msgspec.to_builtins(config.discard),
        "storage": msgspec.to_builtins(config.storage),
    }
