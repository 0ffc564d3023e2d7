"""The process executor: limits, survival of the DMS, and a supervisor that dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from dms.adapters.executors.process import _POLL_SECONDS, ProcessExecutor, ProcessLimits
from dms.adapters.executors.process_child import LOST, LineWriter, ProcessState
from dms.application.ports.executor import ExecutionState, Secrets
from dms.application.ports.outputs import OUTPUT_TRUNCATED
from dms.clock import machine_clock
from dms.domain.run_end import EndedBy
from tests.fixtures.disks import disk_full_at
from tests.fixtures.jobs import MIB, NODE, ended, launch, read_all, run, shell_spec, texts
from tests.fixtures.live_folders import contents_below
from tests.fixtures.waiting import wait_for

STARTER = """
import asyncio, os, pathlib, sys
from dms.adapters.executors.process import ProcessExecutor
from dms.application.ports.executor import ExecutionSpec
async def main():
    executor = ProcessExecutor("node", pathlib.Path(sys.argv[1]))
    command = "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 9"
    spec = ExecutionSpec(job_id="survivor", node_id="node", image="", arguments=(command,), cpu_mhz=1, memory_mb=64)
    await executor.create(spec)
    await executor.start("survivor")
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


KILLED_WHEN = """
import asyncio, os, pathlib, sys, threading
from dms.adapters.executors.process import ProcessExecutor
from dms.application.ports.executor import ExecutionSpec
folder, wanted = pathlib.Path(sys.argv[1]), sys.argv[2]
def kill():
    while not (folder / "killed" / wanted).exists():
        pass
    os.kill(os.getpid(), 9)
threading.Thread(target=kill, daemon=True).start()
def renamed(event, args):  # a draft is there for too short a time to be seen from another thread
    if event == "os.rename" and os.path.basename(args[0]) == wanted:
        os.kill(os.getpid(), 9)
sys.addaudithook(renamed)
async def main():
    executor = ProcessExecutor("node", folder)
    command = "echo one; sleep 0.2; echo two; exit 9"
    spec = ExecutionSpec(job_id="killed", node_id="node", image="", arguments=(command,), cpu_mhz=1, memory_mb=64)
    await executor.create(spec)
    await executor.start("killed")
    threading.Event().wait()
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


def supervisor_of(folder: Path) -> int:
    return msgspec.json.decode((folder / "state.json").read_bytes(), type=ProcessState).supervisor_pid


async def first_output(folder: Path) -> None:
    async with asyncio.timeout(120):
        while not (folder / "output.ndjson").read_bytes():  # another program's file
            await asyncio.sleep(0.02)


async def test_a_secret_is_in_no_file_of_its_job(tmp_path: Path) -> None:
    """Nor is it asked for again: the next DMS may start what another one created."""
    secrets = Secrets((("TOKEN", "hush-5ecret"),))
    spec = msgspec.structs.replace(shell_spec('printf %s "$TOKEN" | wc -c; sleep 0.2'), secrets=secrets)
    await ProcessExecutor(NODE, tmp_path).create(spec)
    executor = ProcessExecutor(NODE, tmp_path)
    await executor.start(spec.job_id, secrets)
    content = await asyncio.to_thread(lambda: {path.name: data for path, data in contents_below(tmp_path).items()})
    assert {"spec.json", "state.json"} <= content.keys()
    assert not [name for name, data in content.items() if b"5ecret" in data]
    assert texts(await read_all(executor, spec.job_id)) == ["11"]


async def test_a_job_outlives_the_killed_dms(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    executor = ProcessExecutor("node", tmp_path)
    assert await executor.list_jobs() == ["survivor"]
    assert (await executor.inspect("survivor")).state is ExecutionState.RUNNING
    (tmp_path / "survivor/work/go").touch()
    assert (await ended(executor, "survivor")).exit_code == 9
    assert texts(await read_all(executor, "survivor")) == ["one", "two"]


@pytest.mark.parametrize("reached", ["", ".spec.json.new", "spec.json", "lock", "state.json", "work", "output.ndjson"])
@pytest.mark.slow
async def test_a_dms_killed_at_any_point_of_a_start_leaves_a_job_that_was_not_started_or_runs_to_its_end(
    tmp_path: Path, reached: str
) -> None:
    command = [sys.executable, "-c", KILLED_WHEN, str(tmp_path), reached]
    done = await asyncio.to_thread(subprocess.run, command, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    executor = ProcessExecutor("node", tmp_path)
    assert await executor.list_jobs() == ["killed"]
    spec = msgspec.structs.replace(shell_spec("echo one; sleep 0.2; echo two; exit 9"), job_id="killed", node_id="node")
    await executor.create(spec)
    await executor.start("killed")  # as the next DMS does
    assert ((await ended(executor, "killed")).exit_code, texts(await read_all(executor, "killed"))) == (
        9,
        ["one", "two"],
    )
    await executor.remove("killed")
    assert await executor.list_jobs() == []


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 100, b'{"job_id": 1}'])
async def test_a_damaged_description_of_a_job_hides_no_other_and_is_written_anew(
    executor: ProcessExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    spec, other = shell_spec("echo ran"), shell_spec("true")
    for each in (spec, other):
        await executor.create(each)
    path = tmp_path / spec.job_id / "spec.json"
    path.write_bytes(damage)
    assert await executor.list_jobs() == sorted([spec.job_id, other.job_id])
    assert f"{path} is damaged" in caplog.text
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.ABSENT
    lines, execution = await run(executor, spec)
    assert (texts(lines), execution.exit_code) == (["ran"], 0)
    await executor.remove(other.job_id)
    assert await executor.list_jobs() == []


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100])
async def test_a_damaged_record_of_a_jobs_state_is_an_end_and_not_a_second_start(
    executor: ProcessExecutor, tmp_path: Path, damage: bytes
) -> None:
    spec = shell_spec("echo ran")
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    (tmp_path / spec.job_id / "state.json").write_bytes(damage)
    (tmp_path / spec.job_id / "spec.json").write_bytes(damage)
    assert await executor.list_jobs() == [spec.job_id]
    execution = await ended(executor, spec.job_id)  # its supervisor may still be about to go
    assert execution.exit_code == 137
    await executor.create(spec)
    await executor.start(spec.job_id)
    assert texts(await read_all(executor, spec.job_id)) == ["ran"]


async def test_a_damaged_line_of_the_output_is_told_and_ends_nothing(executor: ProcessExecutor, tmp_path: Path) -> None:
    spec = shell_spec("seq 1 3")
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    output = tmp_path / spec.job_id / "output.ndjson"
    output.write_bytes(output.read_bytes().replace(b'"2"', b'"2'))
    lines = await read_all(executor, spec.job_id)
    assert [line.stream for line in lines] == ["stdout", "stderr", "stdout"]
    assert "damaged" in lines[1].text


async def test_a_line_that_a_full_disk_takes_back_garbles_none_of_those_after_it(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    spec = shell_spec("seq 1 2; while [ ! -e go ]; do sleep 0.05; done; seq 3 4")
    await launch(executor, spec)
    output = tmp_path / spec.job_id / "output.ndjson"
    lines = executor.follow(spec.job_id, None)
    found = [line.text for line in await anext(lines)]
    while len(found) < 2:
        found += [line.text for line in await anext(lines)]
    size = output.stat().st_size
    with output.open("ab") as file:
        file.write(b'["stdout",17,"half of a li')
    following = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    for _ in range(5):
        await executor.inspect(spec.job_id)
        await asyncio.sleep(2 * _POLL_SECONDS)  # it looks meanwhile
    os.truncate(output, size)
    (tmp_path / spec.job_id / "work" / "go").touch()
    found += [line.text for line in await following]
    found += [line.text async for batch in lines for line in batch]
    assert found == ["1", "2", "3", "4"]


async def test_a_long_line_is_read_whole(executor: ProcessExecutor) -> None:
    spec = shell_spec("head -c 65000 /dev/zero; echo; echo end")  # six times as long as it is kept
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    lines = await read_all(executor, spec.job_id)
    assert [len(line.text) for line in lines] == [65_000, 3]


def test_output_that_a_full_disk_does_not_take_is_left_out_with_a_mark_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "output.ndjson"
    writer = LineWriter(path, MIB)
    writer.write("stdout", ["one"])
    with disk_full_at(path.stat().st_size + 60):
        writer.write("stdout", ["two", "three"])
        writer.write("stderr", ["four " * 20])
    writer.write("stdout", ["five"])
    writer.close()
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [line[2] for line in lines] == ["one", LOST.format(why="File too large"), "five"]
    assert [line[1] for line in lines] == sorted(line[1] for line in lines)


async def test_the_end_of_a_job_is_kept_though_the_disk_was_full_when_it_came(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    """A folder in place of the draft refuses every write, as a full disk does."""
    spec = shell_spec("while [ ! -e go ]; do sleep 0.02; done; exit 5")
    await launch(executor, spec)
    folder = tmp_path / spec.job_id
    (folder / ".state.json.new").mkdir()
    (folder / "work" / "go").touch()
    async with asyncio.timeout(120):
        while not (folder / "output.ndjson").exists() or b"sh" in command_of(folder):  # the shell is over
            await asyncio.sleep(0.02)
    (folder / ".state.json.new").rmdir()
    assert (await ended(executor, spec.job_id)).exit_code == 5


def command_of(folder: Path) -> bytes:
    """Of the supervisor's children."""
    state = msgspec.json.decode((folder / "state.json").read_bytes(), type=ProcessState)
    children = Path(f"/proc/{state.supervisor_pid}/task/{state.supervisor_pid}/children").read_text().split()
    return b"".join(Path(f"/proc/{pid}/comm").read_bytes() for pid in children)


