"""What was told becomes the board: a snapshot, then events; and the machine as the API describes it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms.cli.failure import Failure
from dms.cli.top.board import MOST_ENDED, Board, StreamedEvent, fact_of, machine_of, moves_machine, row_of
from tests.unit.cli.top.test_frame import row

JOB = row().job_id


def event(topic: str, position: int, subject: str = f"deployment-{JOB}", **data: Any) -> StreamedEvent:
    body = msgspec.Raw(msgspec.json.encode(data))
    return StreamedEvent(f"io.nunet.dms.{topic}", subject, "2026-01-31T12:00:05.000000Z", position, body)


def started(position: int) -> StreamedEvent:
    return event("deployment.container_started.v1", position, stops_at=0)


STARTED_US = 1_769_860_805_000_000


def board(*rows: Any, position: int = 10) -> Board:
    made = Board()
    made.begin(rows, position)
    return made


def test_events_move_a_job_on() -> None:
    made = board(row(status="created", started_at=0, position=10))
    made.take([fact_of(started(11))])
    assert (made.jobs[JOB].status, made.jobs[JOB].started_at, made.position) == ("running", STARTED_US, 11)
    exited = event("deployment.container_exited.v1", 12, exit_code=0, oom_killed=False, duration_seconds=2.5)
    made.take([fact_of(exited)])
    assert (made.jobs[JOB].status, made.jobs[JOB].duration_seconds) == ("completed", 2.5)


def test_what_the_snapshot_has_counted_in_is_not_counted_again() -> None:
    made = board(row(status="stopping", position=20))
    made.take([fact_of(started(15))])
    assert made.jobs[JOB].status == "stopping"


def test_an_event_of_a_newer_daemon_and_of_a_job_that_is_not_there_change_nothing() -> None:
    made = board()
    made.take([fact_of(event("deployment.waved.v1", 11)), fact_of(started(12))])
    assert (made.jobs, made.position) == ({}, 12)


@pytest.mark.parametrize(
    "bad",
    [
        event("deployment.container_exited.v1", 1, exit_code="many"),
        StreamedEvent("io.nunet.dms.job.completed.vX", "job-x", "2026-01-31T12:00:05Z", 1, msgspec.Raw(b"{}")),
        StreamedEvent("io.nunet.dms.job.completed.v1", "job-x", "yesterday", 1, msgspec.Raw(b"{}")),
    ],
)
def test_what_can_not_be_read_ends_the_connection_in_words(bad: StreamedEvent) -> None:
    with pytest.raises(Failure, match="can't be read"):
        fact_of(bad)


def test_all_open_jobs_are_kept_and_the_newest_of_the_others() -> None:
    ended = [row(n, status="completed", ended_at=1_000_000 + n) for n in range(MOST_ENDED + 5)]
    open_ones = [row(5000 + n, requested_at=n) for n in range(300)]
    made = board(*ended, *open_ones)
    assert len(made.jobs) == MOST_ENDED + 300
    assert ended[4].job_id not in made.jobs
    assert ended[5].job_id in made.jobs


def test_a_row_is_read_from_what_the_api_answers() -> None:
    shown: dict[str, Any] = msgspec.to_builtins(row()) | {"log_url": "http://x", "unheard_of": 1}
    shown |= {"requested_at": "2026-01-31T12:00:05.000000+00:00", "started_at": None}
    shown["failed_attempts"] = [
        {"attempt": 1, "peer": "p", "failed_at": "2026-01-31T12:00:05.000000+00:00", "reason": "r", "fault": ""}
    ]
    found = row_of(shown)
    assert (found.requested_at, found.started_at, found.failed_attempts[0].failed_at) == (STARTED_US, 0, STARTED_US)
    with pytest.raises(Failure, match="can't be read"):
        row_of({"job_id": 5})


CAPACITY = {
    "providers": [
        {
            "own": True,
            "channel": "nunet-test",
            "total": {"cpu_mhz": 8, "memory_mb": 9},
            "onboarded": {"cpu_mhz": 4},
            "gpus": [],
        }
    ],
    "network": {"providers": 3, "online": 2},
}
EARNINGS = {"total": {"earned_ntx": "9.5", "to_claim_ntx": "1.5"}}
TAKES_JOBS = {"online": True, "accepting": True, "reasons": []}
HARDWARE = {"cpu": 10000.0, "total_cores": 4}


def test_the_machine_is_read_from_what_the_api_answers() -> None:
    found = machine_of(TAKES_JOBS, HARDWARE, CAPACITY, EARNINGS)
    assert (found.accepting, found.onboarded, found.core_mhz) == (True, True, 2500)
    assert (found.earned_ntx, found.to_claim_ntx) == ("9.5", "1.5")
    assert (found.providers, found.providers_online) == (3, 2)


@pytest.mark.parametrize(
    ("online", "why"),
    [(True, ("it is full",)), (False, ("it is full", "change that with: nunet device set online"))],
)
def test_why_no_jobs_are_taken(online: bool, why: tuple[str, ...]) -> None:
    status = {"online": online, "accepting": False, "reasons": [{"kind": "capacity", "reason": "it is full"}]}
    found = machine_of(status, HARDWARE, CAPACITY, EARNINGS)
    assert (found.accepting, found.why_not) == (False, why)


def test_a_machine_that_was_never_onboarded_says_how() -> None:
    status = {"online": False, "accepting": False, "reasons": []}
    found = machine_of(status, HARDWARE, {**CAPACITY, "providers": []}, EARNINGS)
    assert found.why_not == ("offer it with: nunet onboard",)


def test_only_some_events_are_a_reason_to_read_the_machine_again() -> None:
    assert moves_machine(fact_of(event("deployment.stopped.v2", 1, reason="", by="x", fault="")))
    assert moves_machine(fact_of(event("device.unhindered.v1", 1, subject="device-p")))
    assert not moves_machine(fact_of(started(1)))
