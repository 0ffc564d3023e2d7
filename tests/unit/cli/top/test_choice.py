"""Keys of the live view, and what they lead to."""

from __future__ import annotations

import pytest

from dms.cli.top.choice import ORDERS, Choice, Done, Mode, Side, pressed, shown
from dms.cli.top.keys import is_unfinished, keys_in
from projections.jobs import JobRow
from tests.unit.cli.top.test_frame import NOW_US, row

ROWS = [row(n, requested_at=NOW_US - n) for n in range(10)]


def press(*keys: str, choice: Choice | None = None, rows: list[JobRow] | None = None) -> Done:
    done = Done(choice or Choice())
    for key in keys:
        done = pressed(key, done.choice, ROWS if rows is None else rows, page=4)
    return done


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1b[B", ["up", "down"]),
        ("\x1bOA", ["up"]),
        ("\x1b[5~x", ["page up", "x"]),
        ("\r\t\x7f", ["enter", "tab", "backspace"]),
        ("\x1b", ["escape"]),
        ("\x1bq", ["escape", "q"]),
        ("\x1b[200~x\x1b[201~", ["x"]),  # pasted
        ("\x1b[<0;1;1M", []),  # a mouse
        ("é", ["é"]),
    ],
)
def test_keys_are_told_apart(typed: str, keys: list[str]) -> None:
    assert keys_in(typed) == keys


@pytest.mark.parametrize(
    ("typed", "unfinished"),
    [("\x1b", True), ("\x1b[", True), ("\x1b[5", True), ("\x1b[A", False), ("a", False), ("\x1b[" + "1" * 40, False)],
)
def test_a_sequence_in_two_parts_is_waited_for(typed: str, unfinished: bool) -> None:
    assert is_unfinished(typed) == unfinished


def test_q_ends_it_and_only_in_the_list() -> None:
    assert press("q").quit
    assert not press("/", "q").quit
    assert press("/", "q").choice.filter == "q"


def test_the_selection_moves_within_the_list() -> None:
    assert press("down").choice.selected == ROWS[1].job_id
    assert press("down", "up", "up").choice.selected == ROWS[0].job_id
    assert press("page down").choice.selected == ROWS[4].job_id
    assert press("G").choice.selected == ROWS[-1].job_id
    assert press("down", rows=[]).choice.selected == ""


def test_any_key_leads_back_from_peers_and_help() -> None:
    for key in ("p", "?"):
        assert press(key).choice.mode is not Mode.LIST
        assert press(key, "q") == Done(Choice())


def test_tab_changes_sides() -> None:
    assert press("tab").choice.side is Side.REQUESTER
    assert press("tab", "tab").choice.side is Side.PROVIDER


def test_s_goes_through_all_orders() -> None:
    seen = [press(*("s",) * n).choice.order for n in range(len(ORDERS) + 1)]
    assert set(seen) == set(ORDERS)
    assert seen[0] == seen[-1]


def test_a_job_is_stopped_only_after_a_plain_yes() -> None:
    asked = press("down", "x")
    assert asked.choice.mode is Mode.ASK_STOP
    assert asked.stop == ""
    for key in ("n", "enter", "escape", "q"):
        done = press(key, choice=asked.choice)
        assert (done.stop, done.quit, done.choice.mode) == ("", False, Mode.LIST)
    assert press("y", choice=asked.choice).stop == ROWS[1].job_id


def test_a_job_that_is_over_is_not_stopped() -> None:
    assert press("x", rows=[row(status="completed")]).choice.mode is Mode.LIST


def test_the_question_is_about_the_job_that_was_selected_when_it_was_asked() -> None:
    asked = press("x").choice
    newer = [row(99, requested_at=NOW_US + 1), *ROWS]
    assert press("y", choice=asked, rows=newer).stop == ROWS[0].job_id


def test_output_is_scrolled_and_left() -> None:
    opened = press("down", "enter").choice
    assert (opened.mode, opened.selected) == (Mode.OUTPUT, ROWS[1].job_id)
    assert press("up", "page up", choice=opened).choice.back == 5
    assert press("up", "page down", choice=opened).choice.back == 0
    assert press("up", "f", choice=opened).choice.back == 0
    assert press("q", choice=opened) == Done(Choice(selected=ROWS[1].job_id))


def test_open_jobs_stand_above_those_that_are_over() -> None:
    jobs = [
        row(1, status="failed", requested_at=NOW_US, ended_at=NOW_US + 2),
        row(2, requested_at=NOW_US - 5, price="3"),
        row(3, requested_at=NOW_US - 9, price="12"),
        row(4, status="completed", requested_at=NOW_US + 1, ended_at=NOW_US + 9),
    ]
    assert [job.position for job in shown(jobs, Choice())] == [2, 3, 4, 1]
    assert [job.position for job in shown(jobs, Choice(order="price"))] == [3, 2, 4, 1]


def test_a_filter_looks_for_each_word() -> None:
    jobs = [row(1, image="pytorch"), row(2, image="python", peer="Alice"), row(3, status="failed", image="python")]
    assert [job.position for job in shown(jobs, Choice(filter="pyth ALICE"))] == [2]
    assert press("/", *"abc", "backspace", "enter").choice == Choice(filter="ab")
    assert press("escape", choice=Choice(filter="ab")).choice.filter == ""
