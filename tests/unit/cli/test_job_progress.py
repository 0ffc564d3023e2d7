"""What `nunet job run --wait` says of a job's steps on a terminal."""

from __future__ import annotations

from typing import Any

from dms.cli.job_progress import About, Progress, Said

ABOUT = About(provider="12D3KooWx", price=0.4, most_ntx=10, minutes=10, inputs=2)


def action(name: str, second: float, **more: Any) -> dict[str, Any]:
    return {"action": name, "time": f"2026-01-31T12:00:{second:06.3f}+00:00", **more}


def test_steps_have_their_durations_by_the_daemons_clock() -> None:
    progress = Progress(ABOUT, 5000.0)
    frames = [
        action("job-submitted", 1.5),
        action("deployment-response", 4.0, message={"success": True, "content": "http://x"}),
        action("job-completed", 34.0),
    ]
    said = [progress.take(frame, 5002.0) for frame in frames]  # they came together, after a break
    assert said == [Said("payment counts  2.0 s"), Said("container started  2.5 s"), Said("completed  30.0 s")]


def test_what_it_does_now_stands_with_time_price_and_bound() -> None:
    progress = Progress(ABOUT, 5000)
    assert progress.now_lines(5002) == (["paying 0:02", "0.4 NTX (at most 10)"], ["provider 12D3KooWx"])
    progress.take(action("job-submitted", 5), 5005)
    progress.take(action("deployment-response", 8, message={}), 5008)
    now, _ = progress.now_lines(5070)
    assert now == ["running 1:02 of 10:00", "1:10 in all", "0.4 NTX (at most 10)"]


def test_inputs_and_checkpoints_are_counted() -> None:
    progress = Progress(ABOUT, 0)
    begun = action("input-started", 1, number=1, path="data.csv", message="input 1, data.csv is being fetched")
    assert progress.take(begun, 0) is None
    assert "input 1 of 2: data.csv" in progress.now_lines(0)[0]
    done = action("input-done", 3, number=1, path="data.csv", message="input 1, data.csv: 5 bytes, fetched")
    assert progress.take(done, 0) == Said("input 1, data.csv: 5 bytes, fetched  2.0 s")
    assert not any("input" in fact for fact in progress.now_lines(0)[0])
    for number in (1, 2):
        progress.take(action("checkpoint-received", 9, number=number, message=f"checkpoint {number} is kept here"), 0)
    assert "2 checkpoints kept" in progress.now_lines(0)[0]


def test_a_failed_attempt_and_a_bad_end_are_told_as_such() -> None:
    progress = Progress(ABOUT, 0)
    failed = action("job-attempt-failed", 2, message={"attempt": 1, "reason": "provider lost", "fault": "network"})
    again = action("job-attempt-started", 3, message={"attempt": 2, "provider": "12D3KooWy", "resumed": True})
    assert progress.take(failed, 2) == Said("attempt 1 failed: provider lost  2.0 s", good=False)
    assert progress.take(again, 3) == Said("attempt 2 goes to 12D3KooWy, from its checkpoint  1.0 s")
    ended = progress.take(action("job-failed", 4, message="bad\x1b[2J"), 4)
    assert ended == Said("failed: bad\\x1b[2J  1.0 s", good=False)


def test_an_action_of_a_newer_daemon_is_shown_in_its_own_words() -> None:
    progress = Progress(ABOUT, 0)
    assert progress.take({"action": "job-waved", "message": "hello"}, 0) == Said("hello")
    assert progress.take({"action": "job-waved"}, 0) == Said("job-waved")


def test_a_clock_that_is_set_back_makes_no_negative_times() -> None:
    progress = Progress(ABOUT, 10)
    progress.take(action("job-submitted", 30), 20)
    assert progress.take(action("job-completed", 1), 5) == Said("completed  0.0 s")
    assert progress.now_lines(0)[0][0] == "completed 0:00"
