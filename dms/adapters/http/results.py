"""REST of what jobs leave: the list of files, one file (also a part of it), all of them as a tar."""

from __future__ import annotations

import asyncio
import os
import re
import tarfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.answers import Hash, JobId, Time
from dms.adapters.http.replies import checked_job_id, iso, json_reply, query, query_int
from dms.adapters.http.routes import Api, Parameter, Route, whole
from dms.application.ports.executor import ArchivedFile
from dms.application.results.contents import Content
from dms.domain.access import Need
from dms.errors import InvalidInput, NotFound

PAGE, LARGEST_PAGE = 1_000, 10_000
READ_BYTES = 256 * 1024
SEND_SECONDS = 60.0  # a reader that takes nothing for so long is cut
FILE, TAR = "application/octet-stream", "application/x-tar"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class ResultFile(Struct, frozen=True, kw_only=True):
    """One file that the job left."""

    path: Annotated[str, Meta(description="below /workspace")]
    size_bytes: int
    sha256: Hash
    mode: Annotated[int, Meta(description="the permissions that it had there, as of chmod")]
    modified_at: Time


class ResultsAnswer(Struct, frozen=True, kw_only=True):
    """What a job left, and where its results stand."""

    job_id: JobId
    state: Annotated[
        str,
        Meta(
            description="awaited (the job is not over), fetching (from the provider), here, none (it left no files), "
            "lost, or expired"
        ),
    ]
    reason: Annotated[str, Meta(description="why there are none; empty when there are")]
    size_bytes: Annotated[int, Meta(description="of the results' archive")]
    done_bytes: Annotated[int, Meta(description="of the archive, here so far")]
    origin: Annotated[
        str,
        Meta(description="results; checkpoint: the newest, where there are no results; or empty"),
    ]
    checkpoint: Annotated[int, Meta(description="the checkpoint's number; 0 for results")]
    archive_sha256: Annotated[str, Meta(description="of the archive, as in the events of both sides")]
    files: Annotated[int, Meta(description="how many there are")]
    left_out: Annotated[
        int,
        Meta(
            description="how much else there was: links, devices, pipes, and names that can't be kept (not UTF-8, over "
            "255 bytes, paths over 1,024 bytes or deeper than 64)"
        ),
    ]
    content_bytes: Annotated[int, Meta(description="of all files together")]
    items: list[ResultFile]
    next_token: str


async def list_results(request: Request, api: Api) -> HTTPResponse:
    """The files in the order of their paths."""
    job_id = checked_job_id(request.match_info["job_id"])
    after, limit = query(request, "after"), query_int(request, "limit", PAGE, LARGEST_PAGE, lowest=1)
    standing = api.services.contents.standing(job_id)
    content = await api.services.contents.of(job_id)
    files = content.files if content else ()
    page = [file for file in files if file.path > after][: limit + 1]
    return json_reply(
        ResultsAnswer(
            job_id=job_id,
            state=standing.state.value,
            reason=standing.reason,
            size_bytes=standing.size_bytes,
            done_bytes=standing.done_bytes,
            origin=content.origin if content else "",
            checkpoint=content.number if content else 0,
            archive_sha256=content.sha256 if content else "",
            files=len(files),
            left_out=standing.left_out,
            content_bytes=sum(file.size_bytes for file in files),
            items=[_shown(file) for file in page[:limit]],
            next_token=page[limit - 1].path if len(page) > limit else "",
        )
    )


async def one_file(request: Request, api: Api) -> HTTPResponse | None:
    """200 with all of it, 206 with the part that a Range header names."""
    content = await _content(request, api)
    path = unquote(request.match_info["path"])
    file = content.find(path)
    if file is None:
        raise NotFound(f"no file {path[:200]!r} in the {content.origin} of this job; GET .../results lists them")
    tag = f'"{file.sha256}"'
    headers = {"etag": tag, "accept-ranges": "bytes", "x-content-type-options": "nosniff"}
    headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(path.rpartition('/')[2], safe='')}"
    wanted = _part_of(request, file.size_bytes, tag)
    if wanted is None:
        return HTTPResponse(None, 416, headers | {"content-range": f"bytes */{file.size_bytes}"})
    first, size = wanted
    status = 200 if size == file.size_bytes else 206
    if status == 206:
        headers["content-range"] = f"bytes {first}-{first + size - 1}/{file.size_bytes}"
    headers["content-length"] = str(size)
    pieces = _pieces(content.opened, file.offset + first, size)
    return await _streamed(request, status, headers, FILE, pieces)


