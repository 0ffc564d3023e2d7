"""The HTTP server: Sanic inside our own loop, one process, sockets that we bind."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic.http import Http
from sanic.response import BaseHTTPResponse
from sanic.server.async_server import AsyncioServer

from dms.adapters.http import (
    admin,
    asyncapi,
    chat,
    checkpoints,
    dashboard,
    debug,
    default_provider,
    deploy,
    doctor,
    earnings,
    erasures,
    event_times,
    events,
    files,
    gpu,
    job_lists,
    job_metrics,
    job_output,
    job_record,
    jobs,
    live,
    log_archive,
    metrics,
    offboarding,
    onboarding,
    openapi,
    pages,
    past,
    peers,
    policy,
    results,
    retired,
    sign_in,
    tokens,
    transactions,
    usage,
    wallets,
)
from dms.adapters.http.access import Access, AccessSettings
from dms.adapters.http.compression import compress
from dms.adapters.http.connection import Connection
from dms.adapters.http.connection_counts import ConnectionCounts, most_connections
from dms.adapters.http.deploy import DeployEndpoint
from dms.adapters.http.exposure import ExposureSettings, check_tls, check_token
from dms.adapters.http.fanout import Hub
from dms.adapters.http.garbage import no_collection
from dms.adapters.http.gate import Gate
from dms.adapters.http.live import Live
from dms.adapters.http.problems import Refused, answer
from dms.adapters.http.replies import request_id
from dms.adapters.http.routes import Api, Route, WebSocket, run
from dms.adapters.http.sockets import Sockets
from dms.adapters.http.streams import Streams
from dms.adapters.http.tls import Certificate
from dms.application.loops import Loop, Loops
from dms.application.records import event_messages
from dms.application.records.asyncapi import Part, document
from dms.application.services import Services
from dms.errors import AddressUnavailable, ConfigError
from projections.base import LiveViews

MODULES = (
    onboarding,
    offboarding,
    policy,
    wallets,
    peers,
    default_provider,
    files,
    chat,
    job_lists,
    jobs,
    job_output,
    job_record,
    job_metrics,
    usage,
    doctor,
    checkpoints,
    results,
    gpu,
    transactions,
    earnings,
    events,
    event_times,
    log_archive,
    past,
    erasures,
    tokens,
    sign_in,
    admin,
    metrics,
    retired,
    pages,
)
ROUTES: tuple[Route, ...] = tuple(route for module in MODULES for route in module.ROUTES)
WEBSOCKETS: tuple[WebSocket, ...] = (
    *deploy.WEBSOCKETS,
    *events.WEBSOCKETS,
    *live.WEBSOCKETS,
    *files.WEBSOCKETS,
    *chat.WEBSOCKETS,
)

MAX_BODY_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 64 * 1024
ARRIVE_SECONDS = 10  # for TLS to be agreed on, for a request's head, and again for its body
IDLE_SECONDS = 60  # of a kept connection
STREAM_SECONDS = 366 * 24 * 3600  # a followed log may be silent for as long as its job
GOODBYE_SECONDS = 2.0
LOOK_SECONDS = 20.0  # how often connections are looked at whose token or session has expired
_LOGGERS = ("sanic.root", "sanic.server", "sanic.error", "sanic.access", "sanic.websockets")
_numbers = count(1)


class RestSettings(AccessSettings, ExposureSettings, Protocol):
    """What of the settings matters here."""

    @property
    def allowed_hosts(self) -> Sequence[str]: ...
    @property
    def allowed_origins(self) -> Sequence[str]: ...
    @property
    def port(self) -> int: ...
    @property
    def max_sockets(self) -> int: ...


def build_app(
    services: Services,
    views: LiveViews,
    rest: RestSettings,
    *,
    verbose: bool = False,
    debug_routes: bool = False,
    streams: Callable[[], Sequence[Part]] = tuple,
) -> Sanic[Any, Any]:
    """The application; several may live in one process. Serve it with HttpServer. streams: what this DMS sends
    by other ways, for the description."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
    app: Sanic[Any, Any] = Sanic(f"dms-{next(_numbers)}", configure_logging=False)
    app.config.update(
        MOTD=False,
        ACCESS_LOG=False,
        AUTO_EXTEND=False,
        REQUEST_MAX_SIZE=MAX_BODY_BYTES,
        REQUEST_TIMEOUT=ARRIVE_SECONDS,
        KEEP_ALIVE_TIMEOUT=IDLE_SECONDS,
        RESPONSE_TIMEOUT=STREAM_SECONDS,
        WEBSOCKET_MAX_SIZE=MAX_MESSAGE_BYTES,
        WEBSOCKET_PING_INTERVAL=None,  # ours is one loop for all sockets
    )
    streamed = Streams(rest.max_sockets)
    api = Api(services, views, streamed)
    app.ctx.hub = Hub(services.log, services.outputs, api.log_path, services.loops)
    app.ctx.live = Live(api, services.loops)
    endpoints = (
        DeployEndpoint(services, app.ctx.hub).endpoint,
        events.endpoint(api),
        app.ctx.live.endpoint,
        *files.endpoints(api),
        *chat.endpoints(api),
    )
    app.ctx.sockets = Sockets(services.not_serving, endpoints, streamed, services.loops)
    app.exception(Exception)(answer)
    app.ctx.gate = Gate(rest.addr, rest.allowed_hosts, rest.allowed_origins, rest.public_url, tls=bool(rest.tls_cert))
    app.ctx.access = Access(services.tokens, services.log, rest, services.network.peer_id)
    known = app.ctx.access.operators.is_known
    app.ctx.connection_counts = ConnectionCounts(known, most_connections(), proxied=bool(rest.public_url))
    _guard(app, app.ctx.gate)
    routes = (*ROUTES, *debug.ROUTES) if debug_routes else ROUTES
    all_routes = (*routes, *pages.PAGES, *dashboard.PAGES, *sign_in.PAGES)
    app.ctx.allow = _allow(all_routes)
    app.ctx.description = cache(lambda: describe(routes))
    app.ctx.stream_description = cache(lambda: describe_streams(streams()))
    _add_routes(app, api, all_routes)
    return app


