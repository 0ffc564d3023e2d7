"""One seed from its beginning to its end."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec import Struct

from dms.domain.event import draw_ids_from
from dms.domain.job import Job
from dms.errors import DmsError
from dms.keys import NODE_KEY
from tests.simulation.invariants import Violation, require
from tests.simulation.loop import Deadlock, SimulatedLoop
from tests.simulation.workload import Chaos, Client
from tests.simulation.world import OFFER, PROVIDERS, World

BEGIN_SECONDS = 1000.0  # behind the time at which the folders were prepared
CALM_SECONDS = 1500.0  # within which all is over once nothing fails any more
LOOK_SECONDS = 5.0
IN_MEMORY = Path("/dev/shm")
W = TypeVar("W", bound=World)


class Outcome(Struct, frozen=True, kw_only=True):
    """digest: of the trace. met: fault -> how often. failure: why the seed failed; empty when it did not."""

    seed: int
    digest: str
    steps: int
    seconds: float
    met: dict[str, int]
    failure: str = ""

    @property
    def replay(self) -> str:
        return f"python -m tests.simulation --seed {self.seed}"


class _Unexpected(logging.Handler):
    """Errors of the program's own that it tells of: none may be there, whatever fails around it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._world.trace(f"log: {record.getMessage()}")
        if error is not None and not isinstance(error, DmsError):
            self._world.fail(Violation(f"an error that nobody expected: {record.getMessage()}: {error!r}"))


def run_seed(seed: int, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=roomy()) as folder:
        shutil.copytree(prepared(), folder, dirs_exist_ok=True)
        with simulated(seed, Path(folder), tell, BEGIN_SECONDS, make=World) as (world, loop):
            failure = run_until_done(loop, world, _seed(world))
            return Outcome(
                seed=seed,
                digest=world.digest.hexdigest(),
                steps=loop.steps,
                seconds=loop.now_seconds - BEGIN_SECONDS,
                met=dict(world.met),
                failure=failure,
            )


def failures_of(seeds: Sequence[int]) -> list[Outcome]:
    return [outcome for outcome in map(run_seed, seeds) if outcome.failure]


@cache
def prepared() -> Path:
    """The folders of nodes that were onboarded and know each other, made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=roomy()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with simulated(0, folder, lambda _: None, 0.0, len(PROVIDERS), make=World) as (world, loop):
        for number, node in enumerate(world.nodes.values(), 1):
            node.folder.mkdir()
            key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (node.folder / NODE_KEY).write_bytes(pem)
            (node.folder / NODE_KEY).chmod(0o600)
        failure = run_until_done(loop, world, meet(world))
        if failure:
            raise Violation(failure)
    gc.freeze()  # what is loaded stays: the end of each run need not look through it
    return folder


def run_until_done(loop: SimulatedLoop, world: World, work: object) -> str:
    """Why it failed; empty when it did not."""
    try:
        loop.run_until_complete(work)  # type: ignore[arg-type]
    except (Violation, Deadlock) as error:
        return f"{type(error).__name__}: {error}"
    except RuntimeError:
        if world.failure is None:
            raise
    if world.failure is not None:
        return f"{type(world.failure).__name__}: {world.failure}"
    return "; ".join(loop.errors)


@contextmanager
def simulated(
    seed: int,
    folder: Path,
    tell: Callable[[str], None],
    begin: float,
    providers: int = 0,
    *,
    make: Callable[..., W],
) -> Iterator[tuple[W, SimulatedLoop]]:
    loop = SimulatedLoop(Random(f"{seed} turns"))
    loop.now_seconds = begin
    asyncio.set_event_loop(loop)
    world = make(seed, folder, loop, tell, providers)
    ids = world.stream("ids")
    draw_ids_from(lambda: world.now_us() * 1000, ids.randbytes)
    random.seed(seed)
    logger, handler = logging.getLogger("dms"), _Unexpected(world)
    before = logger.propagate, logger.level, gc.isenabled()
    gc.disable()  # what it collects would have its `finally` run
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield world, loop
    finally:
        logger.removeHandler(handler)
        logging.disable()
        world.wires.hosts.clear()
        for node in world.nodes.values():
            node.kill()
        loop.end()
        asyncio.set_event_loop(None)
        logging.disable(logging.NOTSET)
        logger.propagate = before[0]
        logger.setLevel(before[1])
        if before[2]:
            gc.enable()


async def meet(world: World) -> None:
    for node in world.nodes.values():
        node.start()
    await until(lambda: all(node.daemon for node in world.nodes.values()))
    for name in PROVIDERS:
        daemon = world.nodes[name].daemon
        assert daemon is not None
        await world.nodes[name].run(daemon.services.device.onboard(OFFER))
    requester = world.requester.daemon
    assert requester is not None
    await until(lambda: len([a for a in requester.services.directory.advertisements() if a.offering.onboarded]) == 2)
    await asyncio.sleep(30)
    for node in world.nodes.values():
        await node.stop()


async def begin(world: World) -> None:
    """All nodes are up, and know each other."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    world.context = copy_context()
    loop.thread_seconds = world.thread_seconds
    for node in world.nodes.values():
        node.start()
    await until(lambda: all(node.daemon for node in world.nodes.values()))
    await asyncio.sleep(2.0)  # the peers have met


async def _seed(world: World) -> None:
    await begin(world)
    loop = asyncio.get_running_loop()
    client, chaos = Client(world), Chaos(world)
    asking = asyncio.ensure_future(client.work())
    await chaos.work()
    chaos.calm()
    world.trace("calm")
    await asking
    deadline = loop.time() + CALM_SECONDS
    while left := unfinished(world):
        if loop.time() > deadline:
            world.durable.check_ends()
            raise Violation(f"forgotten: {left}")
        await asyncio.sleep(LOOK_SECONDS)
        chaos.start_all()  # who was still stopping
    await client.claim()
    world.durable.check_ends()


def unfinished(world: World) -> str:
    """What is still to do; empty for nothing."""
    try:
        world.durable.check_ends()
    except Violation as error:
        return str(error)
    for node in world.nodes.values():
        if node.daemon is None:
            node_down = node.is_down
            return f"{node.name} is {'down' if node_down else 'starting'}"
        device = node.daemon.services.device
        if node.engine.containers:
            return f"{node.name} still has containers: {', '.join(sorted(node.engine.containers))}"
        if len(device.reservations) or device.reservations.left.memory_mb:
            return f"{node.name} still holds {device.reservations.total} and {device.reservations.left}"
    return _untold(world)


def _untold(world: World) -> str:
    daemon = world.requester.daemon
    assert daemon is not None
    for (node, stream), _ in list(world.durable.streams.items()):
        kind, _, key = stream.partition("-")
        if kind == Job.KIND and node == world.requester.name:
            job = daemon.services.log.load(Job, key)
            require(job is not None, f"{node} no longer knows job {key}")
            if job is not None and job.attempts_to_tell:
                return f"providers of job {key} are not told of its end"
    return ""


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.5)


def roomy() -> Path | None:
    return IN_MEMORY if IN_MEMORY.is_dir() else None
