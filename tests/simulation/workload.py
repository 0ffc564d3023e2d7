"""What is asked of the network, and what goes wrong in it. Which kinds of faults there are differs from seed to seed:
few at a time find more than all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from dms.application.services import Services
from dms.domain.job import FundStatus, Job
from dms.domain.request import ServiceRequest
from dms.domain.retry import Retry
from dms.errors import Conflict, DmsError, NotFound
from tests.fixtures.histories import request
from tests.simulation.world import ADDRESS, REQUESTER, World

T = TypeVar("T")
TROUBLED_SECONDS = 45.0  # how long things go wrong
MOST_JOBS = 4
TRIES = 8  # of a client, for one answer


class Cut(Exception):
    """The client does not know what became of its command."""


class Client:
    """Of the node that asks for jobs: quotes, pays, says so until it is told that it was heard, stops some."""

    def __init__(self, world: World) -> None:
        self._world, self._random = world, world.stream("client")
        self._paid_with: list[str] = []
        self._all_at_once = self._random.random() < 0.5

    async def work(self) -> None:
        jobs = [self._job(number) for number in range(self._random.randint(1, MOST_JOBS))]
        await asyncio.gather(*jobs)

    async def _job(self, number: int) -> None:
        random = self._random
        await asyncio.sleep(0 if self._all_at_once else random.random() * 8)
        wanted = self._request()
        try:
            quote = await self._told(lambda services: services.service_provider.request_service(wanted))
        except (DmsError, Cut):
            return
        stream = f"{Job.KIND}-{quote.job_id}"
        self._world.durable.acknowledged(REQUESTER, stream, Job.ServiceRequested.TOPIC)
        doings = [self._pay(quote.job_id, number)] if random.random() < 0.92 else []
        if random.random() < 0.25:
            doings.append(self._terminate(quote.job_id))
        await asyncio.gather(*doings)

    def _request(self) -> ServiceRequest:
        random = self._random
        wanted = request(cpu=random.randint(2500, 4500), ram=random.randint(500, 7000), address_user=ADDRESS)
        return replace(wanted, retry=Retry(max_attempts=random.choice((1, 1, 2))))

    async def _pay(self, job_id: str, number: int) -> None:
        random = self._random
        again = self._paid_with and random.random() < 0.3
        tx_hash = random.choice(self._paid_with) if again else f"0x{self._world.seed:032x}{number:032x}"
        self._paid_with.append(tx_hash)
        self._world.durable.payments[job_id] = tx_hash
        await asyncio.sleep(2.0 if self._all_at_once else random.random() * 6)
        self._world.chain.pay(tx_hash, 0.0 if self._all_at_once else random.random() * 10)
        status = FundStatus(transaction_type="fund", transaction_status="success", tx_hash=tx_hash)
        try:
            await self._told(lambda services: services.service_provider.report_fund_status(status, job_id))
        except (DmsError, Cut):
            return
        self._world.durable.acknowledged(REQUESTER, f"{Job.KIND}-{job_id}", Job.FundStatusReported.TOPIC)

    async def _terminate(self, job_id: str) -> None:
        await asyncio.sleep(self._random.random() * 40)
        try:
            await self._told(lambda services: services.service_provider.terminate(job_id, "no longer wanted"))
        except (DmsError, Cut):
            return
        self._world.durable.acknowledged(REQUESTER, f"{Job.KIND}-{job_id}", Job.TerminationRequested.TOPIC)

    async def claim(self) -> None:
        """Whatever is owed, at both sides."""
        for node in self._world.nodes.values():
            for tx_hash in dict.fromkeys(self._paid_with):
                try:
                    await self._call(node.name, partial(_claim, tx_hash))
                except (NotFound, Conflict):
                    continue

    async def _told(self, command: Callable[[Services], Awaitable[T]]) -> T:
        """Again until it is answered, as clients do. Raises what it is answered with, and Cut."""
        for _ in range(TRIES):
            try:
                return await self._call(REQUESTER, command)
            except (Conflict, NotFound):
                raise
            except Cut:
                await asyncio.sleep(self._random.random())
            except DmsError:
                await asyncio.sleep(self._random.random() * 5)
        raise Cut

    async def _call(self, name: str, command: Callable[[Services], Awaitable[T]]) -> T:
        node, random = self._world.nodes[name], self._random
        while node.daemon is None:
            await asyncio.sleep(0.5)
        assert node.died is not None
        calling: asyncio.Task[T] = node.run(_awaited(command(node.daemon.services)))
        patience = random.random() * 0.1 if random.random() < self._world.cuts else 60.0
        either: list[asyncio.Future[Any]] = [calling, node.died]
        await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            calling.cancel()
            raise Cut
        return calling.result()


def _claim(tx_hash: str, services: Services) -> Awaitable[object]:
    return services.transactions.request_reward(tx_hash)


async def _awaited(command: Awaitable[T]) -> T:
    return await command


class Chaos:
    """Faults that begin and end, until it is calm."""

    def __init__(self, world: World) -> None:
        self._world, self._random = world, world.stream("chaos")
        kinds: list[Callable[[], tuple[str, Callable[[], Any]]]] = [
            self._kill, self._kill, self._stop, self._cut, self._engine_away, self._disk_full, self._disk_slow,
            self._chain_away,
        ]  # fmt: skip
        self._kinds = self._random.sample(kinds, self._random.randint(0, 4))
        self._pause_seconds = self._random.choice((3.0, 8.0, 20.0))
        self._kill_at_commit = self._random.choice((0.0, 0.0, 0.01, 0.05))
        self._undo: list[Callable[[], Any]] = []
        world.wires.trouble = self._random.choice((0.0, 0.0, 0.05, 0.2))
        world.cuts = self._random.choice((0.0, 0.3))
        for node in world.nodes.values():
            node.disk.slow = self._random.random() < 0.35
            node.engine.trouble = self._random.choice((0.0, 0.0, 0.1, 0.3))
        world.on_commit = self._committed

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + TROUBLED_SECONDS
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, self._random.expovariate(1 / self._pause_seconds)))
            if self._kinds and loop.time() < until:
                what, undo = self._random.choice(self._kinds)()
                self._world.met_fault(what)
                self._undo.append(undo)
                loop.call_later(self._random.random() ** 2 * 30, undo)

    def calm(self) -> None:
        """Nothing fails from now on, and who was killed is started again."""
        world = self._world
        world.on_commit, world.wires.trouble, world.cuts = (lambda node: None), 0.0, 0.0
        for undo in self._undo:
            undo()
        world.wires.mend()
        world.chain.away = False
        for node in world.nodes.values():
            node.engine.trouble, node.engine.away, node.disk.full, node.disk.slow = 0.0, False, False, False
        self.start_all()

    def start_all(self) -> None:
        for node in self._world.nodes.values():
            if node.is_down:
                node.start()

    def _committed(self, name: str) -> None:
        if self._random.random() < self._kill_at_commit:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._kill_node, name, context=self._world.context.copy())

    def _kill_node(self, name: str) -> None:
        self._world.met_fault(f"{name} is killed as it commits")
        self._world.nodes[name].kill()
        asyncio.get_running_loop().call_later(self._random.random() * 10, self._start, name)

    def _start(self, name: str) -> None:
        if self._world.nodes[name].is_down:
            self._world.nodes[name].start()

    def _node(self) -> str:
        return self._random.choice((REQUESTER, *self._world.providers))

    # --- the kinds: what it is called, and what ends it --------------------------------------------------
    def _kill(self) -> tuple[str, Callable[[], Any]]:
        name = self._node()
        self._world.nodes[name].kill()
        return f"{name} is killed", lambda: self._start(name)

    def _stop(self) -> tuple[str, Callable[[], Any]]:
        name = self._node()
        stopping = asyncio.get_running_loop().create_task(self._world.nodes[name].stop())
        return (
            f"{name} is stopped",
            lambda: self._start(name) if stopping.done() else stopping.add_done_callback(lambda _: self._start(name)),
        )

    def _cut(self) -> tuple[str, Callable[[], Any]]:
        one, other = (
            self._world.nodes[name].peer_id for name in self._random.sample((REQUESTER, *self._world.providers), 2)
        )
        self._world.wires.cut(one, other)
        return "a line is cut", self._world.wires.mend

    def _engine_away(self) -> tuple[str, Callable[[], Any]]:
        engine = self._world.nodes[self._random.choice(self._world.providers)].engine
        engine.away = True
        return "an engine is away", lambda: setattr(engine, "away", False)

    def _disk_full(self) -> tuple[str, Callable[[], Any]]:
        name = self._node()
        disk = self._world.nodes[name].disk
        disk.full = True

        def undo() -> None:
            disk.full = False
            self._start(name)  # it may not have started meanwhile

        return f"the disk of {name} is full", undo

    def _disk_slow(self) -> tuple[str, Callable[[], Any]]:
        name = self._node()
        disk = self._world.nodes[name].disk
        disk.slow = True
        return f"the disk of {name} is slow", lambda: setattr(disk, "slow", False)

    def _chain_away(self) -> tuple[str, Callable[[], Any]]:
        chain = self._world.chain
        chain.away = True
        return "the chain is away", lambda: setattr(chain, "away", False)
