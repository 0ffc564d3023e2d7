"""Errors on the wire: one shape of body for all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from sanic import HTTPResponse, Request
from sanic.exceptions import RequestTimeout, SanicException

from dms.adapters.http.replies import json_reply, request_id
from dms.errors import Busy, DmsError, Gone, InvalidInput, NoProviderMatches, TooMany, told

log = logging.getLogger(__name__)

RETRY_SECONDS = 5


_TITLES = {
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
}


class Finding(Struct, frozen=True, kw_only=True):
    """pointer: a JSON pointer into the body, or ?name for a query parameter."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True, kw_only=True):
    """Every error. error: the text, for clients of the original; title, status and detail as in RFC 9457.
    errors: what is wrong where. refused: peer id to the reason why it can't take the job (a sample).
    first_position: of the log, that is still there."""

    error: str
    title: str
    status: int
    detail: str
    errors: list[Finding] | UnsetType = UNSET
    refused: dict[str, str] | UnsetType = UNSET
    first_position: int | UnsetType = UNSET


class Refused(DmsError):
    """The request is not taken, for a reason that only HTTP has. headers: to be sent along."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def status_of(error: DmsError) -> int:
    if isinstance(error, Refused):
        return error.status
    return told(error).status


def title_of(status: int) -> str:
    """As RFC 7231 and earlier drafts of it have it: Python 3.13 took the newer names of four of them."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


def body_of(status: int, text: str, **more: Any) -> dict[str, Any]:
    """`error` for clients of the original; the rest as in RFC 9457."""
    return {"error": text, "title": title_of(status), "status": status, "detail": text, **more}


def answer(request: Request, error: BaseException) -> HTTPResponse:
    """Sanic's exception handler for everything."""
    if isinstance(error, DmsError):
        return _answer_ours(request, error)
    if isinstance(error, SanicException) and error.status_code < 500 and not isinstance(error, RequestTimeout):
        return _answer_sanic(request, error)
    if isinstance(error, RequestTimeout):
        return json_reply(body_of(408, "the request did not arrive in time"), 408)
    if isinstance(error, SanicException) and error.status_code == 503:
        return json_reply(body_of(503, "the answer took too long"), 503)
    return _answer_unexpected(request, error)


def problem_of(error: DmsError) -> dict[str, Any]:
    """The body that tells of it; one that we didn't expect is told without its words."""
    status = status_of(error)
    if status == 500:
        return body_of(500, "internal error; it is in the log of the DMS")
    more: dict[str, Any] = {}
    if isinstance(error, InvalidInput):
        more["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in error.problems]
    if isinstance(error, Gone):
        more["first_position"] = error.first
    if isinstance(error, NoProviderMatches):
        more["refused"] = error.refusals
    return body_of(status, str(error), **more)


def _answer_ours(request: Request, error: DmsError) -> HTTPResponse:
    status = status_of(error)
    if status == 500:
        return _answer_unexpected(request, error)
    headers = error.headers if isinstance(error, Refused) else {}
    if isinstance(error, Busy):
        headers = {"retry-after": str(RETRY_SECONDS)}
    if isinstance(error, TooMany) and error.retry_after_seconds:
        headers = {"retry-after": str(ceil(error.retry_after_seconds))}
    return json_reply(problem_of(error), status, headers)


def _answer_sanic(request: Request, error: SanicException) -> HTTPResponse:
    """What the server itself refused: unknown route, wrong method, a body too large, broken HTTP."""
    message = error.args[0] if error.args else ""
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    status = 431 if text.startswith("Request header exceeds") else error.status_code  # Sanic calls it a large body
    headers = {name: str(value) for name, value in (getattr(error, "headers", None) or {}).items()}
    if status == 405:
        headers = {"allow": request.app.ctx.allow(request.path)}  # Sanic has it for some of its routes only
    return json_reply(body_of(status, text.strip() or title_of(status)), status, headers)


def _answer_unexpected(request: Request, error: BaseException) -> HTTPResponse:
    number = request_id(request)
    log.error(
        "request %s %s failed unexpectedly", request.method, request.path,
        exc_info=error, extra={"action": "request_failed", "request_id": number},
    )  # fmt: skip
    text = f"internal error; it is in the log of the DMS under request id {number}"
    return json_reply(body_of(500, text), 500)
