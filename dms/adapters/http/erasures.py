"""REST of erasures: what this node holds of a person is made unreadable, for ever."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.answers import JobId, Time
from dms.adapters.http.replies import iso, json_reply, list_reply, query, query_int
from dms.adapters.http.routes import Api, Parameter, Route, whole
from dms.adapters.http.strict_json import parse
from dms.application.records.erasures import Open
from dms.domain.access import Need
from projections.erasures import Erasures

_ERASURES = Erasures()
PAGE, LARGEST_PAGE = 50, 1000


class EraseBody(Struct, frozen=True, kw_only=True):
    subject: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=512,
            description="wallet address, transaction hash, peer id, or the id of a job or transfer",
        ),
    ]
    dry_run: Annotated[bool, Meta(description="only tell what would be erased")] = False
    skip_open: Annotated[bool, Meta(description="leave what has not ended, erase the rest")] = False


class ErasureAnswer(Struct, frozen=True, kw_only=True):
    erasure_id: Annotated[str, Meta(description="empty for a dry run")]
    dry_run: bool
    erased: Annotated[list[str], Meta(description="job ids, and streams such as transfer-<id>")]
    open: Annotated[list[Open], Meta(description="what has not ended, and was left")]
    more: Annotated[bool, Meta(description="there is more than one erasure takes: ask again")]
    keys: int
    files: Annotated[int, Meta(description="outputs, checkpoints and received files that were removed")]
    remaining: Annotated[list[str], Meta(description="files of the data folder that still hold the subject's text")]


class ErasureItem(Struct, frozen=True, kw_only=True):
    erasure_id: JobId
    state: Annotated[str, Meta(description="requested or completed")]
    scopes: int
    requested_at: Time
    completed_at: Time | None
    keys: int
    files: int


class ErasurePage(Struct, frozen=True, kw_only=True):
    items: list[ErasureItem]
    next_token: str


async def erase(request: Request, api: Api) -> HTTPResponse:
    """200 with what was erased; 404 when nothing tells of the subject; 409 while something of it is open."""
    body = parse(request.body, EraseBody)
    erasures = api.services.erasures
    if body.dry_run:
        found = await erasures.find(body.subject)
        answer = ErasureAnswer(
            erasure_id="", dry_run=True, erased=list(found.scopes), open=list(found.open), more=found.more, keys=0,
            files=0, remaining=[],
        )  # fmt: skip
    else:
        done = await erasures.erase(body.subject, skip_open=body.skip_open)
        answer = ErasureAnswer(
            erasure_id=done.erasure_id, dry_run=False, erased=list(done.scopes), open=list(done.open), more=done.more,
            keys=done.keys, files=done.files, remaining=list(done.remaining),
        )  # fmt: skip
    return json_reply(answer)


async def list_erasures(request: Request, api: Api) -> HTTPResponse:
    """{"items", "next_token"}, newest first."""
    limit = query_int(request, "limit", PAGE, LARGEST_PAGE, lowest=1)
    await api.settled()
    page = await api.views.page(_ERASURES, limit=limit, after=query(request, "after"), newest_first=True, counted=True)
    items = [
        ErasureItem(
            erasure_id=row.erasure_id, state=row.state, scopes=row.scopes, requested_at=iso(row.requested_at) or "",
            completed_at=iso(row.completed_at), keys=row.keys, files=row.files,
        )
        for row in page.rows
    ]  # fmt: skip
    return list_reply(ErasurePage(items=items, next_token=page.next), page.total)


_TAGS = ("operators",)
ROUTES = (
    Route(
        "POST", "/erasures", erase, "Erase what this node holds of a person.", EraseBody,
        body_example={"subject": examples.ADDRESS, "dry_run": True}, answer=ErasureAnswer,
        answer_example={
            "erasure_id": "", "dry_run": True, "erased": [examples.JOB_ID], "open": [], "more": False, "keys": 0,
            "files": 0, "remaining": [],
        },
        errors=(400, 404, 409, 503), tags=_TAGS,
        description="Destroys the keys under which events of the subject's jobs, transfers and the like are sealed, "
        "and removes outputs, checkpoints and received files. The events stay, and the history stays provable. It "
        "can't be taken back. 409 while something of it has not ended, unless `skip_open`. 503 when it was decided and "
        "could not be carried out at once: it goes on by itself.",
        needs=Need.ADMINISTER,
    ),
    Route(
        "GET", "/erasures", list_erasures, "Erasures, newest first.", counted=True,
        query=(
            Parameter("limit", "Most erasures in the answer.", whole(LARGEST_PAGE, lowest=1, default=PAGE)),
            Parameter("after", "Continue after this one: a page's next_token."),
        ),
        answer=ErasurePage,
        answer_example={
            "items": [
                {
                    "erasure_id": examples.JOB_ID, "state": "completed", "scopes": 1, "requested_at": examples.TIME,
                    "completed_at": examples.TIME, "keys": 1, "files": 2,
                }
            ],
            "next_token": "",
        },
        errors=(400,), tags=_TAGS,
        needs=Need.AUDIT,
    ),
)  # fmt: skip
