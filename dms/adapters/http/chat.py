"""Chat with users of other nodes: `/peers/chat...` of the original, a line a message."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.connection import Socket
from dms.adapters.http.conversation import Conversation, Talk
from dms.adapters.http.files import Failed, checked_peer
from dms.adapters.http.replies import in_query, iso, json_reply, query
from dms.adapters.http.routes import Api, Parameter, Route, WebSocket
from dms.adapters.http.sockets import Endpoint
from dms.application.network.chats import Chat
from dms.domain.access import Need
from dms.errors import DmsError, InvalidInput

CLEARED = "Successfully Cleard Inbound Chat Requests."  # as the original spells it


class WaitingChat(Struct, frozen=True, kw_only=True):
    """id: the place in the list, from 0, by which it is joined."""

    id: int
    stream_id: str
    from_peer: str
    time_opened: str | None


class ChatsCleared(Struct, frozen=True, kw_only=True):
    message: str
    cleared: Annotated[int, Meta(ge=0)]


async def waiting(_request: Request, api: Api) -> HTTPResponse:
    return json_reply(
        [
            WaitingChat(id=place, stream_id=chat.chat_id, from_peer=chat.peer_id, time_opened=iso(chat.opened_at))
            for place, chat in enumerate(api.services.chats.waiting())
        ]
    )


async def clear(_request: Request, api: Api) -> HTTPResponse:
    return json_reply(ChatsCleared(message=CLEARED, cleared=api.services.chats.clear()))


def endpoints(api: Api) -> tuple[Endpoint, ...]:
    chats = api.services.chats

    async def admit_start(request: Request) -> tuple[Chat, None]:
        with in_query():
            peer_id = checked_peer(query(request, "peerID"))
        if peer_id == api.services.network.peer_id:
            raise InvalidInput("peerID can not be self peerID", [("?peerID", "another peer")])
        try:
            return await chats.start(peer_id), None
        except DmsError as error:
            raise InvalidInput(f"Could not create stream with peer - {error}") from error

    async def admit_join(request: Request) -> tuple[str, None]:
        """id: what a late command line of the original says for streamID."""
        return _named(chats.waiting(), query(request, "streamID") or query(request, "id")), None

    def begin_start(request: Request, socket: Socket, chat: Chat) -> Conversation:
        chat.joined = True
        greeting = (
            f"Enter the message that you wish to send to {chat.peer_id} with stream ID: {chat.chat_id} "
            "and press return."
        )
        return _conversation(request, socket, chat, greeting)

    def begin_join(request: Request, socket: Socket, chat_id: str) -> Conversation:
        try:
            chat = chats.join(chat_id)
        except DmsError as error:
            return _refused(request, socket, error)
        return _conversation(request, socket, chat, "Enter the message that you wish to send and press return.")

    return (
        Endpoint((WEBSOCKETS[0],), admit_start, begin_start),
        Endpoint((WEBSOCKETS[1],), admit_join, begin_join),
    )


def _conversation(request: Request, socket: Socket, chat: Chat, greeting: str) -> Conversation:
    async def act(talk: Talk) -> None:
        await talk.text(greeting)
        while (line := await chat.receive()) is not None:
            await talk.text(f"Peer: {line}")

    async def hear(_talk: Talk, message: str) -> None:
        await chat.send(message)

    return Conversation(request, socket, act, hear, chat.close)


def _refused(request: Request, socket: Socket, error: DmsError) -> Conversation:
    async def act(_talk: Talk) -> None:
        raise error

    return Conversation(request, socket, act)


def _named(found: list[Chat], text: str) -> str:
    """The id of the chat at that place in the list, or with that stream id. Raises InvalidInput."""
    if not text:
        raise InvalidInput("Stream ID not provided", [("?streamID", "is required")])
    for place, chat in enumerate(found):
        if text in (str(place), chat.chat_id):
            return chat.chat_id
    if text.isascii() and text.isdigit() and len(text) < 10:
        raise InvalidInput(f"Unknown Stream ID: {text}", [("?streamID", f"{len(found)} chats wait")])
    raise InvalidInput(f"Invalid Stream ID: {text[:64]}", [("?streamID", "a place in the list, from 0")])


_TAGS = ("chat",)
_CLEARED = {"message": CLEARED, "cleared": 1}
_TEXT = {"text": {"type": "string"}}
_TOLD = {**_TEXT, "error": Failed}

ROUTES = (
    Route(
        "GET", "/peers/chat", waiting, "Chats that peers began and nobody has joined.", answer=list[WaitingChat],
        answer_example=[
            {
                "id": 0,
                "stream_id": examples.JOB_ID,
                "from_peer": examples.PEER_ID,
                "time_opened": examples.TIME,
            }
        ],
        tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
    Route(
        "GET", "/peers/chat/clear", clear, "End all chats that wait; POST does the same.", answer=ChatsCleared,
        answer_example=_CLEARED, changes=True, tags=_TAGS, deprecated=True,
        needs=Need.ADMINISTER,
    ),
    Route(
        "POST", "/peers/chat/clear", clear, "End all chats that wait.", answer=ChatsCleared, answer_example=_CLEARED,
        tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip

WEBSOCKETS = (
    WebSocket(
        path="/peers/chat/start", summary="Begin a chat with a peer's user.",
        query=(Parameter("peerID", "Who is called.", required=True, example=examples.PEER_ID),),
        errors=(400,), tags=_TAGS, incoming=_TEXT, outgoing=_TOLD,
        description="A text message is a line, at most 4096 characters; the peer's lines begin with `Peer: `.",
        needs=Need.ADMINISTER,
    ),
    WebSocket(
        path="/peers/chat/join", summary="Join a chat that a peer began.",
        query=(
            Parameter(
                "streamID", "The chat's place in the list, from 0, or its stream id.", required=True, example="0"
            ),
        ),
        errors=(400,), tags=_TAGS, incoming=_TEXT, outgoing=_TOLD,
        description="A text message is a line, at most 4096 characters; the peer's lines begin with `Peer: `.",
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip
