"""What every Executor promises, checked on each: real containers, real processes."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import random
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from uuid import uuid4

import msgspec
import psutil
import pytest
import pytest_asyncio

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.executors.profile import ContainerLimits
from dms.application.ports.executor import ExecutionState, Executor, InputFile, Secrets
from dms.application.ports.machine import Usage
from dms.application.ports.outputs import OutputLine
from dms.domain.network import Network
from dms.domain.results import Selection
from dms.domain.sandbox import trouble_of
from dms.errors import ArchiveRefused, ExecutionError, ExecutorUnavailable, InvalidInput
from tests.fixtures.images import demo_images
from tests.fixtures.jobs import (
    MIB,
    NODE,
    cursor_after,
    ended,
    file_in,
    launch,
    packed,
    read_all,
    run,
    shell_spec,
    texts,
    until,
)

__all__ = ["demo_images"]

pytestmark = pytest.mark.docker

NewExecutor = Callable[[], Executor]


@pytest.fixture(params=["docker", "docker with volumes", "process"])
def new_executor(request: pytest.FixtureRequest, tmp_path: Path) -> NewExecutor:
    """Makes one more Executor over the same engine, as the DMS does when it starts again."""
    if request.param == "process":
        return lambda: ProcessExecutor(NODE, tmp_path / "jobs")
    request.getfixturevalue("demo_images")
    limits = ContainerLimits(core_mhz=2_000, cores=psutil.cpu_count() or 1)
    on_host = tmp_path / "workspaces" if request.param == "docker" else None
    settings = DockerSettings(limits=limits, workspaces=on_host, workspace_volumes=True)
    return lambda: DockerExecutor(NODE, settings)


@pytest_asyncio.fixture
async def executor(new_executor: NewExecutor) -> AsyncIterator[Executor]:
    made = new_executor()
    before = set(await made.list_jobs())
    yield made
    for job_id in set(await made.list_jobs()) - before:
        await made.remove(job_id)
    await made.close()


async def test_tells_exit_code_and_times(executor: Executor) -> None:
    _, execution = await run(executor, shell_spec("exit 7"))
    assert (execution.state, execution.exit_code) == (ExecutionState.EXITED, 7)
    assert not execution.oom_killed
    assert 1_700_000_000_000_000 < execution.started_at <= execution.finished_at


async def test_keeps_streams_apart_and_in_order(executor: Executor) -> None:
    script = "for i in 1 2 3; do echo out $i; sleep 0.05; echo err $i >&2; sleep 0.05; done; printf unended"
    lines, _ = await run(executor, shell_spec(script))
    for stream, printed in (
        ("stdout", ["out 1", "out 2", "out 3", "unended"]),
        ("stderr", ["err 1", "err 2", "err 3"]),
    ):
        told = [line for line in lines if line.stream == stream]
        assert [line.text for line in told] == printed
        assert [line.time_ns for line in told] == sorted(line.time_ns for line in told)


async def test_starting_twice_runs_once(executor: Executor) -> None:
    spec = shell_spec("echo ran; sleep 0.2")
    await launch(executor, spec)
    await executor.start(spec.job_id)
    first = await ended(executor, spec.job_id)
    await executor.start(spec.job_id)
    assert await executor.inspect(spec.job_id) == first
    assert texts(await read_all(executor, spec.job_id)) == ["ran"]


async def test_starting_at_the_same_time_runs_once(executor: Executor) -> None:
    spec = shell_spec("echo ran")
    await executor.prepare(spec)
    await asyncio.gather(*(executor.create(spec) for _ in range(4)))
    await asyncio.gather(*(executor.start(spec.job_id) for _ in range(4)))
    assert texts(await read_all(executor, spec.job_id)) == ["ran"]


async def test_creating_twice_makes_one(executor: Executor) -> None:
    spec = shell_spec("true")
    await executor.prepare(spec)
    assert await executor.create(spec) == await executor.create(spec)
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.CREATED


async def test_a_program_has_its_variables_and_its_secrets(executor: Executor) -> None:
    script = 'echo "$ROUNDS"; echo "$TOKEN"; env | grep -c "^LD_PRELOAD=."'
    spec = msgspec.structs.replace(
        shell_spec(script), environment=(("ROUNDS", "1 2"),), secrets=Secrets((("TOKEN", "a=b'c\"d"),))
    )
    await executor.prepare(spec)
    await executor.create(spec)
    await executor.start(spec.job_id, spec.secrets)
    assert texts(await read_all(executor, spec.job_id)) == ["1 2", "a=b'c\"d", "0"]


async def test_follows_live(executor: Executor) -> None:
    spec = shell_spec("echo early; sleep 600")
    await launch(executor, spec)
    async with asyncio.timeout(120), aclosing(executor.follow(spec.job_id, None)) as batches:
        batch = await anext(batches)
    assert [line.text for line in batch] == ["early"]
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.RUNNING


async def test_following_may_begin_before_the_start(executor: Executor) -> None:
    spec = shell_spec("echo hello")
    await executor.prepare(spec)
    await executor.create(spec)
    reading = asyncio.create_task(read_all(executor, spec.job_id))
    await executor.start(spec.job_id)
    assert texts(await reading) == ["hello"]


async def test_resumes_after_any_line_without_loss_or_repeat(executor: Executor) -> None:
    script = (
        "(i=0; while [ $i -lt 400 ]; do echo o$i; i=$((i+1)); done) & "
        "(i=0; while [ $i -lt 400 ]; do echo e$i >&2; i=$((i+1)); done) & "
        "head -c 150000 /dev/zero | tr '\\0' x; echo; wait"
    )
    spec = shell_spec(script)
    await launch(executor, spec)
    whole = await read_all(executor, spec.job_id)
    assert texts(whole, "stderr") == [f"e{i}" for i in range(400)]
    chooser = random.Random(20_240_101)
    for cut in (1, len(whole) - 1, len(whole), *chooser.sample(range(1, len(whole)), 20)):
        assert await read_all(executor, spec.job_id, cursor_after(whole[:cut])) == whole[cut:]


async def test_a_cut_reading_goes_on_while_the_job_prints(executor: Executor) -> None:
    spec = shell_spec("i=0; while [ $i -lt 300 ]; do echo $i; echo $i >&2; sleep 0.003; i=$((i+1)); done")
    await launch(executor, spec)
    seen: list[OutputLine] = []
    async with asyncio.timeout(120), aclosing(executor.follow(spec.job_id, None)) as batches:
        async for batch in batches:
            seen += batch
            if len(seen) > 100:
                break
    seen += await read_all(executor, spec.job_id, cursor_after(seen))
    assert texts(seen) == texts(seen, "stderr") == [str(i) for i in range(300)]
    assert seen == await read_all(executor, spec.job_id)


async def test_splits_very_long_lines_and_replaces_what_is_not_text(executor: Executor) -> None:
    script = "head -c 200000 /dev/zero | tr '\\0' a; echo; printf 'bad \\377 byte\\n'; echo"
    lines, _ = await run(executor, shell_spec(script))
    out = texts(lines)
    assert [len(text) for text in out[:4]] == [65_536, 65_536, 65_536, 200_000 - 3 * 65_536]
    assert out[4:] == ["bad \N{REPLACEMENT CHARACTER} byte", ""]


async def test_stops_what_listens_and_kills_what_does_not(executor: Executor) -> None:
    polite = shell_spec("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    stubborn = shell_spec("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    for spec in (polite, stubborn):
        await launch(executor, spec)
        async with asyncio.timeout(120), aclosing(executor.follow(spec.job_id, None)) as batches:
            await anext(batches)
    await executor.stop(polite.job_id, 60)
    await executor.stop(stubborn.job_id, 0.3)
    assert (await executor.inspect(polite.job_id)).exit_code == 5
    killed = await executor.inspect(stubborn.job_id)
    assert (killed.exit_code, killed.oom_killed) == (137, False)
    assert texts(await read_all(executor, polite.job_id))[-1] == "bye"
    await executor.stop(polite.job_id, 1)  # again: nothing to do


async def test_another_executor_adopts_a_running_job(executor: Executor, new_executor: NewExecutor) -> None:
    spec = shell_spec("echo one; while [ ! -e /tmp/go ] && [ ! -e go ]; do sleep 0.1; done; echo two", 64)
    spec_id = await launch(executor, spec)
    first = await executor.inspect(spec_id)
    second = new_executor()
    try:
        assert spec_id in await second.list_jobs()
        assert await second.inspect(spec_id) == first
        await second.create(spec)
        await second.start(spec_id)
        assert (await second.inspect(spec_id)).started_at == first.started_at
        async with aclosing(second.follow(spec_id, None)) as batches:
            assert [line.text for line in await anext(batches)] == ["one"]  # it has come so far
        await second.stop(spec_id, 0.2)
        assert texts(await read_all(second, spec_id)) == ["one"]
    finally:
        await second.remove(spec_id)
        await second.close()


async def test_another_executor_reads_a_finished_job(executor: Executor, new_executor: NewExecutor) -> None:
    spec = shell_spec("echo done; exit 3")
    await launch(executor, spec)
    first = await ended(executor, spec.job_id)
    second = new_executor()
    try:
        await second.create(spec)
        await second.start(spec.job_id)
        assert await second.inspect(spec.job_id) == first
        assert texts(await read_all(second, spec.job_id)) == ["done"]
    finally:
        await second.close()


async def test_a_missing_command_is_an_end_with_127(executor: Executor) -> None:
    _, execution = await run(executor, shell_spec("no-such-command-here"))
    assert execution.exit_code == 127


async def test_removing_is_safe_to_repeat_and_ends_the_job(executor: Executor) -> None:
    spec = shell_spec("sleep 600")
    await launch(executor, spec)
    assert spec.job_id in await executor.list_jobs()
    await executor.remove(spec.job_id)
    await executor.remove(spec.job_id)
    assert spec.job_id not in await executor.list_jobs()
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.ABSENT


async def test_many_may_remove_a_job_at_once(executor: Executor, new_executor: NewExecutor) -> None:
    """As a sweep and the end of a job do, or two programs."""
    other = new_executor()
    spec = shell_spec("sleep 600")
    await launch(executor, spec)
    await asyncio.gather(*(each.remove(spec.job_id) for each in (executor, other) * 4))
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.ABSENT
    await other.close()


async def test_an_unknown_job_is_absent(executor: Executor) -> None:
    unknown = shell_spec("true").job_id
    assert (await executor.inspect(unknown)).state is ExecutionState.ABSENT
    await executor.stop(unknown, 1)
    await executor.remove(unknown)
    await executor.start(unknown)
    assert await read_all(executor, unknown) == []
    assert (await executor.inspect(unknown)).state is ExecutionState.ABSENT


@pytest.mark.parametrize("job_id", ["../escape", "", "a/b", "-v", "x" * 200, "a\nb"])
async def test_refuses_what_is_no_job_id(executor: Executor, job_id: str) -> None:
    with pytest.raises((InvalidInput, ExecutionError)):
        await executor.inspect(job_id)


async def test_a_line_comes_soon(executor: Executor) -> None:
    """Loose on purpose: the machine is shared. A reader that polls by the second would fail."""
    spec = shell_spec("while :; do date +%s >/dev/null; echo tick; sleep 0.2; done")
    await launch(executor, spec)
    times = []
    async with asyncio.timeout(120), aclosing(executor.follow(spec.job_id, None)) as batches:
        async for batch in batches:
            times += [asyncio.get_running_loop().time() for _ in batch]
            if len(times) >= 5:
                break
    assert len(set(times)) >= 3  # one by one, not all in one go


async def test_many_run_side_by_side(executor: Executor) -> None:
    specs = [shell_spec(f"echo {n}; exit {n}") for n in range(6)]
    results = await asyncio.gather(*(run(executor, spec) for spec in specs))
    assert [execution.exit_code for _, execution in results] == list(range(6))
    assert [texts(lines) for lines, _ in results] == [[str(n)] for n in range(6)]


async def test_removal_of_a_running_job_ends_its_reader(executor: Executor) -> None:
    spec = shell_spec("echo here; sleep 600")
    await launch(executor, spec)
    async with asyncio.timeout(120), aclosing(executor.follow(spec.job_id, None)) as batches:
        assert [line.text for line in await anext(batches)] == ["here"]
        await executor.remove(spec.job_id)
        assert [batch async for batch in batches] == []


# --- workspaces: a script's home is its workspace, with every engine --------------------------------


def archives_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.tar.gz*"))


def mounts_of(job_id: str) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if job_id in line]


async def test_what_a_job_leaves_in_its_workspace_is_where_the_next_one_goes_on(
    executor: Executor, tmp_path: Path
) -> None:
    first = shell_spec("cd; mkdir -p deep/er; echo 40 > deep/er/state; chmod 750 deep; echo x > run; chmod 711 run")
    await launch(executor, first)
    await ended(executor, first.job_id)
    saved = await packed(executor, first.job_id, tmp_path / "one.tar.gz")
    assert (saved.files, saved.skipped) == (2, 0)
    second = shell_spec("cd; cat deep/er/state; stat -c '%a %U' deep run; echo 41 > deep/er/state && ls -A")
    await executor.prepare(second)
    await executor.fill(second, tmp_path / "one.tar.gz", MIB)
    await executor.fill(second, tmp_path / "one.tar.gz", MIB)  # as after a crash
    await executor.create(second)
    await executor.start(second.job_id)
    lines = texts(await read_all(executor, second.job_id))
    assert lines[0] == "40"
    assert [line.split()[0] for line in lines[1:3]] == ["750", "711"]
    assert lines[3:] == ["deep", "run"]


async def test_filling_again_leaves_a_workspace_that_is_in_use(executor: Executor, tmp_path: Path) -> None:
    first = shell_spec("cd; echo old > state")
    await launch(executor, first)
    await ended(executor, first.job_id)
    await packed(executor, first.job_id, tmp_path / "one.tar.gz")
    second = shell_spec("cd; echo new > state; echo done; sleep 600")
    await executor.prepare(second)
    await executor.fill(second, tmp_path / "one.tar.gz", MIB)
    await executor.create(second)
    await executor.start(second.job_id)
    async with asyncio.timeout(120), aclosing(executor.follow(second.job_id, None)) as batches:
        await anext(batches)
    await executor.fill(second, tmp_path / "one.tar.gz", MIB)
    changed = await packed(executor, second.job_id, tmp_path / "two.tar.gz")
    assert file_in(tmp_path / "two.tar.gz", "workspace/state") == b"new\n"
    assert changed.sha256 == hashlib.sha256((tmp_path / "two.tar.gz").read_bytes()).hexdigest()


async def test_an_empty_or_unchanged_workspace_is_not_packed(executor: Executor, tmp_path: Path) -> None:
    empty, full = shell_spec("true"), shell_spec("cd; echo 1 > state")
    for spec in (empty, full):
        await launch(executor, spec)
        await ended(executor, spec.job_id)
    assert await executor.pack(empty.job_id, tmp_path / "a.tar.gz", MIB) is None
    saved = await packed(executor, full.job_id, tmp_path / "b.tar.gz")
    assert await executor.pack(full.job_id, tmp_path / "c.tar.gz", MIB, saved.state) is None
    again = await packed(executor, full.job_id, tmp_path / "b.tar.gz")
    assert again == saved  # the same content is the same archive, byte for byte
    assert archives_in(tmp_path) == ["b.tar.gz"]


async def test_a_running_job_is_packed_and_goes_on(executor: Executor, tmp_path: Path) -> None:
    spec = shell_spec("cd; n=0; while :; do n=$((n+1)); echo $n > new; mv new state; echo $n >> grows; done")
    await launch(executor, spec)

    async def some() -> bytes | None:
        with suppress(ExecutorUnavailable):  # it changed all the time
            if await executor.pack(spec.job_id, tmp_path / "live.tar.gz", 64 * MIB) is not None:
                return file_in(tmp_path / "live.tar.gz", "workspace/state") or None
        return None

    counted = int(await until(some))
    assert counted > 0
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.RUNNING


async def test_what_can_not_be_kept_is_counted_where_it_was_asked_for(executor: Executor, tmp_path: Path) -> None:
    odd = r"$(printf 'r\351sultat')"  # not UTF-8
    spec = shell_spec(f"cd; mkdir results; echo a > results/a; echo b > results/{odd}; ln -s a results/l; ln -s a else")
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    saved = await executor.pack(spec.job_id, tmp_path / "x.tar.gz", MIB, selection=Selection())
    assert saved is not None
    assert (saved.files, saved.skipped) == (1, 2)


async def test_links_and_pipes_give_nothing_of_the_host_away(executor: Executor, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    script = (
        f"cd; ln -s {tmp_path} out; ln -s {tmp_path}/secret s; ln -s /etc/passwd p; mkfifo f; echo mine > a; ln a b"
    )
    spec = shell_spec(script)
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    saved = await packed(executor, spec.job_id, tmp_path / "x.tar.gz")
    assert saved.files == 2
    assert saved.skipped in (3, 4)  # gVisor keeps pipes in its own memory
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["workspace", "workspace/a", "workspace/b"]
        assert all(member.isreg() or member.isdir() for member in tar)


async def test_a_workspace_beyond_the_bound_is_refused_without_filling_the_disk(
    executor: Executor, tmp_path: Path
) -> None:
    spec = shell_spec("cd; dd if=/dev/zero of=sparse bs=1M seek=900 count=0; echo small > state")
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    with pytest.raises(ArchiveRefused, match="more than 1 MiB"):
        await executor.pack(spec.job_id, tmp_path / "x.tar.gz", MIB)
    assert archives_in(tmp_path) == []


async def test_an_archive_that_does_not_fit_is_refused_with_a_reason(executor: Executor, tmp_path: Path) -> None:
    first = shell_spec("cd; head -c 3000000 /dev/urandom > big")
    await launch(executor, first)
    await ended(executor, first.job_id)
    await packed(executor, first.job_id, tmp_path / "big.tar.gz")
    second = shell_spec("true")
    await executor.prepare(second)
    with pytest.raises(ArchiveRefused, match="larger than 1 MiB"):
        await executor.fill(second, tmp_path / "big.tar.gz", MIB)
    await executor.remove(second.job_id)
    assert second.job_id not in await executor.list_jobs()


def given(number: int, source: Path, place: str, unpack: str = "", max_bytes: int = MIB) -> InputFile:
    return InputFile(number=number, source=source, place=place, unpack=unpack, max_bytes=max_bytes)


async def test_inputs_are_in_the_workspace_before_the_start_and_the_jobs_own(
    executor: Executor, tmp_path: Path
) -> None:
    (tmp_path / "given").write_bytes(b"one\n")
    with tarfile.open(tmp_path / "given.tar", "w") as tar:
        tar.add(tmp_path / "given", "inner/two")
    with gzip.open(tmp_path / "given.tar.gz", "wb") as zipped:
        zipped.write((tmp_path / "given.tar").read_bytes())
    with zipfile.ZipFile(tmp_path / "given.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "given", "inner/two")
    script = "cd; find . -type f | sort; cat data/one && echo more >> data/one && mv tar/inner/two x && rmdir tar/inner"
    spec = shell_spec(script)
    await executor.prepare(spec)
    await executor.fill(spec, None, MIB)
    await executor.put(spec, given(1, tmp_path / "given", "data/one"))
    for number, kind in enumerate(("tar", "tar.gz", "zip"), 2):
        await executor.put(spec, given(number, tmp_path / f"given.{kind}", kind, kind))
    await executor.create(spec)
    await executor.start(spec.job_id)
    found = ["./data/one", "./tar.gz/inner/two", "./tar/inner/two", "./zip/inner/two", "one"]
    assert texts(await read_all(executor, spec.job_id)) == found
    assert (await ended(executor, spec.job_id)).exit_code == 0


def tar_of(path: Path, *names: str) -> Path:
    """Each file holds its own name."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return path


