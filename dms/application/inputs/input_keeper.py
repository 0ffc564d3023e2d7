"""Inputs of jobs on the compute provider: fetched, checked and put into the workspace before the container starts.

Each step is told in the log, and found done after a crash: what came of a file is gone on with, and what was put into
the workspace stays there. Whether it is there the workspace tells: an engine that is restarted empties it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from dms.application.files.disk_patience import DiskPatience
from dms.application.inputs.input_fetcher import MIB, Fetched, InputFetcher
from dms.application.inputs.input_files import InputFiles
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import ExecutionSpec, Executor, InputFile
from dms.application.ports.web import Web
from dms.application.unread import stays_if_unread
from dms.domain.deployment import Deployment, DeploymentState
from dms.domain.inputs import Input
from dms.domain.request import ServiceRequest
from dms.errors import ExecutionError, InputRefused, InputUnavailable

MOST_SECONDS = (
    90 * 60.0
)  # for all inputs of a job together: its owner waits two hours for the start (domain/overdue.py)
NEEDED = (DeploymentState.ACCEPTED, DeploymentState.CREATED)


class InputKeeper:
    def __init__(
        self, log: EventLog, executor: Executor, web: Web, fetcher: InputFetcher, files: InputFiles, max_bytes: int
    ) -> None:
        """max_bytes: of all inputs of one job together."""
        self._log, self._executor, self._web, self._fetcher = log, executor, web, fetcher
        self._files, self._max_bytes, self._patience = files, max_bytes, DiskPatience()

    def refusal(self, request: ServiceRequest) -> str:
        """Why a job can't have these inputs here, as far as they themselves tell; empty when it can."""
        inputs = request.params.inputs
        size = sum(one.size_bytes for one in inputs)
        if size > self._max_bytes:
            return f"the inputs have {size / MIB:.0f} MiB; this provider fetches at most {self._max_bytes / MIB:.0f}"
        for number, one in enumerate(inputs, 1):
            if one.is_file and not one.sha256:
                return f"input {number}, {one.place}: a file of the requester's needs its digest"
            try:
                problem = "" if one.is_file else self._web.objection(one.url)
            except InputRefused as error:
                problem = str(error)
            if problem:
                return f"input {number}, {one.place}: {problem}"
        return ""

    async def provide(self, deployment: Deployment, spec: ExecutionSpec) -> None:
        """All that the request lists, in its order. Raises ExecutionError, ExecutorUnavailable, DiskTrouble."""
        inputs = deployment.request.params.inputs if deployment.request else ()
        job_id = deployment.key
        if not inputs:
            return
        if deployment.resume is None:  # else the checkpoint has filled it
            await self._executor.fill(spec, None, self._max_bytes)
        there = await self._executor.inputs_in(job_id)  # an engine that was restarted has emptied the workspace
        left = self._max_bytes
        try:
            async with asyncio.timeout(MOST_SECONDS):
                for number, wanted in enumerate(inputs, 1):
                    told = deployment.inputs.get(number) if number in there else None
                    size = told.size_bytes if told else await self._provide(deployment, spec, number, wanted, left)
                    left -= size
        except TimeoutError as error:
            raise InputUnavailable(f"the inputs did not come within {MOST_SECONDS / 60:.0f} min") from error

    async def _provide(self, deployment: Deployment, spec: ExecutionSpec, number: int, wanted: Input, left: int) -> int:
        """Its size in bytes."""
        job_id, place = deployment.key, wanted.place
        await self._record(job_id, lambda known: known.input_started(number, place))
        told = deployment.inputs.get(number)
        if told is not None:
            wanted = replace(wanted, sha256=told.sha256)  # what it was is on record
        try:
            found = await self._fetch(deployment, number, wanted, self._most(spec, wanted, left))
            given = InputFile(
                number=number, source=found.file, place=place, unpack=wanted.unpack, max_bytes=self._max_bytes
            )
            await self._executor.put(spec, given)
        except ExecutionError as error:
            reason = str(error)
            await self._record(job_id, lambda known: known.input_failed(number, place, reason))
            raise type(error)(f"input {number}, {place}: {reason}") from error
        await self._record(
            job_id,
            lambda known: known.input_done(number, place, found.size_bytes, found.sha256, cached=found.cached),
        )
        return found.size_bytes

    async def _fetch(self, deployment: Deployment, number: int, wanted: Input, most_bytes: int) -> Fetched:
        job_id = deployment.key
        with self._patience.of(job_id):
            into = await asyncio.to_thread(self._files.place, job_id, number)
            name = f"{job_id}/{number}"
            return await self._fetcher.fetch(wanted, deployment.service_provider, name, into, most_bytes)

    def _most(self, spec: ExecutionSpec, wanted: Input, left: int) -> int:
        """What an archive holds is bounded where it is unpacked."""
        room = None if wanted.unpack else self._executor.workspace_bytes(spec)
        return left if room is None else min(left, room)

    async def _record(self, job_id: str, decide: Callable[[Deployment], bool]) -> None:
        deployment = self._log.load(Deployment, job_id)
        if deployment is not None and decide(deployment):
            await self._log.save(deployment)

    # --- afterwards -----------------------------------------------------------------------------------
    async def forget(self, job_id: str) -> None:
        """What a job that runs, or is over, needs no more: its workspace has it."""
        self._patience.forget(job_id)
        await asyncio.to_thread(self._files.forget, job_id)

    async def tidy(self) -> None:
        """What a crash left of such jobs."""
        await asyncio.to_thread(self._files.tidy, self._is_needed)

    def _is_needed(self, job_id: str) -> bool:
        with stays_if_unread(f"what job {job_id} began with"):
            deployment = self._log.load(Deployment, job_id)
            return deployment is not None and deployment.state in NEEDED
        return True
