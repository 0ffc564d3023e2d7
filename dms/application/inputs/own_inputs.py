"""Inputs that are files of the requester's own machine: taken up when the job is quoted, given to its provider while
the job is open."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from msgspec.structs import replace

from dms.application.files.file_exchange import FileExchange
from dms.application.files.file_parts import measure, on_disk, opened
from dms.application.files.user_files import Outbox, Reach
from dms.application.inputs.input_fetcher import KIND
from dms.application.ports.event_log import EventLog
from dms.domain.inputs import Input
from dms.domain.job import Job
from dms.domain.request import ServiceRequest
from dms.domain.retry import job_of
from dms.errors import Conflict, DmsError, Forbidden, InvalidInput, NotFound, Unavailable
from dms.recent import Recent

MOST_KNOWN = 1000
SETTLED_SECONDS = 2.0  # so long after a change the next one surely has another time, on any file system

Identity = tuple[int, int, int, int, int]


class OwnInputs:
    """known: digests of files that were read whole, so that who asks for a job right after trying it out, or asks for
    many with one input, does not wait again. Providers check what they get against the digest."""

    def __init__(self, log: EventLog, exchange: FileExchange, outbox: Outbox) -> None:
        self._log, self._exchange, self._outbox = log, exchange, outbox
        self._known = Recent[Identity, str](MOST_KNOWN)

    def serve(self) -> None:
        self._exchange.serve(KIND, self._may_read, self._resolve)

    async def measured(self, request: ServiceRequest, reach: Reach) -> ServiceRequest:
        """With real path, size and digest of each such file. Raises InvalidInput, Forbidden, Unavailable."""
        inputs = request.params.inputs
        if not any(one.is_file or one.size_bytes for one in inputs):
            return request
        found = [
            await self._measured(number, one, reach) if one.is_file
            else replace(one, size_bytes=0)
            for number, one in enumerate(inputs)
        ]  # fmt: skip
        return _with_inputs(request, found)

    async def _measured(self, number: int, given: Input, reach: Reach) -> Input:
        pointer = f"/params/inputs/{number}/url"
        path = path_of(given)
        if not path.is_absolute():
            raise _invalid(pointer, f"{str(path)[:256]!r} is no absolute path on this machine: file:/path is expected")
        try:
            real = await on_disk(self._outbox.check, path, reach)
            size, sha256 = await self._digest(await opened(self._outbox.open, real, reach))
        except (NotFound, InvalidInput, Conflict) as error:
            raise _invalid(pointer, str(error)) from error
        except Forbidden as error:
            raise Forbidden(f"input {number + 1}: {error}") from error
        if given.sha256 not in ("", sha256):
            raise _invalid(f"/params/inputs/{number}/sha256", f"{real.name!r} has SHA-256 {sha256}")
        return replace(given, url=f"file:{quote(str(real))}", path=given.place, sha256=sha256, size_bytes=size)

    async def _digest(self, fd: int) -> tuple[int, str]:
        """As `measure`."""
        with ExitStack() as unread:
            unread.callback(os.close, fd)
            status = await on_disk(os.fstat, fd)
            identity = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            if known := self._known.get(identity):
                return status.st_size, known
            unread.pop_all()  # closed by who measures it
        settled = max(status.st_mtime, status.st_ctime) + SETTLED_SECONDS < time.time()
        size, sha256 = await measure(fd)
        if settled and size == status.st_size:
            self._known[identity] = sha256
        return size, sha256

    def _may_read(self, peer_id: str, ref_id: str) -> bool:
        deployment = ref_id.partition("/")[0]
        job = self._log.load(Job, job_of(deployment))
        return job is not None and job.is_run_by(peer_id, deployment)

    async def _resolve(self, _peer_id: str, ref_id: str) -> int | None:
        deployment, _, number = ref_id.partition("/")
        job = self._log.load(Job, job_of(deployment))
        if job is None or job.request is None:
            return None
        wanted = next((one for n, one in enumerate(job.request.params.inputs, 1) if str(n) == number), None)
        if wanted is None or not wanted.is_file:
            return None
        try:
            reach = Reach.PUBLIC if job.client else Reach.DAEMONS
            return await opened(self._outbox.open, path_of(wanted), reach)
        except Unavailable:  # it passes: to the provider it must not look as if there were none
            raise
        except DmsError:
            return None


def path_of(wanted: Input) -> Path:
    return Path(unquote(urlsplit(wanted.url).path))


def as_sent(request: ServiceRequest) -> ServiceRequest:
    """What the provider gets of it: names of files, not where they lie here."""
    return _with_inputs(
        request, [replace(one, url=f"file:{quote(path_of(one).name)}") if one.is_file else one
                  for one in request.params.inputs],
    )  # fmt: skip


def _with_inputs(request: ServiceRequest, inputs: Sequence[Input]) -> ServiceRequest:
    return replace(request, params=replace(request.params, inputs=tuple(inputs)))


def _invalid(pointer: str, text: str) -> InvalidInput:
    return InvalidInput(text, [(pointer, text)])
