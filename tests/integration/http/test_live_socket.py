"""The websocket of pages: events and output by subscriptions, each of which misses and doubles nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from dms.adapters.http import live
from dms.adapters.http.live_output import BYTES_A_BATCH
from dms.application.ports.outputs import OutputLine
from dms.domain.event import new_id
from dms.domain.job import Job
from tests.fixtures.described import message_of
from tests.integration.http.node import PROVIDER, REQUEST, Node, now_us, running_node

API = "/api/v1"
LIVE = f"{API}/live/ws"
CHANNEL = "api.v1.live.ws"
Frame = dict[str, Any]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


class Page:
    """A client, and what it was told under each name."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send(msgspec.json.encode(message).decode())

    async def heard(self, until: Callable[[Frame], bool], *, check: bool = True) -> list[Frame]:
        """All frames up to the first that fits, without heartbeats. check: that each is as it is described."""
        found: list[Frame] = []
        async with asyncio.timeout(120):
            while True:
                frame = msgspec.json.decode(await self.socket.recv())
                if "id" in frame or "error" in frame:
                    found.append(frame)
                    assert not check or message_of(CHANNEL, frame)
                    if until(frame):
                        return found


@contextlib.asynccontextmanager
async def page_of(node: Node) -> AsyncIterator[Page]:
    async with node.connect(path=LIVE) as socket:
        yield Page(socket)


def caught_up(frame: Frame) -> bool:
    return "caught_up" in frame


def is_error(frame: Frame) -> bool:
    return "error" in frame


def is_sealed(frame: Frame) -> bool:
    return bool(frame.get("sealed"))


def positions(frames: list[Frame]) -> list[int]:
    return [frame["event"]["position"] for frame in frames if "event" in frame]


def seqs(frames: list[Frame]) -> list[int]:
    return [line["seq"] for frame in frames for line in frame.get("lines", ())]


async def grown(node: Node, times: int) -> None:
    """So many events more, in one commit."""
    jobs = [Job(new_id()) for _ in range(times)]
    for job in jobs:
        job.request_service(REQUEST, PROVIDER, "0.1", now_us() + 600_000_000, (), 0)
    await node.log.save(*jobs)


async def grown_slowly(node: Node, times: int) -> None:
    for _ in range(times):
        await grown(node, 3)


async def started_job(node: Node) -> str:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    return job


async def test_past_events_come_then_the_place_where_the_new_ones_begin(node: Node) -> None:
    job, _other = await started_job(node), await started_job(node)
    async with page_of(node) as page:
        await page.say(id="all", subscribe="events", after=2)
        past = await page.heard(caught_up)
        assert positions(past) == list(range(3, node.log.head + 1))
        assert past[-1] == {"id": "all", "caught_up": node.log.head}
        await page.say(id="job", subscribe="events", after=0, job_id=job, types=["job.*"])
        of_job = await page.heard(caught_up)
        assert {frame["event"]["correlationid"] for frame in of_job[:-1]} == {job}
        await page.say(id="new", subscribe="events", types=["job.completed"])
        assert await page.heard(caught_up) == [{"id": "new", "caught_up": node.log.head}]
        await node.complete(job)
        new = await page.heard(lambda frame: frame["id"] == "new")
        told = [(frame["id"], frame["event"]["type"].split(".")[-2]) for frame in new]
        assert sorted(told) == sorted(
            [
                ("all", "log_sealed"),
                ("job", "log_sealed"),
                ("all", "completed"),
                ("job", "completed"),
                ("new", "completed"),
            ]
        )


async def test_of_one_job_the_same_comes_live_and_later(node: Node) -> None:
    """Whatever else was recorded for its sake."""
    job = await node.job()
    async with page_of(node) as page:
        await page.say(id="live", subscribe="events", after=0, job_id=job)
        live = await page.heard(caught_up)
        await node.hold_and_use_payment(job)
        await node.submit(job)
        await node.respond(job)
        await node.complete(job)
        live += await page.heard(lambda frame: "job.completed" in frame["event"]["type"])
        await page.say(id="later", subscribe="events", after=0, job_id=job)
        later = await page.heard(caught_up)
    assert positions(live) == positions(later)
    assert {frame["event"]["subject"] for frame in later if "event" in frame} == {f"job-{job}"}


async def test_nothing_is_missed_or_doubled_while_the_log_grows(node: Node) -> None:
    await grown(node, 30)
    growing = asyncio.create_task(grown_slowly(node, 100))
    async with contextlib.AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(page_of(node)) for _ in range(10)]
        for number, page in enumerate(pages):
            await page.say(id="e", subscribe="events", after=number)
        found = [await page.heard(lambda f: 330 in positions([f]), check=False) for page in pages]
    await growing
    for number, frames in enumerate(found):
        assert positions(frames) == list(range(number + 1, 331))
        assert len([frame for frame in frames if caught_up(frame)]) == 1


