"""A line of a job's output as pages show it: of a bounded length, with what is left out told."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dms.application.ports.outputs import LogLine
from dms.domain.bounds import time_text

LINE_BYTES = 4096  # unless another length is asked for
LONGEST_LINE_BYTES = 1024 * 1024  # more than any line has: whole lines


class ShownLine(Struct, frozen=True, kw_only=True, gc=False):
    """One line of output."""

    seq: Annotated[int, Meta(ge=1, description="its number, from 1, one count over both streams")]
    stream: Annotated[Literal["stdout", "stderr"], Meta(description="which of the two it was printed to")]
    time: Annotated[str, Meta(description="when it was printed, ISO 8601 in UTC")]
    text: Annotated[str, Meta(description="without its newline; any character may be in it")]
    cut: Annotated[bool, Meta(description="whether its end is left out here; ask with a larger max_line_bytes for it")]
    size_bytes: Annotated[int, Meta(ge=0, description="of the whole line in UTF-8")]
    goes_on: Annotated[
        bool, Meta(description="whether it was longer than 64 KiB: the stream's next line is more of it")
    ] = False


def shown(line: LogLine, max_bytes: int = LINE_BYTES) -> ShownLine:
    """max_bytes: of text, in UTF-8; no character is cut in two."""
    raw = line.text.encode(errors="replace")
    cut = len(raw) > max_bytes
    return ShownLine(
        seq=line.seq,
        stream="stderr" if line.stream == "stderr" else "stdout",
        time=time_text(line.time_ns),
        text=raw[:max_bytes].decode(errors="ignore") if cut else line.text,
        cut=cut,
        size_bytes=len(raw),
        goes_on=line.goes_on,
    )
