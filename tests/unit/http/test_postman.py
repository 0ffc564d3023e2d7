"""The Postman collection has each request of the API, and nothing that its format has no words for."""

from __future__ import annotations

import json
from typing import Any

from dms.adapters.http.openapi import path_of
from dms.adapters.http.postman import collection
from dms.adapters.http.server import ROUTES, WEBSOCKETS, describe

DOCUMENT = describe()
COLLECTION = collection(DOCUMENT, "http://127.0.0.1:9999")
REQUESTS: list[dict[str, Any]] = [item for folder in COLLECTION["item"] for item in folder["item"]]


def test_every_route_is_there_once_and_no_websocket() -> None:
    wanted = sorted(f"{route.method} {path_of(route.address)}" for route in ROUTES)
    assert sorted(item["name"] for item in REQUESTS) == wanted
    described = COLLECTION["info"]["description"]
    assert all(socket.address in described for socket in WEBSOCKETS)


def test_bodies_are_the_examples_of_the_description() -> None:
    for item in REQUESTS:
        method, path = item["name"].split()
        operation = DOCUMENT["paths"][path][method.lower()]
        assert ("body" in item["request"]) == ("requestBody" in operation)
        if "requestBody" in operation:
            assert (
                json.loads(item["request"]["body"]["raw"])
                == (operation["requestBody"]["content"]["application/json"]["example"])
            )


def test_steps_of_a_path_are_variables_of_the_collection() -> None:
    known = {variable["key"]: variable["value"] for variable in COLLECTION["variable"]}
    assert {"base_url", "job_id", "transfer_id"} <= set(known)
    for item in REQUESTS:
        for step in item["request"]["url"].get("variable", ()):
            assert f":{step['key']}" in item["request"]["url"]["path"]
            assert step["value"] == f"{{{{{step['key']}}}}}"
            assert known[step["key"]]


def test_only_what_must_be_given_is_switched_on() -> None:
    optional = {"name": "m", "in": "query", "description": "d", "schema": {"type": "boolean", "default": False}}
    made_up = {**optional, "name": "n", "required": True}
    operation = {
        "summary": "s", "tags": ["t"], "operationId": "o", "parameters": [made_up, optional],
        "responses": {"200": {}},
    }  # fmt: skip
    document = {"info": {"title": "T", "version": "1", "description": "D"}, "paths": {"/a": {"get": operation}}}
    (item,) = collection(document, "http://h")["item"][0]["item"]
    assert item["request"]["url"]["raw"] == "{{base_url}}/a?n=false"
    assert [part["disabled"] for part in item["request"]["url"]["query"]] == [False, True]
