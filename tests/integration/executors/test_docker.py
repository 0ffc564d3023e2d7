"""Strangers' containers on a real daemon: what they can't do, and what a broken engine can't do to us."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from docker import APIClient
from docker.types import LogConfig

from dms.adapters.executors.docker import OUTPUT_LOST, DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import MIB, seccomp_profile
from dms.adapters.executors.workspaces import Workspaces
from dms.application.ports.executor import ExecutionSpec, ExecutionState
from dms.application.ports.outputs import OUTPUT_TRUNCATED, LogLine, OutputCursor, OutputLine
from dms.errors import ExecutionError, ExecutorBroken, ExecutorUnavailable, GpuUnavailable, ImageUnavailable
from tests.fixtures.docker_executors import LIMITS, SETTINGS
from tests.fixtures.engine_proxy import EMPTY, engine_proxy
from tests.fixtures.images import PLAIN_IMAGE, SHELL_IMAGE, demo_images
from tests.fixtures.jobs import NODE, cursor_after, ended, launch, read_all, run, shell_spec, texts

__all__ = ["demo_images"]

pytestmark = pytest.mark.docker

SOCKET = "/var/run/docker.sock"


async def attributes(executor: DockerExecutor, api: APIClient, spec: ExecutionSpec) -> dict[str, Any]:
    await executor.prepare(spec)
    await executor.create(spec)
    found: dict[str, Any] = await asyncio.to_thread(api.inspect_container, f"dms-{spec.job_id}")
    return found


async def test_inspect_equals_the_profile(executor: DockerExecutor, api: APIClient) -> None:
    spec = msgspec.structs.replace(
        shell_spec("true", 128), cpu_mhz=1_000, environment=(("LD_PRELOAD", "/evil.so"), ("A", "b"))
    )
    found = await attributes(executor, api, spec)
    host, config = found["HostConfig"], found["Config"]
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"][0] == "no-new-privileges:true"
    assert host["SecurityOpt"][1:] == [f"seccomp={seccomp_profile()}"]
    assert (host["Memory"], host["MemorySwap"]) == (128 * MIB, 128 * MIB)
    assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, 512)
    assert host["ReadonlyRootfs"] is True
    assert (host["NetworkMode"], host["IpcMode"], host["CgroupnsMode"]) == ("none", "private", "private")
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["Init"] is True
    assert host["LogConfig"] == {
        "Type": "local",
        "Config": {
            "max-size": str(64 * MIB * 101 // 100 + MIB),
            "max-file": "2",
            "compress": "false",
            "mode": "blocking",
        },
    }
    assert not host["Binds"]
    assert not host["Devices"]
    assert not host["DeviceRequests"]
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]}["core"] == 0
    assert config["User"] == "65532:65532"
    assert config["Healthcheck"] == {"Test": ["NONE"]}
    assert set(config["Env"]) >= {"LD_PRELOAD=", "NVIDIA_VISIBLE_DEVICES=void", "A=b"}
    assert config["Labels"]["io.nunet.dms.job_id"] == spec.job_id
    assert config["Labels"]["io.nunet.dms.node_id"] == NODE


async def test_cpu_is_never_more_than_the_host(executor: DockerExecutor, api: APIClient) -> None:
    spec = msgspec.structs.replace(shell_spec("true"), cpu_mhz=10**9)
    found = await attributes(executor, api, spec)
    assert found["HostConfig"]["NanoCpus"] == LIMITS.cores * 10**9


async def test_a_job_is_nobody_with_nothing(executor: DockerExecutor) -> None:
    script = (
        "id -u; grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t';"
        "ls /sys/class/net; ls /var/run/docker.sock 2>&1 | wc -l; "
        "touch /x 2>/dev/null || echo read-only; touch /tmp/x /workspace/x && echo scratch; echo $HOME"
    )
    lines, execution = await run(executor, shell_spec(script))
    nothing = "0" * 16
    assert execution.exit_code == 0
    assert texts(lines) == [
        "65532",
        f"CapPrm:{nothing}",
        f"CapEff:{nothing}",
        f"CapBnd:{nothing}",
        "NoNewPrivs:1",
        "Seccomp:2",
        "lo",
        "1",
        "read-only",
        "scratch",
        "/workspace",
    ]


async def test_a_child_out_of_memory_is_no_failure_of_a_job_that_ends_well(executor: DockerExecutor) -> None:
    _, execution = await run(executor, shell_spec("(tail /dev/zero); exit 0", 32))
    assert (execution.exit_code, execution.oom_killed) == (0, False)


async def test_a_hundred_thousand_lines_arrive_exactly(executor: DockerExecutor) -> None:
    spec = shell_spec("seq 1 100000")
    await launch(executor, spec)
    lines = await read_all(executor, spec.job_id)
    assert texts(lines) == [str(n) for n in range(1, 100_001)]
    cut = random.Random(7).randrange(1, len(lines))
    assert await read_all(executor, spec.job_id, cursor_after(lines[:cut])) == lines[cut:]


@pytest.mark.parametrize("late", [False, True])
async def test_a_job_that_prints_more_than_is_kept_has_no_gap_without_a_mark(
    executor: DockerExecutor, api: APIClient, *, late: bool
) -> None:
    """Faster than any reader, over many files of the engine. late: before anyone reads."""
    made = DockerExecutor(NODE, DockerSettings(limits=msgspec.structs.replace(LIMITS, log_mb=1)))
    script = "echo 1; while [ ! -e /tmp/go ]; do sleep 0.02; done; seq 2 1000000; echo late >&2; exit 3"
    spec = shell_spec(script)

    def go() -> None:
        api.exec_start(api.exec_create(f"dms-{spec.job_id}", ["touch", "/tmp/go"])["Id"])

    await launch(made, spec)
    if late:
        await asyncio.to_thread(go)
        await ended(made, spec.job_id)
    lines: list[OutputLine] = []
    async with asyncio.timeout(120), aclosing(made.follow(spec.job_id, None)) as batches:
        async for batch in batches:
            if not lines and not late:
                await asyncio.to_thread(go)
            lines += batch
    assert (await made.inspect(spec.job_id)).exit_code == 3
    await made.close()
    assert (lines[0].text == OUTPUT_LOST) == late
    whole = has_no_gap_without_a_mark(lines, OUTPUT_TRUNCATED.format(limit=2))
    assert whole == (lines[-1].text == "late")  # what the engine still had may have gone to the job's end
    assert sum(len(line.text) + 30 for line in lines) > MIB


def has_no_gap_without_a_mark(lines: Sequence[OutputLine], truncated: str, first: int = 1) -> bool:
    """Of a job that counts on its standard output, from `first` on. Whether it was read to its end; fails the test on a
    gap."""
    cut = lines[-1].stream == "stderr" and lines[-1].text == truncated
    previous, marked = first - 1, False
    for line in lines[:-1] if cut else lines:
        if line.text == OUTPUT_LOST:  # the engine may end a stream when it changes files, and then be too quick
            marked = True
        elif line.stream == "stdout":
            assert marked or int(line.text) == previous + 1
            previous, marked = int(line.text), False
    return not cut


async def test_a_long_line_that_is_not_ascii_comes_through_undamaged(executor: DockerExecutor) -> None:
    script = "printf '%10s' | sed 's/ /x€ü𝄞/g' > /tmp/1; i=0; while [ $i -lt 5 ]; do i=$((i+1));"
    script += " cat /tmp/1 /tmp/1 /tmp/1 /tmp/1 /tmp/1 /tmp/1 /tmp/1 /tmp/1 > /tmp/2; mv /tmp/2 /tmp/1; done;"
    script += "cat /tmp/1; echo; echo next"
    lines, _ = await run(executor, shell_spec(script))
    assert [line.text for line in lines][-1] == "next"
    pieces = lines[:-1]
    assert "".join(line.text for line in pieces) == "x€ü𝄞" * 10 * 8**5
    goes_on = [LogLine(1, line.stream, line.time_ns, line.text).goes_on for line in pieces]
    assert goes_on == [True] * (len(pieces) - 1) + [False]


async def test_the_end_of_a_long_line_without_a_newline_is_not_lost(executor: DockerExecutor) -> None:
    """The engine's followers miss the last records of a container that exits now and then; a line that was cut off so
    must not count as read."""
    script = "yes '€€€€€€€€€€€€€€€€' | head -c 4999960 | tr -d '\\n'"
    for outcome in await asyncio.gather(*(run(executor, shell_spec(script)) for _ in range(3))):
        assert "".join(texts(outcome[0])) == "€" * (4999960 // 49 * 16 + 4999960 % 49 // 3)


def start_as_before(api: APIClient, script: str, log: LogConfig) -> str:
    """A container as an older version of this program made it."""
    job_id = str(uuid4())
    config = api.create_container_config(
        image=SHELL_IMAGE,
        command=[script],
        labels={"io.nunet.dms.job_id": job_id, "io.nunet.dms.node_id": NODE, "io.nunet.dms.managed": "true"},
        host_config=api.create_host_config(log_config=log),
    )
    made = api.create_container_from_config(config, f"dms-{job_id}")  # type: ignore[no-untyped-call]  # of types-docker
    api.start(made["Id"])
    return job_id


async def test_a_container_of_an_older_version_is_followed_without_an_unmarked_gap(
    executor: DockerExecutor, api: APIClient
) -> None:
    log = LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2", "mode": "blocking"})
    job_id = await asyncio.to_thread(start_as_before, api, "seq 1 200000; sleep 60", log)
    lines: list[OutputLine] = []
    try:
        async with asyncio.timeout(120), aclosing(executor.follow(job_id, None)) as batches:
            async for batch in batches:
                lines += batch
                if lines[-1].stream == "stderr" and lines[-1].text != OUTPUT_LOST:
                    break
    finally:
        await executor.remove(job_id)
    # What the engine threw away before the first look, nobody can know of.
    first = next(int(line.text) for line in lines if line.stream == "stdout")
    assert not has_no_gap_without_a_mark(lines, OUTPUT_TRUNCATED.format(limit=0), first)


async def test_a_gap_behind_what_is_stored_has_its_mark_in_its_place(executor: DockerExecutor, api: APIClient) -> None:
    """We were away while the engine threw away what follows on our last line."""
    log = LogConfig(type="local", config={"max-size": "200000", "max-file": "2", "compress": "false"})
    job_id = await asyncio.to_thread(start_as_before, api, "echo first; seq 1 50000", log)
    await ended(executor, job_id)
    first = OutputCursor(time.time_ns() - 60_000_000_000, 1)  # of a line that is no longer there
    lines = await read_all(executor, job_id, first)
    assert (lines[0].stream, lines[0].text) == ("stderr", OUTPUT_LOST)
    start = int(lines[1].text)
    assert start > 1
    assert texts(lines) == [str(n) for n in range(start, start + len(texts(lines)))]
    # the next reader goes on behind the mark without another one
    for seen in (2, 3, len(lines)):
        assert await read_all(executor, job_id, cursor_after(lines[:seen])) == lines[seen:]
    await executor.remove(job_id)


async def test_short_jobs_lose_no_last_line(executor: DockerExecutor) -> None:
    for _ in range(10):
        lines, _ = await run(executor, shell_spec("echo a; echo b >&2; echo c"))
        assert (texts(lines), texts(lines, "stderr")) == (["a", "c"], ["b"])


async def test_an_engine_that_shows_the_log_of_a_short_job_late_loses_no_line(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    """The job is over, and what its log says first is nothing: when it is looked at, and when it is followed."""
    left = iter(range(2))
    async with engine_proxy(tmp_path) as proxy:
        executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, base_url=proxy.base_url))
        spec = shell_spec("echo a; echo b >&2; echo c")
        try:
            await launch(executor, spec)
            await ended(executor, spec.job_id)
            proxy.answer = lambda line: EMPTY if "/logs?" in line and next(left, None) is not None else b""
            lines = await read_all(executor, spec.job_id)
        finally:
            proxy.answer = lambda _: b""
            await executor.remove(spec.job_id)
            await executor.close()
    assert next(left, None) is None  # all of them were asked for
    assert (texts(lines), texts(lines, "stderr")) == (["a", "c"], ["b"])


async def test_a_command_that_is_not_there_is_named(executor: DockerExecutor) -> None:
    """The init process in the container finds that out, so it is an end and not a refusal."""
    spec = msgspec.structs.replace(shell_spec(""), image=PLAIN_IMAGE, arguments=("no-such-program",))
    lines, execution = await run(executor, spec)
    assert (execution.state, execution.exit_code) == (ExecutionState.EXITED, 127)
    assert "no-such-program" in texts(lines, "stderr")[0]


async def test_what_the_engine_refuses_to_start_is_over_and_says_why(executor: DockerExecutor) -> None:
    spec = msgspec.structs.replace(shell_spec("true"), gpu_uuids=("GPU-none",))
    await executor.prepare(spec)
    await executor.create(spec)
    for _ in range(2):
        with pytest.raises(
            GpuUnavailable, match=r"can't give the job its GPU.*NVIDIA Container Toolkit.*device driver"
        ):
            await executor.start(spec.job_id)
    execution = await executor.inspect(spec.job_id)
    assert execution.state is ExecutionState.EXITED
    assert "device driver" in execution.error
    assert execution.exit_code not in {0, None}
    assert await read_all(executor, spec.job_id) == []


async def test_a_job_gets_the_gpus_that_were_granted_and_no_others(executor: DockerExecutor, api: APIClient) -> None:
    spec = msgspec.structs.replace(
        shell_spec("true"),
        gpu_uuids=("GPU-1", "GPU-2"),
        environment=(("NVIDIA_VISIBLE_DEVICES", "all"), ("NVIDIA_DRIVER_CAPABILITIES", "all")),
    )
    found = await attributes(executor, api, spec)
    assert found["HostConfig"]["DeviceRequests"] == [
        {
            "Driver": "nvidia",
            "Count": 0,
            "DeviceIDs": ["GPU-1", "GPU-2"],
            "Capabilities": [["gpu", "compute", "utility"]],
            "Options": {},
        }
    ]
    named = [line for line in found["Config"]["Env"] if line.startswith("NVIDIA_")]
    assert sorted(named) == ["NVIDIA_DRIVER_CAPABILITIES=compute,utility", "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2"]


async def test_a_cpu_job_gets_no_gpu_even_where_every_container_would(executor: DockerExecutor, api: APIClient) -> None:
    """With NVIDIA's runtime as the engine's default, these two variables alone decide; an image may set them."""
    spec = msgspec.structs.replace(shell_spec("true"), environment=(("NVIDIA_VISIBLE_DEVICES", "all"),))
    found = await attributes(executor, api, spec)
    assert not found["HostConfig"]["DeviceRequests"]
    named = [line for line in found["Config"]["Env"] if line.startswith("NVIDIA_")]
    assert sorted(named) == ["NVIDIA_DRIVER_CAPABILITIES=", "NVIDIA_VISIBLE_DEVICES=void"]


async def test_a_strangers_container_with_our_name_is_not_ours(executor: DockerExecutor, api: APIClient) -> None:
    spec = shell_spec("echo ours")
    name = f"dms-{spec.job_id}"
    theirs = (await asyncio.to_thread(api.create_container, PLAIN_IMAGE, ["true"], name=name))["Id"]
    try:
        assert (await executor.inspect(spec.job_id)).state is ExecutionState.ABSENT
        await executor.remove(spec.job_id)
        assert await executor.create(spec) != theirs
        lines, _ = await run(executor, spec)
        assert texts(lines) == ["ours"]
        assert (await asyncio.to_thread(api.inspect_container, theirs))["State"]["Status"] == "created"
        assert spec.job_id not in await executor.list_jobs()
    finally:
        await asyncio.to_thread(api.remove_container, theirs)


@pytest.mark.parametrize("image", ["dms-test/never-built:1", "127.0.0.1:1/none", "-v", "../x", "sha256:" + "0" * 64])
async def test_a_missing_image_says_why(image: str) -> None:
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, patience_seconds=0.1))
    try:
        with pytest.raises(ImageUnavailable, match="image"):
            await executor.prepare(shell_spec("true", image=image))
    finally:
        await executor.close()


async def test_policy_holds_for_images_that_are_here(demo_images: tuple[str, str], api: APIClient) -> None:
    image_id = (await asyncio.to_thread(api.inspect_image, PLAIN_IMAGE))["Id"]
    for policy in (ImagePolicy(deny=("dms-test/*",)), ImagePolicy(deny=(image_id,)), ImagePolicy(allow=("a",))):
        executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, policy=policy))
        with pytest.raises(ImageUnavailable):
            await executor.prepare(shell_spec("true", image=PLAIN_IMAGE))
        await executor.close()


async def test_too_large_an_image_is_refused(demo_images: tuple[str, str]) -> None:
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, max_image_mb=0))
    with pytest.raises(ImageUnavailable, match="MiB"):
        await executor.prepare(shell_spec("true"))
    await executor.close()


async def test_a_dead_daemon_is_named(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody.sock"
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, base_url=url))
    spec = shell_spec("true")
    try:
        for call in (executor.check(), executor.prepare(spec), executor.inspect("a"), executor.list_jobs()):
            with pytest.raises(ExecutorUnavailable, match=r"nobody\.sock"):
                await call
        with pytest.raises(ExecutorUnavailable):
            await read_all(executor, "a")
    finally:
        await executor.close()


async def test_a_hung_daemon_gives_up_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "hung.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        settings = msgspec.structs.replace(SETTINGS, base_url=f"unix://{path}", call_seconds=1.0, work_seconds=1.0)
        executor = DockerExecutor(NODE, settings)
        begun = time.monotonic()
        calls = (executor.check(), executor.inspect("a"), executor.stop("b", 1), executor.remove("c"))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [ExecutorUnavailable] * 4
        assert time.monotonic() - begun < 45  # it would be a minute and more without the settings
        await executor.close()


async def test_an_engine_that_answers_nonsense_gives_an_error_of_ours(tmp_path: Path) -> None:
    """In whatever way the driver fails on it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(65_536)
        body = b'{"ApiVersion": "1.41"}' if b"/version" in asked else b"[1, 2]"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        if asked:  # some only knock
            writer.write(head + body)
            await writer.drain()
        writer.close()

    path = tmp_path / "odd.sock"
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, base_url=f"unix://{path}"))
    async with await asyncio.start_unix_server(answer, path):
        calls = (executor.inspect("a"), executor.stop("b", 1), executor.remove("c"), executor.list_jobs())
        results = await asyncio.gather(*calls, read_all(executor, "d"), return_exceptions=True)
        await executor.close()
    assert [type(result) for result in results] == [ExecutorBroken] * 5
    assert all(isinstance(result, ExecutorBroken) and result.__cause__ is not None for result in results)


