"""From the log to many sockets: each job that someone follows has one `JobStream`, which turns its new events
and lines into frames once and writes them to all followers.

Exactly once and in order, over the seam from replay to live, rests on one rule: a stream moves its cursor
(`position`, `seq`) in the same turn of the loop in which it fixes whom it writes to. A follower that
catches up reads the log and the output by itself, never beyond the cursor, and joins in a turn in which it
stands exactly there. So what a stream sent before is what the follower has read, and the rest it is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing

from dms.adapters.http.action_frames import (
    TERMINAL_TOPICS,
    TOPICS,
    Flavour,
    action_frame,
    error_frame,
    is_terminal,
    job_id_of,
    line_frames,
    progress_frame,
)
from dms.adapters.http.connection import MAX_UNSENT_BYTES, Socket, text_frame
from dms.application.growing_lines import GrowingLine
from dms.application.jobs.job_outputs import JobOutputs
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.outputs import LogLine
from dms.application.tasks import background, cancelled
from dms.domain.event import Recorded
from dms.domain.job import Job
from dms.errors import DmsError, Unavailable

log = logging.getLogger(__name__)

EVENTS_A_READ = 100
LINES_A_READ = 512
SENDS_A_TURN = 200  # then others get the loop
BYTES_A_WRITE = 65_536
RETRY_SECONDS = 1.0


class Follower:
    """One socket's view of one job. position, seq: the last that the client has; position None: from now on.
    over: called once the terminal action was written."""

    def __init__(
        self, socket: Socket, flavour: Flavour, position: int | None, seq: int, over: Callable[[str], None]
    ) -> None:
        self.socket, self.flavour, self.position, self.seq, self.over = socket, flavour, position, seq, over


class JobStream:
    """position, seq: what live followers have been sent. terminal: the position of the job's end, once it is out."""

    def __init__(self, job_id: str, position: int, event_log: EventLog, outputs: JobOutputs, log_path: str) -> None:
        self.job_id, self.position, self.seq = job_id, position, 0
        self.terminal: int | None = None
        self.failure = ""  # why it ended before the job
        self.users = 0
        self._followers: set[Follower] = set()
        self._log, self._outputs, self._log_path = event_log, outputs, log_path
        self._events: deque[Recorded] = deque()
        self._growing: tuple[GrowingLine, ...] = ()
        self._stirred = asyncio.Event()
        self._ready = asyncio.Event()
        self.task = background(self._run(), f"stream of job {job_id}")

    def take(self, recorded: Recorded) -> None:
        """The job's next action event, in order."""
        self._events.append(recorded)
        self._stirred.set()

    def leave(self, follower: Follower) -> None:
        self._followers.discard(follower)

    # --- live --------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            try:
                await self._start()
                while self.terminal is None:
                    await self._outputs.changed(self.job_id, self.seq, self._growing, self._stirred)
                    await self._send_new()
                    self._send_growing()
            except Unavailable as error:
                log.warning("following job %s waits: %s", self.job_id, error, extra={"action": "stream_waits"})
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                self._end_with(error)
                raise
            else:
                return

    def _end_with(self, error: Exception) -> None:
        """Nobody waits for what does not come: each is told, and where to go on."""
        self.failure = str(error) if isinstance(error, DmsError) else "internal error; it is in the log of the DMS"
        self._ready.set()
        for follower in list(self._followers):
            if not follower.flavour.core:
                follower.socket.write(text_frame(error_frame(f"job {self.job_id} can't be followed: {self.failure}")))
            follower.socket.close(1011, f"the stream failed; resume with after={self.position}&log_after={self.seq}")
        self._followers.clear()

    async def _start(self) -> None:
        """An end at or before our position comes to us no more: whoever joins must be told from the log."""
        if self._ready.is_set():
            return
        self.seq = await self._outputs.last(self.job_id)
        found = await self._log.read(0, 1, topics=TERMINAL_TOPICS, stream=self._name)
        if found and found[0].position <= self.position:
            self.terminal = found[0].position
        self._ready.set()

    @property
    def _name(self) -> str:
        return f"{Job.KIND}-{self.job_id}"

    async def _send_new(self) -> None:
        """Events as they come; the last of them only behind all lines. A line is stored before the end is
        recorded, so a read that begins after the end was seen, and finds nothing, has seen all lines."""
        while True:
            while self._events and not is_terminal(self._events[0]):
                await self._send_event(self._events.popleft())
            end = self._events[0] if self._events else None
            lines = [line for line in await self._read_lines(self.seq) if line.seq > self.seq]
            if lines:
                await self._send_lines(lines)
            elif end is not None:
                self.terminal = end.position
                await self._send_event(end)
                return
            elif not self._events:
                return

    def _send_growing(self) -> None:
        """What changed, to those who want it."""
        before, self._growing = self._growing, self._outputs.growing(self.job_id)
        changed = [line for line in self._growing if line not in before]
        frames = b"".join(text_frame(progress_frame(self.job_id, line)) for line in changed)
        for follower in [each for each in self._followers if each.flavour.progress]:
            self._write(follower, frames)

    async def _read_lines(self, after: int) -> Sequence[LogLine]:
        return await self._outputs.read(self.job_id, after, LINES_A_READ)

    async def _send_event(self, recorded: Recorded) -> None:
        self.position = recorded.position
        frames: dict[Flavour, bytes] = {}
        end = is_terminal(recorded)
        for count, follower in enumerate(list(self._followers), 1):
            if follower.position is None or follower.position < recorded.position:
                if follower.flavour not in frames:
                    frames[follower.flavour] = self._event_frames(recorded, follower.flavour)
                self._write(follower, frames[follower.flavour])
            if end:
                follower.over(self.job_id)
            if count % SENDS_A_TURN == 0:
                await asyncio.sleep(0)

    async def _send_lines(self, lines: Sequence[LogLine]) -> None:
        first = lines[0].seq
        self.seq = lines[-1].seq
        frames: dict[Flavour, bytes] = {}
        for count, follower in enumerate(list(self._followers), 1):
            if follower.seq >= first:  # it resumed from a line that it had heard of elsewhere
                rest = [line for line in lines if line.seq > follower.seq]
                self._write(follower, self._line_frames(rest, follower.flavour))
                continue
            if follower.flavour not in frames:
                frames[follower.flavour] = self._line_frames(lines, follower.flavour)
            self._write(follower, frames[follower.flavour])
            if count % SENDS_A_TURN == 0:
                await asyncio.sleep(0)

    def _event_frames(self, recorded: Recorded, flavour: Flavour) -> bytes:
        payload = action_frame(recorded, flavour, self._log_path)
        return b"" if payload is None else text_frame(payload)

    def _line_frames(self, lines: Sequence[LogLine], flavour: Flavour) -> bytes:
        return b"".join(map(text_frame, line_frames(self.job_id, lines, flavour)))

    def _write(self, follower: Follower, frames: bytes) -> None:
        """A reader that does not keep up is let go, so that memory is bounded; it may come back."""
        if not frames or not follower.socket.write(frames):
            return
        if follower.socket.unsent > MAX_UNSENT_BYTES:
            self._followers.discard(follower)
            follower.socket.close(1013, f"too slow; resume with after={self.position}&log_after={self.seq}")

    # --- catching up -------------------------------------------------------------------------------
    async def join(self, follower: Follower) -> None:
        """Brings a follower to where the stream is, at the client's own pace, and makes it live."""
        await self._ready.wait()
        if self.failure:
            raise Unavailable(self.failure)
        if follower.position is None:
            follower.position = self.position if self.terminal is None else self.terminal - 1
            follower.seq = self.seq
        while follower.socket.open:
            end = await self._replay_events(follower)
            if not follower.flavour.core and follower.seq < self.seq:
                await self._replay_lines(follower)
                continue
            if end is not None:
                follower.socket.write(self._event_frames(end, follower.flavour))
                follower.position = end.position
            if self.failure:
                raise Unavailable(self.failure)
            if follower.position >= self.position and (follower.flavour.core or follower.seq >= self.seq):
                self._followers.add(follower)
                if self.terminal is not None and follower.position >= self.terminal:
                    follower.over(self.job_id)
                return

    async def _replay_events(self, follower: Follower) -> Recorded | None:
        """Up to the stream's position; the job's end is answered, for the lines go first."""
        position, target = follower.position or 0, self.position
        if position >= target:
            return None
        found = await self._log.read(position, EVENTS_A_READ, topics=TOPICS, stream=self._name)
        for recorded in found:
            if recorded.position > target:
                break
            if is_terminal(recorded):
                return recorded
            follower.socket.write(self._event_frames(recorded, follower.flavour))
            follower.position = recorded.position
        else:
            if len(found) == EVENTS_A_READ:
                return None
        follower.position = target
        return None

    async def _replay_lines(self, follower: Follower) -> None:
        lines = [line for line in await self._read_lines(follower.seq) if line.seq <= self.seq]
        frames: list[bytes] = []
        size = 0
        for frame in map(text_frame, line_frames(self.job_id, lines, follower.flavour)):
            frames.append(frame)
            size += len(frame)
            if size >= BYTES_A_WRITE:
                follower.socket.write(b"".join(frames))
                frames, size = [], 0
                await follower.socket.drained()
        follower.socket.write(b"".join(frames))
        follower.seq = lines[-1].seq
        await follower.socket.drained()


