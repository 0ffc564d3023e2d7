"""The dashboards' own unit tests, by Vitest: in this run too, so that there is one summary."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fixtures.npm import NODE

DASHBOARD = Path(__file__).parents[2] / "dashboard"


@pytest.mark.slow
def test_what_vitest_says() -> None:
    program = DASHBOARD / "node_modules" / "vitest" / "vitest.mjs"
    command = [str(NODE), str(program), "run", "--root", str(DASHBOARD), "--testTimeout", "120000"]  # on a busy machine
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
