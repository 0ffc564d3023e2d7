"""What strangers' names lead to, looked up apart from our own names: one that never comes to an answer holds up nothing
but names below the same one.

A look-up can't be ended, and the event loop has threads for two or four. So one stranger's hanging names would keep the
ledger, NATS and all registries from being found.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from functools import partial

from dms.outside_calls import in_a_thread
from dms.recent import Recent

LOOK_UP_SECONDS = 5.0
TROUBLE_SECONDS = 20.0  # how long nothing is asked below a name after nothing came of it
MOST_AT_ONCE, MOST_OF_ONE = 8, 2  # of one: of names below the same one
_MOST_KNOWN = 1_024  # names in trouble


class InTrouble(OSError):
    """Nothing came of a name below the same one a moment ago."""


class Turns:
    """Of what is asked for strangers: few at once, and fewer of whoever has a name and all below it."""

    def __init__(self, most: int = MOST_AT_ONCE, of_one: int = MOST_OF_ONE) -> None:
        self._most, self._of_one = most, of_one
        self._busy = Counter[str]()
        self._trouble = Recent[str, float](_MOST_KNOWN)  # parent -> until when, by the loop's clock
        self._freed = asyncio.Event()

    async def begin(self, host: str) -> None:
        """Waits for its turn; `end` ends it. Raises InTrouble."""
        parent = _parent(host)
        while True:
            if self._trouble.get(parent, 0.0) > asyncio.get_running_loop().time():
                raise InTrouble(f"nothing came of names below {parent} a moment ago")
            if self._busy[parent] < self._of_one and self._busy.total() < self._most:
                self._busy[parent] += 1
                return
            await self._freed.wait()

    def end(self, host: str) -> None:
        self._busy -= Counter({_parent(host): 1})  # and none stays that has none
        self._freed.set()
        self._freed = asyncio.Event()

    def hung(self, host: str) -> None:
        """Nothing came of it in its time."""
        self._trouble[_parent(host)] = asyncio.get_running_loop().time() + TROUBLE_SECONDS


class LookUps:
    def __init__(self) -> None:
        self._turns = Turns()

    async def addresses(self, host: str) -> list[str]:
        """Raises OSError (TimeoutError is one), UnicodeError."""
        if _is_number(host):
            return [host]
        began = False
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                await self._turns.begin(host)
                began = True
                return await asyncio.shield(self._begun(host))
        except TimeoutError:
            if began:
                self._turns.hung(host)
            raise

    def _begun(self, host: str) -> asyncio.Future[list[str]]:
        """Its turn is over when it is."""
        return in_a_thread(partial(system_addresses, host), partial(self._turns.end, host))


def system_addresses(host: str) -> list[str]:
    """Blocking. Each once. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _parent(host: str) -> str:
    """Whoever has it has all that is below."""
    if _is_number(host):
        return host
    return ".".join(host.lower().rstrip(".").rsplit(".", 2)[-2:])


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
