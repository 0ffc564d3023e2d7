"""A container engine that outlives its provider's lives, goes away at times, is slow, and does what it is told without
saying so. Everything of a container follows from when it was started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from random import Random

from dms.application.growing_lines import GrowingLine
from dms.application.ports.executor import (
    NO_SECRETS,
    Execution,
    ExecutionSpec,
    ExecutionState,
    InputFile,
    NetworkGiven,
    NetworkUse,
    PackedWorkspace,
    SandboxTrial,
    Secrets,
)
from dms.application.ports.images import ImageFound, PreparedImage, at_will
from dms.application.ports.machine import Usage
from dms.application.ports.outputs import OutputCursor, OutputLine
from dms.domain.engine_facts import EngineFacts
from dms.domain.network import Network
from dms.domain.results import EVERYTHING, Selection
from dms.domain.run_end import EndedBy
from dms.errors import ExecutorUnavailable

DIGEST = "sha256:" + "1" * 64


@dataclass
class Container:
    """Times in microseconds (Unix). runs_us: how long by itself."""

    job_id: str
    runs_us: int
    exit_code: int
    lines: int
    started_at: int = 0
    stopped_at: int = 0
    starts: int = 0

    def ended_at(self) -> int:
        by_itself = self.started_at + self.runs_us
        return min(by_itself, self.stopped_at) if self.stopped_at else by_itself

    def state(self, now: int) -> ExecutionState:
        if not self.started_at:
            return ExecutionState.CREATED
        return ExecutionState.EXITED if now >= self.ended_at() else ExecutionState.RUNNING

    def output(self, now: int) -> list[OutputLine]:
        """What it has printed: evenly over its run."""
        until = min(now, self.ended_at())
        stamps = [self.started_at + self.runs_us * n // (self.lines + 1) for n in range(1, self.lines + 1)]
        return [OutputLine("stdout", at * 1000, f"line {n}") for n, at in enumerate(stamps, 1) if at <= until]


class Engine:
    """One machine's."""

    def __init__(self, random: Random, now: Callable[[], int], on_change: Callable[[str, str], None]) -> None:
        """now: Unix time, microseconds. on_change: gets ("create" | "start" | "remove", job id) as it happens."""
        self.trouble = 0.0
        self.away = self.hung = False
        self.containers: dict[str, Container] = {}
        self.random, self.now, self._on_change = random, now, on_change

    def create(self, job_id: str, lasting_us: int) -> None:
        if job_id not in self.containers:
            code = self.random.choice((0, 0, 0, 3))
            runs_us = int(self.random.random() * self.random.choice((0.2, 1.0)) * lasting_us)
            self.add(Container(job_id, runs_us, code, self.random.randrange(4)))

    def add(self, container: Container) -> None:
        """Unless it is there already."""
        if container.job_id not in self.containers:
            self.containers[container.job_id] = container
            self._on_change("create", container.job_id)

    def start(self, job_id: str) -> None:
        container = self.containers.get(job_id)
        if container is not None and not container.started_at:
            container.started_at = self.now()
            container.starts += 1
            self._on_change("start", job_id)

    def stop(self, job_id: str) -> None:
        container = self.containers.get(job_id)
        if container is not None and container.state(self.now()) is ExecutionState.RUNNING:
            container.stopped_at = self.now()

    def remove(self, job_id: str) -> None:
        if self.containers.pop(job_id, None) is not None:
            self._on_change("remove", job_id)


