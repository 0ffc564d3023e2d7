"""What a request can't be, known before anyone is asked or paid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from dms.domain.directory import Offering
from dms.domain.matching import match
from dms.domain.request import MOST_ARGUMENT_BYTES, ServiceRequest, problems_of
from dms.domain.resources import Resources, least_cpu_mhz
from tests.fixtures.histories import request


def asked(params: Mapping[str, Any] | None = None, **constraints: int) -> ServiceRequest:
    made = request()
    return msgspec.structs.replace(
        made,
        params=msgspec.structs.replace(made.params, **(params or {})),
        constraints=msgspec.structs.replace(made.constraints, **constraints),
    )


def pointers(made: ServiceRequest) -> list[str]:
    return [pointer for pointer, _ in problems_of(made)]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"image_id": "nunet/UPPER"}, "/params/image_id"),
        ({"image_id": "a b"}, "/params/image_id"),
        ({"image_id": "-v"}, "/params/image_id"),
        ({"image_id": "x\0"}, "/params/image_id"),
        ({"image_id": "x" * 300}, "/params/image_id"),
        ({"model_url": "a\0b"}, "/params/model_url"),
        ({"packages": ("numpy", "\0")}, "/params/packages"),
        ({"packages": ("x" * 512,) * 256}, "/params/packages"),
        ({"packages": ("é" * 512,) * 128}, "/params/packages"),
        ({"model_url": "x" * 8192, "packages": ("x" * 510,) * 256}, "/params/packages"),
        ({"model_url": "", "arguments": ("a\0b",)}, "/params/arguments"),
        ({"model_url": "", "arguments": ("x" * 8192,) * 16}, "/params/arguments"),
        ({"model_url": "https://models.example/1", "arguments": ("a",)}, "/params/arguments"),
        ({"model_url": "", "packages": ("numpy",), "arguments": ()}, "/params/arguments"),
    ],
)
def test_what_can_not_be_run_is_named_by_its_field(params: dict[str, Any], pointer: str) -> None:
    made = asked(params)
    assert pointers(made) == [pointer]
    assert len(problems_of(made)[0][1]) < 500


@pytest.mark.parametrize(
    ("constraints", "pointer"),
    [({"ram": 1}, "/constraints/ram"), ({"ram": 5}, "/constraints/ram"), ({"cpu": 1}, "/constraints/cpu")],
)
def test_less_than_a_container_has_is_not_asked_for(constraints: dict[str, int], pointer: str) -> None:
    assert pointers(asked({}, **constraints)) == [pointer]


def test_the_most_and_the_least_that_can_be_passed_on_are_fine() -> None:
    room = MOST_ARGUMENT_BYTES - 1  # the space between the two
    packages = ("x" * 511,) * (room // 512) + ("x" * (room % 512),)
    made = asked({"model_url": "", "packages": packages}, ram=6, cpu=10)
    assert len(" ".join(made.arguments)) == MOST_ARGUMENT_BYTES
    assert problems_of(made) == []


@pytest.mark.parametrize("arguments", [("python", "-c", "print('a b')", ""), ()])
def test_arguments_are_passed_on_as_they_are(arguments: tuple[str, ...]) -> None:
    made = asked({"model_url": "", "arguments": arguments})
    assert (made.arguments, problems_of(made)) == (arguments, [])
    assert asked({"model_url": "u", "packages": ("a", "b")}).arguments == ("u", "a b")


def test_a_provider_whose_core_is_too_fast_for_so_little_is_no_candidate() -> None:
    offered = Resources(cpu_mhz=8_000, memory_mb=8_000)
    offering = Offering(channel="c", online=True, onboarded=True, total=offered, offered=offered, cores=2)
    assert least_cpu_mhz(4_000) == 40
    few, enough = (match(asked(cpu=cpu), [("p", offering)], "c") for cpu in (39, 40))
    assert few.refused[0].reason == "39 MHz CPU asked, a container there has at least 40"
    assert enough.candidates
    unknown = msgspec.structs.replace(offering, cores=0)
    assert match(asked(cpu=39), [("p", unknown)], "c").candidates
