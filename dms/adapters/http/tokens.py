"""REST of the API's tokens: made, listed, revoked."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.answers import JobId, Message, Time
from dms.adapters.http.connection import connection_of
from dms.adapters.http.replies import iso, json_reply, list_reply, query, query_int
from dms.adapters.http.routes import Api, Parameter, Route, whole
from dms.adapters.http.strict_json import parse
from dms.domain.access import Need
from dms.domain.api_token import NAME_PATTERN, Role
from projections.tokens import Tokens

_TOKENS = Tokens()
PAGE, LARGEST_PAGE = 50, 1000
MOST_DAYS = 36_500

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="of the client: its jobs are those of all its tokens")]


class TokenBody(Struct, frozen=True, kw_only=True):
    name: Name
    role: Annotated[Role, Meta(description="admin, spd, cpd or read")]
    days: Annotated[float, Meta(ge=0, le=MOST_DAYS, description="that it is in force; 0: until it is revoked")] = 0


class NewToken(Struct, frozen=True, kw_only=True):
    token: Annotated[str, Meta(description="told this once; the DMS keeps a digest of it")]
    token_id: JobId
    name: Name
    role: Role


class TokenItem(Struct, frozen=True, kw_only=True):
    token_id: JobId
    name: Name
    role: Annotated[str, Meta(description="admin, spd, cpd or read")]
    state: Annotated[str, Meta(description="in force, revoked or expired")]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class TokenPage(Struct, frozen=True, kw_only=True):
    items: list[TokenItem]
    next_token: str


async def create(request: Request, api: Api) -> HTTPResponse:
    """200 with the token, which is told this once; 409 where the client has tokens of another role."""
    body = parse(request.body, TokenBody)
    text = await api.services.tokens.create(body.name, body.role, body.days)
    return json_reply(NewToken(token=str(text), token_id=text.token_id, name=body.name, role=body.role))


async def list_tokens(request: Request, api: Api) -> HTTPResponse:
    """{"items", "next_token"}, newest first."""
    limit, now = query_int(request, "limit", PAGE, LARGEST_PAGE, lowest=1), api.services.now()
    await api.settled()
    page = await api.views.page(_TOKENS, limit=limit, after=query(request, "after"), newest_first=True, counted=True)
    items = [
        TokenItem(
            token_id=row.token_id,
            name=row.name,
            role=row.role,
            state="revoked" if row.revoked_at else "expired" if 0 < row.expires_at <= now else "in force",
            created_at=iso(row.created_at) or "",
            expires_at=iso(row.expires_at),
            revoked_at=iso(row.revoked_at),
        )
        for row in page.rows
    ]
    return list_reply(TokenPage(items=items, next_token=page.next), page.total)


async def revoke(request: Request, api: Api) -> HTTPResponse:
    """It is not taken any more from this answer on."""
    token_id = request.match_info["token_id"]
    await api.services.tokens.revoke(token_id)
    request.app.ctx.cut_off(connection_of(request))
    return json_reply({"message": f"token {token_id} is revoked"})


_TAGS = ("operators",)
_ITEM = {
    "token_id": examples.JOB_ID, "name": "team-a", "role": "spd", "state": "in force", "created_at": examples.TIME,
    "expires_at": None, "revoked_at": None,
}  # fmt: skip

ROUTES = (
    Route(
        "POST", "/tokens", create, "Make a token.", TokenBody, body_example={"name": "team-a", "role": "spd"},
        answer=NewToken,
        answer_example={
            "token": f"dms_{examples.JOB_ID}_c2VjcmV0", "token_id": examples.JOB_ID, "name": "team-a", "role": "spd",
        },
        errors=(400, 409), tags=_TAGS, secret=True, needs=Need.ADMINISTER,
        description="Its role says what may be done with it: `admin` all; `spd` asks for jobs, sees and steers its "
        "own; `cpd` this machine as a provider; `read` sees all, and changes nothing. It is sent as "
        "`Authorization: Bearer`.",
    ),
    Route(
        "GET", "/tokens", list_tokens, "Tokens, newest first, without their secrets.", counted=True,
        query=(
            Parameter("limit", "Most tokens in the answer.", whole(LARGEST_PAGE, lowest=1, default=PAGE)),
            Parameter("after", "Continue after this one: a page's next_token."),
        ),
        answer=TokenPage, answer_example={"items": [_ITEM], "next_token": ""}, errors=(400,), tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
    Route(
        "DELETE", "/tokens/<token_id>", revoke, "Revoke a token.", answer=Message,
        answer_example={"message": f"token {examples.JOB_ID} is revoked"}, errors=(404, 409), tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip
