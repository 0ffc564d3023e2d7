"""Examines this machine: the sandbox of jobs, and what a DMS needs of the clock, disks, engine and keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from dms.application.device.sandbox import LoneSandbox, SandboxWatch
from dms.application.ports.executor import Executor, SandboxTrial
from dms.application.ports.machine import MachineReader
from dms.domain.check import Check, worst
from dms.domain.engine_facts import EngineFacts
from dms.domain.machine_checks import address_row, engine_rows, machine_rows
from dms.domain.sandbox import trouble_of, untried_rows
from dms.errors import ExecutionError, ExecutorUnavailable


class Examination(Struct, frozen=True, kw_only=True):
    """verdict: the worst state of all rows. trouble: why no peer's job is taken because of it; empty if they are taken.
    sandbox: what was tried from inside a container; machine: the rest."""

    verdict: str
    trouble: str
    engine: str
    sandbox: tuple[Check, ...]
    machine: tuple[Check, ...]


class Doctor:
    """addresses: this node's multiaddrs; None when it is not in the network. now: Unix time, microseconds."""

    def __init__(
        self,
        executor: Executor,
        machine: MachineReader,
        sandbox: SandboxWatch | LoneSandbox,
        addresses: Callable[[], Sequence[str]] | None,
        now: Callable[[], int],
    ) -> None:
        self._executor, self._machine, self._sandbox = executor, machine, sandbox
        self._addresses, self._now = addresses, now

    async def examine(self) -> Examination:
        """Tries the sandbox anew, which takes seconds. An engine that is away, or that can't run the test container,
        gets a row, not an error."""
        try:
            return await self._examined(await self._sandbox.trial())
        except ExecutorUnavailable as error:
            return await self._examined(self._sandbox.known, untried=str(error))

    async def last(self) -> Examination:
        """The sandbox as it was tried last, the rest as it is now."""
        return await self._examined(self._sandbox.known)

    async def _examined(self, trial: SandboxTrial, untried: str = "") -> Examination:
        """untried: why the sandbox can't be tried now."""
        facts, trouble = await self._engine()
        found = await self._machine.facts(facts.root if facts else "")
        rows = [*untried_rows(untried), *engine_rows(facts, trouble), *machine_rows(found, self._now())]
        if self._addresses is not None:
            rows.append(address_row(self._addresses()))
        return Examination(
            verdict=worst([*trial.rows, *rows]).value,
            trouble=trouble_of(trial.rows) or (f"the sandbox of jobs can't be tried: {untried}" if untried else ""),
            engine=trial.engine or (facts.name if facts else ""),
            sandbox=trial.rows,
            machine=tuple(rows),
        )

    async def _engine(self) -> tuple[EngineFacts | None, str]:
        try:
            return await self._executor.engine_facts(), ""
        except (ExecutorUnavailable, ExecutionError) as error:
            return None, str(error)
