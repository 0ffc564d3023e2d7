"""The websocket's actions: one table from events to frames, and the frames of a job's output. Pure.

Version 1 is the original's protocol, byte for byte where clients look; version 2 (subprotocol
`dms.actions.v2`) adds to each action its job, position or line number, and time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from dms.application.growing_lines import GrowingLine
from dms.application.ports.outputs import LogLine
from dms.domain.bounds import time_text
from dms.domain.event import Event, Recorded
from dms.domain.job import Job

SUBPROTOCOL_V2 = "dms.actions.v2"
CONNECTED = "You are connected to DMS for docker (GPU/CPU) deployment."
LARGEST_FRAME = 65_000  # bytes of encoded text that are joined into one version 1 frame

Content = dict[str, Any]


class Flavour(Struct, frozen=True):
    """What one kind of client gets. Clients of one flavour share the encoded frames.
    base: "http://host:port" as the client called us, for the log's address."""

    version: int
    core: bool  # only the documented actions, no output
    base: str
    progress: bool = False  # version 2: lines that have no end yet, too


REFUND = "the job never ran: all of its price is owed back, and its payment can pay for another job"


def _submitted(_event: Job.Submitted, _log_url: str) -> Content:
    return {"action": "job-submitted"}


def _responded(event: Job.DeploymentResponded, log_url: str) -> Content | None:
    """A refusal is told by the Failed behind it, once; that another attempt runs, by its own actions."""
    if not event.success or event.repeated:
        return None
    return {"action": "deployment-response", "message": {"success": True, "content": log_url}}


def _completed(_event: Job.Completed, _log_url: str) -> Content:
    return {"action": "job-completed"}


def _failed(event: Job.Failed | Job.Expired, _log_url: str) -> Content:
    refund = isinstance(event, Job.Failed) and event.refund
    return {"action": "job-failed", "message": f"{event.reason}; {REFUND}" if refund else event.reason}


def _funding_pending(event: Job.FundingPending, _log_url: str) -> Content:
    return {"action": "funding-pending", "message": event.reason}


def _input_started(event: Job.InputStarted, _log_url: str) -> Content:
    return {"action": "input-started", "message": f"{_input(event)} is being fetched"} | _input_fields(event)


def _input_done(event: Job.InputDone, _log_url: str) -> Content:
    whence = "the provider had it" if event.cached else "fetched"
    text = f"{_input(event)}: {event.size_bytes} bytes, {whence}, SHA-256 {event.sha256[:12]}"
    more = {"size_bytes": event.size_bytes, "sha256": event.sha256, "cached": event.cached}
    return {"action": "input-done", "message": text} | _input_fields(event) | more


def _input_failed(event: Job.InputFailed, _log_url: str) -> Content:
    return {"action": "input-failed", "message": f"{_input(event)}: {event.reason}"} | _input_fields(event)


def _input(event: Job.InputStarted | Job.InputDone | Job.InputFailed) -> str:
    return f"input {event.number}, {event.path}"


def _input_fields(event: Job.InputStarted | Job.InputDone | Job.InputFailed) -> Content:
    return {"number": event.number, "path": event.path}


def _checkpoint_received(event: Job.CheckpointReceived, _log_url: str) -> Content:
    text = f"checkpoint {event.number} is kept here: {event.size_bytes} bytes, SHA-256 {event.sha256[:12]}"
    more = {"number": event.number, "size_bytes": event.size_bytes, "sha256": event.sha256}
    return {"action": "checkpoint-received", "message": text, **more}


def _attempt_failed(event: Job.AttemptFailed, _log_url: str) -> Content:
    message = {"attempt": event.attempt, "reason": event.reason, "fault": event.fault}
    return {"action": "job-attempt-failed", "message": message}


def _attempt_started(event: Job.AttemptStarted, _log_url: str) -> Content:
    message = {"attempt": event.attempt, "provider": event.provider, "resumed": event.resume is not None}
    return {"action": "job-attempt-started", "message": message}