async def test_a_job_whose_supervisor_was_killed_is_lost_and_dead(executor: ProcessExecutor, tmp_path: Path) -> None:
    spec = shell_spec("echo $$; exec sleep 600")
    await launch(executor, spec)
    reading = asyncio.create_task(read_all(executor, spec.job_id))
    folder = tmp_path / spec.job_id
    await first_output(folder)
    os.kill(supervisor_of(folder), signal.SIGKILL)
    execution = await ended(executor, spec.job_id)
    assert (execution.exit_code, "gone" in execution.error) == (137, True)
    assert execution.ended_by is EndedBy.OPERATOR
    pid = int(texts(await reading)[0])
    async with asyncio.timeout(120):
        while runs(pid):  # another program's state
            await asyncio.sleep(0.02)
    await executor.start(spec.job_id)
    assert await executor.inspect(spec.job_id) == execution


@pytest.mark.parametrize(
    ("script", "code"),
    [("sleep 600", 143), ("trap 'exit 0' TERM; echo up; sleep 600 & wait", 0)],
    ids=["plain", "trap"],
)
async def test_who_sent_the_signal_that_ended_a_job_is_known_afterwards(
    executor: ProcessExecutor, tmp_path: Path, script: str, code: int
) -> None:
    ours, theirs = shell_spec(script), shell_spec(script)
    for spec in (ours, theirs):
        await launch(executor, spec)
    if code == 0:
        for spec in (ours, theirs):
            await first_output(tmp_path / spec.job_id)
    await executor.stop(ours.job_id, 60)
    os.kill(supervisor_of(tmp_path / theirs.job_id), signal.SIGTERM)
    for spec, who in ((ours, EndedBy.DMS), (theirs, EndedBy.OPERATOR)):
        execution = await ended(executor, spec.job_id)
        assert (execution.ended_by, execution.exit_code) == (who, code)