class StallingProxy:
    """A Docker socket that passes everything on, but never answers for one container, or cuts its
    answers after so many bytes (0: never)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stalled = b"\0none"
        self.cut_after = 0
        self.cut = asyncio.Event()
        self._never = asyncio.Event()  # held here: a task that waits for what nobody holds is garbage

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(SOCKET)
        try:
            await asyncio.gather(
                self._pass_on(reader, back_writer, filtered=True), self._pass_on(back_reader, writer, filtered=False)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, back_writer):
                each.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, filtered: bool) -> None:
        passed = 0
        while data := await source.read(16_384):
            passed += len(data)
            if not filtered and self.cut_after and passed > self.cut_after:
                self.cut.set()
                raise ConnectionAbortedError
            if filtered and self.stalled in data:
                await self._never.wait()
            target.write(data)
            await target.drain()
        target.close()


async def test_a_container_that_hangs_the_engine_stalls_no_other_job(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    proxy = StallingProxy(tmp_path / "proxy.sock")
    server = await asyncio.start_unix_server(proxy.serve, proxy.path)
    settings = msgspec.structs.replace(SETTINGS, base_url=f"unix://{proxy.path}", call_seconds=15.0)
    executor = DockerExecutor(NODE, settings)
    stuck = shell_spec("echo stuck; sleep 60")
    try:
        await launch(executor, stuck)
        async with aclosing(executor.follow(stuck.job_id, None)) as batches:
            assert [line.text for line in await anext(batches)] == ["stuck"]
            proxy.stalled = (await executor.create(stuck)).encode()
            hung = [asyncio.create_task(executor.inspect(stuck.job_id)) for _ in range(8)]
            lines, _ = await run(executor, shell_spec("echo fine"))
            assert texts(lines) == ["fine"]
            assert not any(call.done() for call in hung)  # sooner than any of them gave up
            results = await asyncio.gather(*hung, return_exceptions=True)
            assert {type(result) for result in results} == {ExecutorUnavailable}
            proxy.stalled = b"\0none"
    finally:
        proxy.stalled = b"\0none"
        await executor.remove(stuck.job_id)
        await executor.close()
        server.close()


async def test_cut_connections_lose_and_double_no_line(demo_images: tuple[str, str], tmp_path: Path) -> None:
    """Every log stream is cut after some bytes; the reader goes on where it was."""
    proxy = StallingProxy(tmp_path / "proxy.sock")
    proxy.cut_after = 60_000
    server = await asyncio.start_unix_server(proxy.serve, proxy.path)
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, base_url=f"unix://{proxy.path}"))
    spec = shell_spec("for n in 1 2 3; do seq 1 1000; seq 1 1000 >&2; sleep 0.1; done")
    try:
        await launch(executor, spec)
        reading = asyncio.create_task(read_all(executor, spec.job_id))
        await proxy.cut.wait()
        proxy.cut_after = 0
        lines = await reading
        assert texts(lines) == texts(lines, "stderr") == [str(n) for n in range(1, 1_001)] * 3
    finally:
        proxy.cut_after = 0
        await executor.remove(spec.job_id)
        await executor.close()
        server.close()


async def test_a_workspace_of_the_host_is_the_only_mount_and_as_narrow_as_the_engines_own(
    demo_images: tuple[str, str], api: APIClient, tmp_path: Path
) -> None:
    made = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, workspaces=tmp_path / "workspaces"))
    spec = shell_spec("grep ' /workspace ' /proc/mounts; ls -a /workspace/..; dd if=/dev/zero of=x bs=1M; id -u", 64)
    spec = msgspec.structs.replace(spec, arguments=(f"cd; {spec.arguments[0]}", ""))
    try:
        found = await attributes(made, api, spec)
        mounts = [(m["Type"], m["Source"], m["Destination"]) for m in found["Mounts"] if m["Type"] != "tmpfs"]
        assert mounts == [("bind", str(tmp_path / "workspaces" / spec.job_id / "workspace"), "/workspace")]
        assert "/workspace" not in found["HostConfig"]["Tmpfs"]
        await made.start(spec.job_id)
        lines = texts(await read_all(made, spec.job_id))
        assert {"rw", "nosuid", "nodev", "size=32768k"} <= set(lines[0].split()[3].split(","))
        assert lines[-1] == "65532"
        folder = tmp_path / "workspaces" / spec.job_id
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 32 * MIB
    finally:
        await made.remove(spec.job_id)
        await made.close()


def test_a_dms_that_may_not_mount_or_whose_engine_is_elsewhere_says_so(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    ask = (
        "import pathlib, sys; from dms.adapters.executors.workspaces import Workspaces; "
        "print(Workspaces(pathlib.Path(sys.argv[1]), sys.argv[2]).trouble())"
    )
    less = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    command = [*less, sys.executable, "-c", ask, str(tmp_path / "workspaces"), SOCKET]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Operation not permitted" in done.stdout
    elsewhere = subprocess.run(
        ["unshare", "--mount", *command[len(less) :]], capture_output=True, text=True, timeout=120, check=True
    )
    assert "does not see what the DMS mounts" in elsewhere.stdout
    assert Workspaces(tmp_path / "workspaces", SOCKET).trouble() == ""
    assert "another host" in Workspaces(tmp_path / "workspaces", "").trouble()


def test_what_a_dms_killed_during_its_first_mount_left_is_no_trouble_and_is_unmounted(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    left = tmp_path / "workspaces" / ".probe"
    left.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "dms-workspace", left], check=True, timeout=120)
    try:
        assert Workspaces(tmp_path / "workspaces", SOCKET).trouble() == ""
        assert not left.exists()
    finally:
        subprocess.run(["umount", "--lazy", "--quiet", left], check=False, timeout=120)


def test_jobs_that_begin_at_once_all_find_that_there_can_be_workspaces(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            workspaces = Workspaces(tmp_path / str(turn), SOCKET)
            found = [pool.submit(workspaces.trouble) for _ in range(8)]
            assert {each.result(30) for each in found} == {""}


async def test_without_the_right_to_mount_jobs_run_without_checkpoints_and_can_not_go_on_from_one(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    """The kernel refuses a mount on a file as it refuses one without rights: with an error."""
    blocked = tmp_path / "workspaces"
    blocked.write_text("in the way")
    made = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, workspaces=blocked))
    spec, other = shell_spec("cd; echo 1 > state; cat state"), shell_spec("true")
    try:
        await launch(made, spec)
        assert texts(await read_all(made, spec.job_id)) == ["1"]
        assert await made.pack(spec.job_id, tmp_path / "x.tar.gz", MIB) is None
        await made.prepare(other)
        with pytest.raises(ExecutionError, match="from a checkpoint"):
            await made.fill(other, tmp_path / "x.tar.gz", MIB)
    finally:
        for each in (spec, other):
            await made.remove(each.job_id)
        await made.close()
