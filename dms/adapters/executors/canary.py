"""Tries the sandbox of jobs from inside: a container with the very profile that jobs get, in each runtime that jobs
get, whose program knocks on what must be closed (`canary_program`). Its bounds are smaller than a job's, so that a try
costs little.
"""

from __future__ import annotations

import hashlib
import io
import logging
import secrets
import tarfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import ImageNotFound
from msgspec.structs import replace

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.canary_program import (
    NAMESPACES,
    ROOT_PATH,
    SETUID_PATH,
    Bounds,
    Canary,
    effective_user_program,
)
from dms.adapters.executors.containers import Containers
from dms.adapters.executors.engine_facts import facts_of
from dms.adapters.executors.profile import LABEL_PART, WORKSPACE, ContainerLimits, container_config, workspace_mb
from dms.adapters.executors.runtimes import Runtimes
from dms.adapters.executors.syscall_program import MACHINES
from dms.adapters.executors.tries import Tries
from dms.application.ports.executor import ExecutionSpec, SandboxTrial
from dms.domain.check import Check
from dms.domain.engine_facts import EngineFacts
from dms.domain.sandbox import GVISOR, Asked, Found, not_started, rows_of
from dms.errors import ExecutionError, ExecutorUnavailable, NotFound

logger = logging.getLogger(__name__)

REPOSITORY = "dms-canary"
PART = "canary"
TRIAL_PREFIX = "sandbox-trial-"  # in place of a job's id
MEMORY_MB, MOST_PROCESSES, SHM_MB = 64, 96, 16
_RUN_SECONDS = 60.0
_KILLED = 137  # by SIGKILL, as the kernel ends what takes too much memory
_MACHINE_OF = {"amd64": "x86_64", "arm64": "aarch64"}  # by the engine's name of it


