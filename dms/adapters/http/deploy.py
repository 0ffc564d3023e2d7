"""The websocket `/api/v1/run/deploy`: actions of jobs out, `send-status` and `terminate-job` in.

A socket follows the jobs that it funded, from their first event, and the job named in `?job_id=`: with
`after=N` from position N on, without it from now on (of a job that is over, its end is told).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct
from sanic import Request

from dms.adapters.http.access import access_of, caller_of
from dms.adapters.http.action_frames import SUBPROTOCOL_V2, Flavour, connected_frame, error_frame
from dms.adapters.http.action_schemas import DEPLOY
from dms.adapters.http.connection import Socket, text_frame
from dms.adapters.http.fanout import Follower, Hub
from dms.adapters.http.gate import base_url
from dms.adapters.http.replies import checked_job_id, query, query_bool, query_int
from dms.adapters.http.sockets import Endpoint
from dms.adapters.http.strict_json import convert, load
from dms.application.cause import caused_by
from dms.application.services import Services
from dms.application.tasks import background, cancelled
from dms.domain.event import new_id
from dms.domain.job import FundStatus, Job
from dms.domain.request import Text
from dms.errors import Conflict, DmsError, InvalidInput, NotFound
from dms.recent import Recent

log = logging.getLogger(__name__)

MOST_OVER = 64  # jobs of a socket, told of already, that it still knows
LINGER_SECONDS = 5.0  # how long a version 1 socket stays open when all its jobs are over
TERMINATED = "terminated by the service provider"
WEBSOCKETS = DEPLOY
ROUTES = tuple(socket.address for socket in WEBSOCKETS)


class Incoming(Struct, frozen=True):
    action: Text
    message: dict[str, object] | str | None = None


class StatusMessage(Struct, frozen=True, kw_only=True):
    transaction_status: Text
    transaction_type: Text = "fund"
    tx_hash: Text = ""
    job_id: Text = ""


class TerminateMessage(Struct, frozen=True):
    job_id: Text = ""


class Asked(Struct, frozen=True):
    """What the query of a handshake asks for, checked."""

    flavour: Flavour
    job_id: str = ""
    after: int | None = None
    log_after: int = 0


class Mine(NamedTuple):
    """client: whose jobs are asked for and paid on the socket; empty: the operator's. check: raises NotFound for a job
    that the caller may not know of."""

    client: str
    check: Callable[[str], None]


class DeployEndpoint:
    def __init__(self, services: Services, hub: Hub) -> None:
        self.services, self.hub = services, hub

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(WEBSOCKETS, self._admit, self._begin)

    async def _admit(self, request: Request) -> tuple[Asked, Sequence[str] | None]:
        offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",")]
        version = 2 if SUBPROTOCOL_V2 in offered else 1
        return await self._asked(request, version), [SUBPROTOCOL_V2] if version == 2 else None

    def _begin(self, request: Request, socket: Socket, asked: Asked) -> Session:
        caller, check = caller_of(request), access_of(request).check_job
        mine = Mine(caller.owner or "", lambda job_id: check(caller, job_id))
        return Session(self, socket, asked, mine, request.headers.get("traceparent", ""))

    async def _asked(self, request: Request, version: int) -> Asked:
        actions = query(request, "actions", "all")
        if actions not in ("all", "core"):
            raise InvalidInput(f"actions is '{actions[:64]}'; all or core", [("?actions", "all or core")])
        core, base = actions == "core", base_url(request)
        progress = query_bool(request, "progress") and version >= 2 and not core
        flavour = Flavour(version, core, base, progress)
        job_id = query(request, "job_id")
        after = query_int(request, "after", 0) if "after" in request.args else None
        log_after = query_int(request, "log_after", 0)
        if not job_id:
            if after is not None or log_after:
                raise InvalidInput("after and log_after need job_id", [("?job_id", "is missing")])
            return Asked(flavour)
        access_of(request).check_job(caller_of(request), checked_job_id(job_id))
        if self.services.log.load(Job, job_id) is None:
            raise NotFound(f"no job {job_id} here")
        for name, given, newest in (
            ("after", after or 0, self.services.log.head),
            ("log_after", log_after, await self.services.outputs.last(job_id)),
        ):
            if given > newest:
                raise InvalidInput(f"{name} is {given}, but the newest is {newest}", [(f"?{name}", "in the future")])
        if after is None and query(request, "log_after"):
            after = 0
        return Asked(flavour, job_id, after, log_after)


class Session:
    """One client's socket: the jobs that it follows, and the ones that it paid for."""

    def __init__(self, endpoint: DeployEndpoint, socket: Socket, asked: Asked, mine: Mine, traceparent: str) -> None:
        self.socket, self._mine = socket, mine
        self._services, self._hub = endpoint.services, endpoint.hub
        self._asked, self._traceparent = asked, traceparent
        self._following: dict[str, asyncio.Task[None]] = {}
        self._funded: dict[str, None] = {}  # in the order funded, until they are over
        self._over: Recent[str, bool] = Recent(MOST_OVER)  # job id -> whether it was funded here
        self._linger: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        try:
            if not self._asked.flavour.core:
                self.socket.write(text_frame(connected_frame()))
            if self._asked.job_id:
                self._follow(self._asked.job_id, self._asked.after, self._asked.log_after)
            while (message := await self.socket.receive()) is not None:
                await self._on_message(message)
                self._rest()
            await self.socket.lost()
        finally:
            if self._linger is not None:
                self._linger.cancel()
            for task in list(self._following.values()):
                await cancelled(task)

    # --- what the client says ----------------------------------------------------------------------
    async def _on_message(self, message: str | bytes) -> None:
        try:
            if isinstance(message, bytes):
                raise InvalidInput("binary messages are not understood; send JSON text")
            with caused_by(new_id(), self._traceparent):
                await self._act(convert(load(message.encode()), Incoming))
        except DmsError as error:
            self._error(str(error))
        except Exception:  # the socket's outermost loop: one message must not end it
            log.exception("websocket message failed unexpectedly", extra={"action": "message_failed"})
            self._error("internal error; it is in the log of the DMS")

    def _error(self, text: str) -> None:
        if not self._asked.flavour.core:
            self.socket.write(text_frame(error_frame(text)))

    async def _act(self, incoming: Incoming) -> None:
        match incoming.action:
            case "send-status":
                await self._send_status(convert(_object(incoming), StatusMessage))
            case "terminate-job":
                await self._terminate(convert(_object(incoming) if incoming.message else {}, TerminateMessage))
            case other:
                raise InvalidInput(f"unknown action '{other[:64]}'; known are send-status and terminate-job")

    async def _send_status(self, message: StatusMessage) -> None:
        """A payment that is reported again, on a new connection, makes that one follow the job as well."""
        status = FundStatus(
            transaction_type=message.transaction_type,
            transaction_status=message.transaction_status,
            tx_hash=message.tx_hash,
        )
        if message.job_id:
            self._mine.check(message.job_id)
        provider = self._services.service_provider
        job_id = await provider.report_fund_status(status, message.job_id, self._mine.client)
        if job_id in self._over:  # it was told all
            self._over[job_id] = True
        else:
            self._funded[job_id] = None
            self._follow(job_id, 0, 0)

    async def _terminate(self, message: TerminateMessage) -> None:
        provider = self._services.service_provider
        if message.job_id:
            self._mine.check(checked_job_id(message.job_id))
            await provider.terminate(message.job_id, TERMINATED)
            return
        over = [job_id for job_id, funded in self._over.items() if funded]
        if not self._funded and over:
            raise Conflict(f"job {', '.join(over)} is over")
        if not self._funded:
            raise Conflict("nothing to terminate: this connection funded no job; name one by message.job_id")
        for job_id in list(self._funded):
            await provider.terminate(job_id, TERMINATED)

    # --- what the client is told -------------------------------------------------------------------
    def _follow(self, job_id: str, after: int | None, log_after: int) -> None:
        if job_id in self._following:
            return
        follower = Follower(self.socket, self._asked.flavour, after, log_after, self._on_over)
        task = background(self._hub.follow(job_id, follower), f"follower of job {job_id}")
        self._following[job_id] = task
        task.add_done_callback(self._on_follower_end)

    def _on_follower_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            words = str(error) if isinstance(error, DmsError) else "internal error; it is in the log of the DMS"
            self._error(f"the job's stream can't be read: {words}")
            self.socket.close(1013, "the job's stream can't be read now; come back and resume")

    def _on_over(self, job_id: str) -> None:
        """Nothing follows, so nothing is kept for it: a client may pay for job after job on one connection."""
        self._over[job_id] = job_id in self._funded
        self._funded.pop(job_id, None)
        self._following.pop(job_id).cancel()
        self._rest()

    def _rest(self) -> None:
        """A client of the original waits for the close after job-failed: it gets it when all is said."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._asked.flavour.version == 1 and self._over and not self._following:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(LINGER_SECONDS, self.socket.close, 1000, "all jobs are over")


def _object(incoming: Incoming) -> dict[str, object]:
    if not isinstance(incoming.message, dict):
        raise InvalidInput("message must be an object", [("/message", "an object is expected")])
    return incoming.message