async def test_what_is_unsubscribed_is_silent_and_its_name_is_free(node: Node) -> None:
    async with page_of(node) as page:
        await page.say(id="a", subscribe="events", after=0)
        await page.say(id="b", subscribe="events", after=0)
        await page.say(id="a", unsubscribe=True)
        await page.heard(lambda frame: "unsubscribed" in frame)
        await grown(node, 1)
        assert [frame["id"] for frame in await page.heard(lambda frame: "event" in frame)][-1] == "b"
        await page.say(id="a", subscribe="events", after=0)
        again = await page.heard(caught_up)
        assert [(frame["id"], *frame) for frame in again] == [("a", "id", "event"), ("a", "id", "caught_up")]
        await page.say(id="never", unsubscribe=True)
        assert await page.heard(lambda frame: True) == [{"id": "never", "unsubscribed": True}]


@pytest.mark.parametrize(
    ("message", "status", "name"),
    [
        ({"id": "x", "subscribe": "events", "after": 99}, 400, "x"),
        ({"id": "x", "subscribe": "events", "after": -1}, 400, "x"),
        ({"id": "x", "subscribe": "events", "types": [";drop"]}, 400, "x"),
        ({"id": "x", "subscribe": "events", "types": ["job"] * 65}, 400, "x"),
        ({"id": "x", "subscribe": "events", "job_id": "1"}, 404, "x"),
        ({"id": "x", "subscribe": "output", "job_id": new_id()}, 404, "x"),
        ({"id": "x", "subscribe": "output", "job_id": "../../etc/passwd"}, 404, "x"),
        ({"id": "x", "subscribe": "weather"}, 400, "x"),
        ({"id": "x", "unsubscribe": "yes"}, 400, "x"),
        ({"id": "x"}, 400, "x"),
        ({"id": "x" * 65, "subscribe": "usage"}, 400, None),
        ({"id": '"}', "subscribe": "usage"}, 400, None),
        ({"subscribe": "usage"}, 400, None),
        ([], 400, None),
    ],
)
async def test_a_wrong_message_is_told_and_the_rest_goes_on(
    node: Node, message: Any, status: int, name: str | None
) -> None:
    async with page_of(node) as page:
        await page.say(id="good", subscribe="events", after=0)
        await page.heard(caught_up)
        await page.socket.send(msgspec.json.encode(message).decode())
        (told,) = await page.heard(is_error)
        assert (told["error"]["status"], told.get("id")) == (status, name)
        assert told["error"]["detail"]
        await grown(node, 1)
        assert [frame["id"] for frame in await page.heard(lambda frame: "event" in frame)] == ["good"]


async def test_what_is_no_json_a_name_in_use_and_too_many_are_told(node: Node) -> None:
    async with page_of(node) as page:
        for raw in ("{", b"{}", '{"id":"a","id":"b"}', "NaN"):
            await page.socket.send(raw)
            assert [frame["error"]["status"] for frame in await page.heard(is_error)] == [400]
        for number in range(live.MOST_SUBSCRIPTIONS):
            await page.say(id=f"s{number}", subscribe="events")
            await page.heard(caught_up)
        await page.say(id="s0", subscribe="events")
        assert (await page.heard(is_error))[-1]["error"]["status"] == 409
        await page.say(id="more", subscribe="events")
        assert (await page.heard(is_error))[-1]["error"]["status"] == 503


