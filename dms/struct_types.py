"""Structs that several threads use.

msgspec makes what it knows of a class when that is first used, and keeps it on the class already while it is half
made. A thread that meets it then reads from nowhere, and the process dies (seen with msgspec 0.22).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import msgspec

_OURS = ("dms.", "projections.")


def complete() -> None:
    """Has all of it made for each class of ours that was imported by now: to be called before threads use them."""
    for cls in _below(msgspec.Struct):
        if cls.__module__.startswith(_OURS):
            _complete(cls)


@cache
def _complete(cls: type[msgspec.Struct]) -> None:
    with suppress(TypeError):  # one that is never decoded may have fields of other kinds
        msgspec.json.Decoder(cls)


def _below(cls: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for below in cls.__subclasses__():
        yield below
        yield from _below(below)
