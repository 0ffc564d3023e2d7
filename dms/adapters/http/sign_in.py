"""How a browser logs in: a page that takes a token, and gives the browser a session in its place."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.access import Budget, access_of, caller_of
from dms.adapters.http.answers import Message
from dms.adapters.http.connection import connection_of
from dms.adapters.http.gate import base_url
from dms.adapters.http.pages import CONTENT_SECURITY_POLICY
from dms.adapters.http.problems import Refused
from dms.adapters.http.replies import json_reply
from dms.adapters.http.routes import Api, Route
from dms.adapters.http.strict_json import parse
from dms.domain.access import Caller, Need
from dms.domain.api_token import Role

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in to this DMS</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/login/login.css">
</head>
<body>
<main>
<h1>Log in to this DMS</h1>
<form id="login">
<label for="token">Token</label>
<input id="token" type="password" autocomplete="current-password" spellcheck="false" required autofocus>
<button type="submit">Log in</button>
<p id="told" role="alert"></p>
</form>
<p>Whoever runs this DMS makes tokens: <code>nunet token create NAME --role spd</code>. On the machine itself, root and
members of the group <code>nunet</code> need none.</p>
<noscript><p>This page needs JavaScript.</p></noscript>
</main>
<script src="/login/login.js"></script>
</body>
</html>
"""
_STYLE = """:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { margin: 0; background: Canvas; color: CanvasText }
main { max-width: 28rem; margin: 12vh auto; padding: 0 1rem }
h1 { font-size: 1.4rem }
label { display: block; font-weight: 600 }
input { box-sizing: border-box; width: 100%; padding: .5rem; margin: .25rem 0 .75rem; font: inherit }
button { padding: .5rem 1.25rem; font: inherit }
#told { min-height: 1.5rem; font-weight: 600 }
"""
# Where to go on is a place in the dashboards, whatever the address says: it could lead anywhere else. Nothing of it is
# decoded, and no sign is taken that a browser drops, or may read as another host's beginning.
_SCRIPT = """const form = document.getElementById("login"), told = document.getElementById("told");
const PLACE = /^\\/dashboard(\\/[A-Za-z0-9_-]+)*\\/?(\\?[A-Za-z0-9%&=+*._-]*)?(#[A-Za-z0-9_-]*)?$/, LONGEST = 2000;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  told.textContent = "";
  const field = document.getElementById("token");
  let answer;
  try {
    answer = await fetch("/api/v1/session", {
      method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({token: field.value}),
    });
  } catch {
    told.textContent = "The DMS does not answer; try again.";
    return;
  }
  if (!answer.ok) {
    told.textContent = (await answer.json().catch(() => ({error: ""}))).error || `It answered ${answer.status}.`;
    field.select();
    return;
  }
  const next = new URLSearchParams(location.search).get("next") ?? "";
  location.replace(next.length <= LONGEST && PLACE.test(next) ? next : "/dashboard");
});
"""
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_FILES = {"login.js": (_SCRIPT, "text/javascript; charset=utf-8"), "login.css": (_STYLE, "text/css; charset=utf-8")}


class LoginBody(Struct, frozen=True):
    token: Annotated[str, Meta(max_length=256, description="as `nunet token create` printed it")]


class SessionAnswer(Struct, frozen=True, kw_only=True):
    """Who the caller is."""

    role: Annotated[Role | None, Meta(description="null for somebody unknown")]
    client: Annotated[str, Meta(description="the token's name; empty without one")]
    by: Annotated[str, Meta(description="token, session, user (of this machine) or nothing")]


async def login(request: Request, _api: Api) -> HTTPResponse:
    """200 and a cookie that no script can read and no other site's page sends; 401 for what is no token."""
    token = access_of(request).find(parse(request.body, LoginBody).token)
    if token is None:
        raise Refused(401, "this DMS knows no such token, or it is over")
    known = Caller(role=token.role, client=token.name, token_id=token.key)
    response = json_reply(_answer(known, by="session"))
    access_of(request).sessions.begin(token.key, request, response, secure=base_url(request).startswith("https:"))
    request.app.ctx.cut_off()  # it may have taken the place of an older one
    return response


async def logout(request: Request, _api: Api) -> HTTPResponse:
    """What the session has open ends with it."""
    response = json_reply({"message": "logged out"})
    access_of(request).sessions.end(request, response)
    request.app.ctx.cut_off(connection_of(request))
    return response


async def who(request: Request, _api: Api) -> HTTPResponse:
    caller = caller_of(request)
    by = ("session" if caller.session else "token") if caller.token_id else "user" if caller.local else "nothing"
    return json_reply(_answer(caller, by=by))


def _answer(caller: Caller, *, by: str) -> SessionAnswer:
    return SessionAnswer(role=caller.role, client=caller.client, by=by)


async def page(_request: Request, _api: Api) -> HTTPResponse:
    return HTTPResponse(_PAGE, 200, _HEADERS, "text/html; charset=utf-8")


async def _file(request: Request, _api: Api) -> HTTPResponse:
    text, media = _FILES[request.path.rpartition("/")[2]]
    return HTTPResponse(text, 200, {}, media)


_TAGS = ("operators",)
_EXAMPLE = {"role": "spd", "client": "team-a", "by": "session"}
_LOGGED_OUT = {"message": "logged out"}

ROUTES = (
    Route(
        "POST", "/session", login, "Log a browser in with a token.", LoginBody, body_example={"token": "dms_..."},
        answer=SessionAnswer, answer_example=_EXAMPLE, errors=(400, 401), tags=_TAGS, early=True,
        budget=Budget.LOG_INS, needs=Need.NOTHING,
        description="The answer sets a cookie in the token's place, for twelve hours or until the DMS restarts.",
    ),
    Route(
        "GET", "/session", who, "Who the caller is.", answer=SessionAnswer, answer_example=_EXAMPLE, tags=_TAGS,
        early=True, needs=Need.NOTHING,
    ),
    Route(
        "DELETE", "/session", logout, "Log the browser out.", answer=Message,
        answer_example=_LOGGED_OUT, tags=_TAGS, early=True, needs=Need.NOTHING,
    ),
)  # fmt: skip
PAGES = tuple(
    Route("GET", path, handler, summary, root=True, early=True, budget=Budget.LOG_INS, needs=Need.NOTHING)
    for path, handler, summary in (
        ("/login", page, "Where a browser logs in."),
        *((f"/login/{name}", _file, "Of the page.") for name in _FILES),
    )
)
