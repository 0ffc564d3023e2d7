"""What a terminal shows of a line that has no end yet, however it comes in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dms.adapters.executors.engine_attach import _Frames
from dms.adapters.executors.growing import KEPT_BYTES, LONGEST, GrowingText
from dms.application.growing_lines import LONGEST as LONGEST_TOLD
from dms.application.growing_lines import GrowingLine, GrowingLines


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([b"10%"], "10%"),
        ([b"10%\r"], "10%"),
        ([b"10%\r", b"20%\r"], "20%"),
        ([b"10%", b"\r20%"], "20%"),
        ([b"\r10%", b"\r", b"\r20", b"%"], "20%"),
        ([b"a line\n"], ""),
        ([b"a line\r\n"], ""),
        ([b"one\ntwo"], "two"),
        ([b"10%\rdone\n", b"next"], "next"),
        ([b"caf\xc3", b"\xa9"], "café"),
        ([b"\xff"], "\ufffd"),
        ([b"", b"\r", b""], ""),
    ],
)
def test_what_is_shown(parts: list[bytes], shown: str) -> None:
    text = GrowingText()
    for part in parts:
        text.feed(part)
    assert text.shown == shown


@given(some.lists(some.binary(max_size=20).map(lambda data: data.replace(b"\0", b"\r")), max_size=20))
def test_it_is_the_same_however_it_is_cut(parts: list[bytes]) -> None:
    text = GrowingText()
    for part in parts:
        text.feed(part)
    line = b"".join(parts).rpartition(b"\n")[2]
    assert text.shown == line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")


def test_an_endless_line_takes_bounded_memory() -> None:
    text = GrowingText()
    for number in range(10_000):
        text.feed(b"%7d" % number * 100)
    assert len(text.shown) == LONGEST == LONGEST_TOLD
    assert len(text._line) <= KEPT_BYTES
    assert text.shown.endswith("9999")


FRAMES = some.lists(some.tuples(some.sampled_from([1, 2]), some.binary(max_size=50)), max_size=10)


@given(FRAMES, some.integers(1, 30))
def test_frames_come_out_however_they_are_cut(frames: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(struct.pack(">BxxxI", number, len(part)) + part for number, part in frames)
    reader = _Frames()
    found = [frame for start in range(0, len(data), size) for frame in reader.feed(data[start : start + size])]
    assert found == [("stdout" if number == 1 else "stderr", part) for number, part in frames]


def test_the_newest_of_each_stream_is_kept_until_the_end() -> None:
    lines = GrowingLines()
    lines.tell("job", GrowingLine("stdout", ""))
    assert lines.of("job") == ()
    for text in ("1%", "2%"):
        lines.tell("job", GrowingLine("stdout", text))
    lines.tell("job", GrowingLine("stderr", "e"))
    assert lines.of("job") == (GrowingLine("stdout", "2%"), GrowingLine("stderr", "e"))
    assert lines.of("other") == ()
    lines.end("job")
    assert {line.text for line in lines.of("job")} == {""}
