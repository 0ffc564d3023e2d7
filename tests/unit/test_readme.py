"""What the README tells its reader to run is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)\b(?=[` \n])", README))))
def test_a_make_target_of_the_readme_is_there(target: str) -> None:
    assert target in TARGETS


@pytest.mark.parametrize("script", sorted(set(re.findall(r"`(ops/[\w-]+\.sh)", README))))
def test_a_script_of_the_readme_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("page", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_a_page_that_the_readme_links_to_is_there(page: str) -> None:
    assert (ROOT / page).is_file()


def test_the_patterns_find_something() -> None:
    assert {"demo", "test", "side-by-side", "test-security"} <= set(re.findall(r"make ([a-z-]+)", README))
    assert "ops/install.sh" in README
