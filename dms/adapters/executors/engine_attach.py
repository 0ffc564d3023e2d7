"""What containers print, as they write it: of lines that have no end yet, which the engine's log holds back.

An attached stream has the engine's frames without times. Who reads it must keep up: the engine stops the container's
writing when a megabyte waits.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.containers import Containers
from dms.adapters.executors.engine import Engine, EngineAnswer
from dms.adapters.executors.engine_words import explained
from dms.adapters.executors.growing import EVERY_SECONDS, GrowingText
from dms.adapters.executors.output import STREAMS
from dms.application.growing_lines import GrowingLine
from dms.errors import ExecutorUnavailable

_HEADER = struct.Struct(">BxxxI")
_SWITCHED = 101


class Attached:
    def __init__(self, containers: Containers, calls: EngineCalls, engine: Engine) -> None:
        self._containers, self._calls, self._engine = containers, calls, engine

    async def growing(self, job_id: str) -> AsyncGenerator[GrowingLine, None]:
        """Until the container ends. Raises ExecutorUnavailable."""
        found = await self._containers.find(job_id)
        if found is None:
            return
        query = {"stream": "1", "stdout": "1", "stderr": "1"}
        version, path = await self._calls.version(), f"/containers/{found['Id']}/attach"
        async with self._engine.ask(version, "POST", path, query, headers={"Upgrade": "tcp"}) as answer:
            if answer.status != _SWITCHED:
                raise ExecutorUnavailable(
                    f"the engine does not attach to {job_id}: {explained('attach', await answer.refusal())}"
                )
            async with aclosing(_lines(answer)) as lines:
                async for line in lines:
                    yield line


async def _lines(answer: EngineAnswer) -> AsyncGenerator[GrowingLine, None]:
    """What is shown of each stream, when it changed, so often at most."""
    texts = {stream: GrowingText() for stream in STREAMS.values()}
    told = dict.fromkeys(texts, "")
    reading = asyncio.create_task(_read(answer, texts))
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=EVERY_SECONDS)
            for stream, text in texts.items():
                if told[stream] != text.shown:
                    told[stream] = text.shown
                    yield GrowingLine(stream, text.shown)
        reading.result()
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def _read(answer: EngineAnswer, texts: dict[str, GrowingText]) -> None:
    frames = _Frames()
    while data := await answer.raw():
        for stream, part in frames.feed(data):
            texts[stream].feed(part)


class _Frames:
    """Splits what is attached by its streams; a frame may come in parts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        buffer, position, found = self._rest + data, 0, []
        while len(buffer) - position >= _HEADER.size:
            number, length = _HEADER.unpack_from(buffer, position)
            start, end = position + _HEADER.size, position + _HEADER.size + length
            if len(buffer) < end:
                break
            found.append((STREAMS.get(number, "stderr"), buffer[start:end]))
            position = end
        self._rest = buffer[position:]
        return found
