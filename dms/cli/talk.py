"""One chat over its websocket: what is typed goes out, what the peer says is printed."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from urllib.parse import urlencode

import click
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dms.cli.core import State
from dms.cli.failure import Failure, say
from dms.cli.follow import refused, unconnected, why_closed
from dms.cli.text import printable

CONNECT_SECONDS = 15.0  # the peer is called meanwhile
FROM_PEER = "Peer: "
LINES_AT_ONCE, LINE_SECONDS = 60, 0.75  # below what the daemon hears of one websocket: 100 messages a minute


def talk(state: State, path: str, **query: object) -> None:
    """Until either side leaves. Lines of the peer on standard output, as objects unless for people. Raises Failure when
    it ends in another way."""
    api = state.api()
    url = f"{api.websocket_url(f'/peers/chat/{path}')}?{urlencode(query)}"
    try:
        socket = connect(url, open_timeout=CONNECT_SECONDS, close_timeout=1.0, **api.websocket_options)
    except InvalidStatus as error:
        raise refused(error, api.url) from error
    except (OSError, InvalidHandshake) as error:
        raise unconnected(api.url, error) from error
    with socket:
        threading.Thread(target=_send_what_is_typed, args=(socket,), daemon=True).start()
        try:
            for frame in socket:
                _show(state, str(frame))
        except ConnectionClosedError as error:
            hint = "what was sent last may not have arrived"
            raise Failure(f"the chat was cut: {why_closed(error)}", hint=hint) from error
    say("the chat is over")


def _show(state: State, frame: str) -> None:
    text = frame.removeprefix(FROM_PEER)
    if text == frame:  # the daemon's own words
        say(frame)
    elif state.output.for_people:
        click.echo(printable(frame))
        sys.stdout.flush()
    else:
        state.output.line({"from": "peer", "text": text})


def _send_what_is_typed(socket: ClientConnection) -> None:
    """Read from the descriptor: a thread inside `sys.stdin` would hold its lock when the program ends."""
    left, turns = b"", Turns()
    with suppress(ConnectionClosed, OSError):
        while data := os.read(sys.stdin.fileno(), 65_536):
            *lines, left = (left + data).split(b"\n")
            for line in lines:
                time.sleep(turns.next(time.monotonic()))
                socket.send(line.decode(errors="replace"))
        if left:
            time.sleep(turns.next(time.monotonic()))
            socket.send(left.decode(errors="replace"))
        socket.close()


class Turns:
    """LINES_AT_ONCE, and then one each LINE_SECONDS."""

    def __init__(self) -> None:
        self._free_at = 0.0  # when all of them may be sent at once again

    def next(self, now: float) -> float:
        """Seconds to wait for it."""
        self._free_at = max(self._free_at, now) + LINE_SECONDS
        return max(0.0, self._free_at - now - LINES_AT_ONCE * LINE_SECONDS)
