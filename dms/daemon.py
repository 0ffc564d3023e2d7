"""One DMS at work: in which order its parts start and stop, and whether it is ready. bootstrap.py builds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.eventlog.watch import LogWatch
from dms.adapters.metadata.file import MetadataFile
from dms.adapters.metrics.figures import Figures
from dms.adapters.views.sqlite import SQLiteViews
from dms.application.deployments.cleanup import Cleaner
from dms.application.files.file_exchange import FileExchange
from dms.application.loops import Loops
from dms.application.network.availability import AvailabilityNews
from dms.application.network.control import serve_control
from dms.application.ports.executor import Executor
from dms.application.ports.peers import Host
from dms.application.reactors import Reactor, Reactors
from dms.application.records.heads import HeadExchange
from dms.application.services import Services
from dms.config import Settings
from dms.domain.deployment import Deployment
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.transfer import OPEN_STATES, Transfer
from dms.errors import LogCorrupt
from projections.base import Projection
from projections.capacity import OWN, Capacity
from projections.checkpoints import OFFERED, Checkpoints
from projections.erasures import REQUESTED, Erasures
from projections.job_columns import UNTOLD
from projections.jobs import OPEN_STATUSES, Jobs
from projections.results import OFFERED as RESULTS_OFFERED
from projections.results import Results
from projections.transfers import Transfers

log = logging.getLogger("dms")

PAGE = 1000


class Part(Protocol):
    """What is started, and closed again."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class Server(Protocol):
    """Of the API."""

    async def start(self) -> int:
        """The port."""

    async def close(self) -> None: ...


class Readiness:
    """What the daemon says of itself while it starts, serves and stops."""

    def __init__(self, event_log: DurableEventLog, loops: Loops, tell: Callable[[str], None]) -> None:
        """tell: gets each phase of the start."""
        self._log, self._loops, self._tell = event_log, loops, tell
        self._phase: str | None = "starting"

    def enter(self, phase: str) -> None:
        """A phase of the start."""
        self._phase = phase
        self._tell(phase)

    def serve(self, damage: str | None = None) -> None:
        """The start is done. damage: why nothing is answered all the same."""
        self._phase = damage

    def stop(self) -> None:
        self._phase = "stopping"

    def not_serving(self) -> str | None:
        """Why nothing is answered, while it starts or stops; None when it serves."""
        return self.ready() if self._phase else None

    def ready(self) -> str | None:
        """Why it is not ready; None when it is. What is asked for then is tried all the same."""
        found = [text for text in (self._phase, self._log.trouble, self._loops.trouble) if text]
        return "; ".join(dict.fromkeys(found)) or None


@dataclass(frozen=True)
class Parts:
    """What a daemon starts and stops. exporters: send what is recorded elsewhere."""

    settings: Settings
    readiness: Readiness
    services: Services
    event_log: DurableEventLog
    log_watch: LogWatch
    views: SQLiteViews
    server: Server
    host: Host
    executor: Executor
    exchange: FileExchange
    heads: HeadExchange
    reactors: Reactors
    file_reactors: Sequence[Reactor[Any]]
    availability: AvailabilityNews
    cleaner: Cleaner
    figures: Figures
    metadata_file: MetadataFile
    exporters: Sequence[Part]


