"""What the README and the pages of docs/ tell their reader to run, or to read, is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
README = PAGES[0].read_text()
MOST_WORDS = 620  # of the README: who wants more follows a link
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^|1 )make ([a-z-]+)\b(?=[` \n])", TEXT, re.MULTILINE))))
def test_a_make_target_of_the_readme_is_there(target: str) -> None:
    assert target in TARGETS


@pytest.mark.parametrize("script", sorted(set(re.findall(r"`(ops/[\w-]+\.sh)", TEXT))))
def test_a_script_of_the_readme_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_is_linked_to_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([\w./-]+)\)", page.read_text()):
        assert (page.parent / link).is_file(), link


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_a_page_can_be_found_from_the_readme(page: Path) -> None:
    assert f"docs/{page.name}" in README


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


def test_the_patterns_find_something() -> None:
    assert {"demo", "test", "side-by-side", "test-security"} <= set(re.findall(r"make ([a-z-]+)", TEXT))
    assert "ops/install.sh" in README