async def test_an_input_takes_the_place_of_what_a_checkpoint_brought_and_only_once(
    executor: Executor, tmp_path: Path
) -> None:
    made = "mkdir -p data/deep all; echo mine | tee data/one data/deep/two data/left all/x; ln -s one data/link"
    first = shell_spec(f"cd; {made}")
    await launch(executor, first)
    await ended(executor, first.job_id)
    await packed(executor, first.job_id, tmp_path / "checkpoint.tar.gz")
    (tmp_path / "given").write_bytes(b"theirs\n")
    second = shell_spec(
        "cd; cat all/x data/left data/one; for f in deep/two deep/three; do cat data/$f; echo; done; cat ./-x/-y"
    )
    await executor.prepare(second)
    await executor.fill(second, tmp_path / "checkpoint.tar.gz", MIB)
    assert await executor.inputs_in(second.job_id) == set()
    await executor.put(second, given(1, tmp_path / "given", "all/x"))
    await executor.put(second, given(2, tar_of(tmp_path / "some.tar", "deep/two", "deep/three"), "data", "tar"))
    await executor.put(second, given(3, tmp_path / "given", "-x/-y"))
    (tmp_path / "given").write_bytes(b"another\n")
    await executor.put(second, given(1, tmp_path / "given", "all/x"))  # again: it is the job's now
    for number, place, unpack in ((4, "data/one/two", ""), (5, "data", ""), (6, "data/one", "tar")):
        source = tmp_path / ("some.tar" if unpack else "given")
        with pytest.raises(ExecutionError, match=f"{place} can't be put"):
            await executor.put(second, given(number, source, place, unpack))
    assert await executor.inputs_in(second.job_id) == {1, 2, 3}
    await executor.create(second)
    await executor.start(second.job_id)
    found = ["theirs", "mine", "mine", "deep/two", "deep/three", "theirs"]
    assert texts(await read_all(executor, second.job_id)) == found


