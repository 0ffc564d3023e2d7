"""Connections to the internet that lead nowhere else: the address that a connection really has is looked at, whatever
its name meant a moment before or means a moment later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

from dms.domain.inner_addresses import Network, is_inner_address
from dms.errors import InputRefused
from dms.lookups import LookUps

ADDRESSES_TRIED = 6
INNER = (
    "leads into an inner network, where this provider fetches nothing; its operator may allow it (job.input_networks)"
)


class Outside(httpcore.AsyncNetworkBackend):
    """Raises InputRefused for what is not outside."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        """allowed: inner networks that may be reached all the same."""
        self._allowed, self._lookups = allowed, LookUps()
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the library's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await self._addresses(host)
        outside = [address for address in found if not is_inner_address(address, self._allowed)]
        if not outside:
            raise InputRefused(f"{host} {INNER}")
        failure: Exception | None = None
        for address in outside[:ADDRESSES_TRIED]:
            try:
                stream = await self._tcp.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = error
                continue
            if self._is_outside(stream):
                return stream
            await stream.aclose()
            raise InputRefused(f"{host} {INNER}")
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def _is_outside(self, stream: httpcore.AsyncNetworkStream) -> bool:
        """A public address of this very machine is not outside: what listens here may trust whoever is here."""
        remote, own = str(stream.get_extra_info("server_addr")[0]), str(stream.get_extra_info("client_addr")[0])
        if is_inner_address(remote, self._allowed):
            return False
        return remote != own or is_inner_address(own)  # an inner one of our own is there because it is allowed

    async def _addresses(self, host: str) -> list[str]:
        """Raises httpcore.ConnectError."""
        try:
            return await self._lookups.addresses(host)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} can't be looked up: {error}") from error

    async def sleep(self, seconds: float) -> None:
        await self._tcp.sleep(seconds)
