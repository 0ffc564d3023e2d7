"""The simulated network without chance: jobs last as long as they say and leave files, and one fault strikes at one
point of one node."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from dms.adapters.executors.pack import pack
from dms.adapters.executors.workspace_archive import unpack
from dms.application.ports.executor import ExecutionSpec, PackedWorkspace
from dms.application.ports.funding import FundingCheck, FundingVerdict, PaymentClaim, Repayment
from dms.application.services import Services
from dms.config import Files, Settings
from dms.daemon import Daemon
from dms.domain.gpus import GpuReading
from dms.domain.results import EVERYTHING, Selection
from dms.errors import Conflict, DmsError, NoProviderMatches, NotFound
from tests.fixtures.fault_points import FaultPoints, Point
from tests.simulation.engine import Container, SimulatedExecutor
from tests.simulation.invariants import Durable
from tests.simulation.world import LASTING_SECONDS, OFFER, REQUESTER, Chain, Hardware, Node, World

T = TypeVar("T")

AWAY_SECONDS = 8.0  # of an engine or a line: well below what ends a job
DOWN_SECONDS = 3.0
HOLD_SECONDS = 5.0  # how long what was told to stop does not go on by itself
GPU = GpuReading(
    name="NVIDIA T4", uuid="GPU-1", vendor="nvidia", total_vram_mb=16_000, used_vram_mb=0, free_vram_mb=16_000
)


class Fault(StrEnum):
    """What happens at a point. Of the node that is there, but for the last."""

    KILLED = "is killed"
    STOPPED = "is told to stop"
    ENGINE_KILLED = "loses its engine"
    ENGINE_HUNG = "has an engine that hangs"
    CUT = "is cut off"
    PEER_KILLED = "loses its peer"


class Strike(NamedTuple):
    """role: "service provider" or "compute provider"."""

    role: str
    point: Point
    fault: Fault

    def __str__(self) -> str:
        return f"the {self.role} {self.fault} {self.point}"


class MatrixWorld(World):
    """strikes: what happens, each at the first time that its point is met. met_points: what was come by, in order, by
    role."""

    strikes: Sequence[Strike] = ()
    has_gpu = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.durable = Durable(OFFER, GPU.total_vram_mb)
        self.met_points: dict[tuple[str, Point], None] = {}
        self._points: list[FaultPoints] = []
        self._ledgers: dict[str, Ledger] = {}
        self.struck: set[Strike] = set()
        self.client = Client(self)
        self.switched_off: set[str] = set()  # nodes that a scenario keeps down

    # --- what nodes are made of -------------------------------------------------------------------------
    def settings_of(self, node: Node) -> Settings:
        told = super().settings_of(node)
        return replace(
            told,
            job=replace(told.job, log_update_interval=0.1, answer_timeout=30),
            files=Files(send_folders=(str(self.letters_of(node)),)),
        )

    def letters_of(self, node: Node) -> Path:
        folder = node.folder.resolve().parent / f"letters of {node.name}"
        folder.mkdir(exist_ok=True)
        return folder

    def hardware_of(self, node: Node) -> Hardware:
        return HardwareWithGpu(super().hardware_of(node)) if self.has_gpu else super().hardware_of(node)

    def executor_of(self, node: Node) -> SimulatedExecutor:
        return WorkingExecutor(node, LASTING_SECONDS)

    def built(self, node: Node, daemon: Daemon) -> None:
        async def at(point: Point) -> None:
            await self._come(node, point)

        points = FaultPoints(at)
        points.put_into(daemon, self._ledgers[node.name])
        self._points.append(points)

    def funding_of(self, node: Node) -> FundingCheck:
        ledger = self._ledgers[node.name] = Ledger(self.chain)
        return ledger

    @property
    def reactors(self) -> set[str]:
        """Names of all that were started."""
        return {name for points in self._points for name in points.registered}

    def keys_of(self, node: str, kind: str) -> list[str]:
        """Of all that the node has of that kind, oldest first."""
        prefix = f"{kind}-"
        return sorted(
            stream.removeprefix(prefix)
            for of, stream in self.durable.streams
            if of == node and stream.startswith(prefix)
        )

    # --- faults -----------------------------------------------------------------------------------------
    async def _come(self, node: Node, point: Point) -> None:
        role = role_of(node)
        if (role, point) not in self.met_points:
            self.met_points[role, point] = None
        for strike in self.strikes:
            if strike not in self.struck and (strike.role, strike.point) == (role, point):
                self.struck.add(strike)
                self.met_fault(str(strike))
                await self._strike(node, strike.fault)

    async def _strike(self, node: Node, fault: Fault) -> None:
        other = self.requester if node is not self.requester else self._serving()
        provider = node if node is not self.requester else other
        match fault:
            case Fault.KILLED:
                self.kill(node)
                await asyncio.Event().wait()  # nothing of it goes on
            case Fault.PEER_KILLED:
                self.kill(other)
            case Fault.STOPPED:
                self._in_no_life(self._stop_and_start(node))
                await asyncio.sleep(HOLD_SECONDS)
            case Fault.ENGINE_KILLED:
                provider.engine.away = True
                self._later(AWAY_SECONDS, lambda: setattr(provider.engine, "away", False))
            case Fault.ENGINE_HUNG:
                provider.engine.hung = True
                self._later(AWAY_SECONDS, lambda: setattr(provider.engine, "hung", False))
            case Fault.CUT:
                self.wires.cut(node.peer_id, other.peer_id)
                self._later(AWAY_SECONDS, self.wires.mend)

    def _serving(self) -> Node:
        """The provider that has something to do."""
        nodes = [self.nodes[name] for name in self.providers]
        return next((node for node in nodes if node.engine.containers), nodes[0])

    def kill(self, node: Node, down_seconds: float = DOWN_SECONDS) -> None:
        node.kill()
        self._later(down_seconds, lambda: self._start(node))

    def _start(self, node: Node) -> None:
        if node.is_down and node.name not in self.switched_off:
            node.start()

    async def _stop_and_start(self, node: Node) -> None:
        await node.stop()
        await asyncio.sleep(DOWN_SECONDS)
        self._start(node)

    def _later(self, seconds: float, act: Callable[[], Any]) -> None:
        asyncio.get_running_loop().call_later(seconds, act, context=self.context.copy())

    def _in_no_life(self, work: Any) -> None:
        asyncio.get_running_loop().create_task(work, context=self.context.copy())


class Ledger:
    """One node's look at the chain. Implements FundingCheck."""

    name, carries, blockchain = Chain.name, Chain.carries, Chain.blockchain

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def check(self, claim: PaymentClaim) -> FundingVerdict:
        return await self._chain.check(claim)

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[Repayment]:
        return await self._chain.repayments(claim, owed, after_block)

    async def close(self) -> None: ...


