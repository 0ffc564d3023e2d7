"""Whose doing the end of a container was, from what the engine told while we listened and what it still knows."""

from __future__ import annotations

import signal
from typing import Any

from msgspec.structs import replace

from dms.adapters.executors.endings import (
    Ended,
    blame,
    ending_signal,
    has_died,
    looks_broken_off,
    may_have_run_out_of_memory,
    ran_out_of_memory,
)
from dms.adapters.executors.engine_memory import EngineMemory
from dms.adapters.executors.profile import stop_signal
from dms.application.ports.executor import Execution


class WhoEnded:
    def __init__(self, memory: EngineMemory) -> None:
        self._memory = memory
        self._ours: set[str] = set()
        self._known: dict[tuple[str, int], Execution] = {}  # by job and start: the engine will have forgotten

    def stopped_by_us(self, job_id: str) -> None:
        self._ours.add(job_id)

    def forget(self, job_id: str) -> None:
        self._ours.discard(job_id)
        self._memory.forget(job_id)
        for run in [run for run in self._known if run[0] == job_id]:
            del self._known[run]

    async def told(self, job_id: str, found: dict[str, Any], execution: Execution) -> Execution:
        """With who ended it, and whether that was for lack of memory. found: the engine's own description of the
        container, which is over. Raises ExecutorUnavailable."""
        run = (job_id, execution.started_at)
        if run not in self._known:
            self._known[run] = await self._find_out(job_id, found, execution)
        return self._known[run]

    async def _find_out(self, job_id: str, found: dict[str, Any], execution: Execution) -> Execution:
        container = str(found["Id"])
        ended = Ended(
            exit_code=execution.exit_code or 0,
            oom_killed=execution.oom_killed,
            stop_signal=_number(stop_signal(found["Config"])),
        )
        events = await self._memory.of_run(job_id, container, execution.finished_at)
        if not ended.oom_killed and may_have_run_out_of_memory(ended, events):
            # The engine is told of the end and of its reason by two ways, and may hear of the end first.
            events = await self._memory.of_run(job_id, container, execution.finished_at, past_death=True)
            ended = replace(ended, oom_killed=ran_out_of_memory(events))
        restarted = False
        if (sent := ending_signal(ended, events)) is not None:
            restarted = self._memory.fell_into_an_outage(sent.time_ns)
        elif not has_died(events) and looks_broken_off(ended):
            restarted = not await self._memory.reaches_back_to(execution.finished_at)
        ended_by = blame(ended, events, ours=job_id in self._ours, engine_restarted=restarted)
        return replace(execution, ended_by=ended_by, oom_killed=ended.oom_killed)

    def exit_code_of_absent(self, job_id: str) -> int | None:
        """Where we heard of its death."""
        codes = [event.exit_code for event in self._memory.heard(job_id) if event.action == "die"]
        return codes[-1] if codes else None


def _number(name: str) -> int:
    """Of a signal as the profile names it: a name or a number; real-time ones by their distance."""
    if name.isdecimal():
        return int(name)
    for base in ("SIGRTMIN", "SIGRTMAX"):
        if name.startswith(base) and name != base:
            return signal.Signals[base] + int(name.removeprefix(base))
    return signal.Signals[name]
