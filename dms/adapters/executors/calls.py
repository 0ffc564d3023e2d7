"""The Docker SDK's blocking calls, run in threads under deadlines, with our errors.

Each thread has a client (a requests session) of its own, and none keeps a connection when its call is over: the
SDK would keep one for each address that it ever asked, 25 a thread. A daemon that is away, silent or broken gives
ExecutorUnavailable in bounded time; what it refuses gives ExecutionError. Its words are only logged (engine_words.py).
"""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import requests
from docker import APIClient
from docker.errors import APIError, DockerException
from docker.errors import NotFound as EngineNotFound
from docker.transport.unixconn import UnixHTTPConnection

from dms.adapters.executors.engine import EngineAddress
from dms.adapters.executors.engine_words import explained, words_of
from dms.errors import ExecutionError, ExecutorUnavailable, NotFound

T = TypeVar("T")

THREADS = 32  # one stuck call per container may hold one: far more than a broken container needs
_QUEUE_SECONDS = 5.0  # on top of a call's own limit, for waiting for a thread


class EngineCalls:
    """call_seconds bounds questions, work_seconds what makes the engine work (create, start, remove)."""

    def __init__(self, address: EngineAddress, call_seconds: float, work_seconds: float) -> None:
        self._address = address
        self._call_seconds = call_seconds
        self._work_seconds = work_seconds
        self._version = "auto"
        self._closed = False
        self._local = threading.local()
        self._clients: list[APIClient] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, "dms-docker")

    async def ask(self, what: str, call: Callable[[APIClient], T]) -> T:
        """For questions. Raises NotFound, ExecutionError, ExecutorUnavailable."""
        return await self._run(what, self._call_seconds, call)

    async def work(self, what: str, call: Callable[[APIClient], T]) -> T:
        return await self._run(what, self._work_seconds, call)

    async def within(self, seconds: float, what: str, call: Callable[[APIClient], T]) -> T:
        """For what asks others in its turn."""
        return await self._run(what, seconds, call)

    async def version(self) -> str:
        """The API version that client and daemon agreed upon."""
        if self._version == "auto":
            await self.ask("negotiate the API version", lambda _: None)
        return self._version

    def close(self) -> None:
        """Does not wait for a stuck thread: it ends at its own limit."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    async def _run(self, what: str, seconds: float, call: Callable[[APIClient], T]) -> T:
        if self._closed:
            raise ExecutorUnavailable(f"the connection to Docker was closed, so it can't {what}")

        def run() -> T:
            with engine_errors(what, self._address.base_url):
                client = self._client()
                client.timeout = math.ceil(min(seconds, self._work_seconds))
                return call(client)

        try:
            async with asyncio.timeout(seconds + _QUEUE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._pool, run)
        except TimeoutError as error:
            raise ExecutorUnavailable(
                f"Docker at {self._address.base_url} did not {what} within {seconds:g} s"
            ) from error

    def _client(self) -> APIClient:
        client: APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = APIClient(self._address.base_url, version=self._version, timeout=math.ceil(self._call_seconds))
            client.headers["Connection"] = "close"
            self._version, self._local.client = client.api_version, client
            with self._lock:
                self._clients.append(client)
        return client


def _connect(connection: UnixHTTPConnection) -> None:
    """As the SDK's own, which leaves the socket open when nobody listens: one for each try while the engine is away."""
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.settimeout(connection.timeout)
        connecting.connect(connection.unix_socket)
    except OSError:
        connecting.close()
        raise
    connection.sock = connecting


UnixHTTPConnection.connect = _connect  # type: ignore[method-assign, assignment]


@contextmanager
def engine_errors(what: str, base_url: str) -> Iterator[None]:
    """Turns the SDK's, requests' and the socket's errors into ours."""
    try:
        yield
    except EngineNotFound as error:
        raise NotFound(f"Docker can't {what}: it has no such thing") from error
    except APIError as error:
        words = words_of(error)
        reason = explained(what, words)
        if error.status_code is not None and error.status_code >= 500 and _is_daemon_trouble(words):
            raise ExecutorUnavailable(f"Docker at {base_url} can't {what} now: {reason}") from error
        raise ExecutionError(f"Docker can't {what}: {reason}") from error
    except (DockerException, requests.RequestException, OSError) as error:
        # An unreachable daemon is a requests.ConnectionError, not a DockerException.
        raise ExecutorUnavailable(
            f"Docker does not answer at {base_url} (to {what}): is dockerd running, "
            f"and may this user use the socket? ({_words_of_the_system(error)})"
        ) from error


def _words_of_the_system(error: BaseException) -> str:
    """What requests and urllib3 wrap one in the other."""
    words, inner = str(error), error.__cause__ or error.__context__
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            words = inner.strerror
        inner = inner.__cause__ or inner.__context__
    return words


def _is_daemon_trouble(words: str) -> bool:
    """A 500 is mostly the job's fault (a bad command); these are the engine's own."""
    signs = ("containerd", "connection refused", "context deadline exceeded", "shutting down", "no space left")
    return any(sign in words.lower() for sign in signs) and "OCI runtime" not in words
