"""`nunet top` at a terminal, of a daemon that says what the test wants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.unit.cli.test_terminal import nunet_at
from tests.unit.cli.tiny_dms import CUT, HEAR, WAIT, TinyDms
from tests.unit.cli.top.test_board import CAPACITY, EARNINGS, HARDWARE, TAKES_JOBS
from tests.unit.cli.top.test_frame import EVIL, row

BEAT = {"position": 7, "time": "2026-01-31T12:00:00.000+00:00"}


@pytest.fixture
def tiny() -> Iterator[TinyDms]:
    with TinyDms().running() as server:
        server.answers |= {
            "GET /onboarding/status": (200, {"onboarded": True}),
            "GET /onboarding/provisioned": (200, HARDWARE),
            "GET /device/status": (200, TAKES_JOBS),
            "GET /capacity": (200, CAPACITY),
            "GET /earnings": (200, EARNINGS),
            "GET /peers": (200, {"message": "nobody"}),
            "GET /jobs": (200, {"items": [], "next_token": ""}),
        }
        yield server


def answer(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(row(**more))
    found |= {name: "2026-01-31T12:00:00+00:00" for name in found if name.endswith("_at")}
    return found


def test_text_of_strangers_does_not_steer_the_terminal(tiny: TinyDms) -> None:
    job = answer(image=EVIL, peer=EVIL, reason=EVIL)
    tiny.answers["GET /jobs"] = (200, {"items": [job], "next_token": ""})
    tiny.answers["GET /device/status"] = (200, {"online": True, "accepting": False, "reasons": [{"reason": EVIL}]})
    tiny.scripts = [[BEAT, HEAR, HEAR, WAIT, CUT], *([[BEAT]] * 200)]
    with nunet_at(tiny, "top", columns=300) as shell:
        shell.see_text("takes no jobs: evil\\x1b]0;title")
        tiny.answers["GET /jobs"] = (500, {"error": EVIL})
        tiny.go_on.set()
        shell.see(lambda lines: lines[-2].startswith("evil\\x1b]0;title\\x07\\x1b[2J"))
        for forbidden in ("\x1b]0", "\x07", "\u202e", "\u200f", "\u2028", "\x9b"):
            assert forbidden not in shell.shown
        assert shell.shown.count("\x1b[2J") == 2  # at the beginning, and for the first frame
        shell.type("q")
        assert shell.end() == 0


def test_after_each_break_it_asks_anew_and_goes_on_from_there(tiny: TinyDms) -> None:
    tiny.scripts = [[BEAT, HEAR, HEAR, CUT], [{**BEAT, "position": 9}, HEAR, HEAR, WAIT]]
    with nunet_at(tiny, "top") as shell:
        shell.see_text("live · position 9")
        shell.type("q")
        assert shell.end() == 0
    events = [message for message in tiny.heard if message["subscribe"] == "events"]
    assert [message["after"] for message in events] == [7, 9]
    assert [path for path, _, _ in tiny.asked].count("GET /jobs") == 4  # those that are open, and the others, twice


def test_an_answer_of_another_shape_is_told_and_asked_for_again(tiny: TinyDms) -> None:
    tiny.answers["GET /device/status"] = (200, {"online": True})  # as an older daemon has it
    tiny.scripts = [[BEAT, HEAR, HEAR, WAIT]] * 200
    with nunet_at(tiny, "top", columns=200) as shell:
        shell.see_text("answered in a way that can't be read: KeyError")
        tiny.answers["GET /device/status"] = (200, TAKES_JOBS)
        shell.see_text("takes jobs")
        assert "Traceback" not in shell.shown
        shell.type("q")
        assert shell.end() == 0


def test_what_can_not_be_read_is_told_in_one_line(tiny: TinyDms) -> None:
    tiny.scripts = [["nonsense"]]  # type: ignore[list-item]
    with nunet_at(tiny, "top", "--once") as shell:
        assert shell.end() == 1
        assert "sent something that can't be read" in shell.shown
