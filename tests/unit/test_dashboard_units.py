"""The dashboards' own unit tests, by Vitest: in this run too, so that there is one summary."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dms.domain.access import ROLES, Need
from tests.fixtures.npm import NODE

DASHBOARD = Path(__file__).parents[2] / "dashboard"


def test_the_pages_switch_off_what_a_role_may_not() -> None:
    """Each need that they name is one of the API's, with the same roles."""
    text = (DASHBOARD / "src" / "app" / "acting.ts").read_text(encoding="utf-8")
    named = {need: set(re.findall(r"\w+", roles)) for need, roles in re.findall(r'  "([a-z ]+)": \[(.*)\],', text)}
    assert "steer jobs" in named
    assert named == {need: {role.value for role in ROLES[Need(need)]} for need in named}


@pytest.mark.slow
def test_what_vitest_says() -> None:
    program = DASHBOARD / "node_modules" / "vitest" / "vitest.mjs"
    command = [str(NODE), str(program), "run", "--root", str(DASHBOARD), "--testTimeout", "120000"]  # on a busy machine
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
