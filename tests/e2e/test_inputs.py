"""Inputs over two daemons: files of the requester's machine, what its client is told, and kills on the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_main_job import frames_until_over, socket_of
from tests.fixtures.dms import Dms, Follower, pair, payment, poll, request_body
from tests.fixtures.live_folders import files_with
from tests.fixtures.web_server import Asked, Send, WebServer, broken_after, content, status, web_server

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

DATA = os.urandom(3 * 1024 * 1024)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as made:
        yield made


@pytest.fixture
async def dmses(tmp_path: Path) -> AsyncIterator[tuple[Dms, Dms]]:
    (tmp_path / "given").mkdir()
    given = str(tmp_path / "given")
    async with pair(tmp_path, job__input_networks="127.0.0.1/32", files__send_folders=given) as both:
        yield both


def asking(script: str, *inputs: dict[str, str]) -> dict[str, Any]:
    body = request_body(script)
    body["params"]["inputs"] = list(inputs)
    return body


async def run(sp: Dms, body: dict[str, Any], tx_hash: str) -> tuple[str, list[dict[str, Any]]]:
    """The job's id, and all that its client is told."""
    quote = await sp.post("/run/request-service", body)
    async with socket_of(sp, v2=True) as socket:
        await socket.send(payment(tx_hash, quote["job_id"]))
        return quote["job_id"], await frames_until_over(socket)


async def test_a_file_of_the_requesters_machine_is_an_input(
    dmses: tuple[Dms, Dms], server: WebServer, tmp_path: Path
) -> None:
    sp, cp = dmses
    folder = tmp_path / "given" / "private-folder-of-alice"
    folder.mkdir()
    (folder / "train data.bin").write_bytes(DATA)
    server.answers["/web"] = content(b"web")
    body = asking(
        'cd; sha256sum "train data.bin" | cut -c1-64; cat web',
        {"url": (folder / "train data.bin").as_uri()}, {"url": server.url("/web?key=hush-5ecret")},
    )  # fmt: skip
    server.answers["/web?key=hush-5ecret"] = content(b"web")
    job_id, frames = await run(sp, body, "0xF11E" + "7" * 60)
    assert [frame["action"] for frame in frames if "input" in frame["action"]] == [
        "input-started", "input-done", "input-started", "input-done",
    ]  # fmt: skip
    done = [frame for frame in frames if frame["action"] == "input-done"]
    assert [(one["path"], one["size_bytes"]) for one in done] == [("train data.bin", len(DATA)), ("web", 3)]
    assert done[0]["sha256"] == SHA256
    assert "".join(frame.get("stdout", "") for frame in frames) == f"{SHA256}\nweb\n"
    # Digest and size are on record at the quote, and the provider does not learn where the file lies.
    history = (await sp.get(f"/jobs/{job_id}/history"))["items"]
    (quoted,) = [each for each in history if each["topic"] == "job.service_requested"]
    recorded = quoted["data"]["request"]["params"]["inputs"][0]
    assert (recorded["sha256"], recorded["size_bytes"]) == (SHA256, len(DATA))
    assert await asyncio.to_thread(files_with, cp.folder, "private-folder-of-alice") == []
    timeline = (await sp.get(f"/jobs/{job_id}"))["timeline"]
    assert [step["note"] for step in timeline if step["event"] == "job.input_done"] == ["train data.bin", "web"]
    for dms in dmses:
        assert await asyncio.to_thread(files_with, dms.folder, "hush-5ecret") == []


@pytest.mark.parametrize("name", ["none", "events.db", "folder", "/dev/zero"])
async def test_what_is_no_file_of_the_users_is_refused_with_the_quote(
    dmses: tuple[Dms, Dms], tmp_path: Path, name: str
) -> None:
    sp, _ = dmses
    (tmp_path / "given" / "folder").mkdir()
    path = sp.folder / name if name == "events.db" else tmp_path / "given" / name
    body = asking("true", {"url": f"file:{path}"})
    refused = await sp.post("/run/request-service", body, expect=400 if name == "none" else 403)
    assert "input" in str(refused)


async def test_a_file_that_changed_since_the_quote_ends_the_job_before_it_ran(
    dmses: tuple[Dms, Dms], tmp_path: Path
) -> None:
    sp, _ = dmses
    given = tmp_path / "given" / "given"
    given.write_bytes(b"as it was quoted")
    quote = await sp.post("/run/request-service", asking("true", {"url": given.as_uri()}))
    given.write_bytes(b"another content!")
    async with socket_of(sp, v2=True) as socket:
        await socket.send(payment("0xC4A" + "7" * 61, quote["job_id"]))
        frames = await frames_until_over(socket)
    assert frames[-1]["action"] == "job-failed"
    assert frames[-1]["message"].startswith("input 1, given: ")
    assert frames[-2]["action"] == "input-failed"
    job = await sp.get(f"/jobs/{quote['job_id']}")
    assert (job["fault"], job["started_at"]) == ("requester", None)


async def test_a_provider_that_is_killed_while_it_fetches_goes_on_where_it_was(
    dmses: tuple[Dms, Dms], server: WebServer
) -> None:
    """First in the middle of an input, then between the last input and the start."""
    sp, cp = dmses
    gate = asyncio.Event()

    async def held(asked: Asked, send: Send) -> None:
        await gate.wait()
        await content(DATA)(asked, send)

    cut = broken_after(DATA, 2 * 1024 * 1024 + 17)
    server.answers |= {"/first": cut, "/second": held}
    body = asking(
        "cd; sha256sum first second | cut -c1-64",
        {"url": server.url("/first"), "sha256": SHA256}, {"url": server.url("/second"), "sha256": SHA256},
    )  # fmt: skip
    quote = await sp.post("/run/request-service", body)
    job_id = quote["job_id"]
    follower = Follower(sp, job_id)
    async with socket_of(sp) as socket:
        await socket.send(payment("0xD1E" + "7" * 61, job_id))
        following = asyncio.create_task(follower.until_over(240))
        part = cp.folder / "inputs" / "jobs" / job_id / "1.part"
        await asyncio.to_thread(poll, lambda: part.exists() and part.stat().st_size > 2 * 1024 * 1024, "a part")
        cp.kill9()
        server.answers["/first"] = content(DATA)
        server.asked.clear()
        cp.start()
        await asyncio.to_thread(poll, lambda: "deployment.input_done" in cp.topics(job_id), "the first input")
        assert server.asked[0].begins > 2 * 1024 * 1024
        cp.kill9()
        server.answers["/first"] = status("404 Not Found")
        cp.start()
        gate.set()
        done = lambda: cp.topics(job_id).count("deployment.input_done") == 2  # noqa: E731
        await asyncio.to_thread(poll, done, "the second input")
        cp.kill9()
        server.answers["/second"] = status("404 Not Found")
        cp.start()
        await following
    assert follower.names[-1] == "job-completed", follower.names
    assert follower.text("stdout") == f"{SHA256}\n{SHA256}\n"
    assert cp.topics(job_id).count("deployment.input_done") == 2
    assert cp.topics(job_id).count("deployment.input_started") == 2
