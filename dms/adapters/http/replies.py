"""What all handlers share: JSON answers, query parameters, request ids, times as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from dms.application.network.messages import UUID_PATTERN
from dms.domain.event import new_id
from dms.errors import InvalidInput, NotFound

_encoder = msgspec.json.Encoder()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_JOB_ID = re.compile(UUID_PATTERN)
_STRONG_TAG = re.compile(r'(?<!W/)"([^"]*)"')
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")
LARGEST = 2**62


def json_reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """body: anything that msgspec encodes."""
    return HTTPResponse(_encoder.encode(body), status, dict(headers or {}), "application/json")


def list_reply(body: Any, total: int) -> HTTPResponse:
    """A list, or a page of one that has so many rows in all."""
    return json_reply(body, headers={"x-total": str(total)})


def request_id(request: Request) -> str:
    """The caller's X-Request-ID when it is a plain one, else one of ours; the same for the whole request."""
    known: str | None = getattr(request.ctx, "request_id", None)
    if known is None:
        given = request.headers.get("x-request-id", "")
        known = given if _REQUEST_ID.fullmatch(given) else new_id()
        request.ctx.request_id = known
    return known


def iso(time_us: int) -> str | None:
    """Unix microseconds as ISO 8601 in UTC; None for 0."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="microseconds") if time_us else None


def dated(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a view with its times as text: in the log and the views they are microseconds."""
    for key, value in row.items():
        if key.endswith("_at") and isinstance(value, int):
            row[key] = iso(value)
    for step in row.get("timeline", ()):
        step["time"] = iso(step["time"])
    for attempt in row.get("failed_attempts", ()):
        attempt["failed_at"] = iso(attempt["failed_at"])
    return row


def time_us(text: str) -> int:
    """An ISO 8601 time as Unix µs; without an offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.replace(" ", "+"))  # a plus that a form decoded to a blank
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def known_tags(request: Request) -> frozenset[str] | None:
    """The versions of a thing that the client lets be changed, from If-Match; None: any. A weak tag names none.
    Source: RFC 9110, section 13.1.1."""
    given = ",".join(request.headers.getall("if-match", [])).strip()
    return None if given in ("", "*") else frozenset(_STRONG_TAG.findall(given))


def query(request: Request, name: str, default: str = "") -> str:
    """One query parameter. Raises InvalidInput when it is there twice."""
    values = request.get_args(keep_blank_values=True).getlist(name) or []
    if len(values) > 1:
        raise InvalidInput(f"query parameter {name} is there more than once", [(f"?{name}", "once, please")])
    return values[0] if values else default


def query_int(request: Request, name: str, default: int, highest: int = LARGEST, lowest: int = 0) -> int:
    """From `lowest` to `highest`; `default` when it is not there. Raises InvalidInput, also for an empty text."""
    if name not in request.get_args(keep_blank_values=True):
        return default
    text = query(request, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and lowest <= int(text) <= highest):
        what = f"expected a whole number from {lowest} to {highest}, got '{text[:64]}'"
        raise InvalidInput(f"query parameter {name}: {what}", [(f"?{name}", what)])
    return int(text)


def query_time(request: Request, name: str) -> int:
    """RFC 3339 as Unix µs; 0 when absent. Raises InvalidInput."""
    text = query(request, name)
    if not text:
        return 0
    try:
        return time_us(text)
    except ValueError as error:
        raise InvalidInput(
            f"{name} is '{text[:64]}'; a time such as 2026-01-31T12:00:00Z is expected", [(f"?{name}", "a time")]
        ) from error


def query_choice(request: Request, name: str, *words: str) -> str:
    """One of the words; empty when it is not there. Raises InvalidInput."""
    text = query(request, name)
    if text and text not in words:
        what = f"expected {' or '.join(words)}, got '{text[:64]}'"
        raise InvalidInput(f"query parameter {name}: {what}", [(f"?{name}", what)])
    return text


def query_bool(request: Request, name: str) -> bool:
    """Raises InvalidInput."""
    text = query(request, name).casefold()
    if text in ("", "0", "false", "f", "no"):
        return False
    if text in ("1", "true", "t", "yes"):
        return True
    what = f"expected true or false, got '{text[:64]}'"
    raise InvalidInput(f"invalid query data: query parameter {name}: {what}", [(f"?{name}", what)])


@contextmanager
def in_query() -> Iterator[None]:
    """What is wrong in it is told of query parameters: whoever finds it may take the values for those of a body."""
    try:
        yield
    except InvalidInput as error:
        problems = [(re.sub("^/", "?", pointer), what) for pointer, what in error.problems]
        raise InvalidInput(str(error), problems) from error


def preferred(request: Request, *offers: str) -> str:
    """The media type that the client wants most; the first where all are the same to it, or none is wanted: then
    it gets what there is. Source: RFC 9110, sections 12.4.2 and 12.5.1."""
    ranges = [_media_range(part) for text in request.headers.getall("accept", []) for part in text.split(",")]

    def wish(offer: str) -> tuple[float, int]:
        kind = offer.partition("/")[0]
        fitting = [(2 - place, q) for place, form in enumerate((offer, f"{kind}/*", "*/*"))
                   for media, q in ranges if media == form]  # fmt: skip
        closest = max((place for place, _ in fitting), default=-1)
        q = max((q for place, q in fitting if place == closest), default=0.0)
        return q, closest if q or not fitting else -2  # what is refused comes behind what is not spoken of

    return max(offers, key=wish) if ranges else offers[0]


def _media_range(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip().casefold() for part in text.split(";"))
    weights = [value.strip() for name, _, value in (part.partition("=") for part in parameters) if name.strip() == "q"]
    return media, float(weights[0]) if weights and _WEIGHT.fullmatch(weights[0]) else 1.0


def checked_job_id(text: str) -> str:
    """Raises NotFound for what can't be a job id."""
    if not _JOB_ID.fullmatch(text):
        raise NotFound(f"no job {text[:64]!r} here: a job id is a UUID in lower case")
    return text
