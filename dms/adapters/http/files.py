"""Files between users: the original's `/peers/file...`, and `/peers/files` with every transfer by its id."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.access import reach_of
from dms.adapters.http.connection import Socket
from dms.adapters.http.conversation import Conversation, Talk
from dms.adapters.http.replies import (
    checked_job_id,
    in_query,
    iso,
    json_reply,
    list_reply,
    query,
    query_choice,
    query_int,
)
from dms.adapters.http.routes import Api, Parameter, Route, WebSocket, choice, whole
from dms.adapters.http.sockets import Endpoint
from dms.adapters.http.strict_json import parse
from dms.application.files.transfers import Transfers
from dms.application.files.user_files import Reach
from dms.domain.access import Need
from dms.domain.peer_id import is_peer_id
from dms.domain.request import LongText, Text
from dms.domain.transfer import Transfer, TransferState
from dms.errors import DmsError, InvalidInput, NotFound
from projections.transfers import TransferRow
from projections.transfers import Transfers as TransfersView

CLEARED = "Successfully Cleard Inbound File Transfer Requests."  # as the original spells it
INITIATED = "File Transfer Initiated. Transfer will start when peer accepts it."
ACCEPTED = "File Transfer Accepted."
COMPLETE = "transfer complete"
SAVED = "File saved to: "
LARGEST_PAGE, PAGE = 1000, 100
MB = 1_000_000


class SendBody(Struct, frozen=True, kw_only=True):
    """`peerID` and `filePath` as in the websocket's query. The path is absolute, on the machine of the DMS."""

    peer_id: Text = field(name="peerid")
    path: LongText = field(name="filepath")


class AcceptBody(Struct, frozen=True, kw_only=True):
    """`streamID`: the place in the list of offers that wait, from 0, or a transfer's id."""

    stream_id: Text | int = field(name="streamid", default=0)


class TransferAnswer(Struct, frozen=True, kw_only=True):
    """stream_id: the place among the offers that wait for this node's user; null for others. saved_as: the path at
    the receiver, once the file is whole and checked. reason: why it failed or was cancelled."""

    transfer_id: answers.JobId
    stream_id: int | None
    direction: Literal["in", "out"]
    peer_id: str
    name: str
    size_bytes: int
    done_bytes: int
    sha256: answers.Hash
    state: Literal["offered", "accepted", "completed", "failed", "cancelled"]
    saved_as: str
    reason: str
    offered_at: str | None
    changed_at: str | None


class TransferPage(Struct, frozen=True, kw_only=True):
    items: list[TransferAnswer]
    next_token: str


class Cleared(Struct, frozen=True, kw_only=True):
    message: str
    cleared: Annotated[int, Meta(ge=0)]


class Progress(Struct, frozen=True, kw_only=True):
    """About once a second, as texts with their units."""

    remaining_time: str
    percentage: str
    size: str


class Failed(Struct, frozen=True, kw_only=True):
    error: str


# --- REST -------------------------------------------------------------------------------------------
async def waiting(_request: Request, api: Api) -> HTTPResponse:
    """The original's text, as a JSON string: three lines an offer. None: an empty list, as everywhere."""
    offers = api.services.transfers.waiting()
    return json_reply("\n".join(map(_as_text, offers)) if offers else [])


