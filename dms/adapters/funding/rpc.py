"""Ethereum's JSON-RPC over HTTP, as far as a funding check needs it: six read-only methods.

Plain httpx, which the CLI uses anyway, and not web3: that brings some twenty packages (signing, ABI coding, event
loops of its own) for what are six small JSON objects here. Source: ethereum/execution-apis.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httpx
import msgspec

from dms.domain.decoding import UNREADABLE
from dms.errors import ConfigError, Unavailable

TRIES = 3  # at once, for a connection that broke; longer absences are waited out by the job
CALL_SECONDS = 10.0  # for a call in all, its tries included
LARGEST_ANSWER = 16 * 1024 * 1024
_REFUSALS = (400, 413)  # HTTP statuses that some nodes have for a range of blocks that is too long


class CallRefused(Unavailable):
    """The node's own answer: it does not do that, as asked or just now."""


class EthereumRpc:
    """Raises Unavailable for everything that keeps an answer from us, CallRefused where the node itself says so, and
    ConfigError for an address that is none.
    The address may hold a key or a password, so no text of ours repeats it, nor what the libraries say of it."""

    def __init__(self, url: str, call_seconds: float = CALL_SECONDS) -> None:
        self._url, self._ids, self._call_seconds = node_address(url), itertools.count(1), call_seconds
        # A proxy of the environment must not see the key in the address.
        self._http = httpx.AsyncClient(timeout=call_seconds, trust_env=False, follow_redirects=False)

    async def call(self, method: str, *params: Any) -> Any:
        """The result, None included."""
        try:
            async with asyncio.timeout(self._call_seconds):  # the library's own is for each read: a drip has no end
                return await self._call(method, params)
        except TimeoutError as error:
            silent = f"the chain's node does not answer {method} within {self._call_seconds:g} s"
            raise Unavailable(silent) from error

    async def _call(self, method: str, params: tuple[Any, ...]) -> Any:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        failure = ""
        for _ in range(TRIES):
            try:
                return await self._once(method, body)
            except httpx.HTTPError as error:
                failure = type(error).__name__
        raise Unavailable(f"the chain's node does not answer {method} ({failure})")

    async def _once(self, method: str, body: dict[str, Any]) -> Any:
        async with self._http.stream("POST", self._url, json=body) as answer:
            data = bytearray()
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > LARGEST_ANSWER:
                    raise CallRefused(f"the chain's node answers {method} with more than {LARGEST_ANSWER} bytes")
        if answer.status_code != 200:
            kind = CallRefused if answer.status_code in _REFUSALS else Unavailable
            raise kind(f"the chain's node answers {method} with HTTP status {answer.status_code}")
        try:
            reply = msgspec.json.decode(data)
        except UNREADABLE as error:
            raise Unavailable(f"the chain's node answers {method} with something that is not JSON") from error
        if not isinstance(reply, dict) or reply.get("id") != body["id"]:
            raise Unavailable(f"the chain's node answers {method} with something that is not JSON-RPC")
        if reply.get("error") is not None:
            code = reply["error"].get("code") if isinstance(reply["error"], dict) else None
            raise CallRefused(f"the chain's node refuses {method} (error {code!r:.40})")
        return reply.get("result")

    async def close(self) -> None:
        await self._http.aclose()


def node_address(url: str) -> httpx.URL:
    """Raises ConfigError."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        found = httpx.URL()
    if found.scheme not in ("http", "https") or not found.host or not 0 < (found.port or 80) < 65536:
        raise ConfigError("funding.rpc_url is not the address of an HTTP server")  # it is not repeated here
    return found
