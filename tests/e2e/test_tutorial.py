"""The blocks of the README and the tutorial, run as they stand: one after the other, with ports of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.demo_image import SHELL_IMAGE, build_images
from tests.fixtures.dms import ADDRESS, Dms
from tests.fixtures.ports import free_port

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PORTS = ("9991", "9992", "9101", "9102")
SECONDS = 240


def blocks(page: Path, heading: str = "") -> list[str]:
    text = page.read_text().partition(heading)[2] if heading else page.read_text()
    return re.findall(r"^```\n(.*?)^```$", text.partition("\n## ")[0] if heading else text, re.MULTILINE | re.DOTALL)


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
        process.wait(120)
    return process.returncode, (folder / "output").read_text(errors="replace")


def left_running(session: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], check=False, capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def test_the_tutorial_works_block_by_block(tmp_path: Path) -> None:
    build_images()
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "ops").symlink_to(ROOT / "ops")
    parts = blocks(ROOT / "docs" / "tutorial.md")
    assert len(parts) >= 7
    script = "\n".join(f"{part}\necho 'block {number} is done'" for number, part in enumerate(parts, 1))
    for port in PORTS:
        script = script.replace(port, str(free_port()))
    code, output = run_as_script(script, tmp_path)
    done = re.findall(r"^block (\d+) is done$", output, re.MULTILINE)
    assert (code, len(done)) == (0, len(parts)), output
    assert re.search(r"^epoch 3$.*^trained$", output, re.MULTILINE | re.DOTALL), output
    assert not (tmp_path / "tutorial").exists()


@contextlib.asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[Dms, Dms]]:
    """A service provider, and one that is to be onboarded."""
    cp = Dms(folder / "cp")
    cp.start()
    sp: Dms | None = None
    try:
        await cp.ready()
        sp = Dms(folder / "sp", bootstrap=[await cp.address()])
        sp.start()
        await sp.ready()
        yield sp, cp
    finally:
        for node in (sp, cp):
            if node is not None:
                node.end()


async def test_the_first_job_of_the_readme_works(tmp_path: Path) -> None:
    build_images()
    offering, asking = blocks(ROOT / "README.md", "\n## A first job\n")
    named = {
        "ADDRESS": ADDRESS, "IMAGE": SHELL_IMAGE, "HASH": "0x" + "7" * 64,
        "ARGS": "'mkdir /workspace/results; echo trained | tee /workspace/results/model'",
    }  # fmt: skip
    for name, value in named.items():
        offering, asking = re.sub(rf"\b{name}\b", value, offering), re.sub(rf"\b{name}\b", value, asking)
    async with two_nodes(tmp_path) as (sp, cp):
        for node, block in ((cp, offering), (sp, asking)):
            daemon, *commands = block.splitlines()
            assert daemon.startswith("nunet run ")  # it runs already
            if node is sp:
                await sp.sees_provider()
            script = f"export PATH={ROOT}/.venv/bin:$PATH DMS_URL={node.url}\n" + "\n".join(commands)
            code, output = await asyncio.to_thread(run_as_script, script, tmp_path)
            assert code == 0, output
        assert (tmp_path / "results" / "results" / "model").read_text() == "trained\n"