def describe(routes: Iterable[Route] = ROUTES) -> dict[str, Any]:
    """The OpenAPI document, as plain JSON values."""
    return _plain(openapi.document(routes, WEBSOCKETS, metadata.version("nunet-dms")))


def describe_streams(others: Sequence[Part] = ()) -> dict[str, Any]:
    """The AsyncAPI document, as plain JSON values. others: beyond what this server streams."""
    parts = (event_messages.part(), asyncapi.part(ROUTES, WEBSOCKETS), *others)
    return _plain(document(parts, metadata.version("nunet-dms")))


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", msgspec.json.decode(msgspec.json.encode(found)))


def _guard(app: Sanic[Any, Any], gate: Gate) -> None:
    """Before routing: who may speak, and the whole body in time. On every answer: what all of them carry."""

    async def enter(request: Request) -> None:
        request_id(request)
        gate.check(request)
        try:
            async with asyncio.timeout(ARRIVE_SECONDS):
                await request.receive_body()
        except TimeoutError as error:
            if isinstance(request.stream, Http):  # the rest is not waited for
                request.stream.keep_alive, request.stream.request_body = False, None
            raise Refused(408, "the request did not arrive in time") from error

    async def leave(request: Any, response: BaseHTTPResponse) -> None:
        response.headers["x-request-id"] = request_id(request)
        response.headers["x-content-type-options"] = "nosniff"
        response.headers.setdefault("cache-control", "no-store")
        position = getattr(request.ctx, "position", None)
        if position is not None and response.status < 400:
            response.headers["x-position"] = str(position)
        await compress(request, response)
        own_vary = response.headers.get("vary", "")
        response.headers.update(gate.cors(request))
        if own_vary:
            response.headers["vary"] = f"{own_vary}, Origin"
        if request.method == "OPTIONS":
            response.headers.update(gate.preflight(request))

    app.add_signal(enter, "http.routing.before")
    app.register_middleware(leave, "response")


def _add_routes(app: Sanic[Any, Any], api: Api, routes: Sequence[Route]) -> None:
    """One route of Sanic's for an address: each costs time at the start. All errors are answered by `answer`: without
    a format for them, Sanic parses the source of each handler to find one, which costs more."""
    at: dict[str, dict[str, Route]] = {}
    for route in routes:
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            at.setdefault(route.address, {})[method] = route
    for number, (address, by_method) in enumerate(at.items()):
        methods = [*by_method, "OPTIONS"]
        app.add_route(_handler(by_method, api), address, methods=methods, name=f"route-{number}", error_format="json")
    app.ctx.sockets.add_to(app)


def _handler(by_method: Mapping[str, Route], api: Api) -> Callable[..., Coroutine[Any, Any, HTTPResponse | None]]:
    async def handle(request: Request, **_path: str) -> HTTPResponse | None:
        if request.method == "OPTIONS":
            return HTTPResponse(None, 204, {"allow": request.app.ctx.allow(request.path)})
        if request.headers.get("upgrade", "").casefold() == "websocket":
            raise Refused(400, "this address speaks no websocket; those that do are in /asyncapi.json")
        route = by_method[request.method]
        request.ctx.compressible = not route.secret
        return await run(route, request, api)

    return handle


_STEP = re.compile(r"<\w+(:path)?>")


def _pattern_of_step(step: re.Match[str]) -> str:
    return ".+" if step[1] else "[^/]+"


