"""A websocket on which the server does one thing and tells of it: text frames out, then the close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from sanic import Request

from dms.adapters.http.connection import Socket, text_frame
from dms.adapters.http.routes import traceparent
from dms.application.cause import caused_by
from dms.application.tasks import cancelled
from dms.domain.event import new_id
from dms.errors import DmsError

log = logging.getLogger(__name__)

DRAIN_SECONDS = 60.0  # a client that takes nothing for so long is cut


class Talk:
    """What a session says."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def text(self, text: str) -> None:
        self._socket.write(text_frame(text.encode(errors="replace")))
        async with asyncio.timeout(DRAIN_SECONDS):
            await self._socket.drained()

    async def json(self, body: Any) -> None:
        await self.text(msgspec.json.encode(body).decode())


class Conversation:
    """Runs `act(talk, heard)` and closes the socket; ends it when the client closes. A DmsError becomes the frame
    `{"error": ...}`. hear: gets each text message of the client. end: called
    once the client has gone or the socket is closed."""

    def __init__(
        self,
        request: Request,
        socket: Socket,
        act: Callable[[Talk], Awaitable[None]],
        hear: Callable[[Talk, str], Awaitable[None]] | None = None,
        end: Callable[[], object] | None = None,
    ) -> None:
        self._traceparent = traceparent(request)
        self._socket, self._act, self._hear, self._end = socket, act, hear, end
        self._talk = Talk(socket)

    async def run(self) -> None:
        acting = asyncio.create_task(self._perform(), name="conversation")
        try:
            while (message := await self._socket.receive()) is not None:
                if self._hear is not None:
                    await self._guard(self._hear(self._talk, message if isinstance(message, str) else ""))
        finally:
            if self._end is not None:
                self._end()
            await cancelled(acting)
        await self._socket.lost()

    async def _perform(self) -> None:
        with caused_by(new_id(), self._traceparent):
            await self._guard(self._act(self._talk))
        self._socket.close(1000, "the end")

    async def _guard(self, step: Awaitable[None]) -> None:
        try:
            await step
        except DmsError as error:
            await self._talk.json({"error": str(error)})
        except TimeoutError:
            self._socket.close(1013, "too slow")
        except Exception:  # the outermost loop of a client's socket
            log.exception("a websocket failed unexpectedly", extra={"action": "message_failed"})
            self._socket.close(1011, "internal error; it is in the log of the DMS")
