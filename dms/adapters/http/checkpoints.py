"""REST of checkpoints: those of our own jobs that are here, to go on from, or to look into."""

from __future__ import annotations

import os
from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.access import caller_of
from dms.adapters.http.downloads import BYTES, FILE, Part, download
from dms.adapters.http.replies import list_reply
from dms.adapters.http.routes import PREFIX, Api, Route
from dms.application.checkpoints.checkpoint_files import SUFFIX
from dms.domain.access import Need
from dms.domain.job import Job
from dms.errors import NotFound


class CheckpointAnswer(Struct, frozen=True, kw_only=True):
    """The first three are the original's."""

    checkpoint_dir: str
    filename_path: Annotated[str, Meta(description="file name; what resume_job.progress_file takes")]
    last_modified: Annotated[int, Meta(description="Unix seconds")]
    size_bytes: int


async def list_checkpoints(request: Request, api: Api) -> HTTPResponse:
    """A list by file name, empty for none."""
    found = [
        CheckpointAnswer(
            checkpoint_dir=stored.folder,
            filename_path=stored.name,
            last_modified=stored.last_modified,
            size_bytes=stored.size_bytes,
        )
        for stored in await api.services.checkpoints.listed()
        if _is_seen(request, api, stored.name)
    ]
    return list_reply(found, len(found))


async def one_checkpoint(request: Request, api: Api) -> HTTPResponse | None:
    """The archive as it is now; a newer one that takes its place meanwhile does not matter."""
    name = request.match_info["name"]
    if not _is_seen(request, api, name):
        raise NotFound(f"{name[:200]!r} is no checkpoint here; GET {PREFIX}/run/checkpoints lists them")
    with api.services.checkpoints.opened(name) as handle:
        status = os.fstat(handle)
        whole, version = Part(handle, 0, status.st_size), f"{status.st_ino:x}-{status.st_mtime_ns:x}"
        return await download(request, whole, name, version)


def _is_seen(request: Request, api: Api, name: str) -> bool:
    """A client sees those of its own jobs, a provider's token none."""
    caller = caller_of(request)
    if caller.owner is None:
        return not caller.only_deployments
    job = api.services.log.load(Job, name.removesuffix(SUFFIX))
    return job is not None and job.client == caller.owner


ROUTES = (
    Route(
        "GET", "/run/checkpoints", list_checkpoints, "Checkpoints of this node's jobs, to go on from.",
        answer=list[CheckpointAnswer],
        answer_example=[
            {
                "checkpoint_dir": "/var/nunet/received_checkpoints",
                "filename_path": f"{examples.JOB_ID}.tar.gz",
                "last_modified": 1769860800,
                "size_bytes": 20480,
            }
        ],
        tags=("run",), counted=True,
        description="Archives of /workspace, fetched from the providers while the jobs run and when they end. A "
        'request with `params.resume_job` `{"resume": true, "progress_file": "<filename_path>"}` goes on from one.',
        needs=Need.SEE_JOBS,
    ),
    Route(
        "GET", "/run/checkpoints/<name>", one_checkpoint, "A checkpoint's archive.",
        media={FILE: BYTES}, answer_example="the archive's bytes", errors=(400, 404, 416), tags=("run",),
        description="A tar.gz of /workspace, by the `filename_path` of the list. A `Range` header gets a part of it "
        "(206), and with `If-Range` only of the same archive: a newer one of the job takes its place.",
        needs=Need.SEE_JOBS,
    ),
)  # fmt: skip
