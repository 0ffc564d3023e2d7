"""Gateways: the networks of jobs that may reach the internet, made through the engine alone.

A gateway is a bridge of its own and a small container of ours on it, which closes its network namespace by rules before
it does anything else. The job then joins that namespace, without the right to change it. Whoever starts the container
again starts it closed, and in a namespace that the running job is not in.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NamedTuple

from docker import APIClient
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool, LogConfig
from msgspec import Struct

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.engine_words import words_of
from dms.adapters.executors.gateway_image import GatewayImage
from dms.adapters.executors.gateway_rules import INNER, Bounds, closed, closed_to_v6, differs
from dms.adapters.executors.host_network import LARGEST_PREFIX, HostNetwork, has_ipv6, host_network
from dms.adapters.executors.profile import LABEL_GATEWAY, LABEL_GATEWAY_NODE, LABEL_MANAGED, MIB
from dms.errors import ExecutionError, NetworkUnavailable, NotFound

logger = logging.getLogger(__name__)

NETWORK_BITS = 29  # the bridge, the gateway, and room for what an engine may want
UNTIL_REMOVED_SECONDS = 10.0  # by someone else
CONFLICT = 409  # HTTP: somebody is removing it already
MOST_TRIES = 64  # ranges that the engine says are taken
MEMORY_MB = 32
CLOSED_SECONDS = 30  # within which the rules are loaded

# Rules first, then the mark that they are; a restart does the same. Without IPv6 there is nothing to close of it.
_CLOSE = """
set -e
if [ -e /proc/net/if_inet6 ]; then ip6tables-restore <<<"$RULES_V6"; fi
iptables-restore <<<"$RULES"
: >/run/closed
exec sleep infinity
"""
_READ, _READS = "# all of it", 3  # a busy engine now and then loses a part of what a program says
_READ_BACK = f"""
for ((i = 0; i < {CLOSED_SECONDS * 20}; i++)); do
  if [ -e /run/closed ]; then
    iptables-save -t filter
    echo '# v6'
    if [ -e /proc/net/if_inet6 ]; then ip6tables-save -t filter; else echo none; fi
    echo '{_READ}'
    exit
  fi
  sleep 0.05
done
exit 1
"""


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """range: that each job gets a part of. resolver: for names; None for the machine's own. max_mb: that a job may
    send and receive together, MiB."""

    range: IPv4Network = IPv4Network("10.217.0.0/16")
    resolver: IPv4Address | None = None
    max_mb: int = 10_240


class Gateway(NamedTuple):
    """One that is closed. started_at: the engine's stamp, another one after a restart. network: its bridge's id.
    machine: this machine's own address on that bridge."""

    container: str
    started_at: str
    network: str
    machine: str

    @property
    def mark(self) -> str:
        return f"{self.container} {self.started_at}"


class Traffic(NamedTuple):
    """Bytes, of all that came over the gateway's line."""

    received: int
    sent: int


