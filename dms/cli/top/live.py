"""One connection to the daemon's `/live/ws`, and what is read beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from dms.cli.client import Api
from dms.cli.failure import Failure
from dms.cli.follow import CONNECT_SECONDS, MAX_FRAME, refused, unconnected
from dms.cli.job_text import log_token
from dms.cli.text import in_path
from dms.cli.top.board import OPEN, Machine, Peer, StreamedEvent, hidden_machine, machine_of, row_of
from dms.cli.top.updates import Snapshot
from dms.domain.decoding import UNREADABLE
from dms.errors import Exit
from projections.jobs import OPEN_STATUSES, STATUSES

EVENTS, USAGE = "events", "usage"
TYPES = ("job", "deployment", "device", "hold")
MOST_OPEN, ENDED_READ = 5000, 200
SILENT_SECONDS = 20.0  # the daemon beats every five
_OPEN = ",".join(("requested", *OPEN_STATUSES))
_ENDED = ",".join(status for status in STATUSES if status not in OPEN)


class Line(Struct, frozen=True):
    seq: int
    stream: str
    text: str
    cut: bool = False


class Frame(Struct, frozen=True):
    """Whatever comes; fields of other kinds of frames are None."""

    id: str = ""
    event: StreamedEvent | None = None
    caught_up: int | None = None
    position: int | None = None
    lines: tuple[Line, ...] | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(Frame)


class Live:
    """position: of the log when the connection was made. Raises Failure, also when it breaks."""

    def __init__(self, socket: ClientConnection, url: str) -> None:
        self._socket, self._url, self._turn = socket, url, threading.Lock()
        first = self.next(CONNECT_SECONDS)
        if first is None or first.position is None:
            raise Failure(f"{url} did not say where its log stands")
        self.position = first.position

    def next(self, seconds: float) -> Frame | None:
        """The next frame, or None when none comes in that time."""
        try:
            return _decoder.decode(self._socket.recv(max(0.0, seconds)))
        except TimeoutError:
            return None
        except UNREADABLE as error:
            raise Failure(f"{self._url} sent something that can't be read: {error}") from error

    def follow(self) -> None:
        """All events behind the position, and what jobs use."""
        self.ask(id=EVENTS, subscribe="events", after=self.position, types=TYPES, personal=True)
        self.ask(id=USAGE, subscribe="usage")

    def ask(self, **message: Any) -> None:
        """From any thread."""
        with self._turn:
            self._socket.send(json.dumps(message))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def connected(api: Api) -> Iterator[Live]:
    """Raises Failure: there is no daemon, it refuses, or the connection broke."""
    url, options = api.websocket_url("/live/ws"), api.websocket_options
    try:
        with connect(url, open_timeout=CONNECT_SECONDS, close_timeout=1.0, max_size=MAX_FRAME, **options) as socket:
            yield Live(socket, api.url)
    except InvalidStatus as error:
        raise refused(error, api.url) from error
    except InvalidURI as error:
        raise Failure(f"{api.url} is not the address of a DMS", Exit.USAGE) from error
    except ConnectionClosed as error:
        raise Failure(f"the connection to {api.url} broke: {error}", Exit.UNREACHABLE) from error
    except (OSError, InvalidHandshake) as error:
        raise unconnected(api.url, error) from error


# --- what is read over REST ------------------------------------------------------------------------------
@contextmanager
def _understood(api: Api) -> Iterator[None]:
    """Raises Failure for answers of another shape, as of a daemon of another version."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise Failure(f"{api.url} answered in a way that can't be read: {type(error).__name__} {error}") from error


def read_jobs(api: Api, position: int) -> Snapshot:
    """position: one that the log has passed. The rows may be of later ones, and say so."""
    with _understood(api):
        rows = list(islice(api.items("/jobs", status=_OPEN, limit=1000), MOST_OPEN))
        rows += api.get("/jobs", status=_ENDED, limit=ENDED_READ)["items"]
        return Snapshot([row_of(row) for row in rows], position)


def read_machine(api: Api) -> Machine:
    with _understood(api):
        capacity = api.get("/capacity")  # which every role sees: a token that is none is refused here
        try:
            earnings = api.get("/earnings", by="month", role="cp", limit=1)
        except Failure as failure:
            if failure.code is not Exit.DENIED:
                raise
            return hidden_machine(capacity)
        return machine_of(api.get("/device/status"), api.get("/onboarding/provisioned"), capacity, earnings)


def read_peers(api: Api) -> tuple[Peer, ...]:
    found = api.get("/peers")
    if not isinstance(found, list):  # an empty network is an object with a message
        return ()
    with _understood(api):
        return tuple(Peer(str(peer["id"]), peer.get("rtt_ms")) for peer in found)


def read_end(api: Api, job_id: str, most: int) -> tuple[tuple[Line, ...], str]:
    """(the newest lines of a job's output, what is not among them)."""
    path = f"/jobs/{in_path(job_id)}"
    with _understood(api):
        page = api.get(f"{path}/output", token=log_token(api.get(path)), from_end=most)
        lines = msgspec.convert(page["lines"], tuple[Line, ...])
        gaps = [(int(gap["first"]), int(gap["last"]), gap["reason"]) for gap in page["gaps"][-1:]]
    notes = [f"lines {first:,} to {last:,} are not here: {reason}" for first, last, reason in gaps]
    if lines and lines[0].seq > 1:
        notes.append(f"{lines[0].seq - 1:,} lines stand before these: nunet job logs {job_id}")
    return lines, "; ".join(notes)
