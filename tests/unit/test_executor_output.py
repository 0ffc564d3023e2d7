"""The engine's bytes become the same lines however they are cut."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.adapters.executors.output import (
    BATCH_LINES,
    LINE_BYTES,
    CursorTracker,
    Dechunker,
    FrameReader,
    LineAssembler,
    Seeker,
    batches,
)
from dms.adapters.executors.process_child import LineSplitter
from dms.application.ports import OutputLine
from dms.errors import ExecutorUnavailable

STAMP = b"2024-02-29T12:00:00.000000%03dZ "
STAMP_NS = 1_709_208_000_000_000_000


def frame(stream: int, order: int, data: bytes) -> bytes:
    payload = STAMP % order + data
    return struct.pack(">BxxxI", stream, len(payload)) + payload


def lines_of(data: bytes) -> list[OutputLine]:
    assembler = LineAssembler()
    return assembler.feed(FrameReader().feed(data)) + assembler.flush()


@given(st.lists(st.integers(0, 400), max_size=8))
def test_frames_do_not_depend_on_how_they_arrive(cuts: list[int]) -> None:
    whole = b"".join(frame(1 + n % 2, n, b"line %d\n" % n) for n in range(8))
    frames, assembler, lines = FrameReader(), LineAssembler(), []
    edges = [0, *sorted(cuts), len(whole)]
    for start, end in itertools.pairwise(edges):
        lines += assembler.feed(frames.feed(whole[start:end]))
    assert lines == [OutputLine("stderr" if n % 2 else "stdout", STAMP_NS + n, f"line {n}") for n in range(8)]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.integers(1, 30))
def test_chunks_do_not_depend_on_how_they_arrive(parts: list[bytes], step: int) -> None:
    wire = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    dechunker = Dechunker()
    got = b"".join(dechunker.feed(wire[at : at + step]) for at in range(0, len(wire), step))
    assert got == b"".join(parts)
    assert dechunker.finished


def test_a_cut_transfer_is_not_an_end() -> None:
    dechunker = Dechunker()
    assert dechunker.feed(b"3\r\nabc\r\n5\r\nde") == b"abc"
    assert not dechunker.finished


@pytest.mark.parametrize("wire", [b"zz\r\n", b"-5\r\n", b"fffffffffff\r\n"])
def test_refuses_what_is_not_http(wire: bytes) -> None:
    with pytest.raises(ExecutorUnavailable):
        Dechunker().feed(wire)


def test_joins_records_of_one_stream_across_the_other() -> None:
    data = frame(1, 1, b"begin ") + frame(2, 2, b"between\n") + frame(1, 1, b"end\n")
    assert lines_of(data) == [
        OutputLine("stderr", STAMP_NS + 2, "between"),
        OutputLine("stdout", STAMP_NS + 1, "begin end"),
    ]


def test_splits_at_a_character() -> None:
    text = "a" + "é" * LINE_BYTES  # every character boundary is odd, the limit is even
    lines = lines_of(frame(1, 1, text.encode() + b"\n"))
    assert "".join(line.text for line in lines) == text
    assert max(len(line.text.encode()) for line in lines) <= LINE_BYTES
    assert "".join(LineSplitter().feed(text.encode() + b"\n")) == text


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(1, 4)), min_size=1), st.data())
def test_seeking_the_tracked_cursor_gives_exactly_the_rest(drawn: list[tuple[str, int]], data: st.DataObject) -> None:
    """Times neither unique nor in order: as the engine's are."""
    lines = [OutputLine(stream, time_ns, str(n)) for n, (stream, time_ns) in enumerate(drawn)]
    cut = data.draw(st.integers(1, len(lines)))
    tracker = CursorTracker(None)
    tracker.advance(lines[:cut])
    assert Seeker(tracker.cursor).pass_on(lines) == lines[cut:]


def test_batches_are_bounded() -> None:
    lines = [OutputLine("stdout", n, "") for n in range(BATCH_LINES + 1)]
    assert [len(batch) for batch in batches(lines)] == [BATCH_LINES, 1]
