"""SECURITY.md against the tree: a row for each threat, and for each row tests that are there and are run."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.fixtures.security_page import ROOT, Row, is_security_test, named, rows

THREATS = 45


def test_each_threat_has_its_row() -> None:
    assert [row.number for row in rows()] == list(range(1, THREATS + 1))
    assert all(len(row.cells) == 4 and all(row.cells) for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row.number))
def test_each_row_has_tests_or_says_why_not(row: Row) -> None:
    assert row.tests or row.cells[-1].endswith("."), "a sentence says why there is none"


@pytest.mark.parametrize("file", sorted({name.partition("::")[0] for name in named()}))
def test_each_test_that_is_named_is_there(file: str) -> None:
    wanted = {test for name, _, test in (name.partition("::") for name in named()) if name == file}
    assert wanted <= collected(file), f"{file} has no {', '.join(sorted(wanted - collected(file)))}"


@cache
def collected(file: str) -> set[str]:
    """What pytest takes for a test there, unless it is told to skip it."""
    tree = ast.parse((ROOT / file).read_text())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            if not any("skip" in ast.unparse(decorator) for decorator in node.decorator_list):
                found.add(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".TestCase"):
            found |= {ast.unparse(target) for target in node.targets}
    return found


@pytest.mark.parametrize(
    ("node_id", "expected"),
    [
        ("tests/security/test_gate.py::test_anything", True),
        ("tests/unit/domain/test_provider_records.py::TestAnyRecords::runTest", True),
        ("tests/unit/test_images.py::test_refuses[-v]", True),
        ("tests/unit/test_images.py::test_normalises[a]", False),
        ("tests/unit/test_readme.py::test_the_readme_is_short", False),
    ],
)
def test_the_marker_has_what_the_page_names(node_id: str, expected: bool) -> None:
    assert is_security_test(node_id) is expected
    assert len(named()) > 100
