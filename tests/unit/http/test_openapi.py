"""The API's description: a valid document that says of every endpoint what it takes, gives and refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from dms.adapters.http import debug
from dms.adapters.http.openapi import Shapes, path_of
from dms.adapters.http.server import ROUTES, WEBSOCKETS, describe

DOCUMENT = describe()
OF_THE_ORIGINAL = """
GET /onboarding/metadata, GET /onboarding/provisioned, GET /onboarding/address/new, POST /onboarding/onboard,
GET /onboarding/status, DELETE /onboarding/offboard, POST /onboarding/offboard, POST /onboarding/resource-config,
GET /device/status, POST /device/status, GET /telemetry/free, GET /peers, GET /peers/self, GET /peers/dht,
GET /peers/dht/dump, GET /peers/kad-dht, GET /peers/ws, GET /peers/shell, GET /peers/log, POST /run/request-service,
GET /peers/depreq, GET /peers/chat, GET /peers/chat/clear, GET /peers/chat/start, GET /peers/chat/join, GET /peers/file,
GET /peers/file/clear, GET /peers/file/send, GET /peers/file/accept,
GET /run/deploy, POST /vm/start-default, POST /vm/start-custom
"""


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(operations(DOCUMENT))


def fits(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator(schema | {"components": document["components"]}).validate(value)


@pytest.mark.slow
def test_it_is_valid_openapi() -> None:
    validate(DOCUMENT)
    validate(describe((*ROUTES, *debug.ROUTES)))


def test_every_route_and_websocket_is_described() -> None:
    served = {f"{route.method} {path_of(route.address)}" for route in ROUTES}
    assert set(OPERATIONS) == served | {f"GET {socket.address}" for socket in WEBSOCKETS}


@pytest.mark.parametrize("endpoint", [line.strip() for line in OF_THE_ORIGINAL.split(",")])
def test_the_originals_endpoints_are_there(endpoint: str) -> None:
    method, path = endpoint.split()
    assert f"{method} /api/v1{path}" in OPERATIONS


def test_operation_ids_are_readable_and_unlike_each_other() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z0-9]+){0,7}", name) or "api_v1" in name] == []
    assert {"list_jobs", "get_job", "get_job_history", "stop_job", "request_service", "onboard"} <= set(ids)


SCHEMAS = DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_each_property_says_what_it_means(name: str) -> None:
    bare = [key for key, one in SCHEMAS[name].get("properties", {}).items() if not one.get("description")]
    assert bare == [], "give them a description, or a line in dms/adapters/http/property_texts.py"


@pytest.mark.parametrize(
    ("component", "key", "word"),
    [
        ("ServiceRequest", "service_type", "cardano_node"),
        ("Constraints", "complexity", "Moderate"),
        ("Params", "machine_type", "gpu"),
        ("JobSummary", "status", "expired"),
        ("JobDetail", "fault", "provider"),
    ],
)
def test_texts_that_are_one_of_a_few_name_them(component: str, key: str, word: str) -> None:
    schema = SCHEMAS[component]["properties"][key]
    (words,) = [one["enum"] for one in (schema, *schema.get("anyOf", ())) if "enum" in one]
    assert word in words
    assert len(words) == len(set(words))


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_answer_is_described(name: str) -> None:
    """No type is left to guess, and none that generators of clients don't know: a bare null, a list of anything."""
    for status, response in OPERATIONS[name]["responses"].items():
        found = (
            response
            if "$ref" not in response
            else DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
        )
        assert found["description"]
        for media in found.get("content", {}).values():
            assert media["schema"], (name, status)
            assert media["schema"].get("type") != "null"
            assert media["schema"].get("type") != "array" or "items" in media["schema"]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_operation_says_all(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["tags"]
    assert {"403", "421"} <= set(operation["responses"])
    assert "500" not in operation["responses"]
    for parameter in operation["parameters"]:
        assert parameter["description"]
        assert parameter["schema"].get("type") or parameter["schema"].get("anyOf")
    body = operation.get("requestBody")
    if body is not None:
        (media,) = body["content"].values()
        fits(DOCUMENT, media["schema"], media["example"])
    for status, response in operation["responses"].items():
        if status[0] == "2":
            assert any("example" in media or "x-item-example" in media for media in response["content"].values())
            for media in response["content"].values():
                if "example" in media:
                    fits(DOCUMENT, media["schema"], media["example"])
                if "x-item-example" in media:
                    fits(DOCUMENT, media["x-item-schema"], media["x-item-example"])


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["responses"]))
def test_errors_have_the_shape_of_a_problem(name: str) -> None:
    media = DOCUMENT["components"]["responses"][name]["content"]["application/json"]
    assert media["schema"] == {"$ref": "#/components/schemas/Problem"}
    fits(DOCUMENT, media["schema"], media["example"])


def test_null_counts_as_absent_in_bodies_but_not_for_what_is_required() -> None:
    body = OPERATIONS["POST /api/v1/run/request-service"]["requestBody"]["content"]["application/json"]
    validator = Draft202012Validator(body["schema"] | {"components": DOCUMENT["components"]})
    assert validator.is_valid(body["example"] | {"tx_hash": None})
    assert not validator.is_valid(body["example"] | {"params": None})


def test_two_types_of_one_name_are_an_error() -> None:
    shapes = Shapes()
    shapes.components["Problem"] = {"type": "object"}
    with pytest.raises(TypeError, match="Problem"):
        shapes.of(_problem())


def _problem() -> type[Any]:
    from dms.adapters.http.problems import Problem

    return Problem
