"""The websockets and the streamed answers, for the AsyncAPI document: made from the route tables. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from dms.adapters.http.openapi import PATH_PARAMETERS, Shapes, path_of
from dms.adapters.http.routes import Parameter, Route, WebSocket
from dms.application.records import event_messages
from dms.application.records.asyncapi import JSON, SCHEMAS, Channel, Message, Operation, Part, Schema
from dms.application.records.cloudevents import CloudEvent
from dms.config import Rest

HTTP, WS = "http", "websocket"
TEXT, NDJSON, SSE = "text/plain", "application/x-ndjson", "text/event-stream"
_FORMS = {TEXT: "text", NDJSON: "lines", SSE: "sse"}
_FRAMING = {
    TEXT: "Text, as it comes.",
    NDJSON: "One message a line; empty lines only say that the stream lives.",
    SSE: "Server-Sent Events: `data` is a message, `id` its position, `event` its topic (such as job.completed). "
    "Comments say that the stream lives; Last-Event-ID goes on behind that position.",
}


def part(routes: Iterable[Route], sockets: Iterable[WebSocket]) -> Part:
    shapes = Shapes(SCHEMAS + "{name}")
    channels = (
        *(channel for socket in sockets for channel in _of_socket(socket, shapes)),
        *(_of_route(route, shapes) for route in routes if route.stream),
    )
    schemas = {name: schema for name, schema in shapes.components.items() if name != event_messages.ENVELOPE}
    return Part(servers=_servers(), channels=channels, schemas=schemas)  # the envelope is described with the events


def _servers() -> dict[str, Schema]:
    host = f"{Rest().addr}:{Rest().port}"
    about = "A DMS; see the settings rest.addr and rest.port."
    return {
        HTTP: {"host": host, "protocol": "http", "description": about},
        WS: {"host": host, "protocol": "ws", "description": about},
    }


def _key(address: str) -> str:
    """`/api/v1/run/deploy` as `api.v1.run.deploy`."""
    return ".".join(re.findall(r"[\w-]+", address))


# --- websockets ------------------------------------------------------------------------------------
def _of_socket(socket: WebSocket, shapes: Shapes) -> Iterator[Channel]:
    """One for each subprotocol, of the same address."""
    for subprotocol, outgoing in (socket.subprotocols or {"": socket.outgoing}).items():
        told, taken = _messages(socket, outgoing, subprotocol, shapes), _messages(socket, socket.incoming, "", shapes)
        ways = ((True, "What the DMS says.", told), (False, "What the DMS hears.", taken))
        yield Channel(
            key=".".join(filter(None, (_key(socket.address), subprotocol))),
            address=socket.address,
            server=WS,
            title=f"{socket.summary} Subprotocol {subprotocol}." if subprotocol else socket.summary,
            description=socket.description,
            tags=socket.tags,
            operations=tuple(
                Operation(sends=sends, summary=summary, messages=messages)
                for sends, summary, messages in ways
                if messages
            ),
            bindings={"ws": _handshake(socket.query, subprotocol)},
        )


def _handshake(query: Iterable[Parameter], subprotocol: str) -> dict[str, Any]:
    asked = {"Sec-WebSocket-Protocol": {"type": "string", "const": subprotocol}}
    headers = {"type": "object", "properties": asked, "required": list(asked)}
    return {
        "method": "GET",
        "query": _query(query),
        **({"headers": headers} if subprotocol else {}),
        "bindingVersion": "0.1.0",
    }


def _messages(socket: WebSocket, kinds: Mapping[str, Any], subprotocol: str, shapes: Shapes) -> tuple[Message, ...]:
    """A name that both sides use for different things is told apart by the side."""
    group = ".".join(filter(None, (_key(socket.path), subprotocol)))
    return tuple(message for name, kind in kinds.items() for message in _kinds(kind, name, group, shapes))


# --- answers that stream ---------------------------------------------------------------------------
def _of_route(route: Route, shapes: Shapes) -> Channel:
    address = path_of(route.address)
    names = re.findall(r"{(\w+)}", address)
    return Channel(
        key=_key(address),
        address=address,
        server=HTTP,
        title=route.summary,
        description=route.description,
        tags=route.tags,
        operations=tuple(_operation(route, media, shapes) for media in route.media),
        parameters={name: {"description": PATH_PARAMETERS[name].description} for name in names},
    )


def _operation(route: Route, media: str, shapes: Shapes) -> Operation:
    plain = media.partition(";")[0]
    # Server-Sent Events frame the same items as the JSON lines do.
    kind = route.media[NDJSON if plain == SSE else media]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    group = _key(route.path)
    return Operation(
        sends=True,
        summary=f"{route.summary} {_FRAMING[plain]}",
        form=_FORMS[plain],
        messages=tuple(message for one in kinds for message in _kinds(one, _named(one), group, shapes)),
        bindings={"http": {"method": route.method, "query": _query(route.query), "bindingVersion": "0.3.0"}},
        more={"x-media-type": media},
    )


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else "text"


# --- both ------------------------------------------------------------------------------------------
def _kinds(kind: Any, name: str, group: str, shapes: Shapes) -> Iterable[Message]:
    """A CloudEvent is any event, each a message of its own."""
    if kind is CloudEvent:
        return event_messages.messages()
    schema = shapes.of(kind)
    summary = schema.get("description", "") or _summary(kind)
    media = TEXT if schema.get("type") == "string" else JSON
    return (Message(key=f"{group}.{name}", name=name, payload=schema, content_type=media, summary=summary),)


def _summary(kind: Any) -> str:
    is_ours = isinstance(kind, type) and issubclass(kind, Struct)
    return " ".join((kind.__doc__ or "").split()) if is_ours else ""


def _query(query: Iterable[Parameter]) -> dict[str, Any]:
    parameters = tuple(query)
    required = [parameter.name for parameter in parameters if parameter.required]
    return {
        "type": "object",
        "properties": {
            parameter.name: {**parameter.schema, "description": parameter.description} for parameter in parameters
        },
        **({"required": required} if required else {}),
    }
