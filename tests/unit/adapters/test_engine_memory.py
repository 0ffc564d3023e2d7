"""Whether an engine saw a run's end, over an outage of its own and over one of our line to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dms.adapters.executors import engine_memory
from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.engine import Engine, EngineAddress
from dms.adapters.executors.engine_memory import EngineMemory
from dms.adapters.executors.profile import LABEL_JOB
from dms.adapters.executors.who_ended import WhoEnded
from dms.application.ports.executor import Execution, ExecutionState
from dms.domain.run_end import EndedBy
from tests.fixtures.waiting import wait_for

JOB, CONTAINER = "job", "container"


class ToldEngine:
    """Answers as an engine that remembers these events, and can be cut off; what it remembered can be taken from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._events: list[dict[str, object]] = []
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._path.unlink(missing_ok=True)

    def restart(self) -> None:
        self._events.clear()

    def tell(self, action: str) -> int:
        """When it happened, as Unix time in microseconds."""
        now = time.time_ns()
        actor = {"ID": CONTAINER, "Attributes": {LABEL_JOB: JOB}}
        self._events.append({"Action": action, "Actor": actor, "timeNano": now})
        return now // 1_000

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if b"/events" not in await reader.read(65_536):
            body = b'{"ApiVersion": "1.41"}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in self._events:
            line = msgspec.json.encode(event) + b"\n"
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ToldEngine]:
    made = ToldEngine(tmp_path / "engine.sock")
    await made.open()
    yield made
    await made.cut()


@pytest.fixture
async def memory(tmp_path: Path, engine: ToldEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EngineMemory]:
    """That has heard of the start of a run."""
    monkeypatch.setattr(engine_memory, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(engine_memory, "_RECONNECT_SECONDS", 0.05)
    path = tmp_path / "engine.sock"
    address = EngineAddress(base_url=f"unix://{path}", path=str(path))
    calls = EngineCalls(address, 5.0, 5.0)
    made = EngineMemory("node", calls, Engine(address, 5.0))
    engine.tell("start")
    made.listen()
    await wait_for(lambda: made.starts(JOB))
    yield made
    await made.close()
    calls.close()


async def outage(engine: ToldEngine, memory: EngineMemory, *, restarts: bool) -> int:
    """The run ends in it, and is told of afterwards. When, as Unix time in microseconds."""
    await engine.cut()
    await wait_for(lambda: memory.fell_into_an_outage(time.time_ns() + 3_600_000_000_000))
    if restarts:
        engine.restart()
    died = engine.tell("die")
    await engine.open()
    await wait_for(lambda: any(event.action == "die" for event in memory.heard(JOB)))
    return died


async def test_an_engine_that_found_the_end_when_it_came_up_did_not_see_it(
    engine: ToldEngine, memory: EngineMemory
) -> None:
    died = await outage(engine, memory, restarts=True)
    assert not await memory.saw_end(JOB, CONTAINER, died)
    assert not await memory.saw_end(JOB, CONTAINER, died - 1_000), "stamped before it was told"


async def test_an_engine_that_we_could_not_hear_saw_the_end(engine: ToldEngine, memory: EngineMemory) -> None:
    assert await memory.saw_end(JOB, CONTAINER, await outage(engine, memory, restarts=False))


async def test_an_engine_that_is_back_sees_the_ends_after_that(engine: ToldEngine, memory: EngineMemory) -> None:
    await outage(engine, memory, restarts=True)
    engine.restart()
    engine.tell("start")
    assert await memory.saw_end("another", CONTAINER, engine.tell("die"))


@pytest.mark.parametrize(
    ("told", "for_memory"),
    [(("die", "oom"), True), (("oom", "die"), True), (("die",), False), (("oom", "die", "start", "die"), False)],
)
async def test_lack_of_memory_counts_also_where_the_engine_hears_of_the_end_first(
    engine: ToldEngine, memory: EngineMemory, told: tuple[str, ...], for_memory: bool
) -> None:
    """Its description of the container then says nothing of memory."""
    finished_at = [engine.tell(action) for action in told][-1]
    killed = Execution(state=ExecutionState.EXITED, exit_code=137, started_at=1, finished_at=finished_at)
    found = await WhoEnded(memory).told(JOB, {"Id": CONTAINER, "Config": {}}, killed)
    assert (found.oom_killed, found.ended_by) == (for_memory, EndedBy.JOB)
