"""A job's frames over the websocket `/run/deploy`, each exactly once however often the connection breaks."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from dms.backoff import Backoff
from dms.cli.client import UNREADABLE_JSON, Api, no_dms, unreachable
from dms.cli.failure import Failure, say
from dms.errors import Exit

SUBPROTOCOL = "dms.actions.v2"
MAX_FRAME = 16 * 1024 * 1024
CONNECT_SECONDS = 5.0
RETRY_SECONDS = (0.25, 5.0)  # first and longest pause before the next try
STABLE_SECONDS = 10.0  # a connection that lasted so long was a good one
LAST_ACTIONS = ("job-completed", "job-failed")


@dataclass
class Cursor:
    """after: position of the newest action seen; log_after: number of the newest line seen."""

    after: int = 0
    log_after: int = 0

    def take(self, frame: dict[str, Any]) -> bool:
        """Whether the frame is new, and then remembers it."""
        for key, seen in (("seq", "log_after"), ("position", "after")):
            number = int(frame.get(key) or 0)
            if number:
                newest: int = getattr(self, seen)
                setattr(self, seen, max(number, newest))
                return number > newest
        return True


class Follower:
    """frames(): every action and line of one job from its beginning to its end.

    payment: a `send-status` message sent on each connection until the job is submitted; sent twice, it counts once.
    Raises Failure: unreachable at first, or away for longer than `patience_seconds`; timed out; refused.
    """

    def __init__(
        self,
        api: Api,
        job_id: str,
        payment: dict[str, str] | None = None,
        *,
        deadline: float | None = None,
        patience_seconds: float = 60.0,
        progress: bool = False,
    ) -> None:
        """deadline: of time.monotonic(). progress: also lines that have no end yet, as they grow."""
        self._api, self._job_id, self._payment = api, job_id, payment
        self._deadline, self._patience, self._progress = deadline, patience_seconds, progress
        self.cursor = Cursor()

    def frames(self) -> Generator[dict[str, Any], None, None]:
        connected_before, broken_since, backoff, told = False, 0.0, Backoff(*RETRY_SECONDS), ""
        while True:
            began, why = time.monotonic(), "closed"
            try:
                with self._connect() as socket:
                    connected_before = True
                    for frame in self._of(socket):
                        if frame["action"] != "connected":
                            broken_since, told = 0.0, ""
                            backoff.reset()
                        yield frame
                        if frame["action"] in LAST_ACTIONS:
                            return
            except ConnectionClosed as error:
                why = why_closed(error)
            except InvalidStatus as error:
                why = f"answered {error.response.status_code}"
                if not connected_before or error.response.status_code != 503:  # it says so while it starts again
                    raise refused(error, self._api.url) from error
            except (OSError, InvalidHandshake) as error:
                why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                if not connected_before:
                    raise unconnected(self._api.url, error) from error
            if time.monotonic() - began > STABLE_SECONDS:
                broken_since = 0.0
                backoff.reset()
            broken_since = broken_since or time.monotonic()
            if time.monotonic() - broken_since > self._patience:
                raise unreachable(self._api.url, why)
            if why != told:  # once, not for each try
                say(f"connection lost ({why}), connecting again")
                told = why
            self._pause(backoff.next())

    def _connect(self) -> ClientConnection:
        # As in the API: `after` and `log_after` together give every action and line once.
        query: dict[str, object] = {
            "job_id": self._job_id, "after": self.cursor.after, "log_after": self.cursor.log_after,
        }  # fmt: skip
        if self._progress:
            query["progress"] = "true"
        try:
            return connect(
                f"{self._api.websocket_url('/run/deploy')}?{urlencode(query)}",
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
                open_timeout=CONNECT_SECONDS,
                close_timeout=1.0,
                max_size=MAX_FRAME,
                **self._api.websocket_options,
            )
        except InvalidURI as error:
            raise Failure(f"{self._api.url} is not the address of a DMS", Exit.USAGE) from error

    def _of(self, socket: ClientConnection) -> Iterator[dict[str, Any]]:
        if self._payment is not None:
            message = {**self._payment, "job_id": self._job_id}
            socket.send(json.dumps({"action": "send-status", "message": message}))
        while True:
            frame = self._receive(socket)
            if frame.get("job_id", self._job_id) != self._job_id or not self.cursor.take(frame):
                continue
            if frame["action"] == "job-submitted":
                self._payment = None
            yield frame

    def _receive(self, socket: ClientConnection) -> dict[str, Any]:
        try:
            left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            frame = json.loads(socket.recv(left))
        except TimeoutError as error:
            raise timed_out(self._job_id) from error
        except UNREADABLE_JSON as error:
            raise Failure(f"{self._api.url} sent something that is not JSON: {error}") from error
        if not isinstance(frame, dict) or not isinstance(frame.get("action"), str):
            raise Failure(f"{self._api.url} sent a frame without an action")
        return frame

    def _pause(self, seconds: float) -> None:
        if self._deadline is not None and time.monotonic() + seconds > self._deadline:
            raise timed_out(self._job_id)
        time.sleep(seconds)


def timed_out(job_id: str) -> Failure:
    return Failure(
        f"job {job_id} has not ended in time; it goes on", Exit.TIMED_OUT, f"nunet job logs --follow {job_id}"
    )


def why_closed(error: ConnectionClosed) -> str:
    closed = error.rcvd
    return f"{closed.code} {closed.reason}".strip() if closed else "cut"


def unconnected(url: str, error: OSError | InvalidHandshake) -> Failure:
    """Why there is no websocket, where nothing was said in HTTP."""
    return no_dms(url, str(error)) if isinstance(error, InvalidHandshake) else unreachable(url, error)


def refused(error: InvalidStatus, url: str) -> Failure:
    """What the daemon at that address said instead of opening a websocket."""
    status = error.response.status_code
    try:
        text = str(json.loads(error.response.body or b"")["error"])
    except (*UNREADABLE_JSON, LookupError, TypeError):
        return no_dms(url, f"{status} {error.response.reason_phrase}".rstrip())
    codes = {401: Exit.DENIED, 403: Exit.DENIED, 404: Exit.NOT_FOUND, 410: Exit.NOT_FOUND}
    return Failure(text, codes.get(status, Exit.FAILURE))
