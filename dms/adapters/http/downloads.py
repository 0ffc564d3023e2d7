"""Answers that are files: as they are read, also a part of one, at the reader's pace."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sanic import HTTPResponse, Request

from dms.errors import InvalidInput

READ_BYTES = 256 * 1024
SEND_SECONDS = 60.0  # a reader that takes nothing for so long is cut
FILE = "application/octet-stream"
BYTES: Mapping[str, Any] = {"type": "string", "format": "binary"}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Part(NamedTuple):
    """Of an open file: where it begins, and how long it is."""

    handle: int
    first: int
    size: int


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Stays readable when it is tidied away meanwhile."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


async def download(request: Request, whole: Part, name: str, version: str) -> HTTPResponse | None:
    """200 with all of it, 206 with the part that a Range header names. version: another one has other bytes."""
    tag = f'"{version}"'
    headers = {"etag": tag, "accept-ranges": "bytes", "x-content-type-options": "nosniff"}
    headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    wanted = _part_of(request, whole.size, tag)
    if wanted is None:
        return HTTPResponse(None, 416, headers | {"content-range": f"bytes */{whole.size}"})
    first, size = wanted
    status = 200 if size == whole.size else 206
    if status == 206:
        headers["content-range"] = f"bytes {first}-{first + size - 1}/{whole.size}"
    headers["content-length"] = str(size)
    return await streamed(request, status, headers, FILE, pieces(Part(whole.handle, whole.first + first, size)))


def _part_of(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    """(first byte, how many) that is asked for; None for a part that there is not. Several parts at once, and those of
    another version, are answered with all. Source: RFC 9110, 14.1.2 and 13.1.5. Raises InvalidInput."""
    asked = request.headers.get("range", "")
    if not asked or request.headers.get("if-range", tag) != tag or "," in asked:
        return 0, size
    found = _RANGE.fullmatch(asked.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        raise InvalidInput(f"Range is '{asked[:64]}'; bytes=FIRST-LAST", [("Range", "bytes=FIRST-LAST")])
    if not found[1]:
        last_bytes = min(int(found[2]), size)
        return (size - last_bytes, last_bytes) if last_bytes else None
    first, last = int(found[1]), min(int(found[2] or size), size - 1)
    return (first, last - first + 1) if first <= last else None


async def streamed(
    request: Request, status: int, headers: dict[str, str], media: str, content: AsyncGenerator[bytes, None]
) -> HTTPResponse | None:
    async with aclosing(content):
        response = await request.respond(status=status, headers=headers, content_type=media)
        if response is None or request.method == "HEAD":
            return None
        async for piece in content:
            async with asyncio.timeout(SEND_SECONDS):
                await response.send(piece)
        await response.eof()
    return None


async def pieces(part: Part) -> AsyncGenerator[bytes, None]:
    handle, first, size = part
    while size and (piece := await asyncio.to_thread(os.pread, handle, min(READ_BYTES, size), first)):
        first, size = first + len(piece), size - len(piece)
        yield piece
