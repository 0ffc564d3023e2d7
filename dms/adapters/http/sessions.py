"""Browsers that logged in. What they hold is a random number of their session, never the token; a restart ends it."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable

from sanic import HTTPResponse, Request

LASTS_SECONDS = 12 * 3600.0
MOST_OF_A_TOKEN = 50  # of each token and of all, the oldest go first
MOST_SESSIONS = 10_000


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
        self._forget_the_oldest(token_id)
        self._open[_digest(secret)] = (token_id, self._seconds() + LASTS_SECONDS)
        self._set(response, secret, int(LASTS_SECONDS), secure=secure)

    def end(self, request: Request, response: HTTPResponse) -> None:
        self._open.pop(self.named_by(request), None)
        self._set(response, "", 0, secure=False)

    def _forget_the_oldest(self, token_id: str) -> None:
        """So that there is room for one more of that token."""
        own = [session for session, (of, _) in self._open.items() if of == token_id]
        if len(own) >= MOST_OF_A_TOKEN:
            del self._open[own[0]]
        elif len(self._open) >= MOST_SESSIONS:
            self._open.popitem(last=False)

    def __len__(self) -> int:
        return len(self._open)

    def named_by(self, request: Request) -> str:
        """The session that the browser names, whether or not there is one; empty for none."""
        presented = request.cookies.get(self.cookie)
        return _digest(str(presented)) if presented else ""

    def token_of(self, session: str) -> str:
        """The id of the token that it began with; empty when it is over."""
        token_id, ends_at = self._open.get(session, ("", 0.0))
        return token_id if self._seconds() < ends_at else ""

    def _set(self, response: HTTPResponse, value: str, seconds: int, *, secure: bool) -> None:
        response.add_cookie(
            self.cookie, value, path="/", httponly=True, samesite="Strict", secure=secure, max_age=seconds
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