ACTIONS: dict[type[Event], Callable[[Any, str], Content | None]] = {
    Job.FundingPending: _funding_pending,
    Job.InputStarted: _input_started,
    Job.InputDone: _input_done,
    Job.InputFailed: _input_failed,
    Job.CheckpointReceived: _checkpoint_received,
    Job.AttemptFailed: _attempt_failed,
    Job.AttemptStarted: _attempt_started,
    Job.Submitted: _submitted,
    Job.DeploymentResponded: _responded,
    Job.Completed: _completed,
    Job.Failed: _failed,
    Job.Expired: _failed,
}
OF_VERSION_2 = (
    Job.FundingPending,
    Job.InputStarted,
    Job.InputDone,
    Job.InputFailed,
    Job.CheckpointReceived,
    Job.AttemptFailed,
    Job.AttemptStarted,
)
"""A client of the original knows no such actions, and might take an attempt's failure for the job's."""
TERMINAL = (Job.Completed, Job.Failed, Job.Expired)
TOPICS = tuple(event.TOPIC for event in ACTIONS)
LATEST_NS = 253_402_300_799 * 10**9  # the last second of the year 9999
TERMINAL_TOPICS = tuple(event.TOPIC for event in TERMINAL)

_encode = msgspec.json.Encoder().encode


def job_id_of(recorded: Recorded) -> str:
    return recorded.originator_id.removeprefix(f"{Job.KIND}-")


def is_terminal(recorded: Recorded) -> bool:
    return isinstance(recorded.event, TERMINAL)


def action_frame(recorded: Recorded, flavour: Flavour, log_path: str) -> bytes | None:
    """The payload that tells of the event, or None. log_path: of the job's log, from the root."""
    if isinstance(recorded.event, OF_VERSION_2) and (flavour.version < 2 or flavour.core):
        return None
    make = ACTIONS.get(type(recorded.event))
    content = make(recorded.event, flavour.base + log_path) if make else None
    if content is None:
        return None
    if flavour.version >= 2:
        time = time_text(recorded.time * 1000)
        content |= {"job_id": job_id_of(recorded), "position": recorded.position, "time": time}
    return _encode(content)


def line_frames(job_id: str, lines: Sequence[LogLine], flavour: Flavour) -> Iterator[bytes]:
    """Payloads for consecutive lines: one each in version 2, neighbours of a stream joined in version 1."""
    if flavour.core:
        return
    if flavour.version >= 2:
        for line in lines:
            yield _encode(
                {
                    "action": "log-stream-response",
                    line.stream: _printed(line),
                    "job_id": job_id,
                    "seq": line.seq,
                    "time": time_text(line.time_ns),
                }
            )
        return
    for stream, text in _joined(lines):
        yield _encode({"action": "log-stream-response", stream: text})


def progress_frame(job_id: str, line: GrowingLine) -> bytes:
    """What is shown of a line that has no end yet; only for a flavour that wants it."""
    return _encode({"action": "log-progress", "job_id": job_id, "stream": line.stream, "text": line.text})


def connected_frame() -> bytes:
    return _encode({"action": "connected", "message": CONNECTED})


def error_frame(message: str) -> bytes:
    return _encode({"action": "error", "message": message})


def _joined(lines: Sequence[LogLine]) -> Iterator[tuple[str, str]]:
    """(stream, text) of runs of lines; a run ends where the stream changes or the frame is full."""
    run: list[str] = []
    size, stream = 0, ""
    for line in lines:
        length = len(_encode(line.text)) + 2
        if run and (line.stream != stream or size + length > LARGEST_FRAME):
            yield stream, "".join(run)
            run, size = [], 0
        stream = line.stream
        run.append(_printed(line))
        size += length
    if run:
        yield stream, "".join(run)


def _printed(line: LogLine) -> str:
    """As the job printed it: pieces of a long line have no newline between them."""
    return line.text if line.goes_on else line.text + "\n"
