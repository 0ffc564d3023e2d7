"""Every bound that the description sets for a request is kept when the request is read, whatever field it is of."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from dms.adapters.http import examples
from dms.adapters.http.openapi import standalone
from dms.adapters.http.strict_json import Findings
from dms.adapters.http.thorough import read_thoroughly
from dms.adapters.p2p.identity import Identity
from dms.application.jobs.request_check import ReadingFindings, RequestCheck
from dms.domain.request import ServiceRequest
from dms.errors import InvalidInput
from tests.fixtures.histories import request

CHECK = RequestCheck(Identity.generate())
SCHEMA = standalone(ServiceRequest, "urn:nunet:dms:test")
LEAST: Mapping[str, Any] = {"Input": {"url": "https://example.com/data"}}  # what an object can't be without
Path = tuple[str | int, ...]


def test_a_blockchain_that_no_payment_is_looked_up_on_is_refused_in_its_place() -> None:
    for paid_on, named, places in (
        ("Ethereum", "Cardano", ["/blockchain"]),
        ("Ethereum", "ethereum", []),
        ("Ethereum", "", []),
        ("", "Cardano", []),
    ):
        try:
            RequestCheck(Identity.generate(), paid_on).check(request(blockchain=named))
            found = []
        except InvalidInput as error:
            found = [place for place, _ in error.problems]
        assert found == places, (paid_on, named)


class Beyond(NamedTuple):
    """A value just beyond one bound, and where it goes."""

    path: Path
    bound: str
    value: Any

    def __str__(self) -> str:
        return f"{pointer(self.path)} {self.bound}"


def pointer(path: Path) -> str:
    return "".join(f"/{step}" for step in path)


def beyond(schema: Mapping[str, Any], path: Path = ()) -> Iterator[Beyond]:
    """One for each bound in it, and in all that is below."""
    for part in schema.get("anyOf", ()):
        yield from beyond(part, path)
    if "$ref" in schema:
        yield from beyond(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], path)
    for bound, value in _values_beyond(schema):
        yield Beyond(path, bound, value)
    for name, part in schema.get("properties", {}).items():
        yield from beyond(part, (*path, name))
    if "items" in schema:
        yield from beyond(schema["items"], (*path, 0))
    if isinstance(values := schema.get("additionalProperties"), dict):
        yield from beyond(values, (*path, "NAME"))


def _values_beyond(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for bound, limit in schema.items():
        match bound:
            case "maxLength":
                yield bound, "x" * (limit + 1)
            case "minLength":
                yield bound, "x" * (limit - 1)
            case "maximum":
                yield bound, limit * 1.1 if isinstance(limit, float) else limit + 1
            case "minimum":
                yield bound, limit - 1
            case "enum" | "pattern":
                yield bound, "none of these"
            case "maxItems":
                yield bound, [_least(schema["items"])] * (limit + 1)
            case "maxProperties":
                yield bound, {f"N{number}": "" for number in range(limit + 1)}
            case "propertyNames":
                yield bound, {"N" * (limit["maxLength"] + 1): ""}
            case _:
                assert bound in NO_BOUNDS, f"{bound} may be a bound: say here what is beyond it"


NO_BOUNDS = {
    "$schema", "$id", "$ref", "$defs", "title", "description", "type", "properties", "required", "default", "anyOf",
    "items", "additionalProperties",
}  # fmt: skip


def _least(schema: Mapping[str, Any]) -> Any:
    return LEAST[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else ""


ALL = tuple(beyond(SCHEMA))


def body_with(case: Beyond) -> dict[str, Any]:
    """The example, with that value in its place."""
    body: dict[str, Any] = copy.deepcopy(examples.SERVICE_REQUEST)
    at: Any = body
    for step, following in zip(case.path, case.path[1:], strict=False):
        at = at.setdefault(step, [{}] if following == 0 else {}) if isinstance(step, str) else at[step]
        if following == 0:
            at[0] = copy.deepcopy(LEAST["Input"]) if case.path[-1] != 0 else ""
    at[case.path[-1]] = case.value
    return body


def problems(body: Mapping[str, Any]) -> Findings:
    found = read_thoroughly(json.dumps(body).encode(), ServiceRequest, examples.SERVICE_REQUEST)
    try:
        CHECK.check(found.value, ReadingFindings(found.problems))
    except InvalidInput as error:
        return list(error.problems)
    return []


def test_the_example_is_within_all_bounds() -> None:
    assert problems(examples.SERVICE_REQUEST) == []


def test_the_bounds_of_what_may_be_left_out_are_looked_at_too() -> None:
    named = {str(case) for case in ALL}
    assert {"/params/arguments maxItems", "/params/arguments/0 maxLength", "/params/env/NAME maxLength"} <= named
    assert {"/params/inputs/0/sha256 pattern", "/retry/max_attempts maximum"} <= named


@pytest.mark.parametrize("case", ALL, ids=str)
def test_what_is_beyond_a_bound_is_refused_at_its_place(case: Beyond) -> None:
    place = pointer(case.path)
    told = [at for at, _ in problems(body_with(case))]
    assert any(at and f"{place}/".startswith(f"{at}/") for at in told), told
