"""The dashboards: files that the front end's build left beside this module, served from memory.

They use the API as any client does. All files are read once, so that no path is ever made of what a request says; each
address that names no file is a place within the dashboards, and gets the page that shows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sanic import HTTPResponse, Request

from dms.adapters.http.compression import takes_gzip
from dms.adapters.http.routes import Api, Route
from dms.errors import NotFound

FILES = Path(__file__).parent / "dashboard_files"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_INDEX, _PACKED = "index.html", ".gz"
_FOR_EVER = "public, max-age=31536000, immutable"  # the name of an asset holds its digest
_ASK_AGAIN = "no-cache"
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "vary": "Accept-Encoding",
}
_NOT_BUILT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>DMS</title></head>
<body><h1>The dashboards are not built</h1>
<p>This copy of the DMS was started from its source. Build them with <code>ops/setup.sh dashboard</code>, then restart
the DMS. The packages of releases contain them. The API is described at <a href="/docs">/docs</a>.</p></body></html>
"""


class StaticFile(NamedTuple):
    """packed: by gzip; empty when that is no smaller. etag: weak, as both have the same."""

    body: bytes
    packed: bytes
    media: str
    cache: str
    etag: str


@cache
def files(folder: Path) -> Mapping[str, StaticFile]:
    """Path below /dashboard/ -> file; empty when nothing was built."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix not in _TYPES:
            continue
        packed = path.with_name(path.name + _PACKED)
        body = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        found[name] = StaticFile(
            body=body,
            packed=packed.read_bytes() if packed.is_file() else b"",
            media=_TYPES[path.suffix],
            cache=_FOR_EVER if name.startswith("assets/") else _ASK_AGAIN,
            etag=f'W/"{hashlib.sha256(body).hexdigest()[:32]}"',
        )
    return found


async def page(request: Request, _api: Api) -> HTTPResponse:
    """The file of that name, or the page for a place within the dashboards. 404 for an asset that is not there."""
    there, name = files(FILES), request.match_info.get("path", "")
    if _INDEX not in there:
        return HTTPResponse(_NOT_BUILT, 503, {**_HEADERS, "cache-control": "no-store"}, _TYPES[".html"])
    if name not in there and name.startswith("assets/"):
        raise NotFound("the dashboards have no such file; load the page again")
    return _served(request, there.get(name, there[_INDEX]))


def _served(request: Request, file: StaticFile) -> HTTPResponse:
    headers = {**_HEADERS, "cache-control": file.cache, "etag": file.etag}
    known = request.headers.get("if-none-match", "")
    if {"*", file.etag.removeprefix("W/")} & {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return HTTPResponse(None, 304, headers)
    if file.packed and takes_gzip(request):
        return HTTPResponse(file.packed, 200, {**headers, "content-encoding": "gzip"}, file.media)
    return HTTPResponse(file.body, 200, headers, file.media)


PAGES = (
    Route("GET", "/dashboard", page, "The dashboards.", root=True, early=True),
    Route("GET", "/dashboard/<path:path>", page, "A file, or a place in them.", root=True, early=True),
)
