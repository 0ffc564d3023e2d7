"""What is recorded of an end follows from whose doing it was."""

from __future__ import annotations

from typing import Any

import pytest

from dms.domain.run_end import EndedBy, RunEnd, judge


@pytest.mark.parametrize("who", EndedBy)
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_an_order_of_ours_explains_every_end(who: EndedBy, gone: bool, again: bool) -> None:
    assert judge(stop_ordered=True, ended_by=who, gone=gone, started_again=again).end is RunEnd.STOPPED


def test_a_jobs_own_end_is_its_exit() -> None:
    assert judge(stop_ordered=False, ended_by=EndedBy.JOB).end is RunEnd.EXITED


@pytest.mark.parametrize("who", sorted(set(EndedBy) - {EndedBy.JOB}))
def test_what_the_providers_side_ended_failed_and_says_why(who: EndedBy) -> None:
    verdict = judge(stop_ordered=False, ended_by=who, error="its words")
    assert verdict.end is RunEnd.FAILED
    assert "provider" in verdict.reason
    assert "its words" in verdict.reason


def test_a_container_that_is_gone_or_was_started_again_failed_whoever_ended_it() -> None:
    gone = judge(stop_ordered=False, ended_by=EndedBy.JOB, gone=True)
    again = judge(stop_ordered=False, ended_by=EndedBy.JOB, started_again=True)
    assert (gone.end, again.end) == (RunEnd.FAILED, RunEnd.FAILED)
    assert "gone" in gone.reason
    assert "restarted from outside" in again.reason


ENGINE = "the provider's container engine ended the job: it was restarted or went down"
OPERATOR = "the job was stopped on the provider's machine, from outside"
DMS = "the provider's DMS ended the job without an order"


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"ended_by": EndedBy.ENGINE}, ENGINE),
        ({"ended_by": EndedBy.ENGINE, "error": "its words"}, f"{ENGINE} (its words)"),
        ({"ended_by": EndedBy.OPERATOR}, OPERATOR),
        ({"ended_by": EndedBy.DMS}, DMS),
        ({"ended_by": EndedBy.JOB, "gone": True}, "the container is gone: it was removed from outside"),
        ({"ended_by": EndedBy.JOB, "gone": True, "error": "lost"}, "the container is gone: lost"),
        (
            {"ended_by": EndedBy.JOB, "started_again": True, "error": "its words"},
            "the container was restarted from outside",
        ),
        ({"ended_by": EndedBy.JOB, "error": "its words"}, ""),
        ({"ended_by": EndedBy.ENGINE, "error": "its words", "stop_ordered": True}, ""),
    ],
)
def test_the_reason_is_told_in_these_words(known: dict[str, Any], reason: str) -> None:
    assert judge(**{"stop_ordered": False, **known}).reason == reason
