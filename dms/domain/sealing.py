"""Personal data in events: kept apart in the stored body, under a key that can be destroyed.

An event class names its personal fields (`Event.PERSONAL`). In the stored JSON they are taken out and put, encrypted,
into one text field `sealed`. The hash chain, signatures and exports are over that stored body, so they stay valid
when the key is gone; then the fields read as ERASED. What bills, audits and schedules need is never personal.
Source of the idea: crypto-shredding, as in NIST SP 800-88 rev. 1, section 2.6 ("cryptographic erase").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Protocol

SEALED = "sealed"  # the stored body's field
ERASED = "erased"  # what a person's text reads as once its key is destroyed
_BY_JOB = ("job", "deployment")  # both sides of a job share the job's key


class Opener(Protocol):
    """Who holds the keys."""

    def open(self, token: str, topic: str) -> bytes | None:
        """The JSON that was sealed; None when its key is not here, or is destroyed."""


def scope_of(stream: str) -> str:
    """What one key is for: a job's id for its two streams (on both nodes, which share the key), else the stream."""
    kind, _, key = stream.partition("-")
    return key if kind in _BY_JOB else stream


def streams_of(scope: str) -> tuple[str, ...]:
    """The streams that may hold something under that key."""
    return (scope, *(f"{kind}-{scope}" for kind in _BY_JOB))


def below(prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The personal fields of a struct, as fields of one that holds it under that name."""
    return {f"{prefix}.{path}": value for path, value in fields.items()}


def take_out(body: dict[str, Any], personal: Mapping[str, Any]) -> dict[str, Any]:
    """Moves the fields with those dotted paths out of the body; answers them in the same nesting."""
    taken: dict[str, Any] = {}
    for path in personal:
        *parents, name = _steps(path)
        inner: Any = body
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and name in inner:
            _put(taken, path, inner.pop(name))
    return taken


def put_back(body: dict[str, Any], taken: Mapping[str, Any]) -> None:
    """The inverse of `take_out`."""
    for name, value in taken.items():
        if isinstance(value, dict) and isinstance(body.get(name), dict):
            put_back(body[name], value)
        else:
            body[name] = value


def erased(personal: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in place of the fields, in their nesting."""
    found: dict[str, Any] = {}
    for path, value in personal.items():
        _put(found, path, value)
    return found


def texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


@cache
def _steps(path: str) -> tuple[str, ...]:
    """The paths are those in the classes of events: few, and asked for with each event."""
    return tuple(path.split("."))


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = _steps(path)
    for parent in parents:
        body = body.setdefault(parent, {})
    body[name] = value
