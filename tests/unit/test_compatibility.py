"""The page on compatibility can't tell what is not so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ops.compatibility import KINDS, PAGE, Section, page, problems, sections


def test_each_row_is_true_and_nothing_of_the_original_is_without_one() -> None:
    assert problems(sections()) == []


@pytest.mark.slow
def test_the_committed_page_is_made_from_the_rows() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(sections()), "run: python -m ops.compatibility"


def changed(name: str, change: dict[str, Any]) -> list[Section]:
    """The sections with one row changed."""
    return [
        replace(section, rows=tuple(replace(row, **change) if row.name == name else row for row in section.rows))
        for section in sections()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tests": ("test_that_nobody_wrote",)}, "there is no test test_that_nobody_wrote"),
        ({"tests": ("unit/test_config.py::test_peers",)}, "there is no test unit/test_config.py::test_peers"),
        ({"tests": ()}, "no test shows it"),
        ({"inputs": ("peerID", "moon")}, "it takes no moon"),
        ({"verdict": "good"}, "is 'good'"),
        ({"name": "GET /peers/moon"}, "the code has no such endpoint"),
    ],
)
def test_a_row_that_is_not_so_is_found(change: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in problems(changed("GET /peers/depreq", change)))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("endpoint", "POST /transactions/send-status"),
        ("action", "to the client: job-failed"),
        ("command", "nunet onboard -C/--cardano"),
        ("command", "nunet peer self"),
        ("setting", "rest.port"),
        ("request", "constraints.time"),
        ("reply", "signature"),
    ],
)
def test_what_has_no_row_is_found(kind: str, name: str) -> None:
    without = [
        replace(section, rows=tuple(row for row in section.rows if row.name != name))
        if section.kind == kind
        else section
        for section in sections()
    ]
    beside = {"endpoint": "DELETE /peers/depreq"}.get(kind)
    found = problems(without)
    if kind == "endpoint":  # its address is the original's only as long as another row has it
        found = problems([replace(section, also=section.also - {beside}) for section in sections()])
        name = "DELETE /peers/depreq"
    assert any(problem.startswith(f"{kind} {name} has no row") for problem in found)


def test_the_tables_of_the_code_are_not_empty() -> None:
    assert all(kind() for kind in KINDS.values())
