"""The API as a Postman collection, made from its OpenAPI description. Pure.

Source: Postman Collection Format 2.1.0. It has no words for websockets, so those are only named in its description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from dms.adapters.http.examples import JOB_ID

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
BASE_URL = "base_url"
JSON = "application/json"
_STEP = re.compile(r"\{(\w+)\}")


def collection(description: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """One request for each operation, in a folder for each tag, and each with a test that the status is one of those
    described. description: the OpenAPI document. base_url: of the variable that all requests begin with."""
    folders: dict[str, list[dict[str, Any]]] = {}
    variables: dict[str, str] = {BASE_URL: base_url}
    sockets: list[str] = []
    for method, path, operation in _operations(description):
        if "x-websocket" in operation:
            sockets.append(path)
            continue
        folders.setdefault(operation["tags"][0], []).append(_item(method, path, operation))
        variables |= {p["name"]: _value(p) or JOB_ID for p in operation["parameters"] if p["in"] == "path"}
    info = description["info"]
    return {
        "info": {
            "_postman_id": str(uuid5(NAMESPACE_URL, f"urn:nunet:dms:postman:{info['version']}")),
            "name": info["title"],
            "description": f"{info['description']}\n\nWebsockets, which a collection can't hold: {', '.join(sockets)}.",
            "version": info["version"],
            "schema": SCHEMA,
        },
        "item": [{"name": tag, "item": items} for tag, items in sorted(folders.items())],
        "variable": [{"key": key, "value": value, "type": "string"} for key, value in variables.items()],
    }


def _operations(description: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _item(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody")
    request = {
        "method": method,
        "header": [{"key": "Content-Type", "value": JSON}] if body else [],
        "url": _url(path, operation["parameters"]),
        "description": operation.get("description", operation["summary"]),
    }
    if body:
        request["body"] = {
            "mode": "raw",
            "raw": _text(body["content"][JSON].get("example", {})),
            "options": {"raw": {"language": "json"}},
        }
    script = {"type": "text/javascript", "exec": list(_script(method, operation["responses"]))}
    return {
        "id": operation["operationId"],
        "name": f"{method} {path}",
        "event": [{"listen": "test", "script": script}],
        "request": request,
    }


def _url(path: str, parameters: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Parameters that may be left out are there, switched off."""
    shown = _STEP.sub(r":\1", path)
    query = [
        {
            "key": p["name"],
            "value": _value(p),
            "description": p["description"],
            "disabled": not p.get("required", False),
        }
        for p in parameters
        if p["in"] == "query"
    ]
    asked = "&".join(f"{q['key']}={q['value']}" for q in query if not q["disabled"])
    found: dict[str, Any] = {
        "raw": f"{{{{{BASE_URL}}}}}{shown}" + (f"?{asked}" if asked else ""),
        "host": [f"{{{{{BASE_URL}}}}}"],
        "path": shown.removeprefix("/").split("/"),
    }
    steps = [
        {"key": p["name"], "value": f"{{{{{p['name']}}}}}", "description": p["description"]}
        for p in parameters
        if p["in"] == "path"
    ]
    return found | ({"query": query} if query else {}) | ({"variable": steps} if steps else {})


def _value(parameter: Mapping[str, Any]) -> str:
    example = parameter.get("example", parameter["schema"].get("default", ""))
    return str(example).lower() if isinstance(example, bool) else str(example)


def _script(method: str, responses: Mapping[str, Any]) -> Iterator[str]:
    statuses = ", ".join(sorted(responses))
    yield f"pm.test('answers as described', () => pm.expect(pm.response.code).to.be.oneOf([{statuses}]));"
    answer = responses.get("200", {}).get("content", {}).get(JSON, {}).get("example", {})
    if method == "POST" and isinstance(answer, Mapping) and "job_id" in answer:
        # The requests about a job then mean the one that was asked for last.
        yield "if (pm.response.code === 200) pm.collectionVariables.set('job_id', pm.response.json().job_id);"


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
