"""The description of all that streams, AsyncAPI 3.0: rendered from what each adapter says of its channels. Pure.

A payload is a schema whose references lead into the document's own `components`, so that the document is whole
wherever it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

Schema = Mapping[str, Any]
JSON = "application/json"
SCHEMAS, MESSAGES = "#/components/schemas/", "#/components/messages/"
_ABOUT = """What a Device Management Service streams: jobs live over websockets, its event log over HTTP and NATS.

Every event is a CloudEvent 1.0 in JSON, the same in all forms, and `position` is the one cursor. Readers ignore keys
that they don't know, and events whose `type` is not named here: newer programs may have written them."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """key: unlike that of any other message in the document; two that share it are one. name: in its channel.
    headers: schema of what travels beside the payload. more: further fields of the message object."""

    key: str
    name: str
    payload: Schema
    content_type: str = JSON
    title: str = ""
    summary: str = ""
    headers: Schema | None = None
    more: Schema = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """sends: the DMS sends these messages; else it takes them. form: tells apart the operations of a channel
    that go the same way."""

    sends: bool
    summary: str
    messages: tuple[Message, ...]
    form: str = ""
    bindings: Schema = field(default_factory=dict)
    more: Schema = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """parameters: of the address, by name: what each is, and what it may be."""

    key: str
    address: str
    server: str
    title: str
    operations: tuple[Operation, ...]
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, Schema] = field(default_factory=dict)
    bindings: Schema = field(default_factory=dict)
    more: Schema = field(default_factory=dict)

    def messages(self) -> dict[str, Message]:
        return {message.name: message for operation in self.operations for message in operation.messages}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one adapter says. schemas: by name, for its messages to refer to."""

    servers: Mapping[str, Schema] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    schemas: Mapping[str, Schema] = field(default_factory=dict)


def document(parts: Iterable[Part], version: str) -> dict[str, Any]:
    """The whole description. Raises TypeError when two parts give one name to different things."""
    found = tuple(parts)
    channels = [channel for part in found for channel in part.channels]
    messages = chain.from_iterable(channel.messages().values() for channel in channels)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:nunet:dms:asyncapi",
        "info": {
            "title": "Device Management Service: what it streams",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "AGPL-3.0-only"},
            "tags": [{"name": tag} for tag in sorted({tag for channel in channels for tag in channel.tags})],
        },
        "defaultContentType": JSON,
        "servers": _joined((name, dict(server)) for part in found for name, server in part.servers.items()),
        "channels": _joined((channel.key, _channel(channel)) for channel in channels),
        "operations": _joined(chain.from_iterable(map(_operations, channels))),
        "components": {
            "messages": _joined((message.key, _message(message)) for message in messages),
            "schemas": _joined((name, dict(schema)) for part in found for name, schema in part.schemas.items()),
        },
    }


def component(name: str, schema: Schema) -> dict[str, Any]:
    """A schema document, with its definitions, as the component of that name. It gives up its `$id`, from which its
    references would count."""
    moved: dict[str, Any] = _moved(schema, f"{SCHEMAS}{name}/$defs/")
    return {key: value for key, value in moved.items() if key not in ("$id", "$schema")}


def _moved(schema: Any, place: str) -> Any:
    if isinstance(schema, list | tuple):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: _moved(value, place) for key, value in schema.items()}
    if isinstance(ref := schema.get("$ref"), str):
        inner["$ref"] = ref.replace("#/$defs/", place)
    return inner


def _joined(pairs: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise TypeError(f"two things of the AsyncAPI document share the name {name}")
    return dict(sorted(found.items()))


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": channel.address,
        "title": channel.title,
        "servers": [{"$ref": f"#/servers/{channel.server}"}],
        "messages": {name: {"$ref": MESSAGES + message.key} for name, message in sorted(channel.messages().items())},
        **_given(
            description=channel.description,
            parameters={name: dict(about) for name, about in channel.parameters.items()},
            tags=[{"name": tag} for tag in channel.tags],
            bindings=channel.bindings,
        ),
        **channel.more,
    }


def _operations(channel: Channel) -> Iterator[tuple[str, dict[str, Any]]]:
    for operation in channel.operations:
        action, place = "send" if operation.sends else "receive", f"#/channels/{channel.key}"
        names = sorted(message.name for message in operation.messages)
        yield (
            "_".join(filter(None, (action, channel.key, operation.form))),
            {
                "action": action,
                "channel": {"$ref": place},
                "summary": operation.summary,
                "messages": [{"$ref": f"{place}/messages/{name}"} for name in names],
                **_given(bindings=operation.bindings),
                **operation.more,
            },
        )


def _message(message: Message) -> dict[str, Any]:
    return {
        "name": message.name,
        "contentType": message.content_type,
        "payload": dict(message.payload),
        **_given(title=message.title, summary=message.summary, headers=message.headers),
        **message.more,
    }


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