async def test_an_end_that_no_signal_of_the_supervisor_explains_is_the_jobs(executor: ProcessExecutor) -> None:
    """A signal that came past the supervisor can't be told from one that the job sent itself."""
    for script, code in (("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)):
        _, execution = await run(executor, shell_spec(script))
        assert (execution.ended_by, execution.exit_code) == (EndedBy.JOB, code)


async def test_a_run_is_measured_on_the_machines_boot_clock(executor: ProcessExecutor) -> None:
    spec = shell_spec("sleep 0.5")
    before = machine_clock().boot_us
    await launch(executor, spec)
    running = await executor.inspect(spec.job_id)
    execution = await ended(executor, spec.job_id)
    after = machine_clock().boot_us
    assert before <= running.started_boot_us <= after
    assert execution.ran_seconds is not None
    assert 0.5 <= execution.ran_seconds <= (after - before) / 1_000_000


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
    assert texts(lines, "stderr") == [OUTPUT_TRUNCATED.format(limit=1)]


async def test_a_hundred_thousand_lines_arrive_exactly(tmp_path: Path) -> None:
    lines, _ = await run(ProcessExecutor(NODE, tmp_path), shell_spec("seq 1 100000"))
    assert texts(lines) == [str(n) for n in range(1, 100_001)]


async def test_what_a_job_leaves_behind_ends_with_it(executor: ProcessExecutor) -> None:
    lines, execution = await run(executor, shell_spec("sleep 600 & echo $!; exit 0"))
    assert execution.exit_code == 0
    async with asyncio.timeout(120):
        while runs(int(texts(lines)[0])):  # another program's state
            await asyncio.sleep(0.02)


STRAYS = {
    "in a session of its own": "setsid sleep {seconds} &",
    "below one that has ended": "setsid sh -c 'setsid sleep {seconds} & exit 0' &",
    "deaf to signals": "setsid sh -c 'trap \"\" TERM HUP INT; sleep {seconds}; :' &",
}


def strays(said: str) -> list[int]:
    """Processes in whose command line it is."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if said.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("ended_by", ["itself", "a stop", "its removal"])
@pytest.mark.parametrize("how", STRAYS)
async def test_no_process_of_a_job_outlives_it(
    executor: ProcessExecutor, tmp_path: Path, how: str, ended_by: str
) -> None:
    seconds = f"{secrets.randbelow(10**6) + 10**6}.125"
    script = f"{STRAYS[how].format(seconds=seconds)} until [ -e go ]; do sleep 0.02; done; echo done"
    job_id = await launch(executor, shell_spec(script))
    await wait_for(lambda: strays(f"sleep\0{seconds}"))  # itself, not the script that names it
    if ended_by == "itself":
        (tmp_path / job_id / "work" / "go").touch()
    if ended_by == "a stop":
        await executor.stop(job_id, 5.0)
    if ended_by == "its removal":
        await executor.remove(job_id)
    else:
        await ended(executor, job_id)
    assert strays(seconds) == []
    await executor.remove(job_id)


async def test_processes_that_end_while_a_job_runs_are_waited_for(executor: ProcessExecutor, tmp_path: Path) -> None:
    job_id = await launch(executor, shell_spec("for n in 1 2 3 4 5; do setsid sh -c 'true & true' & done; sleep 600"))
    supervisor = supervisor_of(tmp_path / job_id)

    def below() -> list[str]:
        return [child.status() for child in psutil.Process(supervisor).children()]

    await wait_for(lambda: below() == [psutil.STATUS_SLEEPING])
    await executor.remove(job_id)


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


async def test_arguments_of_the_user_reach_the_program_one_by_one(executor: ProcessExecutor) -> None:
    words = ("/bin/sh", "-c", 'printf "%s|" "$0" "$@"', "a b", "", "c'd;$e")
    spec = msgspec.structs.replace(shell_spec(""), arguments=words, arguments_given=True)
    lines, execution = await run(executor, spec)
    assert (texts(lines), execution.exit_code) == (["a b||c'd;$e|"], 0)
