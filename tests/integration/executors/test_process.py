"""The process executor: limits, survival of the DMS, and a supervisor that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dms.adapters.executors.process import ProcessExecutor, ProcessLimits
from dms.adapters.executors.process_child import ProcessState
from dms.application.ports import ExecutionState
from tests.fixtures.jobs import NODE, ended, launch, read_all, run, shell_spec, texts

STARTER = """
import asyncio, os, pathlib, sys
from dms.adapters.executors.process import ProcessExecutor
from dms.application.ports import ExecutionSpec
async def main():
    executor = ProcessExecutor("node", pathlib.Path(sys.argv[1]))
    command = "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 9"
    spec = ExecutionSpec(job_id="survivor", node_id="node", image="", arguments=(command,), cpu_mhz=1, memory_mb=64)
    await executor.create(spec)
    await executor.start("survivor")
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest.fixture
def executor(tmp_path: Path) -> ProcessExecutor:
    return ProcessExecutor(NODE, tmp_path, ProcessLimits(output_mb=1, file_mb=1))


def runs(pid: int) -> bool:
    """A process that has ended but was not waited for has no command line any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_job_outlives_the_killed_dms(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    executor = ProcessExecutor("node", tmp_path)
    assert await executor.list_jobs() == ["survivor"]
    assert (await executor.inspect("survivor")).state is ExecutionState.RUNNING
    (tmp_path / "survivor/work/go").touch()
    assert (await ended(executor, "survivor")).exit_code == 9
    assert texts(await read_all(executor, "survivor")) == ["one", "two"]


async def test_a_job_whose_supervisor_was_killed_is_lost_and_dead(executor: ProcessExecutor, tmp_path: Path) -> None:
    spec = shell_spec("echo $$; exec sleep 60")
    await launch(executor, spec)
    reading = asyncio.create_task(read_all(executor, spec.job_id))
    folder = tmp_path / spec.job_id
    async with asyncio.timeout(10):
        while not (folder / "output.ndjson").read_bytes():  # another program's file
            await asyncio.sleep(0.02)
    state = msgspec.json.decode((folder / "state.json").read_bytes(), type=ProcessState)
    os.kill(state.supervisor_pid, signal.SIGKILL)
    execution = await ended(executor, spec.job_id)
    assert (execution.exit_code, "gone" in execution.error) == (137, True)
    pid = int(texts(await reading)[0])
    async with asyncio.timeout(10):
        while runs(pid):  # another program's state
            await asyncio.sleep(0.02)
    await executor.start(spec.job_id)
    assert await executor.inspect(spec.job_id) == execution


async def test_memory_and_file_size_are_limited(executor: ProcessExecutor) -> None:
    _, hog = await run(executor, shell_spec("exec tail /dev/zero", 32))
    assert hog.exit_code != 0
    _, filler = await run(executor, shell_spec("exec dd if=/dev/zero of=big bs=1M count=5"))
    assert filler.exit_code != 0


async def test_output_is_cut_with_a_mark(executor: ProcessExecutor) -> None:
    lines, execution = await run(executor, shell_spec("seq 1 100000"))
    assert execution.exit_code == 0
    out = texts(lines)
    assert out == [str(n) for n in range(1, len(out) + 1)]
    assert texts(lines, "stderr") == ["[output limit of 1 MiB reached: the rest is dropped]"]


async def test_a_hundred_thousand_lines_arrive_exactly(tmp_path: Path) -> None:
    lines, _ = await run(ProcessExecutor(NODE, tmp_path), shell_spec("seq 1 100000"))
    assert texts(lines) == [str(n) for n in range(1, 100_001)]


async def test_what_a_job_leaves_behind_ends_with_it(executor: ProcessExecutor) -> None:
    lines, execution = await run(executor, shell_spec("sleep 60 & echo $!; exit 0"))
    assert execution.exit_code == 0
    async with asyncio.timeout(10):
        while runs(int(texts(lines)[0])):  # another program's state
            await asyncio.sleep(0.02)


async def test_the_dms_environment_stays_outside(executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_SECRET", "canary")
    spec = msgspec.structs.replace(shell_spec("env"), environment=(("GIVEN", "yes"),))
    lines, _ = await run(executor, spec)
    assert "GIVEN=yes" in texts(lines)
    assert "canary" not in " ".join(texts(lines))


async def test_a_job_sees_only_the_gpus_that_it_was_granted(executor: ProcessExecutor) -> None:
    asked = shell_spec('echo "<$CUDA_VISIBLE_DEVICES>"')
    lines, _ = await run(executor, asked)
    assert texts(lines) == ["<>"]
    again = msgspec.structs.replace(asked, job_id="with-gpus", gpu_uuids=("GPU-1", "GPU-2"))
    lines, _ = await run(executor, again)
    assert texts(lines) == ["<GPU-1,GPU-2>"]
