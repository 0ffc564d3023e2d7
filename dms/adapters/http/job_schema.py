"""The JSON Schema of a job's description in a file: stricter than the API, so that editors find what is misspelled."""

from __future__ import annotations

from functools import cache
from typing import Any

from dms.adapters.http.openapi import standalone
from dms.domain.request import ServiceRequest

IDENTITY = "urn:nunet:dms:job"
_EDITORS = {"type": "string", "description": "Where this schema is; for editors, not sent."}


@cache
def schema_of_job_files() -> dict[str, Any]:
    schema = standalone(ServiceRequest, IDENTITY)
    schema["$defs"] = {name: _closed(part) for name, part in schema["$defs"].items()}
    return _closed(schema | {"properties": {"$schema": _EDITORS, **schema["properties"]}})


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Keys that the API would pass over are a mistake here."""
    return schema | ({"additionalProperties": False} if "properties" in schema else {})
