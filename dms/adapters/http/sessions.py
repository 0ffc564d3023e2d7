"""Browsers that logged in. What they hold is a random number of their session, never the token; a restart ends it."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from sanic import HTTPResponse, Request

from dms.adapters.http.connection import connection_of

LASTS_SECONDS = 12 * 3600.0
MOST_OF_A_TOKEN = 50  # of each token and of all, the oldest go first
MOST_SESSIONS = 10_000
_HOST_ONLY = "__Host-"  # browsers take such a cookie over TLS alone, and from nobody but this host


class _Session(NamedTuple):
    """uid: of the user of this machine who logged in, or of the proxy; None from elsewhere."""

    token_id: str
    ends_at: float
    uid: int | None


class Sessions:
    def __init__(self, own_peer_id: str, seconds: Callable[[], float]) -> None:
        """seconds: of a clock that no one sets."""
        # Browsers keep cookies by host alone: several DMSes of one machine must not log each other out.
        self.cookie = f"dms_session_{own_peer_id[-8:]}"
        self._seconds = seconds
        self._open: OrderedDict[str, _Session] = OrderedDict()  # by digest

    def begin(self, token_id: str, request: Request, response: HTTPResponse, *, secure: bool) -> None:
        """Gives the browser its cookie. secure: it came over TLS."""
        secret = secrets.token_urlsafe(32)
        self._forget_the_oldest(token_id)
        ends_at = self._seconds() + LASTS_SECONDS
        self._open[_digest(secret)] = _Session(token_id, ends_at, connection_of(request).peer_uid)
        self._set(response, secret, int(LASTS_SECONDS), secure=secure)

    def end(self, request: Request, response: HTTPResponse) -> None:
        self._open.pop(self.named_by(request), None)
        self._set(response, "", 0, secure=_HOST_ONLY + self.cookie in request.cookies)

    def _forget_the_oldest(self, token_id: str) -> None:
        """So that there is room for one more of that token."""
        own = [digest for digest, session in self._open.items() if session.token_id == token_id]
        if len(own) >= MOST_OF_A_TOKEN:
            del self._open[own[0]]
        elif len(self._open) >= MOST_SESSIONS:
            self._open.popitem(last=False)

    def __len__(self) -> int:
        return len(self._open)

    def named_by(self, request: Request) -> str:
        """The session that the browser names, whether or not there is one; empty for none, and for one of another user
        of this machine: browsers send a host's cookies to its other ports too, where anybody may listen."""
        presented = request.cookies.get(self.cookie)
        digest = _digest(str(presented)) if presented else ""
        session = self._open.get(digest)
        return "" if session is not None and session.uid != connection_of(request).peer_uid else digest

    def token_of(self, digest: str) -> str:
        """The id of the token that the session began with; empty when it is over."""
        session = self._open.get(digest)
        return session.token_id if session is not None and self._seconds() < session.ends_at else ""

    def _set(self, response: HTTPResponse, value: str, seconds: int, *, secure: bool) -> None:
        response.add_cookie(
            self.cookie, value, path="/", httponly=True, samesite="Strict", secure=secure, host_prefix=secure,
            max_age=seconds,
        )  # fmt: skip


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