class SimulatedExecutor:
    """Implements the port Executor, for one life of a provider."""

    name = "docker"

    def __init__(self, engine: Engine, lasting_seconds: float) -> None:
        """lasting_seconds: of the longest job, which is stopped at its limit if that is shorter."""
        self._engine, self._lasting_us = engine, int(lasting_seconds * 1_000_000)

    async def _reach(self) -> None:
        random = self._engine.random
        slow = random.random() < self._engine.trouble
        await asyncio.sleep(random.random() * (8.0 if slow else 0.02))
        while self._engine.hung:
            await asyncio.sleep(0.5)
        if self._engine.away:
            raise ExecutorUnavailable("the engine does not answer")

    async def _tell(self) -> None:
        """Done is done: but whether its answer comes is another matter."""
        if self._engine.random.random() < self._engine.trouble:
            raise ExecutorUnavailable("the engine's answer was lost")
        await asyncio.sleep(self._engine.random.random() * 0.02)

    async def check(self) -> None:
        await self._reach()

    def objection(self, spec: ExecutionSpec) -> str:
        return ""

    async def try_network(self) -> NetworkGiven:
        await self._reach()
        return NetworkGiven(network=Network.INTERNET)

    async def try_sandbox(self) -> SandboxTrial:
        await self._reach()
        return SandboxTrial()

    async def engine_facts(self) -> EngineFacts | None:
        return None

    async def find_image(
        self, image: str, *, for_stranger: bool = False, may_ask: Callable[[], bool] = at_will
    ) -> ImageFound:
        await self._reach()
        return ImageFound(present=True, digest=DIGEST)

    async def network_use(self, job_id: str) -> NetworkUse | None:
        await self._reach()
        return None

    async def prepare(self, spec: ExecutionSpec) -> PreparedImage:
        await self._reach()
        return PreparedImage(digest=DIGEST, image=spec.image)

    async def fill(self, spec: ExecutionSpec, archive: Path | None, max_bytes: int) -> None:
        await self._reach()

    def workspace_bytes(self, spec: ExecutionSpec) -> int | None:
        return None

    async def put(self, spec: ExecutionSpec, given: InputFile) -> None:
        await self._reach()

    async def inputs_in(self, job_id: str) -> Set[int]:
        await self._reach()
        return frozenset()

    async def workspace_trouble(self) -> str:
        await self._reach()
        return ""

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str = "", selection: Selection = EVERYTHING
    ) -> PackedWorkspace | None:
        await self._reach()
        return None

    async def create(self, spec: ExecutionSpec) -> str:
        await self._reach()
        self._engine.create(spec.job_id, self._lasting_us)
        await self._tell()
        return f"container-{spec.job_id}"

    async def start(self, job_id: str, secrets: Secrets = NO_SECRETS) -> None:
        await self._reach()
        self._engine.start(job_id)
        await self._tell()

    async def inspect(self, job_id: str) -> Execution:
        await self._reach()
        container, now = self._engine.containers.get(job_id), self._engine.now()
        if container is None:
            return Execution(state=ExecutionState.ABSENT)
        state = container.state(now)
        if state is not ExecutionState.EXITED:
            return Execution(state=state, started_at=container.started_at)
        stopped = bool(container.stopped_at)
        return Execution(
            state=state,
            exit_code=137 if stopped else container.exit_code,
            started_at=container.started_at,
            finished_at=container.ended_at(),
            ended_by=EndedBy.DMS if stopped else EndedBy.JOB,
        )

    async def follow(self, job_id: str, after: OutputCursor | None) -> AsyncGenerator[Sequence[OutputLine], None]:
        read = after.time_ns if after else 0
        while True:
            await self._reach()
            container = self._engine.containers.get(job_id)
            if container is None:
                return
            now = self._engine.now()
            if lines := [line for line in container.output(now) if line.time_ns > read]:
                read = lines[-1].time_ns
                yield lines
            if container.state(now) is ExecutionState.EXITED:
                return
            await asyncio.sleep(min(5.0, max(0.01, (container.ended_at() - now) / 1_000_000)))

    async def usage(self, job_id: str) -> Usage | None:
        return None

    async def growing(self, job_id: str) -> AsyncGenerator[GrowingLine, None]:
        await asyncio.Event().wait()
        yield GrowingLine("stdout", "")

    async def stop(self, job_id: str, grace_seconds: float) -> None:
        await self._reach()
        await asyncio.sleep(self._engine.random.random() * grace_seconds)
        self._engine.stop(job_id)
        await self._tell()

    async def remove(self, job_id: str) -> None:
        await self._reach()
        self._engine.remove(job_id)
        await self._tell()

    async def remove_superseded(self, image: str, image_ids: Sequence[str]) -> Sequence[str]:
        return ()

    async def list_jobs(self) -> Sequence[str]:
        await self._reach()
        return sorted(self._engine.containers)

    async def close(self) -> None: ...
