"""What containers print, read from the engine's log from its beginning, without a gap that has no mark.

The log is skipped up to the cursor: the engine's own `since` compares times, which are not in the log's order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec import Struct

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.containers import Containers, execution_of, microseconds
from dms.adapters.executors.engine import Engine, EngineAnswer, payloads
from dms.adapters.executors.engine_memory import EngineMemory
from dms.adapters.executors.output import (
    CursorTracker,
    FrameReader,
    LineAssembler,
    Record,
    Seeker,
    batches,
    log_allowance,
)
from dms.application.ports.executor import Execution, ExecutionState
from dms.application.ports.outputs import OutputCursor, OutputLine
from dms.errors import NotFound

logger = logging.getLogger(__name__)

_START_POLL_SECONDS = 0.1
_REREAD_SECONDS = 0.2
_LOOK_SECONDS = 1.0  # between two looks at what was heard of the engine
_LATE_SECONDS = 0.2  # after which a log that was empty when its job was over is believed
OUTPUT_LOST = "[dms] output is missing here: the container engine no longer has all lines that the job printed"
OUTPUT_UNSEEN = "[dms] output may be missing here: the job ended while the container engine was away"


class _Reading:
    """How far one stream got. finished: the engine itself ended it. cut: more of it can't be trusted to have no gap.
    lost: what stood before it is gone from the engine's log, and nobody was told yet. rest: of a line that goes on;
    it counts only when the log is complete, for the engine's followers can miss the last records. run: the one
    that is followed, None for what is only looked up; starts: those of its container that we had heard of."""

    def __init__(self, run: _Run | None = None, starts: int = 0) -> None:
        self.run, self.starts = run, starts
        self.last: Record | None = None
        self.rest: list[OutputLine] = []
        self.finished = self.cut = self.lost = False

    def left_over(self) -> list[list[OutputLine]]:
        """What is to be told at the end of the log."""
        lost = [[_lost_before(time.time_ns())]] if self.lost else []
        return [*lost, self.rest] if self.rest else lost


class _Run(Struct, frozen=True):
    """One run of a container. started_at: as the engine stamped it."""

    job_id: str
    container: str
    started_at: int


class OutputReader:
    """quiet_seconds: a log this long without a line is checked for being stuck."""

    def __init__(
        self,
        containers: Containers,
        memory: EngineMemory,
        calls: EngineCalls,
        engine: Engine,
        quiet_seconds: float,
    ) -> None:
        self._containers, self._memory, self._calls, self._engine = containers, memory, calls, engine
        self._quiet_seconds = quiet_seconds

    async def follow(self, job_id: str, after: OutputCursor | None) -> AsyncGenerator[Sequence[OutputLine], None]:
        """A connection that ends before the run does is made anew. What the engine may have lost is not passed over in
        silence: a line stands in its place."""
        if (run := await self._until_started(job_id)) is None:
            return
        tracker = CursorTracker(after)
        if after is not None and await self._is_told_whole(run, after):
            return
        while True:
            reading = _Reading(run, self._memory.starts(run.job_id))
            was_over = await self._is_over(run)
            if was_over and await self._was_started_again(run):
                return
            try:
                async with aclosing(self._read_log(run.container, tracker.cursor, reading)) as lines:
                    async for some in lines:
                        tracker.advance(some)
                        for batch in batches(some):
                            yield batch
                if reading.cut:
                    await self._until_over(run)
                    return
                if await self._was_started_again(run):
                    return
                if reading.finished and await self._is_complete(run, reading):
                    for left in [*reading.left_over(), *await self._unseen(run)]:
                        yield left
                    return
            except NotFound:
                return  # removed meanwhile: there is nothing more to read
            await asyncio.sleep(_REREAD_SECONDS)
            logger.info("reading the output of job %s again: the engine's stream ended early", job_id)

    async def _until_started(self, job_id: str) -> _Run | None:
        """The run once it was started, None when its container is gone before; the engine would end the log of a
        created one at once."""
        while (found := await self._containers.find(job_id)) is not None:
            if (execution := execution_of(found)).state is not ExecutionState.CREATED:
                return _Run(job_id, str(found["Id"]), execution.started_at)
            await asyncio.sleep(_START_POLL_SECONDS)
        return None

    async def _until_over(self, run: _Run) -> None:
        while not await self._is_over(run):
            await self._containers.exits_within(run.container, self._quiet_seconds)

    async def _is_over(self, run: _Run) -> bool:
        """Also when its container was started again or is gone."""
        found = await self._containers.described(run.container)
        if found is None:
            return True
        execution = execution_of(found)
        return execution.state is not ExecutionState.RUNNING or execution.started_at != run.started_at

    async def _was_started_again(self, run: _Run) -> bool:
        """By somebody else: what is printed then is not the job's any more."""
        found = await self._containers.described(run.container)
        return found is not None and execution_of(found).started_at != run.started_at

    async def _is_complete(self, run: _Run, reading: _Reading) -> bool:
        """Whether the job is over and its log ends where the stream did: the engine's followers can
        miss the last lines of a container that exits, and all of one that exits at once."""
        await self._containers.exits_within(run.container, 2.0)
        if not await self._is_over(run):
            return False
        if reading.last is None:
            await asyncio.sleep(_LATE_SECONDS)
        return await self._last_record(run.container) == reading.last

    async def _unseen(self, run: _Run) -> list[list[OutputLine]]:
        """A mark where nobody kept what the run printed at its end: an engine that comes back reads no more of a
        container which ended without it."""
        if (found := await self._containers.described(run.container)) is None or not run.started_at:
            return []
        execution = execution_of(found)
        if await self._memory.saw_end(run.job_id, run.container, execution.finished_at):
            return []
        return [[OutputLine("stderr", _unseen_at(execution), OUTPUT_UNSEEN)]]

    async def _is_told_whole(self, run: _Run, after: OutputCursor) -> bool:
        """Whether that mark was told, behind which there is nothing."""
        found = await self._containers.described(run.container)
        return found is not None and after.time_ns == _unseen_at(execution_of(found))

    async def _read_log(
        self, container: str, after: OutputCursor | None, reading: _Reading
    ) -> AsyncGenerator[list[OutputLine], None]:
        """Lines after the cursor until the engine ends the stream, or it turns out to be stuck."""
        reading.lost = not await (
            self._is_from_the_start(container) if after is None else self._holds(container, after)
        )
        seeker = Seeker(None if reading.lost else after)
        async with aclosing(self._whole_lines(container, reading, {"follow": "1"})) as found:
            async for some in found:
                lines = seeker.pass_on(some)
                if lines and reading.lost:
                    lines.insert(0, _lost_before(lines[0].time_ns))
                    reading.lost = False
                if lines:
                    yield lines
        reading.rest = seeker.pass_on(reading.rest)

    async def _holds(self, container: str, cursor: OutputCursor) -> bool:
        seeker, reading = Seeker(cursor), _Reading()
        async with aclosing(self._whole_lines(container, reading, {})) as whole:
            async for some in whole:
                seeker.pass_on(some)
                if seeker.found:
                    return True
        seeker.pass_on(reading.rest)
        return seeker.found

    async def _is_from_the_start(self, container: str) -> bool:
        """Whether the log surely has what the job printed first. Not when it printed a whole file and more before now,
        and may have printed others before that."""
        found = await self._calls.ask("inspect", lambda api: api.inspect_container(container))
        started_ns = microseconds(found["State"].get("StartedAt")) * 1_000
        allowance = log_allowance(found["HostConfig"].get("LogConfig") or {})
        async with aclosing(self._records(container, _Reading(), {})) as records:
            async for some in records:
                if allowance.is_fresh(some[0].time_ns - started_ns):
                    return True
                allowance.pass_on(some, LineAssembler())
                if allowance.used_up:
                    return False
        return True

    async def _whole_lines(
        self, container: str, reading: _Reading, query: dict[str, str]
    ) -> AsyncGenerator[list[OutputLine], None]:
        """As far as they are sure to be without a gap."""
        found = await self._calls.ask("inspect", lambda api: api.inspect_container(container))
        allowance, assembler = log_allowance(found["HostConfig"].get("LogConfig") or {}), LineAssembler()
        async with aclosing(self._records(container, reading, query)) as records:
            async for some in records:
                yield allowance.pass_on(some, assembler)
                if allowance.used_up:
                    reading.cut = True
                    return
        reading.rest = assembler.flush()

    async def _records(
        self, container: str, reading: _Reading, query: dict[str, str]
    ) -> AsyncGenerator[list[Record], None]:
        options = {"stdout": "1", "stderr": "1", "timestamps": "1", **query}
        frames = FrameReader()
        async with self._engine.open(
            await self._calls.version(), "GET", f"/containers/{container}/logs", options
        ) as answer:
            async with aclosing(self._chunks(answer, reading)) as chunks:
                async for data in chunks:
                    if not data and await self._is_stuck(container, reading):
                        return
                    if records := frames.feed(data):
                        reading.last = records[-1]
                        yield records
            reading.finished = answer.finished

    async def _chunks(self, answer: EngineAnswer, reading: _Reading) -> AsyncGenerator[bytes, None]:
        """Payloads; b"" each time that none came for quiet_seconds. They end where somebody else starts the container
        again: the engine's followers may go on with what it prints then."""
        look, silent = min(_LOOK_SECONDS, self._quiet_seconds), 0.0
        async with aclosing(payloads(answer, look)) as chunks:
            async for data in chunks:
                if await self._is_abandoned(reading):
                    return
                silent = 0.0 if data else silent + look
                if data or silent >= self._quiet_seconds:
                    silent = 0.0
                    yield data

    async def _is_abandoned(self, reading: _Reading) -> bool:
        if reading.run is None or (starts := self._memory.starts(reading.run.job_id)) == reading.starts:
            return False
        reading.starts = starts
        return await self._was_started_again(reading.run)

    async def _is_stuck(self, container: str, reading: _Reading) -> bool:
        """Whether the log has more than the silent stream gave: the engine's followers can miss a wake-up."""
        running = await self._calls.ask("inspect", lambda api: api.inspect_container(container))
        return not running["State"]["Running"] or await self._last_record(container) != reading.last

    async def _last_record(self, container: str) -> Record | None:
        tail = _Reading()
        async with aclosing(self._records(container, tail, {"tail": "1"})) as records:
            async for _ in records:
                pass
        return tail.last


def _unseen_at(execution: Execution) -> int:
    """The time of that mark, always the same, so that a cursor on it is known again."""
    return execution.finished_at * 1_000


def _lost_before(time_ns: int) -> OutputLine:
    """A little earlier than the line behind it, so that a cursor on that line counts it alone."""
    return OutputLine("stderr", time_ns - 1, OUTPUT_LOST)
