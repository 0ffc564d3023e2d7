"""Finds other nodes on this machine and on the local network (multicast DNS), on the asyncio side.

Own use of zeroconf: the library's advertises 0.0.0.0, and holds up its whole loop for 1.5 s.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from dms.adapters.p2p.addresses import interface_ips
from dms.application.tasks import background

logger = logging.getLogger(__name__)

_TYPE = "_nunet-dms._tcp.local."
_LOOK_UP_MS = 3000
_MAX_ADDRESSES = 12

Found = Callable[[str, Sequence[str]], None]


class Mdns:
    """`found(peer_id, addresses)` is called on the asyncio loop for every other node, as often as it is seen."""

    def __init__(self, peer_id: str, found: Found) -> None:
        self._peer_id = peer_id
        self._found = found
        self._machine = _machine()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._look_ups: set[asyncio.Task[None]] = set()

    async def start(self, addresses: Sequence[str]) -> None:
        """Advertises the addresses and begins to look. A machine without multicast gets a warning, no error."""
        local = all(ip == "127.0.0.1" for ip in _ips(addresses))  # then only this machine need hear of us
        interfaces = ["127.0.0.1"] if local else interface_ips("ip4")
        try:
            self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
            await self._zeroconf.async_register_service(self._service(addresses), cooperating_responders=True)
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, _TYPE, handlers=[self._on_change])
        except (OSError, ZeroconfError) as error:
            logger.warning("no discovery on the local network (mDNS): %s", error)
            await self.close()

    async def close(self) -> None:
        for task in self._look_ups:
            task.cancel()
        browser, zeroconf = self._browser, self._zeroconf
        self._browser = self._zeroconf = None  # once each, also when this is broken off
        try:
            if browser is not None:
                await browser.async_cancel()
            if zeroconf is not None:
                await zeroconf.async_unregister_all_services()
        finally:
            if zeroconf is not None:
                await zeroconf.async_close()

    def _service(self, addresses: Sequence[str]) -> AsyncServiceInfo:
        bare = [address.partition("/p2p/")[0] for address in addresses][:_MAX_ADDRESSES]
        properties = {"id": self._peer_id, "machine": self._machine}
        properties |= {f"a{number}": address for number, address in enumerate(bare)}
        port = next((int(a.rpartition("/tcp/")[2]) for a in bare if "/tcp/" in a), 0)
        return AsyncServiceInfo(
            _TYPE,
            f"{self._peer_id}.{_TYPE}",
            port=port,
            properties=properties,
            server=f"{self._peer_id}.local.",
            parsed_addresses=_ips(bare),  # zeroconf holds a record without any for unfinished
        )

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed or name.startswith(self._peer_id):
            return
        task = background(self._look_up(zeroconf, name), f"look-up of {name}")
        self._look_ups.add(task)
        task.add_done_callback(self._look_ups.discard)

    async def _look_up(self, zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(_TYPE, name)
        if not await info.async_request(zeroconf, _LOOK_UP_MS):
            return
        values = info.decoded_properties
        addresses = [a for n in range(_MAX_ADDRESSES) if (a := values.get(f"a{n}"))]
        if values.get("machine") != self._machine:  # its loopback addresses would lead to ourselves
            addresses = [a for a in addresses if not a.startswith(("/ip4/127.", "/ip6/::1/"))]
        peer_id = values.get("id")
        if peer_id and addresses:
            self._found(peer_id, addresses)


def _ips(addresses: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(a.split("/")[2] for a in addresses if a.startswith("/ip4/"))) or ["127.0.0.1"]


def _machine() -> str:
    """The same for all nodes on this machine until it restarts, and says nothing about it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return ""
    return hashlib.sha256(b"dms mdns " + boot.encode()).hexdigest()[:16]
