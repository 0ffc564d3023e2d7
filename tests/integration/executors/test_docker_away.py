"""An engine that is away, hangs, cuts connections or answers nonsense."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import aclosing, closing
from pathlib import Path

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.endings import has_died
from dms.adapters.executors.profile import LABEL_JOB
from dms.errors import ExecutorBroken, ExecutorUnavailable
from tests.fixtures.docker_executors import SETTINGS
from tests.fixtures.engine_proxy import SOCKET, engine_proxy
from tests.fixtures.images import demo_images
from tests.fixtures.jobs import NODE, launch, read_all, run, shell_spec, texts
from tests.fixtures.waiting import wait_for

__all__ = ["demo_images"]

pytestmark = pytest.mark.docker


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
        calls = (executor.check(), executor.inspect("a"), executor.stop("b", 1), executor.remove("c"))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [ExecutorUnavailable] * 4
        assert all(re.search(r"within 1 s$|read timeout=1\)", str(result)) for result in results), results
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


async def test_a_run_that_ends_while_only_the_line_to_the_engine_is_cut_is_told_whole(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    """The engine was there all the time, so nothing is said to be missing."""
    async with engine_proxy(tmp_path) as proxy:
        executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, base_url=proxy.base_url))
        spec = shell_spec("echo up; sleep 1; echo done")
        try:
            await launch(executor, spec)
            await wait_for(lambda: executor._memory.heard(spec.job_id))
            await proxy.cut()
            with closing(APIClient(version="auto")) as api:
                (found,) = api.containers(filters={"label": f"{LABEL_JOB}={spec.job_id}"})
                await asyncio.to_thread(api.wait, found["Id"])
            await proxy.open()
            await wait_for(lambda: has_died(executor._memory.heard(spec.job_id)))
            lines = await read_all(executor, spec.job_id)
        finally:
            await executor.remove(spec.job_id)
            await executor.close()
    assert (texts(lines), texts(lines, "stderr")) == (["up", "done"], [])


class StallingProxy:
    """A Docker socket that passes everything on, but does not answer for one container until its calls are let go,
    which cuts them; or cuts its answers after so many bytes (0: never)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stalled = b"\0none"
        self.cut_after = 0
        self.cut = asyncio.Event()
        self.let_go = asyncio.Event()

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
                await self.let_go.wait()
                raise ConnectionAbortedError
            target.write(data)
            await target.drain()
        target.close()


async def test_a_container_that_hangs_the_engine_stalls_no_other_job(
    demo_images: tuple[str, str], tmp_path: Path
) -> None:
    proxy = StallingProxy(tmp_path / "proxy.sock")
    server = await asyncio.start_unix_server(proxy.serve, proxy.path)
    settings = msgspec.structs.replace(SETTINGS, base_url=f"unix://{proxy.path}", call_seconds=600.0)
    executor = DockerExecutor(NODE, settings)
    stuck = shell_spec("echo stuck; sleep 600")
    try:
        await launch(executor, stuck)
        async with aclosing(executor.follow(stuck.job_id, None)) as batches:
            assert [line.text for line in await anext(batches)] == ["stuck"]
            proxy.stalled = (await executor.create(stuck)).encode()
            hung = [asyncio.create_task(executor.inspect(stuck.job_id)) for _ in range(8)]
            lines, _ = await run(executor, shell_spec("echo fine"))
            assert texts(lines) == ["fine"]
            assert not any(call.done() for call in hung)
            proxy.let_go.set()
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
