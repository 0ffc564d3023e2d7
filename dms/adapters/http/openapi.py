"""The API's description, OpenAPI 3.1, made from the route table and the types of bodies and answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dms.adapters.http.operation_ids import operation_id
from dms.adapters.http.problems import Problem, body_of, title_of
from dms.adapters.http.property_texts import described, narrowed
from dms.adapters.http.routes import JOB_ID, TEXT, Parameter, Route, WebSocket
from dms.domain.access import ROLES, Need
from dms.json_schema import as_shown

DIALECT = "https://json-schema.org/draft/2020-12/schema"
JSON = "application/json"
COMMON = (401, 403, 421, 429, 431)  # any request may meet the gate, come too often, or be too long
CHANGING = (408, 413, 415)  # and one with a body its limits
MEANINGS = {
    400: "The input can't be taken; `errors` points to what is wrong.",
    401: "A token is needed, or the one that was sent is over; the text says how to get one.",
    403: "Not allowed: a web page of a foreign origin, a token of another role, or a wrong token of a job.",
    404: "There is no such thing here.",
    408: "The request did not arrive in time.",
    409: "Not in this state.",
    410: "It was there, and was archived.",
    413: "The body is too large.",
    415: "The body must be JSON, in UTF-8.",
    412: "It is not what If-Match names any more; read it again.",
    421: "This server has another name; see the setting rest.allowed_hosts.",
    416: "There is no such part of it.",
    422: "The job can't be run as asked.",
    426: "This address speaks websocket.",
    429: "More than the caller's share; try again later.",
    431: "The address and the headers are too long.",
    501: "Not done by this DMS; the text says what replaces it.",
    502: "A peer broke the protocol.",
    503: "Something that is needed is away, or the DMS is starting; try again.",
}
PATH_PARAMETERS: Mapping[str, Parameter] = {
    "job_id": Parameter("job_id", "The job.", JOB_ID),
    "path": Parameter(
        "path", "Of the file, below /workspace.", {"type": "string", "minLength": 1}, example="results/a"
    ),
    "name": Parameter("name", "Its name.", {"type": "string", "minLength": 1}, example="jobs"),
}
HEADERS: Mapping[str, Any] = {
    "x-position": {
        "description": "Everything up to this position of the log is in the answer; go on with the events behind it.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "x-total": {
        "description": "How many there are in all, on this page and others.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "etag": {
        "description": "Names this version of it; a change takes it as If-Match.",
        "schema": {"type": "string"},
    },
}
IF_MATCH = Parameter(
    "If-Match", "Only change it while it is that version: the ETag of an answer; any when absent.", example="*"
)
_WITH_HEADER = {"x-position": "shows_position", "x-total": "counted", "etag": "tagged"}
"""Which property of a route says so."""
NO_NUL = "^[^\\u0000]*$"
_STEP = re.compile(r"<(\w+)(?::\w+)?>")
SCHEME = "token"
_ABOUT_TOKENS = """Made by `nunet token create`. On the machine itself root, the DMS's own user and the group `nunet`
need none. `x-roles` says whose token does for an operation."""
_ABOUT = """Runs container jobs on the machines of a decentralised network.

