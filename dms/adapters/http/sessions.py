"""Browsers that logged in. What they hold is a random number of their session, never the token; a restart ends it."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable

from sanic import HTTPResponse, Request

LASTS_SECONDS = 12 * 3600.0
MOST_SESSIONS = 1000  # the oldest go first


class Sessions:
    def __init__(self, own_peer_id: str, seconds: Callable[[], float]) -> None:
        """seconds: of a clock that no one sets."""
        # Browsers keep cookies by host alone: several DMSes of one machine must not log each other out.
        self.cookie = f"dms_session_{own_peer_id[-8:]}"
        self._seconds = seconds
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()  # digest -> (token id, when it ends)

    def begin(self, token_id: str, response: HTTPResponse, *, secure: bool) -> None:
        """Gives the browser its cookie. secure: it came over TLS."""
        secret = secrets.token_urlsafe(32)
        self._open[_digest(secret)] = (token_id, self._seconds() + LASTS_SECONDS)
        if len(self._open) > MOST_SESSIONS:
            self._open.popitem(last=False)
        self._set(response, secret, int(LASTS_SECONDS), secure=secure)

    def end(self, request: Request, response: HTTPResponse) -> None:
        self._open.pop(_digest(self._presented(request)), None)
        self._set(response, "", 0, secure=False)

    def token_of(self, request: Request) -> str:
        """The id of the token that the browser logged in with; empty for none, or one whose session is over."""
        presented = self._presented(request)
        token_id, ends_at = self._open.get(_digest(presented), ("", 0.0)) if presented else ("", 0.0)
        return token_id if self._seconds() < ends_at else ""

    def _presented(self, request: Request) -> str:
        return str(request.cookies.get(self.cookie) or "")

    def _set(self, response: HTTPResponse, value: str, seconds: int, *, secure: bool) -> None:
        response.add_cookie(
            self.cookie, value, path="/", httponly=True, samesite="Strict", secure=secure, max_age=seconds
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