class Daemon:
    """`start`, then serve until `close`; a daemon is not started twice."""

    def __init__(self, parts: Parts, closing: AsyncExitStack) -> None:
        """closing: of what is open from the time it was built."""
        self.parts, self._closing = parts, closing
        self.services, self.loops = parts.services, parts.services.loops
        self.port = 0  # of REST, as soon as it is started

    def ready(self) -> str | None:
        """Why it is not ready; None when it is."""
        return self.parts.readiness.ready()

    async def start(self, *, take_part: bool = True) -> None:
        """take_part: in the network; else it only records and serves, which is enough for tests of the API.
        Raises DmsError: ConfigError, Unavailable."""
        try:
            await self._start(take_part)
        except BaseException:
            await self._closing.aclose()
            raise

    async def close(self) -> None:
        """Stops serving, leaves containers running, writes what is queued."""
        self.parts.readiness.stop()
        await self._closing.aclose()

    async def _start(self, take_part: bool) -> None:
        """From the outside in: the API answers (not ready), the views catch up, then work goes on."""
        parts = self.parts
        await parts.event_log.start()
        await asyncio.to_thread(parts.log_watch.check_newest)
        self._closing.push_async_callback(parts.server.close)
        self.port = await parts.server.start()
        self.parts.readiness.enter("reading the log")
        if parts.event_log.health.damage:
            await self._serve_damaged()
            return
        position = parts.event_log.head  # the views know at least this
        await parts.views.start()
        await self._begin(parts.log_watch)
        try:
            await self._follow_log(position)
            if take_part:
                await self._take_part(position)
        except LogCorrupt as error:  # in a part that was not looked at yet
            parts.event_log.health.refuse(str(error))
        self.parts.readiness.serve()
        if not parts.event_log.health.damage:
            self._say_ready()

    async def _serve_damaged(self) -> None:
        """Only what is read: nothing is started that would go on from a history that is not what was written."""
        try:
            await self.parts.views.start()
        except LogCorrupt as error:
            log.error("the views can't be read from it: %s", error, extra={"action": "views_unreadable"})
            self.parts.readiness.serve(self.parts.event_log.health.damage)
        else:
            self.parts.readiness.serve()

    async def _take_part(self, position: int) -> None:
        """Both roles go on with what was open at that position. Raises LogCorrupt."""
        self.parts.readiness.enter("joining the network")
        open_jobs = await self._open_jobs()
        holds = await self._open_holds()
        self.services.compute_provider.take_up(open_jobs, holds)
        self.services.service_provider.take_up(open_jobs)
        self._serve_peers()
        await self._begin(self.parts.host)
        await self._go_on(open_jobs, holds, position)

    async def _follow_log(self, position: int) -> None:
        """What needs no peers, with what was open at that position. Raises LogCorrupt."""
        parts = self.parts
        self._closing.push_async_callback(parts.reactors.close)
        erasures = await self._open_erasures()
        await parts.reactors.start(self.services.erasures.reactors, lambda _: erasures, position, "erasures")
        followers: Sequence[Part] = (parts.metadata_file, parts.figures, *parts.exporters)
        for part in followers:
            await self._begin(part)

    def _serve_peers(self) -> None:
        """Before the host starts, so that peers are answered from its first moment."""
        services, host = self.services, self.parts.host
        self.parts.exchange.start()
        services.compute_provider.serve(host)
        serve_control(host, services.compute_provider.on_terminate, self.parts.heads.on_head)
        services.directory.serve()
        services.transfers.serve()
        services.chats.serve()
        services.checkpoints.serve()
        services.service_provider.serve()

    async def _go_on(self, open_jobs: Sequence[str], holds: Sequence[str], position: int) -> None:
        """With what was open when the DMS stopped."""
        parts, services, closing = self.parts, self.services, self._closing
        closing.push_async_callback(parts.heads.close)
        await parts.heads.start(open_jobs)
        await self._begin(services.compute_provider)
        closing.push_async_callback(parts.reactors.close)  # before what they work with
        reactors = (
            *services.compute_provider.reactors, *services.service_provider.reactors, *parts.file_reactors,
        )  # fmt: skip
        jobs = {*open_jobs, *await self._wanted_archives(), *await self._untold()}
        transfers = await self._open_transfers()
        await services.transfers.take_up(transfers)
        open_keys = {Deployment.KIND: open_jobs, Job.KIND: sorted(jobs), Transfer.KIND: transfers, Hold.KIND: holds}
        await parts.reactors.start(reactors, open_keys.__getitem__, position)
        for part in (
            parts.cleaner, services.retention, services.directory, services.advertisement, parts.availability,
        ):  # fmt: skip
            await self._begin(part)
        closing.push_async_callback(services.chats.close)
        services.checkpoints.tidy()
        services.results.start()
        closing.push_async_callback(services.results.close)
        await self._begin(services.contents)

    async def _begin(self, part: Part) -> None:
        """It is closed also when its start fails half-way."""
        self._closing.push_async_callback(part.close)
        await part.start()

    def _say_ready(self) -> None:
        rest, device = self.parts.settings.rest, self.services.device
        scheme, hindrance = "https" if rest.tls_cert else "http", device.hindrance  # the engine was asked by now
        how = f"no jobs of peers: {hindrance}" if hindrance else f"jobs run with {self.services.executor_name}"
        log.info(
            "ready: REST on %s://%s:%d, peer %s, %s", scheme, rest.addr, self.port, self.parts.host.peer_id, how,
            extra={"action": "ready"},
        )  # fmt: skip

    async def _open_jobs(self) -> list[str]:
        """Job ids of both roles that had not ended, in the order requested (UUIDv7)."""
        return await self._keys(Jobs(), "status", (*OPEN_STATUSES, "requested"), lambda row: row.job_id)

    async def _open_holds(self) -> list[str]:
        """Ids of jobs for which a place is kept here."""
        own = await self.parts.views.get(Capacity(), OWN)
        return [] if own is None else list(own.on_hold)

    async def _open_transfers(self) -> list[str]:
        return await self._keys(Transfers(), "state", OPEN_STATES, lambda row: row.transfer_id)

    async def _open_erasures(self) -> list[str]:
        return await self._keys(Erasures(), "state", (REQUESTED,), lambda row: row.erasure_id)

    async def _wanted_archives(self) -> list[str]:
        """Jobs whose checkpoints or results are to be fetched."""
        return [
            *await self._keys(Checkpoints(), "state", (OFFERED,), lambda row: row.job_id),
            *await self._keys(Results(), "state", (RESULTS_OFFERED,), lambda row: row.job_id),
        ]

    async def _untold(self) -> list[str]:
        """Jobs whose providers may not know yet that they, or an attempt of them, are over; however long they are."""
        return await self._keys(Jobs(), "untold", (UNTOLD,), lambda row: row.job_id)

    async def _keys(
        self, view: Projection[Any], column: str, values: Sequence[str], key: Callable[[Any], str]
    ) -> list[str]:
        found: list[str] = []
        after = ""
        while True:
            page = await self.parts.views.page(view, limit=PAGE, after=after, where={column: values})
            found += map(key, page.rows)
            if not page.next:
                return found
            after = page.next
