"""REST of what jobs leave: the list of files, one file (also a part of it), all of them as a tar."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.answers import Hash, JobId, Time
from dms.adapters.http.downloads import BYTES, FILE, Part, download, opened, pieces, streamed
from dms.adapters.http.replies import checked_job_id, iso, json_reply, query, query_int
from dms.adapters.http.routes import Api, Parameter, Route, whole
from dms.application.ports.executor import ArchivedFile
from dms.application.results.contents import Content
from dms.domain.access import Need
from dms.errors import NotFound

PAGE, LARGEST_PAGE = 1_000, 10_000
TAR = "application/x-tar"


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
    with opened(content.opened) as handle:
        part = Part(handle, file.offset, file.size_bytes)
        return await download(request, part, path.rpartition("/")[2], file.sha256)


async def all_files(request: Request, api: Api) -> HTTPResponse | None:
    """Not compressed; folders are named by the files in them."""
    content = await _content(request, api)
    job_id = request.match_info["job_id"]
    headers = {"content-disposition": f'attachment; filename="{job_id}-{content.origin}.tar"'}
    return await streamed(request, 200, headers, TAR, _as_tar(content.opened, content.files))


async def _content(request: Request, api: Api) -> Content:
    """Raises NotFound, saying why there is nothing."""
    job_id = checked_job_id(request.match_info["job_id"])
    content = await api.services.contents.of(job_id)
    if content is None:
        standing = api.services.contents.standing(job_id)
        why = standing.reason or "they are being fetched from the provider"
        raise NotFound(f"no results of job {job_id} are here: {why}")
    return content


async def _as_tar(path: Path, files: Sequence[ArchivedFile]) -> AsyncGenerator[bytes, None]:
    with opened(path) as handle:
        for file in files:
            info = tarfile.TarInfo(file.path)
            info.size, info.mode, info.mtime = file.size_bytes, file.mode, file.mtime
            yield info.tobuf(tarfile.PAX_FORMAT)
            async with aclosing(pieces(Part(handle, file.offset, file.size_bytes))) as all_of_it:
                async for piece in all_of_it:
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
        media={FILE: BYTES}, answer_example="the file's bytes", errors=(400, 404, 416), tags=("jobs",),
        description=f"{_WHERE} A `Range` header gets a part of it (206). The ETag is the file's SHA-256.",
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/jobs/<job_id>/results.tar", all_files, "All files that a job left.",
        media={TAR: BYTES}, answer_example="a tar archive's bytes", errors=(400, 404), tags=("jobs",),
        description=_WHERE,
        needs=Need.SEE_JOBS,
    ),
)  # fmt: skip