async def all_files(request: Request, api: Api) -> HTTPResponse | None:
    """Not compressed; folders are named by the files in them."""
    content = await _content(request, api)
    job_id = request.match_info["job_id"]
    headers = {"content-disposition": f'attachment; filename="{job_id}-{content.origin}.tar"'}
    return await _streamed(request, 200, headers, TAR, _as_tar(content.opened, content.files))


async def _content(request: Request, api: Api) -> Content:
    """Raises NotFound, saying why there is nothing."""
    job_id = checked_job_id(request.match_info["job_id"])
    content = await api.services.contents.of(job_id)
    if content is None:
        standing = api.services.contents.standing(job_id)
        why = standing.reason or "they are being fetched from the provider"
        raise NotFound(f"no results of job {job_id} are here: {why}")
    return content


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


async def _streamed(
    request: Request, status: int, headers: dict[str, str], media: str, pieces: AsyncGenerator[bytes, None]
) -> HTTPResponse | None:
    async with aclosing(pieces):
        response = await request.respond(status=status, headers=headers, content_type=media)
        if response is None or request.method == "HEAD":
            return None
        async for piece in pieces:
            async with asyncio.timeout(SEND_SECONDS):
                await response.send(piece)
        await response.eof()
    return None


async def _pieces(path: Path, first: int, size: int) -> AsyncGenerator[bytes, None]:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # stays readable when it is tidied away meanwhile
    try:
        while size and (piece := await asyncio.to_thread(os.pread, handle, min(READ_BYTES, size), first)):
            first, size = first + len(piece), size - len(piece)
            yield piece
    finally:
        os.close(handle)


async def _as_tar(path: Path, files: Sequence[ArchivedFile]) -> AsyncGenerator[bytes, None]:
    for file in files:
        info = tarfile.TarInfo(file.path)
        info.size, info.mode, info.mtime = file.size_bytes, file.mode, file.mtime
        yield info.tobuf(tarfile.PAX_FORMAT)
        async with aclosing(_pieces(path, file.offset, file.size_bytes)) as pieces:
            async for piece in pieces:
                yield piece
        if rest := -file.size_bytes % tarfile.BLOCKSIZE:
            yield bytes(rest)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _shown(file: ArchivedFile) -> ResultFile:
    return ResultFile(
        path=file.path,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        mode=file.mode,
        modified_at=iso(max(1, file.mtime * 1_000_000)) or "",
    )


_EXAMPLE = {
    "job_id": examples.JOB_ID,
    "state": "here",
    "reason": "",
    "size_bytes": 20_480,
    "done_bytes": 20_480,
    "origin": "results",
    "checkpoint": 0,
    "archive_sha256": "b1" * 32,
    "files": 1,
    "left_out": 0,
    "content_bytes": 24_576,
    "items": [
        {
            "path": "results/model.bin",
            "size_bytes": 24_576,
            "sha256": "c2" * 32,
            "mode": 0o644,
            "modified_at": "2026-01-31T12:00:00.000000+00:00",
        }
    ],
    "next_token": "",
}
_BYTES = {"type": "string", "format": "binary"}
_WHERE = (
    "Of jobs that this node asked for. While there are no results, the files are those of the newest checkpoint. "
    "What of the workspace counts as results, `params.results` says."
)
ROUTES = (
    Route(
        "GET", "/jobs/<job_id>/results", list_results, "The files that a job left.", answer=ResultsAnswer,
        query=(
            Parameter("limit", "Most files in the answer.", whole(LARGEST_PAGE, lowest=1, default=PAGE)),
            Parameter("after", "Only files behind this path."),
        ),
        answer_example=_EXAMPLE, errors=(400, 404), tags=("jobs",), description=_WHERE,
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/jobs/<job_id>/results/<path:path>", one_file, "A file that a job left.",
        media={FILE: _BYTES}, answer_example="the file's bytes", errors=(400, 404, 416), tags=("jobs",),
        description=f"{_WHERE} A `Range` header gets a part of it (206). The ETag is the file's SHA-256.",
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/jobs/<job_id>/results.tar", all_files, "All files that a job left.",
        media={TAR: _BYTES}, answer_example="a tar archive's bytes", errors=(400, 404), tags=("jobs",),
        description=_WHERE,
        needs=Need.SEE_JOBS,
    ),
)  # fmt: skip
