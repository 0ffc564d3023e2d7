"""The table from events to frames: both versions of the protocol, and the joining of lines."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms.adapters.http.action_frames import LARGEST_FRAME, REFUND, Flavour, action_frame, line_frames
from dms.application.ports.outputs import LogLine
from dms.domain.deployment import Fault
from dms.domain.event import Event, Recorded
from dms.domain.job import Job

V1 = Flavour(1, False, "http://localhost:9999")
V2 = Flavour(2, False, "http://localhost:9999")
CORE = Flavour(1, True, "http://localhost:9999")
LOG_PATH = "/api/v1/jobs/j/logs?token=t"


def recorded(event: Event) -> Recorded:
    return Recorded(
        position=7, originator_id="job-j", originator_version=1, topic=event.TOPIC, schema_version=1, time=1_000_000,
        id=b"e", correlation=b"j", causation=b"", traceparent="", event=event, data=b"{}", hash=b"",
    )  # fmt: skip


def shown(event: Event, flavour: Flavour = V1) -> Any:
    frame = action_frame(recorded(event), flavour, LOG_PATH)
    return None if frame is None else msgspec.json.decode(frame)


def shown_lines(lines: list[LogLine], flavour: Flavour) -> list[Any]:
    return [msgspec.json.decode(frame) for frame in line_frames("j", lines, flavour)]


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        (Job.Submitted(provider="p"), {"action": "job-submitted"}),
        (
            Job.DeploymentResponded(success=True, content=""),
            {
                "action": "deployment-response",
                "message": {"success": True, "content": "http://localhost:9999" + LOG_PATH},
            },
        ),
        (Job.DeploymentResponded(success=False, content="no"), None),
        (Job.Completed(), {"action": "job-completed"}),
        (Job.Failed(reason="why", fault=Fault.JOB), {"action": "job-failed", "message": "why"}),
        (
            Job.Failed(reason="why", fault=Fault.PROVIDER, refund=True),
            {"action": "job-failed", "message": f"why; {REFUND}"},
        ),
        (Job.Expired(reason="late"), {"action": "job-failed", "message": "late"}),
        (Job.LogSealed(lines=1, sha256=""), None),
    ],
)
def test_each_event_has_its_action(event: Event, frame: Any) -> None:
    assert shown(event) == frame


INPUTS = (
    Job.InputStarted(number=1, path="a/b"),
    Job.InputDone(number=1, path="a/b", size_bytes=5, sha256="ab" * 32, cached=True),
    Job.InputFailed(number=1, path="a/b", reason="not there"),
)


def test_inputs_are_told_in_words_and_in_fields() -> None:
    frames = [shown(event, V2) for event in INPUTS]
    assert [frame["action"] for frame in frames] == ["input-started", "input-done", "input-failed"]
    assert {(frame["number"], frame["path"], frame["job_id"]) for frame in frames} == {(1, "a/b", "j")}
    assert frames[1]["message"] == "input 1, a/b: 5 bytes, the provider had it, SHA-256 abababababab"
    assert (frames[1]["size_bytes"], frames[1]["sha256"], frames[1]["cached"]) == (5, "ab" * 32, True)
    assert frames[2]["message"] == "input 1, a/b: not there"


CHECKPOINT = Job.CheckpointReceived(number=2, name="a.tar", size_bytes=5, sha256="ab" * 32)


def test_a_checkpoint_that_is_here_is_told_of() -> None:
    frame = shown(CHECKPOINT, V2)
    assert frame["message"] == "checkpoint 2 is kept here: 5 bytes, SHA-256 abababababab"
    assert (frame["action"], frame["number"], frame["size_bytes"]) == ("checkpoint-received", 2, 5)


@pytest.mark.parametrize("event", [*INPUTS, CHECKPOINT])
def test_a_client_of_the_original_is_not_told_of_inputs_and_checkpoints(event: Event) -> None:
    assert [shown(event, V1), shown(event, CORE)] == [None, None]


def test_a_client_of_the_original_is_not_told_of_waiting() -> None:
    waiting = Job.FundingPending(reason="1 of 12 confirmations", until=5)
    assert shown(waiting) is None
    assert shown(waiting, Flavour(2, True, "http://localhost:9999")) is None
    frame = shown(waiting, V2)
    assert (frame["action"], frame["message"]) == ("funding-pending", "1 of 12 confirmations")


def test_version_2_adds_job_position_and_time() -> None:
    assert shown(Job.Submitted(provider="p"), V2) == {
        "action": "job-submitted", "job_id": "j", "position": 7, "time": "1970-01-01T00:00:01.000000+00:00",
    }  # fmt: skip


def test_neighbouring_lines_of_a_stream_share_a_version_1_frame() -> None:
    lines = [LogLine(1, "stdout", 0, "a"), LogLine(2, "stdout", 0, "b"), LogLine(3, "stderr", 0, "c")]
    assert shown_lines(lines, V1) == [
        {"action": "log-stream-response", "stdout": "a\nb\n"},
        {"action": "log-stream-response", "stderr": "c\n"},
    ]
    assert shown_lines(lines, CORE) == []


def test_version_2_sends_one_numbered_line_a_frame() -> None:
    frames = shown_lines([LogLine(4, "stdout", 0, "a"), LogLine(5, "stderr", 0, "b")], V2)
    assert [(f["seq"], f.get("stdout"), f.get("stderr")) for f in frames] == [(4, "a\n", None), (5, None, "b\n")]


def test_joined_frames_stay_below_64_kib_whatever_the_text() -> None:
    lines = [LogLine(n, "stdout", 0, "\x01ä" * 2000) for n in range(1, 50)]
    frames = list(line_frames("j", lines, V1))
    assert all(len(frame) <= 65_536 for frame in frames)
    assert len(frames) < len(lines)
    assert "".join(msgspec.json.decode(f)["stdout"] for f in frames) == "".join(line.text + "\n" for line in lines)
    assert LARGEST_FRAME < 65_536
