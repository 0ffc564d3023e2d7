"""Writes `schemas/` from the code: `python -m ops.schemas`. With --check it only says what differs.

One JSON Schema (2020-12) for each event topic and version, for the CloudEvents envelope they leave the machine
in, for each body and answer of the REST API, each action of the websocket, the configuration file,
a policy for `nunet replay`, and the file of heads that `nunet audit verify` reads; and
the OpenAPI document.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson

from dms import config
from dms.adapters.http.frames import INCOMING, OUTGOING
from dms.adapters.http.openapi import standalone
from dms.adapters.http.problems import Problem
from dms.adapters.http.server import ROUTES, describe
from dms.application.cloudevents import CloudEvent
from dms.domain import deployment, device, directory, erasure, job, payment, transfer
from dms.domain.event import EVENT_TYPES, Event
from dms.domain.heads import Heads
from dms.domain.policy import Policy
from dms.domain.sealing import SEALED

FOLDER = Path(__file__).parent.parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SOURCES = (deployment, device, directory, erasure, job, payment, transfer)  # imported for the events they register
SEALED_PATTERN = "^[0-9a-f]{32}\\.[A-Za-z0-9+/]+=*$"
SEALED_SAYS = "what the event tells of a person, encrypted: <key id>.<base64>; see docs/audit.md"


def schemas() -> dict[str, dict[str, Any]]:
    """Path below `schemas/` -> schema."""
    events = {f"events/{topic}.v{cls.VERSION}.json": _event_schema(cls) for topic, cls in EVENT_TYPES.items()}
    return {
        **events,
        **_past_event_schemas(),
        "cloudevent.v1.json": _envelope_schema(),
        **_rest_schemas(),
        **_action_schemas(),
        "config.json": {"$schema": DIALECT, **config.json_schema()},
        "openapi.json": describe(),
        "heads.json": standalone(Heads, "urn:nunet:dms:heads"),
        "policy.json": standalone(Policy, "urn:nunet:dms:policy"),
    }


def _rest_schemas() -> dict[str, dict[str, Any]]:
    """rest/<method>.<path>.<request or response>.json, the path without its /api/v1."""
    found: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        if route.root:
            continue  # the same as below /api/v1
        name = ".".join([route.method.lower(), *re.findall(r"[\w-]+", route.path)])
        for part, kind in (("request", route.body), ("response", route.answer)):
            if kind not in (None, Problem):
                schema = standalone(kind, f"urn:nunet:dms:rest:{name}:{part}", body=part == "request")
                found[f"rest/{name}.{part}.json"] = schema
    return {**found, "rest/problem.json": standalone(Problem, "urn:nunet:dms:rest:problem")}


def _action_schemas() -> dict[str, dict[str, Any]]:
    return {
        f"actions/{name}.json": {"$schema": DIALECT, "$id": f"urn:nunet:dms:action:{name}", **schema}
        for name, schema in {**INCOMING, **OUTGOING}.items()
    }


def _envelope_schema() -> dict[str, Any]:
    _, definitions = msgspec.json.schema_components([CloudEvent])
    body = definitions["CloudEvent"]
    return {"$schema": DIALECT, "$id": "urn:nunet:dms:cloudevent:v1", **body, "title": "cloudevent v1"} | {
        "description": " ".join(body["description"].split())
    }


def _past_event_schemas() -> dict[str, dict[str, Any]]:
    """Of versions that are only read any more: kept as they were committed, since logs hold such events for ever."""
    names = [f"events/{topic}.v{n}.json" for topic, cls in EVENT_TYPES.items() for n in range(1, cls.VERSION)]
    return {name: orjson.loads((FOLDER / name).read_bytes()) for name in names}


def _event_schema(cls: type[Event]) -> dict[str, Any]:
    """Of the stored body: the personal fields are in `sealed`."""
    (schema,), definitions = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    name = schema["$ref"].removeprefix("#/$defs/")
    body = definitions.pop(name)
    if cls.PERSONAL:
        for path in cls.PERSONAL:
            _take_property(body, definitions, path)
        body["properties"][SEALED] = {"type": "string", "pattern": SEALED_PATTERN, "description": SEALED_SAYS}
    found = {"$schema": DIALECT, "$id": f"urn:nunet:dms:event:{cls.TOPIC}:v{cls.VERSION}", **body}
    return {**found, "title": f"{cls.TOPIC} v{cls.VERSION}", **({"$defs": definitions} if definitions else {})}


def _take_property(body: dict[str, Any], definitions: dict[str, Any], path: str) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        body = definitions[body["properties"][parent]["$ref"].removeprefix("#/$defs/")]
    del body["properties"][name]
    body["required"] = [required for required in body.get("required", []) if required != name]


def text(schema: dict[str, Any]) -> bytes:
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def differences() -> list[str]:
    """Names of files that are missing, stale or too many."""
    wanted = {name: text(schema) for name, schema in schemas().items()}
    present = {str(p.relative_to(FOLDER)): p.read_bytes() for p in FOLDER.rglob("*.json")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        for name in differences():
            print(f"schemas/{name} differs from the code; run: python -m ops.schemas")
        return 1 if differences() else 0
    for name in differences():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = schemas().get(name)
        if schema is None:
            path.unlink()
        else:
            path.write_bytes(text(schema))
        print(f"schemas/{name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
