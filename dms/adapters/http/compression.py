"""Large JSON answers go out compressed to those who take it.

BREACH reads a secret out of the length of compressed answers, when a stranger can have many requests made that put his
own text next to it. So nothing is compressed that a page of elsewhere has a browser ask for, no error, since those
repeat what was asked, and no answer of a route that is there to tell a secret. Source: Gluck, Harris, Prado, "BREACH:
Reviving the CRIME Attack", 2013. A browser says where a request comes from wherever its way is encrypted; on a plain
one there is nothing left to guess.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

from sanic import HTTPResponse, Request
from sanic.response import BaseHTTPResponse

LEAST_BYTES = 1024
MOST_BYTES_IN_THE_LOOP = 32 * 1024
_LEVEL = 4
_OWN = ("none", "same-origin")  # typed by the user, or from a page of ours


async def compress(request: Any, response: BaseHTTPResponse) -> None:
    """Replaces the body. An answer that streams has none yet, and stays as it is."""
    body = response.body
    if not body or len(body) < LEAST_BYTES or response.content_type != "application/json":
        return
    if "content-encoding" in response.headers or not _is_harmless(request, response):
        return
    response.headers["vary"] = ", ".join(filter(None, (response.headers.get("vary"), "Accept-Encoding")))
    if not takes_gzip(request):
        return
    if len(body) > MOST_BYTES_IN_THE_LOOP:
        response.body = await asyncio.to_thread(_packed, body)
    else:
        response.body = _packed(body)
    response.headers["content-encoding"] = "gzip"


def takes_gzip(request: Request) -> bool:
    """Whether Accept-Encoding names gzip, and not with `q=0`."""
    for part in request.headers.get("accept-encoding", "").casefold().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return quality.replace(" ", "").removeprefix("q=").strip("0.") != "" or not quality
    return False


def _is_harmless(request: Request, response: BaseHTTPResponse) -> bool:
    return (
        isinstance(response, HTTPResponse)
        and response.status == 200
        and request.method in ("GET", "HEAD")
        and request.headers.get("sec-fetch-site", "none") in _OWN
        and getattr(request.ctx, "compressible", False)
    )


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, _LEVEL, mtime=0)
