"""Files and connections of a node: jobs leave none behind, and a shell's narrow limit is not a trouble."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.service.limits import ENOUGH, raise_open_files
from dms.domain.deployment import Fault
from tests.fixtures.jobs import run as run_job
from tests.fixtures.jobs import shell_spec, texts
from tests.fixtures.provider import accepted, docker_provider, end_of


def open_files() -> list[str]:
    """What each descriptor of this process is."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(path.readlink()))
        except FileNotFoundError:  # of the listing itself
            continue
    return sorted(found)


@pytest.fixture
def narrow() -> Iterator[int]:
    """The soft limit as a careful shell sets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.docker
@pytest.mark.usefixtures("demo_images", "narrow")
async def test_many_jobs_leave_no_descriptor_open_and_fit_into_a_narrow_limit(tmp_path: Path) -> None:
    async with docker_provider(tmp_path) as node:
        before = len(open_files())
        for _ in range(3):
            job_ids = [await accepted(node, "seq 1 20", cpu=100, ram=16) for _ in range(16)]
            ends = await asyncio.gather(*(end_of(node, job_id) for job_id in job_ids))
            assert ends == [(Fault.NONE, "exit code 0")] * 16
        executor = node.executor
        assert isinstance(executor, DockerExecutor)
        while await executor.list_jobs():  # their removal comes after their end
            await asyncio.sleep(0.05)
        left = open_files()
        assert len(left) - before <= 32 + 8, left  # outputs, within the bound of their cache; and no more
        assert sum(name.startswith("socket:") for name in left) <= 16, left


@pytest.mark.docker
@pytest.mark.usefixtures("demo_images")
async def test_calls_to_the_engine_keep_no_connection(tmp_path: Path) -> None:
    async with docker_provider(tmp_path) as node:
        await node.executor.check()
        before = sum(name.startswith("socket:") for name in open_files())
        await asyncio.gather(*(node.executor.inspect(f"none-{n}") for n in range(200)))
        spec = msgspec.structs.replace(shell_spec("echo fine"), node_id=node.services.signer.peer_id)
        lines, _ = await run_job(node.executor, spec)
        assert texts(lines) == ["fine"]
        listening = 1  # to the engine's events
        assert sum(name.startswith("socket:") for name in open_files()) <= before + listening


def in_a_process(soft: int, hard: int, program: str) -> list[str]:
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); "
    done = subprocess.run(
        [sys.executable, "-c", limit + program], capture_output=True, text=True, timeout=120, check=True
    )
    return (done.stdout + done.stderr).split("\n")


@pytest.mark.parametrize(
    ("soft", "hard", "most", "raised"),
    [(256, 512, 65_536, 512), (1_024, 9_000, 65_536, 9_000), (1_024, 1_024, 65_536, 1_024), (64, 9_000, 8_000, 8_000)],
)
def test_the_soft_limit_is_raised_within_bounds(soft: int, hard: int, most: int, raised: int) -> None:
    program = f"from dms.adapters.service.limits import raise_open_files; print(raise_open_files({most})); "
    said = in_a_process(soft, hard, program + "print(resource.getrlimit(resource.RLIMIT_NOFILE))")
    assert said[:2] == [str(raised), str((raised, hard))]
    assert ("raise the hard limit" in "".join(said)) is (raised < ENOUGH)


def test_a_limit_that_is_high_already_stays(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    try:
        with caplog.at_level(logging.WARNING):
            assert raise_open_files(most=ENOUGH) == min(hard, 8_192)
        assert not caplog.records
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_crash_leaves_no_memory_on_the_disk(tmp_path: Path) -> None:
    """Where the process would leave it, as the first one does."""
    before = "import os, resource; hard = resource.getrlimit(resource.RLIMIT_CORE)[1]; "
    before += "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)); "
    forbid = "from dms.adapters.service.limits import forbid_core_dumps; forbid_core_dumps(); "
    told = []
    for program in (before, before + forbid):
        ending = program + "print(resource.getrlimit(resource.RLIMIT_CORE), flush=True); os.abort()"
        done = subprocess.run(
            [sys.executable, "-c", ending], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
        )
        told.append(done.stdout.strip())
        assert done.returncode == -signal.SIGABRT
    assert told[1] == "(0, 0)" != told[0]