Keys of request bodies are matched without regard to case at every depth, `null` counts as absent, and unknown keys
are ignored. Every error has one shape, `Problem`. Units: CPU in MHz, memory in MB, time in minutes, price in NTX."""


def document(routes: Iterable[Route], sockets: Iterable[WebSocket], version: str) -> dict[str, Any]:
    """The whole description."""
    shapes = Shapes()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(path_of(route.address), {})[route.method.lower()] = _operation(route, shapes)
    for socket in sockets:
        paths.setdefault(socket.address, {})["get"] = _upgrade(socket, shapes)
    operations = [operation for methods in paths.values() for operation in methods.values()]
    statuses = {int(status) for operation in operations for status in operation["responses"]}
    problem = shapes.of(Problem)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Device Management Service",
            "version": version,
            "summary": "Container jobs on a decentralised network.",
            "description": _ABOUT,
            "license": {"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
        },
        "servers": [{"url": "/", "description": "This DMS."}],
        "security": [{}, {SCHEME: []}],
        "tags": [{"name": name} for name in sorted({tag for operation in operations for tag in operation["tags"]})],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(shapes.components.items())),
            "securitySchemes": {SCHEME: {"type": "http", "scheme": "bearer", "description": _ABOUT_TOKENS}},
            "responses": {
                _name(status): _problem_response(status, problem) for status in sorted(statuses) if status >= 400
            },
        },
    }


class Shapes:
    """Types as JSON Schemas; structs become components."""

    def __init__(self, ref_template: str = "#/components/schemas/{name}") -> None:
        self.components: dict[str, Any] = {}
        self._template = ref_template

    def of(self, kind: Any) -> dict[str, Any]:
        """kind: a type, a tuple of several, or a schema that is used as it is. Raises TypeError when two types share
        a name."""
        if isinstance(kind, Mapping):
            return dict(kind)
        if isinstance(kind, tuple):
            return {"anyOf": [self.of(one) for one in kind]}
        (schema,), found = msgspec.json.schema_components([kind], ref_template=self._template)
        self._add({name: narrowed(name, component) for name, component in found.items()})
        shown: dict[str, Any] = as_shown(schema)
        return shown

    def of_body(self, kind: type[Any]) -> dict[str, Any]:
        """Of what a client sends: null counts as absent there; texts and numbers as strict_json takes them."""
        (schema,), found = msgspec.json.schema_components([kind], ref_template=self._template)
        self._add({name: _strict(_nullable(narrowed(name, component))) for name, component in found.items()})
        shown: dict[str, Any] = as_shown(schema)
        return shown

    def _add(self, found: Mapping[str, Any]) -> None:
        for name, component in found.items():
            shown = described(name, as_shown(component))
            if self.components.setdefault(name, shown) != shown:
                raise TypeError(f"two types of the API share the name {name}")


def standalone(kind: Any, identity: str, *, body: bool = False) -> dict[str, Any]:
    """One type as a schema document of its own."""
    shapes = Shapes("#/$defs/{name}")
    schema = shapes.of_body(kind) if body else shapes.of(kind)
    definitions = dict(sorted(shapes.components.items()))
    if "$ref" in schema:
        schema = definitions.pop(schema["$ref"].removeprefix("#/$defs/"))
    return {"$schema": DIALECT, "$id": identity, **schema, **({"$defs": definitions} if definitions else {})}


def path_of(address: str) -> str:
    return _STEP.sub(r"{\1}", address)


def _nullable(component: dict[str, Any]) -> dict[str, Any]:
    required = component.get("required", ())
    properties = {
        key: schema if key in required or _takes_null(schema) else {"anyOf": [schema, {"type": "null"}]}
        for key, schema in component.get("properties", {}).items()
    }
    return component | ({"properties": properties} if properties else {})


def _strict(schema: Any) -> Any:
    """No U+0000 in texts, no whole number beyond 64 bits."""
    if isinstance(schema, list | tuple):
        return [_strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: _strict(value) for key, value in schema.items()}
    if schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema:
        return inner | {"pattern": NO_NUL}
    return {"minimum": -(2**63), "maximum": 2**64 - 1} | inner if schema.get("type") == "integer" else inner


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return not schema or {"type": "null"} in schema.get("anyOf", ())


def _operation(route: Route, shapes: Shapes) -> dict[str, Any]:
    responses: dict[str, Any] = {str(route.status): _answer(route, shapes)}
    for status in sorted({*route.errors, *_always(route)}):
        responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    found: dict[str, Any] = {
        "operationId": operation_id(route.method, route.address),
        "summary": route.summary,
        "tags": list(route.tags),
        "parameters": [*_path_parameters(route.address), *map(_query_parameter, route.query)],
        "responses": responses,
    }
    if route.takes_tags:
        found["parameters"].append(_parameter_object(IF_MATCH, "header"))
    if route.needs is not Need.NOTHING:
        found["x-roles"] = sorted(ROLES[route.needs])
    if route.description:
        found["description"] = route.description
    if route.deprecated:
        found["deprecated"] = True
    if route.body is not None:
        media = {"schema": shapes.of_body(route.body)}
        found["requestBody"] = {"required": not route.body_optional, "content": {JSON: _with_example(media, route)}}
    return found


def _with_example(media: dict[str, Any], route: Route) -> dict[str, Any]:
    return media | ({"example": route.body_example} if route.body_example is not None else {})


def _always(route: Route) -> tuple[int, ...]:
    changing = () if route.method == "GET" else CHANGING
    asked = (400,) if route.query or route.body else ()  # a parameter twice, a body that is not JSON
    outdated = (412,) if route.takes_tags else ()
    return (*COMMON, *asked, *outdated, *changing, *(() if route.early else (503,)))


def _answer(route: Route, shapes: Shapes) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.answer is not None:
        content[JSON] = {"schema": shapes.of(route.answer)}
    for media, kind in route.media.items():
        # OpenAPI 3.1 has no word for "a stream of these"; 3.2 calls it itemSchema.
        schema = shapes.of(kind)
        content[media] = {"schema": {"type": "string"}, "x-item-schema": schema} if route.stream else {"schema": schema}
    if content and route.answer_example is not None:
        first = content[next(iter(content))]
        plain = first["schema"] != {"type": "string"} or isinstance(route.answer_example, str)
        first["example" if plain else "x-item-example"] = route.answer_example
    headers = {name: header for name, header in HEADERS.items() if getattr(route, _WITH_HEADER[name])}
    return {
        "description": route.summary,
        **({"headers": headers} if headers else {}),
        **({"content": content} if content else {}),
    }


def _path_parameters(address: str) -> list[dict[str, Any]]:
    found = [PATH_PARAMETERS.get(name) or Parameter(name, name, TEXT) for name in _STEP.findall(address)]
    return [_parameter_object(parameter, "path") | {"required": True} for parameter in found]


def _query_parameter(parameter: Parameter) -> dict[str, Any]:
    return _parameter_object(parameter, "query") | ({"required": True} if parameter.required else {})


def _parameter_object(parameter: Parameter, place: str) -> dict[str, Any]:
    found = {
        "name": parameter.name,
        "in": place,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    return found | ({"example": parameter.example} if parameter.example is not None else {})


def _upgrade(socket: WebSocket, shapes: Shapes) -> dict[str, Any]:
    """OpenAPI has no words for websockets: an upgrade, and the messages as an extension."""
    errors = sorted({426, 503, *COMMON, *socket.errors, *((400,) if socket.query else ())})
    messages = {
        direction: {name: shapes.of(kind) for name, kind in kinds.items()}
        for direction, kinds in (("incoming", socket.incoming), ("outgoing", socket.outgoing))
        if kinds
    }
    return {
        "operationId": operation_id("GET", socket.address),
        "summary": socket.summary,
        "description": socket.description or "A websocket.",
        "tags": [*socket.tags, "websocket"],
        "parameters": list(map(_query_parameter, socket.query)),
        "responses": {
            "101": {"description": "The connection speaks websocket from here on."},
            **{str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in errors},
        },
        "x-websocket": messages,
        "x-roles": sorted(ROLES[socket.needs]),
    }


def _name(status: int) -> str:
    return re.sub(r"\W", "", title_of(status).title())


def _problem_response(status: int, problem: dict[str, Any]) -> dict[str, Any]:
    text = MEANINGS.get(status, title_of(status))
    return {"description": text, "content": {JSON: {"schema": problem, "example": body_of(status, text)}}}
