"""What is open without an end, however it is read: websockets, followed events, followed output. One rule for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from sanic import Request

from dms.adapters.http.access import caller_of, is_operator, party_of
from dms.adapters.http.connection import connection_of
from dms.domain.api_token import Role
from dms.domain.origin import is_loopback
from dms.errors import TooMany, Unavailable

MOST_SOCKETS = 10_100
MOST_STREAMS = 1_000  # each holds a place in the log, or in an output
MOST_OF_AN_ADDRESS = 1_000  # off loopback, whatever tokens it has
KEPT = 100  # of each kind for who may administer


class Kind(Enum):
    """A websocket may be a stream as well."""

    SOCKET = "websocket"
    STREAM = "stream"


class Streams:
    def __init__(self, most_of_a_party: int = 100) -> None:
        """most_of_a_party: of one client, by all of its tokens; without one, of one user of this machine or address."""
        self._most_of_a_party = most_of_a_party
        self._open = Counter[Kind]()
        self._of = Counter[str]()

    def open(self, kind: Kind) -> int:
        """How many are."""
        return self._open[kind]

    @contextmanager
    def one(self, request: Request, *kinds: Kind) -> Iterator[None]:
        """Its place among each of the kinds, of a request that was let in. Raises TooMany for who has so many already,
        Unavailable when there are too many in all."""
        for kind in kinds:
            self._check(kind, request)
        with self._counted(request):
            self._open.update(kinds)
            try:
                yield
            finally:
                self._open.subtract(kinds)

    def _check(self, kind: Kind, request: Request) -> None:
        most = MOST_SOCKETS if kind is Kind.SOCKET else MOST_STREAMS
        if self._open[kind] >= most - (0 if caller_of(request).role is Role.ADMIN else KEPT):
            raise Unavailable(f"{self._open[kind]} {kind.value}s are open already; try again later")

    @contextmanager
    def _counted(self, request: Request) -> Iterator[None]:
        caller, origin = caller_of(request), connection_of(request).origin
        parties = {}
        if not is_operator(caller):
            parties[party_of(request, caller)] = self._most_of_a_party
        if not is_loopback(origin):
            parties[f"all of {origin}"] = MOST_OF_AN_ADDRESS
        for party, most in parties.items():
            if self._of[party] >= most:
                raise TooMany(f"{party} has {most} websockets and streams open already; see rest.max_sockets")
        self._of.update(parties.keys())
        try:
            yield
        finally:
            self._of.subtract(parties.keys())
            for party in parties:
                if not self._of[party]:
                    del self._of[party]
