"""Holders: small containers of ours that keep volumes mounted, and programs in them.

A holder sleeps. It has no network, no way to get more rights, and of rights only those that it is given.
"""

from __future__ import annotations

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
from dms.adapters.executors.profile import LABEL_PART, MIB, labels, seccomp_profile, workspace_mb
from dms.adapters.executors.threads import stoppable
from dms.application.ports.executor import ExecutionSpec, ExecutionState
from dms.errors import ExecutionError, ExecutorUnavailable

HOLDER = "holder"  # the part that a job's own is
_OWN_MB, _PIDS = 32, 64
_PROGRAM_SECONDS = 3_600  # the longest that one may take, whoever reads it
_QUIET_SECONDS = 60.0
_CODE_SECONDS, _CODE_PAUSE_SECONDS = 10.0, 0.01


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
                    labels={**labels(spec), LABEL_PART: part},
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
        holder, version = await self.running(job_id, part), await self._calls.version()

        def work(_: threading.Event) -> None:
            with self.program(holder, version, script, "0:0"):
                pass

        await stoppable(work)

    @contextmanager
    def program(self, holder: str, version: str, script: str, user: str) -> Iterator[ExecStream]:
        """Blocking; what it still says at the end is read and forgotten. Raises ProgramFailed, ExecutorUnavailable."""
        command = ["timeout", str(_PROGRAM_SECONDS), "sh", "-c", script]
        with self._client(version) as api:
            prepared = str(api.exec_create(holder, command, stdin=True, user=user)["Id"])
        with started(self._address, version, prepared, _QUIET_SECONDS) as stream:
            yield stream
            stream.finish()
        with self._client(version) as api:
            code = _exit_code(api, prepared)
        if code:
            raise ProgramFailed(stream.errors or f"a program ended with code {code}")

    @contextmanager
    def _client(self, version: str) -> Iterator[APIClient]:
        with engine_errors("run a program in a holder", self._address.base_url):
            api = APIClient(self._address.base_url, version=version, timeout=int(_QUIET_SECONDS))
            try:
                yield api
            finally:
                api.close()


def _exit_code(api: APIClient, program: str) -> int:
    """The engine tells it a moment after the end of the output."""
    until = time.monotonic() + _CODE_SECONDS
    while (found := api.exec_inspect(program))["Running"] and time.monotonic() < until:
        time.sleep(_CODE_PAUSE_SECONDS)
    return int(found["ExitCode"] or 0)
