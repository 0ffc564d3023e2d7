"""Writes `schemas/` from the code: `python -m ops.schemas`. With --check it only says what differs.

One JSON Schema (2020-12) for each event topic and version, for the CloudEvents envelope they leave the machine
in, for each body and answer of the REST API, each action of the websocket, the configuration file,
a policy for `nunet replay`, and the file of heads that `nunet audit verify` reads; and
three documents: OpenAPI for what is asked, the same as a Postman collection, AsyncAPI for what streams.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from dms import config
from dms.adapters.http.action_schemas import INCOMING, OUTGOING
from dms.adapters.http.job_schema import schema_of_job_files
from dms.adapters.http.openapi import standalone
from dms.adapters.http.postman import collection
from dms.adapters.http.problems import Problem
from dms.adapters.http.server import ROUTES, describe, describe_streams
from dms.adapters.nats import description as nats
from dms.application.records import event_schemas
from dms.application.records.event_schemas import DIALECT, envelope_schema, past_schemas
from dms.config import Rest
from dms.domain.event import EVENT_TYPES
from dms.domain.heads import Heads
from dms.domain.policy import Policy

FOLDER = Path(__file__).parent.parent / "schemas"
PAST = Path(event_schemas.__file__).with_name(event_schemas.PAST_FILE)


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """Path below `schemas/` -> schema."""
    events = {f"events/{name}.json": schema for name, schema in event_schemas.event_schemas().items()}
    return {
        **events,
        "cloudevent.v1.json": envelope_schema(),
        **_rest_schemas(),
        **_action_schemas(),
        "config.json": {"$schema": DIALECT, **config.json_schema()},
        "openapi.json": describe(),
        "postman.json": collection(describe(), f"http://{Rest().addr}:{Rest().port}"),
        "asyncapi.json": describe_streams([nats.part()]),
        "heads.json": standalone(Heads, "urn:nunet:dms:heads"),
        "job.json": schema_of_job_files(),
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


def keep_past() -> None:
    """A version that was replaced stays described, as it was committed: logs hold such events for ever."""
    kept = past_schemas()
    new = [
        name
        for name in event_schemas.names()
        if name not in kept and int(name.rpartition(".v")[2]) < EVENT_TYPES[name.rpartition(".v")[0]].VERSION
    ]
    if new:
        kept |= {name: orjson.loads((FOLDER / "events" / f"{name}.json").read_bytes()) for name in new}
        PAST.write_bytes(text(kept))
        print(f"{PAST.name}: {', '.join(new)}")


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
    keep_past()
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
