"""How a command ends when it can't do what was asked: exit codes, and errors of one line."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, Any

import click

from dms.cli.text import printable
from dms.errors import Exit


class Failure(click.ClickException):
    """The end of a command: one line of error, and a line that says what to do."""

    def __init__(self, message: str, code: Exit = Exit.FAILURE, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.hint = code, hint

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click has it as an attribute of the class
        return int(self.code)

    def show(self, file: IO[Any] | None = None) -> None:
        complain(self.message, self.hint)


def complain(message: str, hint: str = "", *, quotes: bool = False) -> None:
    """`error: ...` and, when there is one, `hint: ...`, on standard error. quotes: below the message's first line stand
    lines of a file, with a caret under the mistake: these stay as they are."""
    first, *quoted = message.splitlines() if quotes else (message,)
    say("error: " + " ".join(first.split()))
    for line in quoted:
        say(line)
    for line in hint.split("\n") if hint else ():
        say("hint: " + line)


def say(text: str) -> None:
    """Progress, for people: on standard error. That nobody can read it there is no reason to stop."""
    with suppress(OSError):
        click.echo(printable(text), err=True)