class Hub:
    """All streams, fed by one subscription to the log. position: every action event up to it was handed on."""

    def __init__(
        self, event_log: EventLog, outputs: JobOutputs, log_path: Callable[[str], str], loops: Loops | None = None
    ) -> None:
        """log_path: of a job's log, from the root of the server, its token included."""
        self._log, self._outputs, self._log_path = event_log, outputs, log_path
        self._streams: dict[str, JobStream] = {}
        self._position = 0
        self._loops = loops or Loops()
        self._following: Loop | None = None

    @property
    def position(self) -> int:
        return self._position

    def start(self) -> None:
        self._position = self._log.head
        self._following = self._loops.start("websocket actions", self._follow, needed=True)

    async def close(self) -> None:
        if self._following is not None:
            await self._following.close()
        for stream in list(self._streams.values()):
            await cancelled(stream.task)

    async def follow(self, job_id: str, follower: Follower) -> None:
        """Until cancelled. The follower is sent the job's actions and output from where it stands."""
        stream = self._streams.get(job_id)
        if stream is None or stream.task.cancelled() or stream.failure:
            stream = JobStream(job_id, self._position, self._log, self._outputs, self._log_path(job_id))
            self._streams[job_id] = stream
        stream.users += 1
        try:
            await stream.join(follower)
            await asyncio.get_running_loop().create_future()
        finally:
            stream.leave(follower)
            stream.users -= 1
            if stream.users == 0 and self._streams.get(job_id) is stream:
                del self._streams[job_id]
                stream.task.cancel()

    async def _follow(self) -> None:
        async with aclosing(self._log.subscribe(self._position, topics=TOPICS)) as batches:
            async for batch in batches:
                self._hand_on(batch)

    def _hand_on(self, batch: Sequence[Recorded]) -> None:
        for recorded in batch:
            stream = self._streams.get(job_id_of(recorded))
            if stream is not None:
                stream.take(recorded)
        self._position = batch[-1].position
