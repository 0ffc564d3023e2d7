"""Holders: small containers of ours that keep volumes mounted, and programs in them.

A holder sleeps. It has no network, no way to get more rights, and of rights only those that it is given.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from docker import APIClient
from docker.types import LogConfig, Mount

from dms.adapters.executors.calls import EngineCalls, engine_errors
from dms.adapters.executors.containers import Containers, execution_of
from dms.adapters.executors.engine import EngineAddress
from dms.adapters.executors.engine_exec import ExecStream, started
from dms.adapters.executors.pack_stream import LOST
from dms.adapters.executors.profile import MIB, labels, seccomp_profile, workspace_mb
from dms.application.ports.executor import ExecutionSpec, ExecutionState
from dms.errors import DmsError, ExecutionError, ExecutorUnavailable
from dms.long_work import stoppable

log = logging.getLogger(__name__)

HOLDER = "holder"  # the part that a job's own is
_OWN_MB, _PIDS = 32, 64
_PROGRAM_SECONDS = 3_600  # the longest that one may take, whoever reads it
_QUIET_SECONDS = 60.0
_CODE_SECONDS, _CODE_PAUSE_SECONDS = 10.0, 0.01
_ENDING_SECONDS = 10.0
_LINE_BYTES, _SAID_BYTES = 16, 8_192
# Tells its own id in a first line; runs the script, whose standard input is its own; told to end, it ends all of them.
# busybox's timeout tells one process only.
_GUARD = """
trap 'kill -s KILL 0' TERM
echo $$
exec 3<&0
sh -c "$0" <&3 3<&- &
wait $!
"""


class ProgramFailed(ExecutionError):
    """A program in a holder ended with another code than 0; the text is its own."""


class Holders:
    def __init__(self, address: EngineAddress, calls: EngineCalls, containers: Containers) -> None:
        self._address, self._calls, self._containers = address, calls, containers

    async def start(
        self, spec: ExecutionSpec, part: str, helper: str, mounts: Sequence[Mount], rights: Sequence[str]
    ) -> None:
        """Keeps the volumes from here on. Its memory is that of its programs and of what they write."""
        memory = (_OWN_MB + 2 * workspace_mb(spec)) * MIB

        def config(api: APIClient) -> dict[str, Any]:
            return dict(
                api.create_container_config(
                    image=helper,
                    command=["sleep", "2147483647"],
                    user="0:0",
                    labels=labels(spec, part=part),
                    host_config=api.create_host_config(
                        cap_drop=["ALL"],
                        cap_add=list(rights),
                        security_opt=["no-new-privileges:true", f"seccomp={seccomp_profile()}"],
                        pids_limit=_PIDS,
                        mem_limit=memory,
                        memswap_limit=memory,
                        read_only=True,
                        tmpfs={"/state": "size=64k,mode=0700,nosuid,nodev,noexec"},
                        mounts=list(mounts),
                        network_mode="none",
                        log_config=LogConfig(type="none"),
                        init=True,
                        restart_policy={"Name": "no"},
                    ),
                )
            )

        made = await self._containers.create_part(spec.job_id, part, config)
        await self._calls.work(f"start the {part} of job {spec.job_id}", lambda api: api.start(made))

    async def running(self, job_id: str, part: str = HOLDER) -> str:
        """Raises ExecutorUnavailable when it does not run: what it held is gone."""
        if (found := await self.find(job_id, part)) is None:
            raise ExecutorUnavailable(LOST)
        return found

    async def find(self, job_id: str, part: str) -> str | None:
        found = await self._containers.part(job_id, part)
        if found is None or execution_of(found).state is not ExecutionState.RUNNING:
            return None
        return str(found["Id"])

    async def run(self, job_id: str, script: str, part: str = HOLDER) -> None:
        """Raises ProgramFailed, ExecutorUnavailable."""
        await self.ask(job_id, script, part)

    async def ask(self, job_id: str, script: str, part: str = HOLDER) -> str:
        """What it says, cut after some KiB. Raises ProgramFailed, ExecutorUnavailable."""
        holder, version = await self.running(job_id, part), await self._calls.version()

        def work(_: threading.Event) -> str:
            said = b""
            with self.program(holder, version, script, "0:0") as stream:
                while len(said) < _SAID_BYTES and (data := stream.read(_SAID_BYTES)):
                    said += data
            return said.decode("utf-8", "replace")

        return await stoppable(work)

    @contextmanager
    def program(self, holder: str, version: str, script: str, user: str) -> Iterator[ExecStream]:
        """Blocking; what it still says at the end is read and forgotten. With all that it began it is over once the
        block is left. Raises ProgramFailed, ExecutorUnavailable."""
        command = ["timeout", str(_PROGRAM_SECONDS), "sh", "-c", _GUARD, script]
        with self._client(version) as api:
            prepared = str(api.exec_create(holder, command, stdin=True, user=user)["Id"])
        with started(self._address, version, prepared, _QUIET_SECONDS) as stream:
            guard = _first_line(stream)
            try:
                yield stream
                stream.finish()
            except BaseException:
                self._end(holder, version, guard, user)
                raise
        with self._client(version) as api:
            code = _exit_code(api, prepared)
        if code:
            raise ProgramFailed(stream.errors or f"a program ended with code {code}")

    def _end(self, holder: str, version: str, guard: str, user: str) -> None:
        """What may wait for ever for what a job left, such as the other side of a pipe. By its own user: a holder's
        root has no right to do so."""
        if not guard.isdecimal():
            return  # it never began
        try:
            with self._client(version, _ENDING_SECONDS) as api:
                ending = api.exec_create(holder, ["sh", "-c", f"kill -s TERM {guard}"], user=user)
                api.exec_start(ending["Id"], detach=True)
        except DmsError as error:  # its time-out ends it
            log.warning("a program in a holder could not be ended: %s", error)

    @contextmanager
    def _client(self, version: str, seconds: float = _QUIET_SECONDS) -> Iterator[APIClient]:
        with engine_errors("run a program in a holder", self._address.base_url):
            api = APIClient(self._address.base_url, version=version, timeout=int(seconds))
            try:
                yield api
            finally:
                api.close()


def _first_line(stream: ExecStream) -> str:
    """Short. Empty when there is none."""
    found = b""
    while len(found) < _LINE_BYTES and (one := stream.read(1)) not in (b"", b"\n"):
        found += one
    return found.decode("ascii", "replace")


def _exit_code(api: APIClient, program: str) -> int:
    """The engine tells it a moment after the end of the output."""
    until = time.monotonic() + _CODE_SECONDS
    while (found := api.exec_inspect(program))["Running"] and time.monotonic() < until:
        time.sleep(_CODE_PAUSE_SECONDS)
    return int(found["ExitCode"] or 0)