async def test_a_refused_input_leaves_nothing_behind(executor: Executor, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(bytes(2 * MIB))
    with tarfile.open(tmp_path / "given.tar", "w") as tar:
        tar.add(tmp_path / "given", "one")
        tar.add(tmp_path / "given", "two")
    spec = shell_spec("cd; find . -type f")
    await executor.prepare(spec)
    await executor.fill(spec, None, MIB)
    with pytest.raises(ArchiveRefused, match="larger than 3 MiB"):
        await executor.put(spec, given(1, tmp_path / "given.tar", "data", "tar", 3 * MIB))
    if (most := executor.workspace_bytes(spec)) is not None:
        os.truncate(tmp_path / "given", most + MIB)
        with pytest.raises(ExecutionError):
            await executor.put(spec, given(2, tmp_path / "given", "data", "", most + MIB))
    await executor.create(spec)
    await executor.start(spec.job_id)
    assert texts(await read_all(executor, spec.job_id)) == []


async def test_a_workspace_ends_with_its_job(executor: Executor, tmp_path: Path) -> None:
    spec = shell_spec("cd; echo 1 > state")
    await executor.prepare(spec)
    await executor.fill(spec, None, MIB)
    await launch(executor, spec)
    await ended(executor, spec.job_id)
    await executor.remove(spec.job_id)
    assert await executor.pack(spec.job_id, tmp_path / "x.tar.gz", MIB) is None
    assert spec.job_id not in await executor.list_jobs()
    assert mounts_of(spec.job_id) == []


async def test_a_line_that_has_no_end_yet_is_shown_as_it_grows_and_comes_once_whole(executor: Executor) -> None:
    """As a progress bar draws it."""
    half = r"trap go=1 TERM; until [ $go ]; do printf '50%%\r'; sleep 0.1; done"  # however late its reader begins
    script = rf"printf '10%%\r'; sleep 1; {half}; printf '99%%'; sleep 1; printf '\rdone\n'; echo end"
    job_id = await launch(executor, shell_spec(script))
    shown, told = list[str](), list[asyncio.Task[None]]()
    async with asyncio.timeout(120), aclosing(executor.growing(job_id)) as lines:
        async for line in lines:
            if line.stream == "stdout":
                shown.append(line.text)
            if line.text == "50%":
                told.append(asyncio.create_task(executor.stop(job_id, 60)))
    await asyncio.gather(*told)
    assert "50%" in shown
    assert shown == [text for text in ("10%", "50%", "99%", "") if text in shown]
    whole, end = texts(await read_all(executor, job_id))
    assert (whole.replace("50%\r", ""), end) == ("10%\r99%\rdone", "end")
    await executor.remove(job_id)


async def test_nothing_grows_of_a_job_that_is_not_there(executor: Executor) -> None:
    async with asyncio.timeout(120):
        assert [line async for line in executor.growing("01990000-0000-7000-8000-000000000001")] == []


async def test_which_network_jobs_can_be_given_is_told_with_the_reason_for_less(executor: Executor) -> None:
    given = await executor.try_network()
    assert (given.network is Network.INTERNET) == (given.reason == "")


@pytest.mark.tries_sandbox
async def test_what_keeps_jobs_in_is_tried_and_holds_where_there_is_such_a_thing(executor: Executor) -> None:
    before, trial = await executor.list_jobs(), await executor.try_sandbox()
    assert trouble_of(trial.rows) == ""
    assert bool(trial.rows) == (executor.name == "docker")
    facts = await executor.engine_facts()
    assert (facts.name if facts else "") == trial.engine
    assert await executor.list_jobs() == before


async def test_of_a_job_that_was_given_no_network_nothing_is_counted(executor: Executor) -> None:
    spec = shell_spec("true")
    await launch(executor, spec)
    assert await executor.network_use(spec.job_id) is None
    assert await executor.network_use(str(uuid4())) is None


async def test_what_a_job_uses_is_told_while_it_runs(executor: Executor) -> None:
    """It keeps a core busy."""
    script = "while [ ! -e stop ]; do :; done"
    job_id = await launch(executor, shell_spec(script))
    assert await executor.usage(str(uuid4())) is None

    async def used() -> Usage | None:
        found = await executor.usage(job_id)
        return found if found is not None and found.cpu_seconds > 0.2 else None

    first = await until(used)
    assert 0 <= first.memory_mb < 256
    later = await until(lambda: later_than(executor, job_id, first))
    assert later.measured_at_seconds > first.measured_at_seconds
    await executor.stop(job_id, 0.0)
    assert await executor.usage(job_id) is None
    await executor.remove(job_id)


async def later_than(executor: Executor, job_id: str, first: Usage) -> Usage | None:
    found = await executor.usage(job_id)
    return found if found is not None and found.cpu_seconds > first.cpu_seconds else None
