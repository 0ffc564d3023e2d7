"""The engine's bytes become the same lines however they are cut."""

from __future__ import annotations

import itertools
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.adapters.executors import lines as executor_lines
from dms.adapters.executors.lines import LINE_BYTES, LineCutter
from dms.adapters.executors.output import (
    BATCH_LINES,
    Allowance,
    CursorTracker,
    Dechunker,
    FrameReader,
    LineAssembler,
    Record,
    Seeker,
    batches,
    log_allowance,
    size_in_json,
    size_in_local,
)
from dms.adapters.executors.process_child import TRUNCATED, LineSplitter
from dms.application.ports.outputs import LEAST_PIECE, OUTPUT_TRUNCATED, LogLine, OutputLine
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
    part = b"x" * 16_384
    for rest, text in ((b"end\n", "end"), (b"end", "end"), (b"", ""), (b"\n", "")):  # of json-file and of local
        data = frame(1, 1, part) + frame(2, 2, b"between\n") + frame(1, 1, rest) + frame(1, 3, b"next\n")
        assert lines_of(data) == [
            OutputLine("stderr", STAMP_NS + 2, "between"),
            OutputLine("stdout", STAMP_NS + 1, part.decode() + text),
            OutputLine("stdout", STAMP_NS + 3, "next"),
        ]


def joined(lines: list[OutputLine]) -> list[str]:
    """The lines that were printed, as a reader puts the pieces together."""
    whole, goes_on = [""], False
    for seq, line in enumerate(lines, 1):
        if not goes_on and seq > 1:
            whole.append("")
        whole[-1] += line.text
        goes_on = LogLine(seq, line.stream, line.time_ns, line.text).goes_on
    assert not goes_on
    return whole


PIECES = [LINE_BYTES + n for n in range(-5, 3)]


@pytest.mark.parametrize("bytes_before", [0, 1, 2])
@pytest.mark.parametrize("length", [1, LINE_BYTES // 4, *PIECES, 3 * LINE_BYTES - 1, 3 * LINE_BYTES])
def test_pieces_of_a_line_tell_that_they_go_on_and_no_other_line_does(length: int, bytes_before: int) -> None:
    """Through the engine's cuts every 16 KiB, which are within characters."""
    text = "a" * bytes_before + "€" * ((length - bytes_before) // 3)
    text += "z" * (length - len(text.encode()))
    printed = text.encode()
    parts = [printed[at : at + 16_384] for at in range(0, len(printed) + 1, 16_384)]
    data = b"".join(frame(1, 1, part) for part in parts) + frame(1, 2, b"next\n")
    splitter = LineSplitter()
    from_process = [piece for part in [*parts, b"\nne", b"xt"] for piece in splitter.feed(part)] + splitter.flush()
    for lines in (lines_of(data), [OutputLine("stdout", 1, piece) for piece in from_process]):
        assert joined(lines) == [text, "next"]
        assert max(len(line.text.encode()) for line in lines) <= LINE_BYTES


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(4, 12))
def test_a_line_is_the_same_however_it_is_cut(parts: list[bytes], line_bytes: int) -> None:
    """Also of bytes that are no text, whose marks are longer than they are."""
    cutter = LineCutter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_lines, "LINE_BYTES", line_bytes)
        patch.setattr(executor_lines, "LEAST_PIECE", line_bytes - 3)
        pieces = [piece for part in parts for piece in cutter.feed(part)] + list(cutter.end())
        again = list(cutter.end(b"".join(parts)))
    assert "".join(pieces) == b"".join(parts).decode("utf-8", "replace") == "".join(again)
    assert all(line_bytes - 3 <= len(piece.encode()) <= line_bytes for piece in pieces[:-1])
    assert len(pieces[-1].encode()) < line_bytes - 3


def test_ports_and_executors_mean_the_same() -> None:
    assert (LEAST_PIECE, OUTPUT_TRUNCATED) == (executor_lines.LEAST_PIECE, TRUNCATED)


def test_memory_for_a_line_without_an_end_is_bounded() -> None:
    assembler = LineAssembler()
    part = ("€" * 5461 + "x").encode()
    for _ in range(1000):
        assembler.feed([Record("stdout", 1, part)])
    (_, cutter) = assembler._pending["stdout"]
    assert len(cutter._text) <= LINE_BYTES


# --- what the engine may have lost ---------------------------------------------------------------------


def test_the_mark_takes_the_place_of_the_first_record_that_is_not_sure_to_follow_without_a_gap() -> None:
    records = [Record("stdout", n, b"line\n") for n in range(10)]
    for step in (1, 3, 10):
        allowance, assembler, lines = Allowance(7 * size_in_local(b"line\n"), size_in_local), LineAssembler(), []
        for at in range(0, 10, step):
            if not allowance.used_up:
                lines += allowance.pass_on(records[at : at + step], assembler)
        assert [(line.time_ns, line.text) for line in lines] == [
            *((n, "line") for n in range(7)),
            (7, OUTPUT_TRUNCATED.format(limit=0)),
        ]
        # a reader who comes back with the mark as his last line gets nothing twice and no second mark
        tracker = CursorTracker(None)
        tracker.advance(lines)
        assert Seeker(tracker.cursor).pass_on(lines) == []


@given(st.binary(max_size=300))
def test_a_record_is_never_larger_in_the_engines_file_than_we_count(data: bytes) -> None:
    text = json.dumps(data.decode("utf-8", "replace"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, "\\u0000")
    line = f'{{"log":{text},"stream":"stdout","time":"2026-01-02T03:04:05.000000000Z"}}\n'
    assert size_in_json(data) >= len(line.encode()) - 3 * sum(byte >= 0x80 for byte in data)  # dumps escapes all
    length = 4 + 8 + 10 + 1 + 3 + len(data.removesuffix(b"\n")) + 4
    assert size_in_local(data) >= length


@pytest.mark.parametrize(
    ("config", "least", "most"),
    [
        ({"Type": "local", "Config": {"max-size": "1000000"}}, 900, 1_000),
        ({"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}, 800, 950),
        ({"Type": "json-file", "Config": {"max-size": "1k"}}, 0, 1),
    ],
)
def test_the_allowance_is_one_file_of_the_container(config: dict[str, Any], least: int, most: int) -> None:
    allowance, lines = log_allowance(config), LineAssembler()
    kept = 0
    while not allowance.used_up:
        kept += len(allowance.pass_on([Record("stdout", kept, b"x" * 999 + b"\n")], lines))
    assert least <= kept - 1 <= most


@pytest.mark.parametrize("config", [{}, {"Type": "json-file", "Config": {}}, {"Type": "journald", "Config": None}])
def test_a_log_without_a_bound_has_no_gaps(config: dict[str, Any]) -> None:
    allowance = log_allowance(config)
    allowance.pass_on([Record("stdout", 1, b"x" * 16_384)] * 100, LineAssembler())
    assert not allowance.used_up


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
