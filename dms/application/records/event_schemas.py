"""JSON Schemas of the events, of each topic at every version that a log may hold, and of their envelope."""

from __future__ import annotations

from importlib import resources
from typing import Any

import msgspec

from dms.application.records.cloudevents import CloudEvent
from dms.domain import api_token, deployment, device, directory, erasure, job, payment, transfer
from dms.domain.event import EVENT_TYPES, Event
from dms.domain.sealing import SEALED
from dms.json_schema import as_shown

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SOURCES = (
    api_token,
    deployment,
    device,
    directory,
    erasure,
    job,
    payment,
    transfer,
)  # imported for the events they register
SEALED_PATTERN = "^[0-9a-f]{32}\\.[A-Za-z0-9+/]+=*$"
SEALED_SAYS = "what the event tells of a person, encrypted: <key id>.<base64>; see docs/audit.md"
PAST_FILE = "past_events.json"
"""Beside this module: schemas of versions that are only read any more, frozen. `python -m ops.schemas` adds to it."""


def names(aggregate: str = "") -> tuple[str, ...]:
    """`job.submitted.v1`: topic and version, past versions too; all, or those of one aggregate."""
    return tuple(
        f"{topic}.v{version}"
        for topic, cls in EVENT_TYPES.items()
        for version in range(1, cls.VERSION + 1)
        if aggregate in ("", topic.partition(".")[0])
    )


def event_schemas() -> dict[str, dict[str, Any]]:
    """By name. Of what an event's `data` holds as it is stored; `$id` is what `dataschema` names. Raises KeyError for
    a past version that was not kept."""
    now = {f"{topic}.v{cls.VERSION}": _schema(cls) for topic, cls in EVENT_TYPES.items()}
    past = past_schemas()
    return {name: now[name] if name in now else past[name] for name in names()}


def past_schemas() -> dict[str, dict[str, Any]]:
    content = resources.files(__package__).joinpath(PAST_FILE).read_bytes()
    return msgspec.json.decode(content, type=dict[str, dict[str, Any]])


def envelope_schema() -> dict[str, Any]:
    _, definitions = msgspec.json.schema_components([CloudEvent])
    body = as_shown(definitions["CloudEvent"])
    return {"$schema": DIALECT, "$id": "urn:nunet:dms:cloudevent:v1", **body, "title": "cloudevent v1"}


def _schema(cls: type[Event]) -> dict[str, Any]:
    """Of the stored body: the personal fields are in `sealed`."""
    (schema,), found = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    definitions = as_shown(found)
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
