"""One chat over its websocket: what is typed goes out, what the peer says is printed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlencode

import click
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dms.cli.client import unreachable
from dms.cli.core import State
from dms.cli.failure import say
from dms.cli.follow import refused
from dms.cli.text import printable

CONNECT_SECONDS = 15.0  # the peer is called meanwhile
FROM_PEER = "Peer: "


def talk(state: State, path: str, **query: object) -> None:
    """Until either side leaves. Lines of the peer on standard output, as objects unless for people."""
    api = state.api()
    url = f"{api.websocket_url(f'/peers/chat/{path}')}?{urlencode(query)}"
    try:
        socket = connect(url, open_timeout=CONNECT_SECONDS, close_timeout=1.0, **api.websocket_options)
    except InvalidStatus as error:
        raise refused(error) from error
    except (OSError, InvalidHandshake) as error:
        raise unreachable(api.url, str(error) or type(error).__name__) from error
    with socket:
        threading.Thread(target=_send_what_is_typed, args=(socket,), daemon=True).start()
        for frame in _frames(socket):
            _show(state, frame)
    say("the chat is over")


def _frames(socket: ClientConnection) -> Iterator[str]:
    with suppress(ConnectionClosed):
        for frame in socket:
            yield str(frame)


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
    left = b""
    with suppress(ConnectionClosed, OSError):
        while data := os.read(sys.stdin.fileno(), 65_536):
            *lines, left = (left + data).split(b"\n")
            for line in lines:
                socket.send(line.decode(errors="replace"))
        if left:
            socket.send(left.decode(errors="replace"))
        socket.close()
