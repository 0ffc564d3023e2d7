"""Each block of the tutorial, run as it stands: one after the other in one shell, with ports of the test's own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from ops.demo_image import build_images
from tests.fixtures.ports import free_port

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PORTS = ("9991", "9992", "9101", "9102")
SECONDS = 240


def blocks(page: str) -> list[str]:
    return re.findall(r"^```\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def run_as_script(script: str, folder: Path) -> tuple[int | None, str]:
    """(exit code, output), in a session of its own, which ends with it whatever it left running."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", script],
            cwd=folder, stdout=output, stderr=output, env={**os.environ, "NO_COLOR": "1"}, start_new_session=True,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS)
        for found in left_running(process.pid):
            os.kill(found, signal.SIGKILL)
        process.wait(10)
    return process.returncode, (folder / "output").read_text(errors="replace")


def left_running(session: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], check=False, capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def test_the_tutorial_works_block_by_block(tmp_path: Path) -> None:
    build_images()
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "ops").symlink_to(ROOT / "ops")
    parts = blocks("tutorial.md")
    assert len(parts) >= 7
    script = "\n".join(f"{part}\necho 'block {number} is done'" for number, part in enumerate(parts, 1))
    for port in PORTS:
        script = script.replace(port, str(free_port()))
    code, output = run_as_script(script, tmp_path)
    done = re.findall(r"^block (\d+) is done$", output, re.MULTILINE)
    assert (code, len(done)) == (0, len(parts)), output
    assert re.search(r"^epoch 3$", output, re.MULTILINE), output
    assert not (tmp_path / "tutorial").exists()