class Gateways:
    """node_id: only those with this label are ours."""

    def __init__(self, node_id: str, calls: EngineCalls, settings: GatewaySettings) -> None:
        self._node_id, self._calls, self._settings = node_id, calls, settings
        self.image = GatewayImage(calls)

    def resolvers(self, machine: HostNetwork | None = None) -> Sequence[IPv4Address]:
        """Who answers jobs for names. machine: as it is now, unless given. Raises NetworkUnavailable when there is none
        that a container could ask."""
        if self._settings.resolver is not None:
            return [self._settings.resolver]
        machine = machine or host_network()
        if not machine.resolvers:
            raise NetworkUnavailable(
                "this machine has no name server that a container could ask (/etc/resolv.conf names none but itself): "
                "set job.resolver to one's address"
            )
        return machine.resolvers

    async def open(self, job_id: str) -> Gateway:
        """A new one; what an earlier try left is removed. Raises NetworkUnavailable, ExecutorUnavailable."""
        await self.remove(job_id)
        try:
            machine = host_network()
            image, resolvers = await self.image.ready(), self.resolvers(machine)
            network = await self._make_network(job_id, machine)
            rules = closed(resolvers, machine.inner, Bounds(bytes=self._settings.max_mb * MIB))
            container = await self._make_container(job_id, image, network, resolvers, rules)
            return await self._closed(container, rules)
        except NetworkUnavailable:
            raise
        except (ExecutionError, NotFound, OSError) as error:
            raise NetworkUnavailable(f"the provider can't give the job its network: {error}") from error

    async def trouble(self, mark: str) -> str:
        """Why the gateway with that mark is not what it was; empty when it is. Raises ExecutorUnavailable."""
        container = mark.partition(" ")[0]
        found = await self._described(container)
        if found is None or not found["State"]["Running"]:
            return "the gateway of the job's network is gone from the provider's machine"
        if f"{container} {found['State']['StartedAt']}" != mark:
            return "the gateway of the job's network was restarted on the provider's machine"
        return ""

    async def traffic(self, mark: str) -> Traffic:
        """So far; nothing of one that is gone. Raises ExecutorUnavailable."""
        container = mark.partition(" ")[0]
        try:
            told = await self._calls.ask(
                "tell a gateway's traffic", lambda api: api.stats(container, stream=False, one_shot=True)
            )
        except (NotFound, ExecutionError):
            return Traffic(0, 0)
        lines = (told.get("networks") or {}).values()
        return Traffic(sum(line["rx_bytes"] for line in lines), sum(line["tx_bytes"] for line in lines))

    async def jobs(self) -> Sequence[str]:
        """Of all gateways, and of the networks of those that are not whole."""
        labels = [f"{LABEL_GATEWAY_NODE}={self._node_id}"]
        return sorted({str(each["Labels"][LABEL_GATEWAY]) for each in await self._everything(labels)})

    async def remove(self, job_id: str) -> None:
        """Once no container of the job's is in it. Safe to repeat. Raises ExecutorUnavailable, ExecutionError."""
        labels = [f"{LABEL_GATEWAY_NODE}={self._node_id}", f"{LABEL_GATEWAY}={job_id}"]
        containers, networks = await asyncio.gather(self._containers(labels), self._networks(labels))
        for container in containers:
            await self._remove_container(str(container["Id"]))
        for network in networks:
            await self._gone("network", partial(APIClient.remove_network, net_id=network["Id"]))

    # --- making one ----------------------------------------------------------------------------------
    async def _make_network(self, job_id: str, machine: HostNetwork) -> str:
        for number, subnet in enumerate(free_subnets(self._settings.range, machine.routed, job_id)):
            if number >= MOST_TRIES:
                break
            try:
                made = await self._calls.work("make a network", partial(self._network, job_id, subnet))
            except ExecutionError as error:
                if not _is_overlap(error):
                    raise
                continue  # another program's network, or another DMS was faster
            return str(made["Id"])
        raise NetworkUnavailable(
            f"no part of job.network_range ({self._settings.range}) is free on the provider's machine: each job with a "
            f"network takes a /{NETWORK_BITS} that no route of the machine leads to"
        )

    def _network(self, job_id: str, subnet: IPv4Network, api: APIClient) -> dict[str, Any]:
        pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
        made: dict[str, Any] = api.create_network(
            f"dms-{job_id}",
            driver="bridge",
            options={"com.docker.network.bridge.enable_icc": "false"},
            ipam=IPAMConfig(pool_configs=[pool]),
            labels=self._labels(job_id),
            enable_ipv6=False,
        )
        return made

    async def _make_container(
        self, job_id: str, image: str, network: str, resolvers: Sequence[IPv4Address], rules: str
    ) -> str:
        made = await self._calls.work(
            "create a gateway",
            lambda api: api.create_container_from_config(  # type: ignore[no-untyped-call]
                self._config(api, job_id, image, network, resolvers, rules), f"dms-{job_id}-gateway"
            ),
        )
        container = str(made["Id"])
        await self._calls.work("start a gateway", lambda api: api.start(container))
        return container

    def _config(
        self, api: APIClient, job_id: str, image: str, network: str, resolvers: Sequence[IPv4Address], rules: str
    ) -> dict[str, Any]:
        """Its only right is to set up its own network namespace, which is what it is for; it listens to nobody."""
        host_config = api.create_host_config(
            network_mode=network,
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN", *(["NET_RAW"] if self.image.legacy else [])],
            security_opt=["no-new-privileges:true"],
            read_only=True,
            tmpfs={"/run": "size=1m,mode=0755"},
            mem_limit=MEMORY_MB * MIB,
            memswap_limit=MEMORY_MB * MIB,
            pids_limit=32,
            dns=[str(address) for address in resolvers],
            dns_search=["."],
            sysctls=_sysctls(),
            log_config=LogConfig(type="json-file", config={"max-size": "64k", "max-file": "1"}),
            restart_policy={"Name": "no"},
        )
        return dict(
            api.create_container_config(
                image=image,
                command=["bash", "-c", _CLOSE],
                hostname="job",
                user="0:0",
                environment=[f"RULES={rules}", f"RULES_V6={closed_to_v6()}"],
                labels=self._labels(job_id),
                stop_signal="SIGKILL",
                host_config=host_config,
            )
        )

    async def _closed(self, container: str, rules: str) -> Gateway:
        """Waits until it is. Raises NetworkUnavailable when it is not, by what the kernel itself has now."""
        wrong = ""
        for _ in range(_READS):
            if not (wrong := _wrong_in(await self._read_back(container), rules)):
                break
        if wrong:
            raise NetworkUnavailable(wrong)
        found = await self._described(container)
        if found is None or not found["State"]["Running"]:
            raise NetworkUnavailable("a gateway ended as soon as it was started")
        (line,) = found["NetworkSettings"]["Networks"].values()
        return Gateway(container, found["State"]["StartedAt"], line["NetworkID"], line["Gateway"])

    async def _read_back(self, container: str) -> str:
        told, code = await self._asked(container)
        if code:
            words = told.strip() or await self._last_words(container)
            raise NetworkUnavailable(f"a gateway can't be closed: {words or 'its rules were not loaded in time'}")
        return told

    async def _asked(self, container: str) -> tuple[str, int]:
        """What the program that reads the rules said, and its exit code; 0 also while that is not known."""

        def ask(api: APIClient) -> tuple[str, int]:
            made = api.exec_create(container, ["bash", "-c", _READ_BACK], stderr=True)
            told: bytes = api.exec_start(made["Id"])
            return told.decode("utf-8", "replace"), int(api.exec_inspect(made["Id"])["ExitCode"] or 0)

        try:
            return await self._calls.work("read a gateway's rules", ask)
        except (ExecutionError, NotFound) as error:
            raise NetworkUnavailable(
                f"a gateway can't be closed: {await self._last_words(container) or error}"
            ) from error

    async def _last_words(self, container: str) -> str:
        try:
            told = await self._calls.ask("read a gateway's log", lambda api: api.logs(container, tail=5))
        except (ExecutionError, NotFound):
            return ""
        return " ".join(bytes(told).decode("utf-8", "replace").split())[:300]

    def _labels(self, job_id: str) -> dict[str, str]:
        return {LABEL_MANAGED: "true", LABEL_GATEWAY: job_id, LABEL_GATEWAY_NODE: self._node_id}

    # --- finding and removing ------------------------------------------------------------------------
    async def _everything(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        containers, networks = await asyncio.gather(self._containers(labels), self._networks(labels))
        return [*containers, *networks]

    async def _containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._calls.ask(
            "list gateways", lambda api: api.containers(all=True, filters={"label": list(labels)})
        )
        return found

    async def _networks(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._calls.ask(
            "list networks", lambda api: api.networks(filters={"label": list(labels)})
        )
        return found

    async def _described(self, container: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._calls.ask(
                "inspect a gateway", lambda api: api.inspect_container(container)
            )
        except NotFound:
            return None
        return found

    async def _remove_container(self, container: str) -> None:
        """Returns once it is gone, whoever removes it: its network can't go before."""
        try:
            await self._gone("container", partial(APIClient.remove_container, container=container, force=True))
        except ExecutionError as error:
            if not isinstance(error.__cause__, APIError) or error.__cause__.status_code != CONFLICT:
                raise
            deadline = asyncio.get_running_loop().time() + UNTIL_REMOVED_SECONDS
            while await self._described(container) is not None:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _gone(self, what: str, remove: Callable[[APIClient], object]) -> None:
        try:
            await self._calls.work(f"remove a gateway's {what}", remove)
        except NotFound as error:
            logger.debug("a gateway's %s was removed by someone else: %s", what, error)


def job_range(text: str) -> IPv4Network:
    """A range that jobs' networks are taken of. Raises ValueError for one that is public or too small."""
    found = IPv4Network(text)
    if not any(found.subnet_of(network) for network in INNER) or found.is_multicast or found.is_loopback:
        raise ValueError(f"{found} is not private")
    if not LARGEST_PREFIX <= found.prefixlen <= NETWORK_BITS:
        raise ValueError(f"{found} is too large or too small")
    return found


def free_subnets(range_: IPv4Network, routed: Sequence[IPv4Network], job_id: str) -> Iterator[IPv4Network]:
    """The parts of the range that no route of the machine leads to, in an order of each job's own: jobs that are made
    at the same time seldom want the same."""
    count = 1 << max(0, NETWORK_BITS - range_.prefixlen)
    size = 1 << (32 - NETWORK_BITS)
    near = [network for network in routed if network.overlaps(range_)]
    begin = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8])
    for number in range(count):
        at = int(range_.network_address) + (begin + number) % count * size
        subnet = IPv4Network((at, NETWORK_BITS))
        if not any(network.overlaps(subnet) for network in near):
            yield subnet


def _sysctls() -> dict[str, str]:
    """No job may send its own echo requests, and none has IPv6."""
    sysctls = {"net.ipv4.ping_group_range": "1 0"}
    if has_ipv6():
        sysctls |= {f"net.ipv6.conf.{name}.disable_ipv6": "1" for name in ("all", "default")}
    return sysctls


def _wrong_in(told: str, rules: str) -> str:
    """What is wrong with the rules that a gateway says it has; empty for nothing."""
    read, whole, _ = told.partition(_READ)
    if not whole:
        return f"the engine told the rules of a gateway in part only, {_READS} times"
    v4, _, v6 = read.partition("# v6\n")
    wrong = differs(rules, v4) or ("" if v6.strip() == "none" else differs(closed_to_v6(), v6))
    return f"the rules of a gateway are not in force as they were loaded: {wrong}" if wrong else ""


def _is_overlap(error: ExecutionError) -> bool:
    cause = error.__cause__
    return isinstance(cause, APIError) and "overlap" in words_of(cause).lower()


__all__ = ["Gateway", "GatewaySettings", "Gateways", "Traffic", "free_subnets", "job_range"]
