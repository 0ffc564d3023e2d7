"""Lines of a chat."""

from __future__ import annotations

import pytest

from dms.application.network.chats import MAX_LINE, Chat
from dms.errors import InvalidInput


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
async def test_what_a_peer_says_is_one_line(end: str) -> None:
    chat = Chat("1", "peer", 0)
    chat.heard(f"hello{end}you said: yes{end}")
    assert await chat.receive() == r"hello\nyou said: yes"


async def test_several_lines_are_sent_as_such() -> None:
    chat = Chat("1", "peer", 0)
    await chat.send("one\ntwo\r\n\nthree\n")
    assert [await chat.outbox.get() for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(InvalidInput):
        await chat.send("short\n" + "x" * (MAX_LINE + 1))
    chat.outbox.close()
    assert await chat.outbox.get() is None  # nothing of it was sent
