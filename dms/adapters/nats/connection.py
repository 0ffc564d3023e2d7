"""A connection to a NATS server as the settings describe it; one attempt, and no reconnecting behind
our back: whoever lost a connection must look anew at what the stream holds."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError, ServiceUnavailableError

from dms.config import Nats
from dms.errors import ConfigError, Unavailable
from dms.service_view import hiding_hint

CONNECT_SECONDS = 5
PING_SECONDS = 10  # a dead peer is noticed after two that stay unanswered
PENDING_BYTES = 8 * 1024 * 1024
CLOSE_SECONDS = 2.0
SCHEMES = ("nats", "tls", "ws", "wss")


@dataclass(frozen=True)
class Link:
    """closed: set when the connection is over, for whatever reason."""

    client: Client
    closed: asyncio.Event


def check(settings: Nats) -> None:
    """Raises ConfigError for what can't work: a bad address, a file that can't be read, two ways to
    prove who we are."""
    for address in addresses(settings):
        parts = _parts(address)
        if parts.username is not None or parts.password is not None:
            raise ConfigError("nats.url: a password does not belong in an address; use nats.user and password_file")
    ways = {
        "nats.user": bool(settings.user),
        "nats.token": bool(settings.token or settings.token_file),
        "nats.nkey_file": bool(settings.nkey_file),
        "nats.creds_file": bool(settings.creds_file),
    }
    chosen = [name for name, given in ways.items() if given]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)}: only one way to log in to NATS can be used")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise ConfigError("nats.tls_cert and nats.tls_key: a client certificate needs both")
    options(settings)


def _parts(address: str) -> SplitResult:
    """Raises ConfigError."""
    wrong = "nats.url: expected nats://HOST:PORT or tls://HOST:PORT (several with commas between)"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigError(wrong) from error
    if not usable:
        raise ConfigError(wrong)
    return parts


def addresses(settings: Nats) -> list[str]:
    return [part.strip() for part in settings.url.split(",") if part.strip()]


def options(settings: Nats) -> dict[str, Any]:
    """Who we are and whom we trust, as nats-py takes it. Raises ConfigError."""
    found: dict[str, Any] = {}
    if settings.user:
        password = settings.password or _secret("nats.password_file", settings.password_file)
        found |= {"user": settings.user, "password": password}
    if settings.token or settings.token_file:
        found["token"] = settings.token or _secret("nats.token_file", settings.token_file)
    if settings.nkey_file:
        found["nkeys_seed_str"] = _secret("nats.nkey_file", settings.nkey_file)
    if settings.creds_file:
        _secret("nats.creds_file", settings.creds_file)
        found["user_credentials"] = settings.creds_file
    if settings.tls_ca or settings.tls_cert or any(urlsplit(a).scheme in ("tls", "wss") for a in addresses(settings)):
        found["tls"] = _tls(settings)
    return found


def _tls(settings: Nats) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca or None)
        if settings.tls_cert:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"nats.tls_ca, tls_cert, tls_key: {error.strerror or error}") from error
    return context


def _secret(setting: str, path: str) -> str:
    """What the file holds, without the line's end."""
    if not path:
        raise ConfigError(f"{setting}: a user needs a password; name the file that holds it, or set DMS_NATS_PASSWORD")
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = f"{getattr(error, 'strerror', 'no text')}{hiding_hint(Path(path).expanduser())}"
        raise ConfigError(f"{setting}: {path} can't be read: {why}") from error
    if not text:
        raise ConfigError(f"{setting}: {path} is empty")
    return text


def why(error: Exception) -> str:
    """What went wrong, in words; and what to do about a server without JetStream, of which its client says nothing."""
    said = error.description if isinstance(error, APIError) else str(error)
    if isinstance(error, ServiceUnavailableError) and (not said or "not enabled" in said):
        where = " for the account that we log in to" if said and "account" in said else ""
        return (
            f"JetStream, which keeps the events, is not turned on there{where}: start nats-server with -js, or with "
            "jetstream {} in its configuration"
        )
    return said or type(error).__name__


@contextlib.asynccontextmanager
async def connected(settings: Nats, name: str, inbox_prefix: str) -> AsyncIterator[Link]:
    """Raises Unavailable when no server takes us; ConfigError when a file went missing."""
    client, closed = Client(), asyncio.Event()
    first: list[Exception] = []

    async def on_closed() -> None:
        closed.set()

    async def on_error(error: Exception) -> None:
        """nats-py would print them all; of a failed attempt the first says why."""
        if not first:
            first.append(error)

    try:
        await client.connect(
            addresses(settings),
            name=name,
            inbox_prefix=inbox_prefix,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # it still tries each server of the list twice
            reconnect_time_wait=0,
            connect_timeout=CONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=2,
            pending_size=PENDING_BYTES,
            closed_cb=on_closed,
            error_cb=on_error,
            **options(settings),
        )
        yield Link(client, closed)
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"NATS at {settings.url}: {why(first[0] if first else error)}") from error
    finally:
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.close()