def role_of(node: Node) -> str:
    return "service provider" if node.name == REQUESTER else "compute provider"


class HardwareWithGpu(Hardware):
    def __init__(self, plain: Hardware) -> None:
        super().__init__(plain._now)

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        return (GPU,)


class WorkingExecutor(SimulatedExecutor):
    """Runs jobs whose script is "SECONDS EXIT_CODE". Each leaves a file with how many seconds it has worked in all,
    those before its checkpoint included."""

    def __init__(self, node: Node, lasting_seconds: float) -> None:
        super().__init__(node.engine, lasting_seconds)
        self._folder = node.folder / "engine"

    async def create(self, spec: ExecutionSpec) -> str:
        await self._reach()
        seconds, code = spec.arguments[0].split()[:2]
        left = float(seconds) - self._worked_before(spec.job_id)
        self._workspace(spec.job_id).mkdir(parents=True, exist_ok=True)
        self._engine.add(Container(spec.job_id, int(left * 1_000_000), int(code), lines=4))
        await self._tell()
        return f"container-{spec.job_id}"

    async def fill(self, spec: ExecutionSpec, archive: Path | None, max_bytes: int) -> None:
        await self._reach()
        folder = self._workspace(spec.job_id)
        if not folder.exists():
            folder.mkdir(parents=True)
            if archive is not None:
                unpack(archive, folder, max_bytes)
            (folder.parent / f"{folder.name}.before").write_text(_read(folder / "state"))

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str = "", selection: Selection = EVERYTHING
    ) -> PackedWorkspace | None:
        await self._reach()
        folder, container = self._workspace(job_id), self._engine.containers.get(job_id)
        if container is None or not folder.exists():
            return None
        worked_us = min(self._engine.now(), container.ended_at()) - container.started_at
        (folder / "state").write_text(f"{self._worked_before(job_id) + worked_us / 1_000_000:.0f}")
        for path in (folder / "state", folder):
            os.utime(path, (0, 0))  # the archive is the same each time
        return pack(folder, into, max_bytes, known_state, threading.Event(), selection)

    async def remove(self, job_id: str) -> None:
        await super().remove(job_id)
        shutil.rmtree(self._workspace(job_id), ignore_errors=True)

    def _worked_before(self, job_id: str) -> float:
        return float(_read(self._folder / f"{job_id}.before"))

    def _workspace(self, job_id: str) -> Path:
        return self._folder / job_id


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else "0"


class Cut(Exception):
    """The client does not know what became of its command."""


class Client:
    """Of any of the nodes: asks until it is answered, as clients do. acknowledged: (node, stream, topic) of what it was
    told is so: its own ledger. asked: ids of the jobs and transfers that it has."""

    def __init__(self, world: MatrixWorld) -> None:
        self._world = world
        self.acknowledged: list[tuple[str, str, str]] = []
        self.asked: list[str] = []

    async def told(self, node: str, command: Callable[[Services], Awaitable[T]]) -> T | None:
        """None when it was done before, by a try that was not answered."""
        tries = 0
        while True:
            try:
                return await self._call(self._world.nodes[node], command)
            except (Cut, DmsError) as error:
                if isinstance(error, Conflict | NotFound) and not isinstance(error, NoProviderMatches):
                    if tries:
                        return None
                    raise
                tries += 1
                self._world.trace(f"client of {node}: {error!r}")
                await asyncio.sleep(1.0)

    def heard(self, node: str, stream: str, topic: str) -> None:
        self.acknowledged.append((node, stream, topic))
        self._world.durable.acknowledged(node, stream, topic)

    async def _call(self, node: Node, command: Callable[[Services], Awaitable[T]]) -> T:
        while node.daemon is None:
            await asyncio.sleep(0.5)
        assert node.died is not None
        calling: asyncio.Task[T] = node.run(_awaited(command(node.daemon.services)))
        both: list[asyncio.Future[Any]] = [calling, node.died]
        await asyncio.wait(both, timeout=60.0, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done() or calling.cancelled():
            calling.cancel()
            raise Cut
        return calling.result()


async def _awaited(command: Awaitable[T]) -> T:
    return await command