def _as_text(transfer: Transfer) -> str:
    time = datetime.fromtimestamp(transfer.offered_at // 1_000_000, UTC).isoformat(sep=" ")
    return f"Time: {time}\nFile Name: {transfer.name}\nFile Size: {transfer.size_bytes} bytes\n"


async def clear(_request: Request, api: Api) -> HTTPResponse:
    return json_reply(Cleared(message=CLEARED, cleared=await api.services.transfers.clear()))


async def send(request: Request, api: Api) -> HTTPResponse:
    """202 once the peer has the offer before it."""
    body = parse(request.body, SendBody)
    transfer = await api.services.transfers.offer(checked_peer(body.peer_id), _path(body.path), reach_of(request))
    return json_reply(_live(api, transfer), 202)


async def accept(request: Request, api: Api) -> HTTPResponse:
    """202: it is being fetched."""
    body = parse(request.body, AcceptBody) if request.body else AcceptBody()
    transfers = api.services.transfers
    return json_reply(_live(api, await transfers.accept(_named(transfers, str(body.stream_id)))), 202)


async def list_transfers(request: Request, api: Api) -> HTTPResponse:
    await api.settled()
    where: dict[str, Any] = {}
    if direction := query_choice(request, "direction", "in", "out"):
        where["direction"] = direction
    if states := query(request, "state"):
        where["state"] = states.split(",")
    page = await api.views.page(
        TransfersView(),
        limit=query_int(request, "limit", PAGE, LARGEST_PAGE, lowest=1),
        after=query(request, "after"),
        where=where,
        newest_first=True,
        counted=True,
    )
    places = _places(api)
    items = [_row(api, row, places) for row in page.rows]
    return list_reply(TransferPage(items=items, next_token=page.next), page.total)


async def show(request: Request, api: Api) -> HTTPResponse:
    return json_reply(await _transfer_answer(api, checked_job_id(str(request.match_info["transfer_id"]))))


async def cancel(request: Request, api: Api) -> HTTPResponse:
    transfer_id = checked_job_id(str(request.match_info["transfer_id"]))
    await api.services.transfers.cancel(transfer_id)
    return json_reply(await _transfer_answer(api, transfer_id))


async def _transfer_answer(api: Api, transfer_id: str) -> TransferAnswer:
    await api.settled()
    row = await api.views.get(TransfersView(), transfer_id)
    if row is None:
        raise NotFound(f"there is no transfer {transfer_id} here")
    return _row(api, row, _places(api))


def _places(api: Api) -> dict[str, int]:
    return {transfer.key: place for place, transfer in enumerate(api.services.transfers.waiting())}


def _row(api: Api, row: TransferRow, places: dict[str, int]) -> TransferAnswer:
    transfers = api.services.transfers
    now = transfers.snapshot(row.transfer_id)
    return TransferAnswer(
        transfer_id=row.transfer_id,
        stream_id=places.get(row.transfer_id),
        direction="in" if row.direction == "in" else "out",
        peer_id=row.peer_id,
        name=row.name,
        size_bytes=row.size_bytes,
        done_bytes=now.done_bytes,
        sha256=row.sha256,
        state=TransferState(row.state).value,
        saved_as=str(transfers.saved_path(now.transfer)) if row.saved_as else "",
        reason=row.reason,
        offered_at=iso(row.offered_at),
        changed_at=iso(row.changed_at),
    )


def _live(api: Api, transfer: Transfer) -> TransferAnswer:
    """Of one that was just decided on."""
    return TransferAnswer(
        transfer_id=transfer.key,
        stream_id=_places(api).get(transfer.key),
        direction=transfer.direction.value,
        peer_id=transfer.peer_id,
        name=transfer.name,
        size_bytes=transfer.size_bytes,
        done_bytes=api.services.transfers.snapshot(transfer.key).done_bytes,
        sha256=transfer.sha256,
        state=transfer.state.value,
        saved_as="",
        reason=transfer.reason,
        offered_at=iso(transfer.offered_at),
        changed_at=iso(api.services.now()),
    )


def checked_peer(text: str) -> str:
    """Raises InvalidInput, with the original's texts."""
    if not text:
        raise InvalidInput("peerID not provided", [("/peerID", "is required")])
    if not is_peer_id(text):
        raise InvalidInput("Could not decode string ID to peerID", [("/peerID", "12D3KooW... or Qm...")])
    return text


def _path(text: str) -> Path:
    if not text:
        raise InvalidInput("filePath not provided", [("/filePath", "is required")])
    return Path(text)


def _named(transfers: Transfers, text: str) -> str:
    """The id of the transfer at that place in the list, or of that id. Raises InvalidInput."""
    if not text:
        raise InvalidInput("Stream ID not provided", [("/streamID", "is required")])
    if len(text) == 36:
        return checked_job_id(text)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(f"Invalid Stream ID: {text[:64]}", [("/streamID", "a place in the list, from 0")])
    offers = transfers.waiting()
    if int(text) >= len(offers):
        raise InvalidInput(f"Unknown Stream ID: {text}", [("/streamID", f"{len(offers)} offers wait")])
    return offers[int(text)].key


# --- websockets ---------------------------------------------------------------------------------------
def endpoints(api: Api) -> tuple[Endpoint, ...]:
    transfers = api.services.transfers

    async def admit_send(request: Request) -> tuple[tuple[str, Path, Reach], None]:
        with in_query():
            asked = (
                checked_peer(query(request, "peerID")),
                _path(query(request, "filePath")),
                reach_of(request),
            )
            await transfers.check(*asked)
        return asked, None

    async def admit_accept(request: Request) -> tuple[str, None]:
        with in_query():
            transfer_id = _named(transfers, query(request, "streamID"))
        transfers.get(transfer_id)
        return transfer_id, None

    def begin_send(request: Request, socket: Socket, asked: tuple[str, Path, Reach]) -> Conversation:
        async def act(talk: Talk) -> None:
            transfer = await transfers.offer(*asked)
            await talk.json({"message": INITIATED})
            await _follow(transfers, transfer.key, talk)

        return Conversation(request, socket, act)

    def begin_accept(request: Request, socket: Socket, transfer_id: str) -> Conversation:
        async def act(talk: Talk) -> None:
            await transfers.accept(transfer_id)
            await talk.json({"message": ACCEPTED})
            transfer = await _follow(transfers, transfer_id, talk)
            await talk.text(f"{SAVED}{transfers.saved_path(transfer)}")

        return Conversation(request, socket, act)

    return (
        Endpoint((WEBSOCKETS[0],), admit_send, begin_send),
        Endpoint((WEBSOCKETS[1],), admit_accept, begin_accept),
    )


async def _follow(transfers: Transfers, transfer_id: str, talk: Talk) -> Transfer:
    """Frames of progress until it is complete, the last one of the whole, however quick it was. Raises DmsError that
    says how else it ended."""
    async with aclosing(transfers.watch(transfer_id)) as snapshots:
        async for seen in snapshots:
            if seen.transfer.state is TransferState.ACCEPTED and 0 < seen.done_bytes < seen.transfer.size_bytes:
                await talk.json(_progress(seen.transfer.size_bytes, seen.done_bytes, seen.bytes_per_second))
    transfer = transfers.get(transfer_id)
    if transfer.state is not TransferState.COMPLETED:
        raise DmsError(f"transfer {transfer.state}: {transfer.reason}")
    await talk.json(_progress(transfer.size_bytes, transfer.size_bytes, 0.0))
    await talk.text(COMPLETE)
    return transfer


def _progress(size: int, done: int, bytes_per_second: float) -> Progress:
    left = (size - done) / bytes_per_second if bytes_per_second else 0.0
    return Progress(
        remaining_time=f"{left:.0f} seconds",
        percentage=f"{100 * done / size if size else 100:.2f} %",
        size=f"{size / MB:.2f} MB",
    )


_EXAMPLE: dict[str, Any] = {
    "transfer_id": examples.JOB_ID,
    "stream_id": 0,
    "direction": "in",
    "peer_id": examples.PEER_ID,
    "name": "weights.bin",
    "size_bytes": 1_000_000_000,
    "done_bytes": 0,
    "sha256": "c2" * 32,
    "state": "offered",
    "saved_as": "",
    "reason": "",
    "offered_at": examples.TIME,
    "changed_at": examples.TIME,
}
_TAGS = ("files",)

ROUTES = (
    Route(
        "GET", "/peers/file", waiting, "Offers of files that wait, as the original's text; see /peers/files.",
        answer={"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 0}]},
        answer_example="Time: 2026-01-31 12:00:00+00:00\nFile Name: weights.bin\nFile Size: 1000000000 bytes\n",
        tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
    Route(
        "GET", "/peers/file/clear", clear, "Refuse all offers that wait; POST does the same.", answer=Cleared,
        answer_example={"message": CLEARED, "cleared": 1}, changes=True, tags=_TAGS, deprecated=True,
        needs=Need.ADMINISTER,
    ),
    Route(
        "POST", "/peers/file/clear", clear, "Refuse all offers that wait.", answer=Cleared,
        answer_example={"message": CLEARED, "cleared": 1}, tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
    Route(
        "POST", "/peers/file/send", send, "Offer a file to a peer.", SendBody, answer=TransferAnswer,
        body_example={"peerid": examples.PEER_ID, "filepath": "/srv/share/weights.bin"}, status=202,
        answer_example=_EXAMPLE | {"direction": "out", "stream_id": None}, errors=(400, 403, 404, 409), tags=_TAGS,
        description="GET on this address is a websocket that also reports progress.",
        needs=Need.ADMINISTER,
    ),
    Route(
        "POST", "/peers/file/accept", accept, "Take a file that was offered.", AcceptBody, answer=TransferAnswer,
        body_example={"streamid": 0}, answer_example=_EXAMPLE | {"state": "accepted", "stream_id": None}, status=202,
        errors=(400, 404, 409), tags=_TAGS, body_optional=True,
        description="GET on this address is a websocket that also reports progress.",
        needs=Need.ADMINISTER,
    ),
    Route(
        "GET", "/peers/files", list_transfers, "Files given to and taken from peers, newest first.",
        query=(
            Parameter("direction", "Only these.", choice("in", "out")),
            Parameter("state", "One or more, with commas between.", example="offered,accepted"),
            Parameter("limit", "Most transfers in the answer.", whole(LARGEST_PAGE, lowest=1, default=PAGE)),
            Parameter("after", "The next_token of the page before."),
        ),
        answer=TransferPage, answer_example={"items": [_EXAMPLE], "next_token": ""}, errors=(400,), tags=_TAGS,
        counted=True,
        needs=Need.ADMINISTER,
    ),
    Route(
        "GET", "/peers/files/<transfer_id>", show, "One transfer.", answer=TransferAnswer, answer_example=_EXAMPLE,
        errors=(404,), tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
    Route(
        "DELETE", "/peers/files/<transfer_id>", cancel, "Stop a transfer, on both sides.", answer=TransferAnswer,
        answer_example=_EXAMPLE | {"state": "cancelled", "stream_id": None}, errors=(404, 409), tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip

_TOLD = {"message": answers.Message, "progress": Progress, "error": Failed}
_AT_ITS_END: dict[str, Any] = {"type": "string", "enum": [COMPLETE]}
_AT_EITHER_END: dict[str, Any] = {"type": "string", "pattern": f"^({COMPLETE}$|{SAVED})"}

WEBSOCKETS = (
    WebSocket(
        path="/peers/file/send", summary="Offer a file to a peer, and be told how it goes.",
        query=(
            Parameter("peerID", "Who it is for.", required=True, example=examples.PEER_ID),
            Parameter("filePath", "Absolute, on the machine of the DMS.", required=True, example="/srv/weights.bin"),
        ),
        errors=(400, 403, 404, 409), tags=_TAGS, outgoing={**_TOLD, "text": _AT_ITS_END},
        description="Closing it does not stop the transfer; DELETE /peers/files/{transfer_id} does.",
        needs=Need.ADMINISTER,
    ),
    WebSocket(
        path="/peers/file/accept", summary="Take a file that was offered, and be told how it goes.",
        query=(
            Parameter(
                "streamID", "The place in the list of offers that wait, from 0, or a transfer's id.", required=True,
                example="0",
            ),
        ),
        errors=(400, 404), tags=_TAGS, outgoing={**_TOLD, "text": _AT_EITHER_END},
        description="The last text is `File saved to: <path>`. Closing it does not stop the transfer.",
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip
