"""The output of containers on a real daemon: no line is lost, doubled or cut unmarked."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from docker import APIClient
from docker.types import LogConfig

from dms.adapters.executors.docker import OUTPUT_LOST, DockerExecutor, DockerSettings
from dms.adapters.executors.profile import MIB
from dms.application.ports.outputs import OUTPUT_TRUNCATED, LogLine, OutputCursor, OutputLine
from tests.fixtures.docker_executors import LIMITS, SETTINGS
from tests.fixtures.engine_proxy import EMPTY, engine_proxy
from tests.fixtures.images import SHELL_IMAGE, demo_images
from tests.fixtures.jobs import NODE, cursor_after, ended, launch, read_all, run, shell_spec, texts

__all__ = ["demo_images"]

pytestmark = pytest.mark.docker


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
    job_id = await asyncio.to_thread(start_as_before, api, "seq 1 200000; sleep 600", log)
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
