"""`nunet chat`: how it ends, and how fast it sends."""

from __future__ import annotations

import pytest

from dms.adapters.http.connection import MAX_MESSAGES_A_MINUTE, Allowance
from dms.cli.talk import Turns
from tests.unit.cli.nunet import nunet
from tests.unit.cli.tiny_dms import CUT, TinyDms, close

PEER = "12D3KooWA"


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (close(1008, "more than 100 messages a minute"), "1008 more than 100 messages a minute"),
        (close(1013, "too slow"), "1013 too slow"),
        (CUT, "cut"),
    ],
)
def test_a_chat_that_is_cut_says_why_and_fails(tiny: TinyDms, end: dict[str, object], why: str) -> None:
    tiny.scripts = [(end,)]
    result = nunet("chat", "start", PEER, tiny=tiny)
    assert result.exit_code == 1
    assert f"the chat was cut: {why}" in result.stderr


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_chat_that_somebody_leaves_is_over(tiny: TinyDms, code: int) -> None:
    tiny.scripts = [(close(code, "the end"),)]
    result = nunet("chat", "start", PEER, tiny=tiny)
    assert result.exit_code == 0
    assert "the chat is over" in result.stderr


def test_a_whole_file_is_sent_no_faster_than_the_daemon_hears() -> None:
    allowed, turns, now, waited = Allowance(MAX_MESSAGES_A_MINUTE, 0.0), Turns(), 0.0, 0
    for _ in range(1000):
        pause = turns.next(now)
        now, waited = now + pause, waited + (pause > 0)
        assert allowed.take(now)
    assert waited >= 900
    assert Turns().next(5.0) == 0
    assert turns.next(now + 3600) == 0  # who typed long ago does not wait
