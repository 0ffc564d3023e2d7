"""From the bytes that a job printed to lines of text: at most LINE_BYTES each, nothing lost, in bounded memory.

A longer line comes in pieces, and a reader can tell: text of LINE_BYTES - 3 bytes or more always goes on in the
stream's next line, if only with nothing (`ports.outputs.LogLine.goes_on`). What is not UTF-8 gets replacement marks.
The standard library only: the supervisor of a process job must start quickly.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

LINE_BYTES = 65_536
LEAST_PIECE = LINE_BYTES - 3  # a piece ends before the character that would not fit whole


class LineCutter:
    """One line of one stream, given in parts that may be cut anywhere, also within a character."""

    def __init__(self) -> None:
        self._raw = b""  # the beginning of a character
        self._text = bytearray()  # UTF-8

    def feed(self, data: bytes) -> Iterator[str]:
        """Pieces that are complete, all of which go on."""
        self._take(data, final=False)
        yield from self._pieces(LINE_BYTES)

    def end(self, data: bytes = b"") -> Iterator[str]:
        """The rest of the line; the cutter is as new."""
        self._take(data, final=True)
        yield from self._pieces(LEAST_PIECE - 1)
        text, self._text = self._text, bytearray()
        yield text.decode()

    def _take(self, data: bytes, *, final: bool) -> None:
        data = self._raw + data
        text, used = codecs.utf_8_decode(data, "replace", final)
        self._raw = data[used:]
        self._text += text.encode()

    def _pieces(self, most: int) -> Iterator[str]:
        start = 0
        while len(self._text) - start > most:
            end = _boundary(self._text, min(start + LINE_BYTES, len(self._text)))
            yield self._text[start:end].decode()
            start = end
        del self._text[:start]


def _boundary(text: bytearray, limit: int) -> int:
    """The last index <= limit at which a character begins or the text ends. text: valid UTF-8."""
    while limit < len(text) and text[limit] & 0xC0 == 0x80:
        limit -= 1
    return limit