def _allow(routes: Iterable[Route]) -> Callable[[str], str]:
    """The methods that a path takes, as the Allow header has them."""
    methods: dict[str, set[str]] = {socket.address: {"GET"} for socket in WEBSOCKETS}
    for route in routes:
        also = {"HEAD"} if route.method == "GET" else set[str]()
        methods.setdefault(route.address, set()).update({route.method, *also})
    patterns = [(re.compile(_STEP.sub(_pattern_of_step, address)), found) for address, found in methods.items()]

    def allow(path: str) -> str:
        if path in methods:  # as the description has it: an address without parameters comes first
            return ", ".join(sorted(methods[path] | {"OPTIONS"}))
        fitting = [found for pattern, found in patterns if pattern.fullmatch(path)]
        return ", ".join(sorted(set().union(*fitting) | {"OPTIONS"}))

    return allow


class HttpServer:
    """Runs an application of `build_app` in the loop that calls `start`."""

    def __init__(self, app: Sanic[Any, Any], rest: RestSettings, loops: Loops) -> None:
        """rest: port 0 is one that is free."""
        self.app, self._rest, self._loops = app, rest, loops
        self._server: AsyncioServer | None = None
        self._certificate: Certificate | None = None
        self._looking: Loop | None = None

    @property
    def connections(self) -> Collection[Connection]:
        """The open ones."""
        return self._server.connections if self._server is not None else ()

    async def start(self) -> int:
        """The port. Raises ConfigError when the address can't be had, or must not be listened on like this."""
        rest = self._rest
        check_tls(rest)
        check_token(rest, has_token=self.app.ctx.access.has_token)
        if rest.tls_cert:
            self._certificate = Certificate(Path(rest.tls_cert), Path(rest.tls_key), self._loops)
            self._certificate.start()
        listening = _bound(rest.addr, rest.port)
        context = self._certificate.context if self._certificate is not None else None
        in_time = {"ssl_handshake_timeout": ARRIVE_SECONDS} if context is not None else {}
        server = await self.app.create_server(
            sock=listening,
            protocol=Connection,
            backlog=1024,
            ssl=context,
            asyncio_server_kwargs={"start_serving": False, **in_time},
        )
        if server is None:
            raise ConfigError("the HTTP server could not be made")
        # Sanic rewrites its classes by their source, to leave out what is not used: once a process is all it can.
        self.app.config.TOUCHUP = not hasattr(Sanic, "__touched__")
        with no_collection():  # Sanic makes its routers from source
            await server.startup()
        await server.before_start()
        self.app.ctx.hub.start()
        self.app.ctx.live.start()
        self.app.ctx.sockets.start()
        self._server = server
        self.app.ctx.cut_off = lambda asking=None: self.app.ctx.access.cut_off(self.connections, asking)
        self._looking = self._loops.every(LOOK_SECONDS, "expired tokens", self._cut_off, at_once=False)
        await server.start_serving()
        await server.after_start()
        return int(listening.getsockname()[1])

    async def _cut_off(self) -> None:
        self.app.ctx.cut_off()

    async def close(self) -> None:
        """Takes no new connections, says goodbye on the open ones, and cuts what is left."""
        if self._certificate is not None:
            await self._certificate.close()
        if self._looking is not None:
            await self._looking.close()
        server, self._server = self._server, None
        if server is None:
            return
        closed = server.close()
        await self.app.ctx.sockets.close(GOODBYE_SECONDS)
        await self._finish_requests(server.connections)
        await server.before_stop()
        if closed is not None:
            await closed
        await self.app.ctx.hub.close()
        await self.app.ctx.live.close()
        await server.after_stop()
        Sanic.unregister_app(self.app)

    async def _finish_requests(self, connections: Iterable[Connection]) -> None:
        """Answers that are on their way get a moment."""
        deadline = asyncio.get_running_loop().time() + GOODBYE_SECONDS
        while open_ones := list(connections):
            late = asyncio.get_running_loop().time() > deadline
            for connection in open_ones:
                if late:
                    connection.abort()  # type: ignore[no-untyped-call]
                else:
                    connection.close_if_idle()  # type: ignore[no-untyped-call]
            if late:
                return
            await asyncio.sleep(0.01)


def _bound(addr: str, port: int) -> socket.socket:
    """Raises AddressUnavailable that names the address, ConfigError for what can't be one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            addr.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressUnavailable(f"rest.addr: {addr} is not an address of this machine ({error.strerror})") from error
    except ValueError as error:  # Python's own, of a name that can't be sent to a resolver
        raise ConfigError(f"rest.addr: {addr!r} is neither an IP address nor a name: {error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise AddressUnavailable(
            f"can't listen on {addr}:{port}: {error.strerror}; is another DMS running? See rest.addr and rest.port"
        ) from error
    return listening
