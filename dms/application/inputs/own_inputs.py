"""Inputs that are files of the requester's own machine: taken up when the job is quoted, given to its provider while
the job is open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from msgspec.structs import replace

from dms.application.files.file_exchange import FileExchange
from dms.application.files.file_parts import digest_of
from dms.application.files.user_files import Outbox, Reach
from dms.application.inputs.input_fetcher import KIND
from dms.application.ports.event_log import EventLog
from dms.domain.inputs import Input
from dms.domain.job import Job
from dms.domain.request import ServiceRequest
from dms.domain.retry import job_of
from dms.errors import DmsError, Forbidden, InvalidInput, NotFound


class OwnInputs:
    def __init__(self, log: EventLog, exchange: FileExchange, outbox: Outbox) -> None:
        self._log, self._exchange, self._outbox = log, exchange, outbox

    def serve(self) -> None:
        self._exchange.serve(KIND, self._resolve)

    async def measured(self, request: ServiceRequest, reach: Reach) -> ServiceRequest:
        """With real path, size and digest of each such file. Raises InvalidInput, Forbidden."""
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
            real = await asyncio.to_thread(self._outbox.check, path, reach)
        except (NotFound, InvalidInput) as error:
            raise _invalid(pointer, str(error)) from error
        except Forbidden as error:
            raise Forbidden(f"input {number + 1}: {error}") from error
        size = (await asyncio.to_thread(real.stat)).st_size
        sha256 = await digest_of(real, size)
        if not sha256:
            raise _invalid(pointer, f"{real.name!r} changed while it was read")
        if given.sha256 not in ("", sha256):
            raise _invalid(f"/params/inputs/{number}/sha256", f"{real.name!r} has SHA-256 {sha256}")
        return replace(given, url=f"file:{quote(str(real))}", path=given.place, sha256=sha256, size_bytes=size)

    async def _resolve(self, peer_id: str, ref_id: str) -> Path | None:
        deployment, _, number = ref_id.partition("/")
        job = self._log.load(Job, job_of(deployment))
        if job is None or job.request is None or not job.has_provider:
            return None
        if (job.provider, job.deployment_id) != (peer_id, deployment):
            return None
        wanted = next((one for n, one in enumerate(job.request.params.inputs, 1) if str(n) == number), None)
        if wanted is None or not wanted.is_file:
            return None
        try:
            reach = Reach.PUBLIC if job.client else Reach.DAEMONS
            return await asyncio.to_thread(self._outbox.check, path_of(wanted), reach)
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
