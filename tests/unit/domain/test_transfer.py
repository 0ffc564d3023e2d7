"""What a transfer may become, and what a peer's file name may be here."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.domain.peer_id import is_peer_id
from dms.domain.run_time import Instant
from dms.domain.transfer import MAX_NAME_BYTES, Direction, Transfer, TransferState, numbered, plain_name
from dms.errors import Conflict


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("weights.bin", "weights.bin"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("/", "file"),
        ("..", "file"),
        ("...", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("a\x00b\n\x1b[31mc", "ab[31mc"),
        ("cod.txt\u202e.exe", "cod.txt.exe"),
        ("  spaced  ", "spaced"),
        ("e\u0301", "\u00e9"),
        ("x" * 300 + ".tar", "x" * (MAX_NAME_BYTES - 4) + ".tar"),
    ],
)
def test_a_name_becomes_plain(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@given(st.text(max_size=400))
def test_whatever_a_peer_calls_it_the_name_is_safe(name: str) -> None:
    plain = plain_name(name)
    assert plain
    assert not plain.startswith(".")
    assert "/" not in plain
    assert "\\" not in plain
    assert not any(unicodedata.category(c).startswith("C") for c in plain)
    assert len(numbered(plain, 9999).encode()) + len(".part") <= 255


def test_namesakes_are_numbered_before_the_suffix() -> None:
    assert [numbered("a.txt", n) for n in range(3)] == ["a.txt", "a (1).txt", "a (2).txt"]
    assert numbered("README", 1) == "README (1)"


def offered(direction: Direction = Direction.IN) -> Transfer:
    transfer = Transfer("0198c0de-0000-7000-8000-000000000000")
    transfer.offer(direction, "12D3KooWPeer", "a.txt", 3, "0" * 64, Instant("boot", 1_000, 1))
    return transfer


WEEK = 7 * 24 * 3600 * 1_000_000


def test_it_is_late_by_the_boot_clock_and_over_a_reboot_by_the_wall_clock() -> None:
    transfer = offered()
    assert not transfer.is_late(Instant("boot", 1_000 + WEEK - 1, 50 * WEEK))
    assert transfer.is_late(Instant("boot", 1_000 + WEEK, 1))
    assert not transfer.is_late(Instant("next boot", 50 * WEEK, WEEK))
    assert transfer.is_late(Instant("next boot", 0, 1 + WEEK))


def test_one_that_an_older_version_recorded_has_the_wall_clock_alone() -> None:
    transfer = Transfer("0198c0de-0000-7000-8000-000000000000")
    transfer.apply(
        Transfer.Offered(direction="in", peer_id="p", name="a", size_bytes=1, sha256="0" * 64, offered_at=5)
    )  # fmt: skip
    assert not transfer.is_late(Instant("boot", 50 * WEEK, WEEK))
    assert transfer.is_late(Instant("boot", 0, 5 + WEEK))


def test_an_end_is_final() -> None:
    for end in ("complete", "fail", "cancel"):
        transfer = offered()
        getattr(transfer, end)(*([] if end == "complete" else ["reason"]))
        state, version = transfer.state, transfer.version
        transfer.complete()
        transfer.fail("late")
        transfer.cancel("late")
        assert (transfer.state, transfer.version) == (state, version)
        with pytest.raises(Conflict):
            transfer.accept()


def test_what_is_complete_was_accepted_even_if_nobody_said_so() -> None:
    transfer = offered(Direction.OUT)
    transfer.complete()
    assert transfer.state is TransferState.COMPLETED
    assert [e.TOPIC for _, e in transfer.pending] == ["transfer.offered", "transfer.accepted", "transfer.completed"]


def test_accepting_twice_is_one_event() -> None:
    transfer = offered()
    transfer.accept()
    transfer.accept()
    assert transfer.version == 2


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo", True),
        ("QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9NP", True),
        ("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2X", False),
        ("QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9N0", False),
        ("", False),
        ("0", False),
        ("1" * 52, False),
        ("x" * 10_000, False),
    ],
)
def test_peer_ids_are_told_from_other_texts(text: str, good: bool) -> None:
    assert is_peer_id(text) is good
