"""The terminal while the live view has it: drawn on the second screen, line by line where something changed, and given
back as it was, however the program ends."""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dms.cli.top.frame import Size
from dms.cli.top.keys import is_unfinished

_BEGIN = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # second screen, no cursor, no wrapping at the edge, nothing on it
_END = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_REST_SECONDS = 0.05  # in which the rest of a key's sequence comes
_LARGEST_READ = 4096


class Screen:
    """columns, rows: as they are now. A key, `wake()` from any thread, and a change of size end `wait`."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._drawn: list[str] = []
        self._resized = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()

    @property
    def size(self) -> Size:
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._out)
            if columns > 0 and rows > 0:
                return Size(columns, rows)
        columns, rows = shutil.get_terminal_size()
        return Size(columns, rows)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The terminal is ours meanwhile. Ctrl-C raises KeyboardInterrupt as ever; SIGTERM and SIGHUP end it too."""
        before = termios.tcgetattr(self._in)
        handlers = self._handle_signals(before)
        try:
            self._take()
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            with suppress(OSError, termios.error):  # the terminal may be gone
                self._give_back(before)

    def wait(self, seconds: float) -> str:
        """What was typed, as soon as something happens; empty when it was something else, or nothing."""
        ready, _, _ = select.select([self._in, self._woken], [], [], max(0.0, seconds))
        if self._woken in ready:
            with suppress(BlockingIOError):
                os.read(self._woken, _LARGEST_READ)
        return self._typed() if self._in in ready else ""

    def wake(self) -> None:
        with suppress(BlockingIOError):  # full: it wakes up anyway
            os.write(self._wake, b"x")

    def redraw(self) -> None:
        """All of it with the next frame, whatever was there."""
        self._resized = True

    def draw(self, lines: Sequence[Text], columns: int) -> None:
        found = [styled(line, columns, colour=self._colour) for line in lines]
        whole = self._resized or len(found) != len(self._drawn)
        self._resized = False
        before = [None] * len(found) if whole else self._drawn
        changed = "".join(
            f"\x1b[{row};1H{line}\x1b[0m"
            for row, (line, old) in enumerate(zip(found, before, strict=True), 1)
            if line != old
        )
        self._drawn = found
        self._write(("\x1b[2J" if whole else "") + changed)

    def _typed(self) -> str:
        data = os.read(self._in, _LARGEST_READ)
        if not data:
            raise EOFError
        text = data.decode(errors="replace")
        while is_unfinished(text) and select.select([self._in], [], [], _REST_SECONDS)[0]:
            more = os.read(self._in, _LARGEST_READ)
            if not more:
                break
            text += more.decode(errors="replace")
        return text

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "ascii", errors="backslashreplace")
        while data:
            data = data[os.write(self._out, data) :]

    # --- taking and giving back ------------------------------------------------------------------------------
    def _take(self) -> None:
        tty.setcbreak(self._in)
        self._write(_BEGIN)
        self._drawn = []

    def _give_back(self, before: Any) -> None:
        self._write(_END)
        termios.tcsetattr(self._in, termios.TCSADRAIN, before)

    def _handle_signals(self, before: Any) -> dict[int, Any]:
        def resized(_number: int, _frame: FrameType | None) -> None:
            self.redraw()
            self.wake()

        def ended(number: int, _frame: FrameType | None) -> None:
            raise click.exceptions.Exit(128 + number)

        def suspended(_number: int, _frame: FrameType | None) -> None:
            """Ctrl-Z: the shell gets its terminal back until it lets us go on."""
            self._give_back(before)
            os.kill(os.getpid(), signal.SIGSTOP)
            self._take()
            resized(0, None)

        handlers = {signal.SIGWINCH: resized, signal.SIGTERM: ended, signal.SIGHUP: ended, signal.SIGTSTP: suspended}
        return {number: signal.signal(number, handler) for number, handler in handlers.items()}


def styled(line: Text, columns: int, *, colour: bool) -> str:
    """With the codes that this terminal understands, cut at its edge, and with nothing left behind it."""
    console = _console(columns, colour)
    with console.capture() as captured:
        console.print(line, end="", no_wrap=True, overflow="crop", crop=True, highlight=False)
    # At the edge the cursor stands on the last character, which would be erased with what is behind it.
    return captured.get() + ("" if line.cell_len >= columns else "\x1b[0m\x1b[K")


def _console(columns: int, colour: bool) -> Console:
    known = _CONSOLES.get((columns, colour))
    if known is None:
        _CONSOLES.clear()  # of another size
        known = _CONSOLES[columns, colour] = Console(
            file=io.StringIO(), force_terminal=True, width=columns, no_color=not colour, highlight=False, markup=False,
            emoji=False, legacy_windows=False,
        )  # fmt: skip
    return known


_CONSOLES: dict[tuple[int, bool], Console] = {}
