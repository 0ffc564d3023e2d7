"""The API's description, served: as a document, and as a page to try it on that needs nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sanic import HTTPResponse, Request

from dms.adapters.http import openapi
from dms.adapters.http.gate import base_url
from dms.adapters.http.job_schema import schema_of_job_files
from dms.adapters.http.postman import collection
from dms.adapters.http.replies import json_reply
from dms.adapters.http.routes import Api, Route
from dms.domain.access import Need
from dms.errors import NotFound

DOCUMENT, STREAMS, POSTMAN, JOB = "/openapi.json", "/asyncapi.json", "/postman.json", "/schemas/job.json"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the stylesheet's icons
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Device Management Service: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div class="swagger-ui"><p class="wrapper"><a class="link" href="/asyncapi.json">What streams, as AsyncAPI</a> ·
<a class="link" href="/postman.json">The requests, as a Postman collection</a></p></div>
<div id="swagger-ui"><noscript>This page needs JavaScript; the description is at /openapi.json.</noscript></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = f"""window.onload = function () {{
  window.ui = SwaggerUIBundle({{
    url: "{DOCUMENT}", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: null,
    displayRequestDuration: true, docExpansion: "list", defaultModelsExpandDepth: 0
  }});
}};
"""
_TYPES = {"swagger-ui.css": "text/css; charset=utf-8", "swagger-ui-bundle.js": "text/javascript; charset=utf-8"}
_CACHED = {"cache-control": "public, max-age=86400"}


async def document(request: Request, _api: Api) -> HTTPResponse:
    return json_reply(request.app.ctx.description())


async def streams(request: Request, _api: Api) -> HTTPResponse:
    return json_reply(request.app.ctx.stream_description())


async def postman(request: Request, _api: Api) -> HTTPResponse:
    """Its requests go where this one came to."""
    return json_reply(collection(request.app.ctx.description(), base_url(request)))


async def job_schema(_request: Request, _api: Api) -> HTTPResponse:
    return json_reply(schema_of_job_files())


async def page(_request: Request, _api: Api) -> HTTPResponse:
    headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "referrer-policy": "no-referrer"}
    return HTTPResponse(_PAGE, 200, headers, "text/html; charset=utf-8")


async def start(_request: Request, _api: Api) -> HTTPResponse:
    return HTTPResponse(_START, 200, {}, "text/javascript; charset=utf-8")


async def asset(request: Request, _api: Api) -> HTTPResponse:
    name = request.match_info["file"]
    if name not in _TYPES:
        raise NotFound(f"the page has no file {name[:64]!r}")
    return HTTPResponse(_asset(name), 200, _CACHED, _TYPES[name])


async def to_page(_request: Request, _api: Api) -> HTTPResponse:
    """From the address alone, as a browser opens it, and from where the original had it: /swagger/index.html."""
    return HTTPResponse(None, 302, {"location": "/docs"})


@cache
def _asset(name: str) -> bytes:
    """A file of Swagger UI, from the package swagger-ui-py; the package itself is not imported."""
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("the page's files are missing: install the Python package swagger-ui-py")
    return (Path(next(iter(spec.submodule_search_locations))) / "static" / name).read_bytes()


ROUTES = tuple(
    Route(
        "GET", path, handler, summary, root=root, early=True, answer={"type": "object", "required": [kind]},
        answer_example={kind: example}, tags=("operators",), needs=Need.NOTHING,
    )
    for path, handler, summary, kind, example in (
        (DOCUMENT, document, "This description.", "openapi", "3.1.1"),
        (STREAMS, streams, "What streams: websockets, Server-Sent Events, JSON lines, NATS.", "asyncapi", "3.0.0"),
        (POSTMAN, postman, "The requests as a Postman collection.", "info", {"name": "Device Management Service"}),
        (JOB, job_schema, "JSON Schema of a job's description, for editors.", "$schema", openapi.DIALECT),
    )
    for root in (True, False)
)  # fmt: skip
PAGES = (
    Route("GET", "/docs", page, "The description as a page.", root=True, early=True, needs=Need.NOTHING),
    Route("GET", "/docs/start.js", start, "Of the page.", root=True, early=True, needs=Need.NOTHING),
    Route("GET", "/docs/<file>", asset, "Of the page.", root=True, early=True, needs=Need.NOTHING),
    Route("GET", "/", to_page, "Where a browser begins.", root=True, early=True, needs=Need.NOTHING),
    Route("GET", "/swagger", to_page, "Where the original had it.", root=True, early=True, needs=Need.NOTHING),
    Route("GET", "/swagger/<file>", to_page, "Where the original had it.", root=True, early=True, needs=Need.NOTHING),
)
"""Pages are no part of the API, so they are not described."""
