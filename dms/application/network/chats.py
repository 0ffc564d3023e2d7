"""Chat between the users of two nodes. Nothing of it is kept: neither in the event log nor on disk.

The one who begins opens a stream, on which the other side's lines come, and sends each line of its own as a
request, so that it knows that the line is there. The stream's end is the chat's end, on either side and however
it comes: a user who leaves, a process that dies, a line that is cut.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct

from dms.application.device.refusals import Door
from dms.application.network.messages import JobId, decode_answer, decode_request, encode
from dms.application.ports.peers import PeerNetwork
from dms.application.tasks import background, cancelled
from dms.domain.event import new_id
from dms.errors import Conflict, DmsError, Forbidden, InvalidInput, NotFound, PeerMisbehaved, Unavailable

log = logging.getLogger(__name__)

CHAT = "/nunet/dms/chat/0.1.0"
CHAT_LINE = "/nunet/dms/chat/line/0.1.0"
MOST_WAITING = 3  # until this node's user joins; as in the original
MOST_WAITING_OF_STRANGERS = 2  # of those: one place is for peers that we know
MOST_OPEN = 32
MAX_LINE = 4096  # characters
UNREAD_LINES = 100
OPEN_SECONDS = 10.0
LINE_SECONDS = 10.0
JOIN_SECONDS = 15.0  # in which who began a chat must have taken it up

Line = Annotated[str, Meta(max_length=MAX_LINE)]


class ChatOpen(Struct, frozen=True, kw_only=True):
    chat_id: JobId


class ChatFrame(Struct, frozen=True, kw_only=True):
    """To the one who began. The first has no text: it says that the chat waits to be joined."""

    text: Line = ""


class ChatLine(Struct, frozen=True, kw_only=True):
    """From the one who began."""

    chat_id: JobId
    text: Annotated[str, Meta(min_length=1, max_length=MAX_LINE)]


class Lines:
    """Text on its way to one reader, bounded. Closed, it still gives what is inside."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, text: str) -> None:
        """Raises Unavailable when the reader is too far behind, Conflict when it is closed."""
        if self._closed:
            raise Conflict("the chat is over")
        if len(self._lines) >= UNREAD_LINES:
            raise Unavailable(f"the peer has {UNREAD_LINES} lines to read; wait for it")
        self._lines.append(text)
        self._changed.set()

    async def room(self) -> None:
        while len(self._lines) >= UNREAD_LINES and not self._closed:
            await self._wait()

    async def get(self) -> str | None:
        """None at the end."""
        while not self._lines:
            if self._closed:
                return None
            await self._wait()
        self._changed.set()
        return self._lines.popleft()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def close(self) -> None:
        self._closed = True
        self._changed.set()