class Ended:
    """As the engine says of the container's state."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.exit_code = int(state.get("ExitCode") or 0)
        self.for_memory = bool(state.get("OOMKilled")) or self.exit_code == _KILLED


class SandboxTrials:
    """accepted: names of rows whose failure the owner accepts."""

    def __init__(
        self,
        node_id: str,
        calls: EngineCalls,
        containers: Containers,
        runtimes: Runtimes,
        limits: ContainerLimits,
        accepted: tuple[str, ...] = (),
    ) -> None:
        self._node_id, self._calls, self._containers, self._accepted = node_id, calls, containers, accepted
        self._runtimes = runtimes
        self._limits = replace(limits, pids=min(limits.pids, MOST_PROCESSES), shm_mb=min(limits.shm_mb, SHM_MB))
        self.running: set[str] = set()  # ids that stand in for a job's: not what a crash left
        self._tries = Tries[SandboxTrial]("try of the sandbox")

    async def result(self) -> SandboxTrial:
        """Raises ExecutorUnavailable."""
        return await self._tries.result(self._try())

    async def close(self) -> None:
        await self._tries.close()

    async def _try(self) -> SandboxTrial:
        facts = await self.facts()
        machine = _MACHINE_OF.get(facts.architecture, facts.architecture)
        if machine not in MACHINES:
            return SandboxTrial(engine=facts.name, rows=())
        rows = [await self._rows(machine, facts, runtime) for runtime in await self._runtimes.in_use()]
        return SandboxTrial(engine=facts.name, rows=tuple(chain.from_iterable(rows)))

    async def _rows(self, machine: str, facts: EngineFacts, runtime: str) -> tuple[Check, ...]:
        name = GVISOR if runtime else ""
        try:
            found, asked = await self._found(machine, facts, runtime)
        except (ExecutionError, NotFound) as error:
            return not_started(str(error), name)
        return rows_of(found, asked, self._accepted, name)

    async def _found(self, machine: str, facts: EngineFacts, runtime: str) -> tuple[Found, Asked]:
        """gVisor may end with a fork bomb: what is to be tried after it is tried in a container of its own."""
        spec = self._spec()
        bounds = _bounds(spec, self._limits)
        found = await self._run(spec, Canary(machine, bounds), machine, facts, runtime)
        if found.own_kernel and found.forks is None:
            spec = self._spec()
            again = await self._run(spec, Canary(machine, bounds, fork_bomb=False), machine, facts, runtime)
            found = replace(found, memory=again.memory, killed_for_memory=again.killed_for_memory)
        return found, bounds.asked

    async def facts(self) -> EngineFacts:
        """Raises ExecutorUnavailable."""
        try:
            return await self._calls.ask("tell of itself", facts_of)
        except (ExecutionError, NotFound) as error:
            raise ExecutorUnavailable(str(error)) from error

    def _spec(self) -> ExecutionSpec:
        return ExecutionSpec(
            job_id=f"{TRIAL_PREFIX}{secrets.token_hex(8)}",
            node_id=self._node_id,
            image=REPOSITORY,
            arguments=(),
            cpu_mhz=self._limits.core_mhz,
            memory_mb=MEMORY_MB,
        )

    async def _run(self, spec: ExecutionSpec, canary: Canary, machine: str, facts: EngineFacts, runtime: str) -> Found:
        """Raises ExecutionError for one that did not start, or that told nothing."""
        self.running.add(spec.job_id)
        try:
            told, ended = await self._ended(spec, machine, canary, runtime)
        finally:
            self.running.discard(spec.job_id)
        found = canary.read(
            told, killed_for_memory=ended.for_memory, outside=own_namespaces(), host_kernel=facts.kernel
        )
        if found is None:
            code = ended.exit_code
            raise ExecutionError(f"the test container ended before it told anything (exit code {code})")
        return found

    async def _ended(self, spec: ExecutionSpec, machine: str, canary: Canary, runtime: str) -> tuple[bytes, Ended]:
        """What it told, and how it ended."""
        image = await self._calls.work("import the test image", lambda api: _import(api, machine, canary.elf()))
        try:
            container = await self._containers.create(spec.job_id, lambda api: self._config(api, spec, image, runtime))
            await self._calls.work("start the test container", lambda api: api.start(container))
            if not await self._containers.exits_within(container, _RUN_SECONDS):
                raise ExecutorUnavailable(f"the engine tells no end of the test container within {_RUN_SECONDS:g} s")
            found = await self._containers.described(container) or {}
            told = await self._calls.ask("read the test container's output", lambda api: _output(api, container))
        finally:
            await self._tidy(spec.job_id)
        return told, Ended(found.get("State", {}))

    async def _tidy(self, job_id: str) -> None:
        try:
            await self._containers.remove(job_id)
        except (ExecutionError, ExecutorUnavailable) as error:
            logger.info("what a try of the sandbox left is removed later: %s", error)

    def _config(self, api: APIClient, spec: ExecutionSpec, image: str, runtime: str) -> dict[str, Any]:
        described = {"Id": image, "Config": {"StopSignal": "SIGKILL"}}
        return container_config(api, spec, self._limits, described, (), (), "", runtime, PART)


def own_namespaces() -> Mapping[str, str]:
    """By kind, as /proc names them; those that this process may not see are left out."""
    found = {}
    for kind in NAMESPACES:
        try:
            found[kind] = str(Path(f"/proc/self/ns/{kind}").readlink())
        except OSError:
            continue
    return found


def _bounds(spec: ExecutionSpec, limits: ContainerLimits) -> Bounds:
    asked = Asked(
        processes=limits.pids,
        memory_mb=spec.memory_mb,
        open_files=limits.open_files,
        image_user=limits.image_user,
        writable_root=limits.writable_root,
    )
    half = workspace_mb(spec)
    return Bounds(asked=asked, scratch={"/tmp": half, WORKSPACE: half, "/dev/shm": limits.shm_mb})  # noqa: S108


def _output(api: APIClient, container: str) -> bytes:
    return bytes(api.logs(container, stdout=True, stderr=False))


def _import(api: APIClient, machine: str, program: bytes) -> str:
    """Its name; imported if it is not there."""
    content = _file_system(program, effective_user_program(machine))
    tag = hashlib.sha256(content).hexdigest()[:16]
    try:
        api.inspect_image(f"{REPOSITORY}:{tag}")  # type: ignore[no-untyped-call]  # of types-docker
    except ImageNotFound:
        changes = ['ENTRYPOINT ["/canary"]', f"LABEL {LABEL_PART}={PART}"]
        api.import_image_from_data(content, repository=REPOSITORY, tag=tag, changes=changes)
    return f"{REPOSITORY}:{tag}"


def _file_system(program: bytes, setuid: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, mode, content in (("canary", 0o755, program), (SETUID_PATH.lstrip("/"), 0o4755, setuid)):
            file = tarfile.TarInfo(name)
            file.mode, file.size = mode, len(content)
            tar.addfile(file, io.BytesIO(content))
        folder = tarfile.TarInfo(ROOT_PATH.lstrip("/"))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o777
        tar.addfile(folder)
    return whole.getvalue()
