"""Inputs of jobs: fetched by the provider from real web servers, checked, and in the workspace before the start."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import tarfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from dms.application.files import disk_patience
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import Event
from dms.domain.inputs import Input
from tests.fixtures.disks import own_disk, resize
from tests.fixtures.jobs import until
from tests.fixtures.provider import accepted, ask, docker_provider, end_of, output_of
from tests.fixtures.web_server import (
    Answer,
    Asked,
    Send,
    WebServer,
    broken_after,
    chunked,
    content,
    drip,
    endless,
    in_turn,
    redirect,
    status,
    web_server,
)
from tests.integration.http.node import Node

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

MIB = 1024 * 1024
DATA = bytes(range(256)) * 4 * 1024 + b"end"  # a MiB, so that some of it is kept when it is cut
SHA256 = hashlib.sha256(DATA).hexdigest()
SUM = "cd; sha256sum data | cut -c1-64"


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as made:
        yield made


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with provider(tmp_path) as made:
        yield made


def provider(folder: Path) -> AbstractAsyncContextManager[Node]:
    """Inputs may have 4 MiB, and 5 s that they do not come."""
    return docker_provider(folder, input_networks=("127.0.0.1",), input_max_mb=4, input_patience=5.0, input_cache_mb=3)


@pytest.fixture
async def on_full_disk(tmp_path: Path) -> AsyncIterator[tuple[Node, Path]]:
    """A node, and the disk that inputs lie on."""
    with own_disk(tmp_path / "inputs", "2m") as disk:
        async with provider(tmp_path) as made:
            yield made, disk


async def events(node: Node, job_id: str, *kinds: type[Event]) -> list[Any]:
    found = await node.log.read(0, 1000, stream=f"{Deployment.KIND}-{job_id}")
    return [recorded.event for recorded in found if isinstance(recorded.event, kinds)]


async def run(node: Node, server: WebServer, *inputs: Input, script: str = SUM, ram: int = 64) -> tuple[Fault, str]:
    """Whose fault its end was, and why; for one that ended well its output."""
    job_id = await accepted(node, script, ram=ram, inputs=inputs)
    fault, reason = await end_of(node, job_id)
    return fault, " ".join(await output_of(node, job_id)) if reason == "exit code 0" else reason


async def test_a_job_finds_its_inputs_and_the_log_says_what_they_were(node: Node, server: WebServer) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("train/labels.csv")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"1,2\n"))
    server.answers |= {"/data": content(DATA), "/set.tar.gz": chunked(archive.getvalue()), "/go": redirect("/data")}
    inputs = (
        Input(url=server.url("/data"), sha256=SHA256),
        Input(url=server.url("/set.tar.gz"), unpack="tar.gz"),
        Input(url=server.url("/go"), path="deep/er/copy"),
    )
    job_id = await accepted(node, f"{SUM}; cat set/train/labels.csv; cmp data deep/er/copy; echo $?", inputs=inputs)
    assert await end_of(node, job_id) == (Fault.NONE, "exit code 0")
    assert await output_of(node, job_id) == [SHA256, "1,2", "0"]
    started = await events(node, job_id, Deployment.InputStarted)
    assert [(event.number, event.path) for event in started] == [(1, "data"), (2, "set"), (3, "deep/er/copy")]
    done = await events(node, job_id, Deployment.InputDone)
    assert [(event.size_bytes, event.sha256) for event in done] == [
        (len(DATA), SHA256),
        (len(archive.getvalue()), hashlib.sha256(archive.getvalue()).hexdigest()),
        (len(DATA), SHA256),
    ]


@pytest.mark.parametrize(
    ("answer", "sha256", "reason"),
    [
        (status("404 Not Found"), "", "input 1, data: .*404"),
        (content(DATA), "0" * 64, f"input 1, data: it has SHA-256 {SHA256}, not 0000"),
        (endless(), "", "input 1, data: it has more than the 4 MiB"),
        (endless("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"), "", "more than the 4 MiB"),
        (redirect("http://127.0.0.2/x"), "", "inner network"),
    ],
)
async def test_what_the_requester_asked_wrongly_ends_the_job_before_it_ran(
    node: Node, server: WebServer, answer: Answer, sha256: str, reason: str
) -> None:
    server.answers["/data"] = answer
    job_id = await accepted(node, SUM, ram=64, inputs=(Input(url=server.url("/data"), sha256=sha256),))
    fault, said = await end_of(node, job_id)
    assert fault is Fault.REQUESTER
    assert re.search(reason, said), said
    (failed,) = await events(node, job_id, Deployment.InputFailed)
    assert failed.reason in said
    assert await events(node, job_id, Deployment.ContainerCreated, Deployment.ContainerStarted) == []


@pytest.mark.parametrize(
    "answer", [drip(1000), status("503 Service Unavailable"), broken_after(DATA, 0), chunked(DATA[:1000], ended=False)]
)
async def test_trouble_that_lasts_is_the_networks(node: Node, server: WebServer, answer: Answer) -> None:
    server.answers["/data"] = answer
    fault, reason = await run(node, server, Input(url=server.url("/data")))
    assert (fault, reason.split(" within ")[0]) == (Fault.NETWORK, "input 1, data: it did not come")


async def test_trouble_that_passes_is_waited_out_and_what_came_is_kept(node: Node, server: WebServer) -> None:
    server.answers["/data"] = in_turn(
        status("503 Service Unavailable"), broken_after(DATA, 700_000), status("429 Slow"), content(DATA)
    )
    assert await run(node, server, Input(url=server.url("/data"), sha256=SHA256)) == (Fault.NONE, SHA256)
    assert [asked.begins for asked in server.asked] == [0, 0, 700_000, 700_000]
    assert server.asked[-1].headers["if-range"].strip('"') == SHA256[:16]


async def test_a_server_that_names_no_version_of_a_rest_is_asked_for_the_rest_of_that(
    node: Node, server: WebServer
) -> None:
    def unnamed(answer: Answer) -> Answer:
        async def named_no_more(asked: Asked, send: Send) -> None:
            await answer(asked, lambda data: send(re.sub(rb"ETag: [^\r]*\r\n", b"", data)))

        return named_no_more

    rest, last = unnamed(broken_after(DATA, 300_000)), unnamed(content(DATA))
    server.answers["/data"] = in_turn(broken_after(DATA, 400_000), rest, last)
    assert await run(node, server, Input(url=server.url("/data"))) == (Fault.NONE, SHA256)
    assert [asked.begins for asked in server.asked] == [0, 400_000, 700_000]


async def test_a_file_that_changes_while_it_comes_is_not_put_together_of_two(node: Node, server: WebServer) -> None:
    other = DATA[::-1]
    server.answers["/data"] = in_turn(broken_after(DATA, 700_000), content(other))
    digest = hashlib.sha256(other).hexdigest()
    assert await run(node, server, Input(url=server.url("/data"))) == (Fault.NONE, digest)


async def test_a_part_that_is_wrong_is_fetched_anew_from_its_first_byte(node: Node, server: WebServer) -> None:
    """A server that names no version of its file, and has another one the second time."""
    server.answers["/data"] = in_turn(broken_after(b"x" * len(DATA), 700_000, ""), content(DATA, ""))
    assert await run(node, server, Input(url=server.url("/data"), sha256=SHA256)) == (Fault.NONE, SHA256)
    assert [asked.begins for asked in server.asked] == [0, 700_000, 0]


async def test_a_disk_that_is_full_for_a_while_is_waited_for(
    on_full_disk: tuple[Node, Path], server: WebServer
) -> None:
    node, disk = on_full_disk
    server.answers["/data"] = content(DATA)
    running = asyncio.create_task(run(node, server, Input(url=server.url("/data"), sha256=SHA256)))

    async def tried_again() -> bool | None:
        return len(server.asked) > 1 or None

    await until(tried_again)
    await asyncio.to_thread(resize, disk, "200m")
    assert await running == (Fault.NONE, SHA256)


async def test_a_disk_that_stays_full_is_the_providers_fault(
    on_full_disk: tuple[Node, Path], server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = on_full_disk
    monkeypatch.setattr(disk_patience, "DISK_SECONDS", 0.0)
    server.answers["/data"] = content(DATA)
    job_id = await accepted(node, SUM, inputs=(Input(url=server.url("/data"), sha256=SHA256),))
    fault, reason = await end_of(node, job_id)
    assert fault is Fault.PROVIDER
    assert "input 1, data: this provider can't store it: The disk is too full" in reason
    (failed,) = await events(node, job_id, Deployment.InputFailed)
    assert failed.reason in reason


async def test_inputs_are_cached_by_digest_for_who_asks_for_the_same(node: Node, server: WebServer) -> None:
    server.answers |= {"/data": content(DATA), "/other": status("404 Not Found"), "/big": content(DATA + DATA)}
    wanted = Input(url=server.url("/data"), sha256=SHA256)
    for _ in range(2):
        assert await run(node, server, wanted) == (Fault.NONE, SHA256)
    assert len(server.asked) == 1
    # Who knows a digest has no right to the file for that.
    fault, _ = await run(node, server, Input(url=server.url("/other"), sha256=SHA256, path="data"))
    assert fault is Fault.REQUESTER
    # What was not used for longest makes room.
    big = Input(url=server.url("/big"), sha256=hashlib.sha256(DATA + DATA).hexdigest(), path="data")
    assert (await run(node, server, big))[0] is Fault.NONE
    server.asked.clear()
    assert (await run(node, server, big))[0] is Fault.NONE
    assert server.asked == []
    assert await run(node, server, wanted) == (Fault.NONE, SHA256)
    assert [asked.path for asked in server.asked] == ["/data"]


async def test_a_damaged_copy_in_the_cache_is_fetched_anew(node: Node, server: WebServer, tmp_path: Path) -> None:
    server.answers["/data"] = content(DATA)
    wanted = Input(url=server.url("/data"), sha256=SHA256)
    assert await run(node, server, wanted) == (Fault.NONE, SHA256)

    def damage() -> None:
        (cached,) = (tmp_path / "inputs" / "cache").iterdir()
        cached.write_bytes(b"x" + DATA[1:])

    await asyncio.to_thread(damage)
    assert await run(node, server, wanted) == (Fault.NONE, SHA256)
    assert len(server.asked) == 2


async def test_a_file_too_large_for_the_workspace_is_refused_before_it_is_fetched(
    node: Node, server: WebServer
) -> None:
    """Half of 6 MB of memory is less than what the provider would fetch."""
    server.answers["/data"] = content(bytes(4 * MIB))
    fault, reason = await run(node, server, Input(url=server.url("/data")), ram=6)
    assert (fault, "more than the 3 MiB" in reason) == (Fault.REQUESTER, True), reason


async def test_a_job_that_is_stopped_meanwhile_fetches_no_more(node: Node, server: WebServer) -> None:
    server.answers["/data"] = drip(1000)
    job_id = await accepted(node, SUM, inputs=(Input(url=server.url("/data")),))

    async def asked() -> bool | None:
        return bool(server.asked) or None

    await until(asked)
    await node.services.compute_provider.stop(job_id, "operator", "enough", Fault.PROVIDER)
    assert await end_of(node, job_id) == (Fault.PROVIDER, "enough")
    assert await events(node, job_id, Deployment.InputFailed, Deployment.InputDone) == []


async def test_nothing_is_left_of_inputs_but_the_cache_once_a_job_runs(
    node: Node, server: WebServer, tmp_path: Path
) -> None:
    server.answers["/data"] = content(DATA)
    assert (await run(node, server, Input(url=server.url("/data"))))[0] is Fault.NONE
    folders = await asyncio.to_thread(lambda: list((tmp_path / "inputs" / "jobs").iterdir()))
    assert folders == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Input(url="http://169.254.169.254/latest/meta-data"), "inner network"),
        (Input(url="http://[::1]/x"), "inner network"),
        (Input(url="file:data", sha256=SHA256, size_bytes=5 * MIB), "at most 4"),
        (Input(url="file:data"), "needs its digest"),
    ],
)
async def test_what_is_never_fetched_is_refused_at_once(node: Node, given: Input, reason: str) -> None:
    _, answer = await ask(node, inputs=(given,))
    assert not answer.accepted
    assert reason in answer.reason


async def test_a_secret_that_is_not_sealed_or_not_by_the_job_is_refused(node: Node) -> None:
    _, answer = await ask(node, secret_env={"TOKEN": "hush"})
    assert (answer.accepted, "hush" in answer.reason) == (False, False)
    token = node.log.seal("another", "hush", "job environment TOKEN")
    job_id, answer = await ask(node, secret_env={"TOKEN": f"sealed:{token}"})
    assert answer.accepted
    fault, reason = await end_of(node, job_id)
    assert (fault, "TOKEN can't be opened" in reason) == (Fault.REQUESTER, True)
