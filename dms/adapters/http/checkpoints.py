"""REST of checkpoints: those of our own jobs that are here, to go on from."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.access import caller_of
from dms.adapters.http.replies import list_reply
from dms.adapters.http.routes import Api, Route
from dms.application.checkpoints.checkpoint_files import SUFFIX
from dms.domain.access import Need
from dms.domain.job import Job


class CheckpointAnswer(Struct, frozen=True, kw_only=True):
    """The first three are the original's."""

    checkpoint_dir: str
    filename_path: Annotated[str, Meta(description="file name; what resume_job.progress_file takes")]
    last_modified: Annotated[int, Meta(description="Unix seconds")]
    size_bytes: int


async def list_checkpoints(request: Request, api: Api) -> HTTPResponse:
    """A list by file name, empty for none. A client sees those of its own jobs, a provider's token none."""
    caller, log = caller_of(request), api.services.log

    def is_seen(name: str) -> bool:
        if caller.owner is None:
            return not caller.only_deployments
        job = log.load(Job, name.removesuffix(SUFFIX))
        return job is not None and job.client == caller.owner

    found = [
        CheckpointAnswer(
            checkpoint_dir=stored.folder,
            filename_path=stored.name,
            last_modified=stored.last_modified,
            size_bytes=stored.size_bytes,
        )
        for stored in await api.services.checkpoints.listed()
        if is_seen(stored.name)
    ]
    return list_reply(found, len(found))


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
)  # fmt: skip
