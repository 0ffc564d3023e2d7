"""In which of the engine's runtimes a job runs: in gVisor, a kernel of its own, where the engine has it.

gVisor sends packets past the rules of a gateway, which are the host kernel's, and knows no GPU of ours: a job that has
either runs in the engine's own runtime. Which one a container has is fixed when it is made.
"""

from __future__ import annotations

from typing import Literal

from docker import APIClient

from dms.adapters.executors.calls import EngineCalls
from dms.application.ports.executor import ExecutionSpec
from dms.domain.network import Network
from dms.errors import ExecutorUnavailable

GVISOR = "runsc"
Wanted = Literal["auto", "runsc", "default"]


class Runtimes:
    def __init__(self, calls: EngineCalls, wanted: Wanted) -> None:
        """wanted: as `job.runtime`."""
        self._calls, self._wanted = calls, wanted

    async def check(self) -> None:
        """Raises ExecutorUnavailable when jobs are to run in gVisor and can't."""
        if self._wanted == GVISOR:
            await self._has_gvisor()

    async def of(self, spec: ExecutionSpec) -> str:
        """Empty for the engine's own. Raises ExecutorUnavailable."""
        if self._wanted == "default" or spec.gpu_uuids or spec.network is not Network.NONE:
            return ""
        return GVISOR if await self._has_gvisor() else ""

    async def in_use(self) -> tuple[str, ...]:
        """All that jobs get: the engine's own, which is empty, and gVisor. Raises ExecutorUnavailable."""
        if self._wanted == "default":
            return ("",)
        return ("", GVISOR) if await self._has_gvisor() else ("",)

    async def _has_gvisor(self) -> bool:
        known = (await self._calls.ask("tell its runtimes", APIClient.info)).get("Runtimes") or {}
        if GVISOR not in known and self._wanted == GVISOR:
            raise ExecutorUnavailable(
                "job.runtime is runsc, but this machine's container engine does not have gVisor: install runsc "
                "and name it in the engine's daemon.json, or set job.runtime to auto"
            )
        return GVISOR in known