class Chat:
    """One side of a chat. inbox: the peer's lines."""

    def __init__(
        self, chat_id: str, peer_id: str, opened_at: int, send: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        """opened_at: Unix time in microseconds. send: how a line reaches the peer; by default over the outbox."""
        self.chat_id, self.peer_id, self.opened_at = chat_id, peer_id, opened_at
        self.joined = False
        self.inbox, self.outbox = Lines(), Lines()
        self._send = send
        self.on_close: Callable[[], object] = self.outbox.close

    async def send(self, text: str) -> None:
        """Each line of it. Raises InvalidInput for one that is too long, PeerUnreachable, Unavailable, Conflict when it
        is over."""
        lines = [line for line in text.splitlines() if line]
        for line in lines:
            if len(line) > MAX_LINE:
                raise InvalidInput(f"the line has {len(line)} characters; at most {MAX_LINE} are sent")
        for line in lines:
            if self._send is None:
                self.outbox.put(line)
            else:
                await self._send(line)

    def heard(self, text: str) -> None:
        """From the peer: one line, whatever is in it, or what follows would look like one of ours. Raises as
        `Lines.put`."""
        self.inbox.put(r"\n".join(text.splitlines()))

    async def receive(self) -> str | None:
        """The peer's next line; None when the chat is over."""
        return await self.inbox.get()

    def close(self) -> None:
        """By this side's user. Again is fine."""
        self.inbox.close()
        self.on_close()


class Chats:
    def __init__(
        self, network: PeerNetwork, door: Door, now: Callable[[], int], is_known: Callable[[str], bool]
    ) -> None:
        """now: Unix time in microseconds. is_known: whether a peer, by its id, is no stranger."""
        self._network, self._door, self._now, self._is_known = network, door, now, is_known
        self._incoming: dict[str, Chat] = {}  # in the order opened
        self._outgoing: dict[str, asyncio.Task[None]] = {}

    def serve(self) -> None:
        self._network.serve_stream(CHAT, self._on_open)
        self._network.serve_request(CHAT_LINE, self._on_line)

    async def close(self) -> None:
        for chat in list(self._incoming.values()):
            chat.close()
        for task in list(self._outgoing.values()):
            await cancelled(task)

    # --- what users do ---------------------------------------------------------------------------
    def waiting(self) -> list[Chat]:
        """Chats that peers began and nobody has joined, oldest first."""
        return [chat for chat in self._incoming.values() if not chat.joined]

    def clear(self) -> int:
        """Ends those that wait; how many there were."""
        waiting = self.waiting()
        for chat in waiting:
            chat.close()
            del self._incoming[chat.chat_id]
        return len(waiting)

    def join(self, chat_id: str) -> Chat:
        """Raises NotFound when it does not wait (any more), Forbidden when its peer was denied since."""
        chat = self._incoming.get(chat_id)
        if chat is None or chat.joined:
            raise NotFound(f"chat {chat_id} does not wait here any more")
        self._door.check(chat.peer_id, "chat")
        chat.joined = True
        return chat

    async def start(self, peer_id: str) -> Chat:
        """Once it waits at the peer to be joined. Raises what the peer refuses with, Unavailable."""
        if len(self._outgoing) >= MOST_OPEN:
            raise Unavailable(f"{MOST_OPEN} chats are open already")
        chat_id = new_id()

        async def send(line: str) -> None:
            body = encode(ChatLine(chat_id=chat_id, text=line))
            await self._network.request(peer_id, CHAT_LINE, body, LINE_SECONDS)

        chat = Chat(chat_id, peer_id, self._now(), send)
        opened = asyncio.Event()
        task = background(self._follow(chat, opened), f"chat {chat_id}")
        self._outgoing[chat_id] = task
        task.add_done_callback(lambda _: self._outgoing.pop(chat_id, None))
        chat.on_close = task.cancel
        waiting = asyncio.create_task(opened.wait())
        try:
            await asyncio.wait({task, waiting}, timeout=OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            if not opened.is_set():
                raise Unavailable(f"peer {peer_id} did not take the chat in time")
        except BaseException:
            chat.close()
            raise
        finally:
            waiting.cancel()
        asyncio.get_running_loop().call_later(JOIN_SECONDS, _close_unless_joined, chat)
        return chat

    # --- the wire ----------------------------------------------------------------------------------
    async def _follow(self, chat: Chat, opened: asyncio.Event) -> None:
        """The peer's lines into the inbox; a reader that is slow slows the peer. Raises what refuses the chat."""
        body = encode(ChatOpen(chat_id=chat.chat_id))
        try:
            async with aclosing(self._network.stream(chat.peer_id, CHAT, body)) as frames:
                async for frame in frames:
                    text = decode_answer(chat.peer_id, frame, ChatFrame).text
                    self._door.check(chat.peer_id, "chat")  # it may be denied by now
                    if not opened.is_set():
                        opened.set()
                    elif text:
                        await chat.inbox.room()
                        chat.heard(text)
            if not opened.is_set():
                raise PeerMisbehaved(f"peer {chat.peer_id} ended the chat before it began")
        except DmsError as error:
            if not opened.is_set():
                raise
            log.info("the chat with peer %s was cut: %s", chat.peer_id, error)
        finally:
            chat.inbox.close()

    async def _on_open(self, peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        chat_id = decode_request(body, ChatOpen).chat_id
        self._door.check(peer_id, "chat")
        if self._is_full_for(peer_id) or len(self._incoming) >= MOST_OPEN or chat_id in self._incoming:
            raise Conflict("Unable to Accept Chat Request. Closing.")
        chat = self._incoming[chat_id] = Chat(chat_id, peer_id, self._now())
        try:
            yield encode(ChatFrame())
            while (text := await chat.outbox.get()) is not None:
                yield encode(ChatFrame(text=text))
        finally:
            chat.close()
            if self._incoming.get(chat_id) is chat:
                del self._incoming[chat_id]

    def _is_full_for(self, peer_id: str) -> bool:
        waiting = [chat.peer_id for chat in self.waiting()]
        of_strangers = sum(not self._is_known(peer) for peer in waiting)
        full_of_strangers = of_strangers >= MOST_WAITING_OF_STRANGERS and not self._is_known(peer_id)
        return len(waiting) >= MOST_WAITING or full_of_strangers

    async def _on_line(self, peer_id: str, body: bytes) -> bytes:
        message = decode_request(body, ChatLine)
        chat = self._incoming.get(message.chat_id)
        if chat is None or chat.peer_id != peer_id:
            raise NotFound("the chat is over")
        try:
            self._door.check(peer_id, "chat")
        except Forbidden:
            chat.close()  # the peer was denied since it began
            raise
        chat.heard(message.text)
        return b"null"


def _close_unless_joined(chat: Chat) -> None:
    if not chat.joined:
        chat.close()
