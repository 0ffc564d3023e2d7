"""What caused the command that runs now: kept beside the call, so that every event can name it.

A REST call, a websocket frame or a peer's message is a cause of its own; a reactor's cause is the
event that it acts on. Travels with the asyncio task (contextvars), as trace contexts do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import Struct


class Cause(Struct, frozen=True):
    """causation_id: UUID text of an event or a command. traceparent: W3C, or empty."""

    causation_id: str = ""
    traceparent: str = ""


_NONE = Cause()
_current: ContextVar[Cause] = ContextVar("dms_cause", default=_NONE)


def current_cause() -> Cause:
    return _current.get()


@contextmanager
def caused_by(causation_id: str, traceparent: str = "") -> Iterator[None]:
    """Events saved inside name this cause."""
    token = _current.set(Cause(causation_id, traceparent or _current.get().traceparent))
    try:
        yield
    finally:
        _current.reset(token)