async def test_an_archived_position_is_gone_and_the_first_available_is_named(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grown(node, 6)
    monkeypatch.setattr(type(node.log), "first", property(lambda _: 5))
    async with page_of(node) as page:
        await page.say(id="a", subscribe="events", after=3)
        (told,) = await page.heard(is_error)
        assert (told["error"]["status"], told["error"]["first_position"]) == (410, 5)
        await page.say(id="a", subscribe="events", after=4)
        assert positions(await page.heard(caught_up)) == [5, 6]


async def test_output_comes_from_a_line_on_until_nothing_follows(node: Node) -> None:
    job = await started_job(node)
    await node.print_lines(job, *[("stdout", f"line {n}") for n in range(1, 1001)])
    async with page_of(node) as page, page_of(node) as late:
        await page.say(id="o", subscribe="output", job_id=job, after=990)
        assert seqs(await page.heard(lambda frame: 1000 in seqs([frame]))) == list(range(991, 1001))
        await late.say(id="o", subscribe="output", job_id=job, after=0)
        await node.print_lines(job, ("stderr", "one more"))
        (new,) = await page.heard(lambda frame: bool(seqs([frame])))
        assert [(line["seq"], line["stream"], line["text"], line["cut"]) for line in new["lines"]] == [
            (1001, "stderr", "one more", False)
        ]
        await node.complete(job)
        assert seqs(await late.heard(is_sealed)) == list(range(1, 1002))
        assert await page.heard(is_sealed) == [{"id": "o", "lines": [], "sealed": True}]
        await page.say(id="o", subscribe="output", job_id=job, after=1001)  # its name is free again
        assert await page.heard(is_sealed) == [{"id": "o", "lines": [], "sealed": True}]
        await page.say(id="o", subscribe="output", job_id=job, after=1002)
        assert (await page.heard(is_error))[-1]["error"]["status"] == 400


async def test_hostile_output_comes_in_bounded_frames_as_it_was_printed(node: Node) -> None:
    job = await started_job(node)
    hostile = ["<script>alert(1)</script>", "\x1b[31mred\x1b[0m\rover", "\u202eright to left\u2066", "a\ufffdb\x00c"]
    long = ["é" * 32_000] * 20  # 64,000 bytes each
    await node.outputs.append(job, [OutputLine("stdout", 0, text) for text in (*hostile, *long)])
    await node.complete(job)
    async with page_of(node) as page:
        await page.say(id="o", subscribe="output", job_id=job, after=0)
        frames = await page.heard(is_sealed)
    lines = [line for frame in frames for line in frame["lines"]]
    assert [line["text"] for line in lines[:4]] == hostile
    assert {(line["text"], line["cut"], line["size_bytes"]) for line in lines[4:]} == {("é" * 2048, True, 64_000)}
    assert all(len(msgspec.json.encode(frame)) < BYTES_A_BATCH + 16_384 for frame in frames)


async def test_a_line_that_grows_is_shown_to_who_wants_it(node: Node) -> None:
    from dms.application.growing_lines import GrowingLine

    job = await started_job(node)
    async with page_of(node) as page:
        await page.say(id="o", subscribe="output", job_id=job, after=0, progress=True)
        node.outputs.growing.tell(job, GrowingLine("stdout", "50 %"))
        (frame,) = await page.heard(lambda frame: "growing" in frame)
        assert frame == {"id": "o", "growing": [{"stream": "stdout", "text": "50 %"}]}


async def test_samples_of_what_is_used_come_as_they_are_taken(node: Node) -> None:
    async with page_of(node) as page:
        await page.say(id="u", subscribe="usage")
        await page.say(id="none", unsubscribe=True)
        await page.heard(lambda frame: "unsubscribed" in frame)
        node.services.compute_provider.usage.start()
        (frame,) = await page.heard(lambda frame: "usage" in frame)
        assert (frame["usage"]["job_id"], frame["usage"]["sample"]["memory_mb"]) == (None, 4000)
        await node.services.compute_provider.usage.close()


async def test_a_silent_socket_says_that_it_lives_and_how_far_the_log_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BEAT_SECONDS", 0.1)
    async with running_node(tmp_path) as node:
        await grown(node, 4)
        async with node.connect(path=LIVE) as socket, asyncio.timeout(120):
            for _ in range(3):
                frame = msgspec.json.decode(await socket.recv())
                assert (frame["position"], message_of(CHANNEL, frame)) == (4, "beat")


@pytest.mark.slow
async def test_a_reader_that_takes_nothing_is_let_go_and_goes_on_where_it_was(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_UNSENT_BYTES", 20_000)
    async with page_of(node) as page:
        await page.say(id="e", subscribe="events", after=0)
        (first,) = await page.heard(caught_up)
        assert first["caught_up"] == 0
        page.socket.transport.pause_reading()
        sessions = node.app.ctx.live.sessions
        while sessions:
            await grown(node, 500)
        page.socket.transport.resume_reading()
        frames: list[Frame] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                frames.append(msgspec.json.decode(await page.socket.recv()))
    assert (page.socket.close_code, "subscribe again" in str(page.socket.close_reason)) == (1013, True)
    got = positions(frames)
    assert got == list(range(1, len(got) + 1))
    async with page_of(node) as page:
        await page.say(id="e", subscribe="events", after=got[-1])
        assert positions(await page.heard(caught_up)) == list(range(got[-1] + 1, node.log.head + 1))


async def test_many_follow_one_output_and_each_gets_every_line_once(node: Node) -> None:
    job = await started_job(node)
    await node.print_lines(job, *[("stdout", f"line {n}") for n in range(3000)])
    async with contextlib.AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(page_of(node)) for _ in range(10)]
        for number, page in enumerate(pages):
            await page.say(id="o", subscribe="output", job_id=job, after=300 * number)
        for n in range(100):
            await node.print_lines(job, ("stdout", f"late {n}"))
            await asyncio.sleep(0)
        await node.complete(job)
        found = [await page.heard(is_sealed, check=False) for page in pages]
    for number, frames in enumerate(found):
        assert seqs(frames) == list(range(300 * number + 1, 3101))


async def test_a_client_goes_on_behind_its_last_position_after_a_restart(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node:
        await grown(node, 5)
        async with page_of(node) as page:
            await page.say(id="e", subscribe="events", after=2)
            last = positions(await page.heard(caught_up))[-1]
    async with running_node(tmp_path) as node:
        await grown(node, 2)
        async with page_of(node) as page:
            await page.say(id="e", subscribe="events", after=last)
            assert positions(await page.heard(caught_up)) == [6, 7]
