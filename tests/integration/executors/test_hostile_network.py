"""What a job reaches that was given the internet, tried from inside of it; each try has a control, the same from a
container without our rules, which shows that there is something to be reached."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import psutil
import pytest
from docker import APIClient
from msgspec.structs import replace

from dms.adapters.executors import gateways
from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.host_network import host_network
from dms.adapters.p2p.addresses import interface_ips
from dms.application.ports.executor import ExecutionState
from dms.domain.network import Network
from tests.fixtures.gated import executor, gated, world
from tests.fixtures.hostile import (
    hostile_spec,
    open_network,
    read,
    side_by_side,
    tried,
    tried_without_rules,
)
from tests.fixtures.jobs import ended, launch, read_all, texts, until
from tests.fixtures.public_internet import (
    ALSO_PUBLIC,
    AZURE,
    CARRIER,
    LAN,
    LAN_RESOLVER,
    METADATA,
    PUBLIC,
    PUBLIC_RESOLVER,
    World,
)

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]
__all__ = ["executor", "world"]
MIB = 1024 * 1024
CLOSED = "refused (No route to host)"  # the word of our own rules, not of a firewall on the way
SHUT, NOT_SENT = "refused (Connection refused)", "refused (Operation not permitted)"


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of every address of this machine, IPv6 too, where connections are taken."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64) as server:
        yield server.getsockname()[1]


OWN_BRIDGE = "$(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p')"


def docker0() -> set[IPv4Network]:
    """The one bridge of Docker's that stays."""
    return {
        IPv4Network(entry.address)
        for entry in psutil.net_if_addrs().get("docker0", ())
        if entry.family is socket.AF_INET
    }


async def test_public_addresses_and_names_are_reached_and_nothing_else(
    world: World, executor: DockerExecutor, api: APIClient, listening: int
) -> None:
    own = {IPv4Network(ip) for ip in interface_ips("ip4")} | {IPv4Network(world.machine)} | docker0()
    machine = {  # without bridges of other tests' containers, which come and go
        f"machine{number}": f"tcp {address.network_address} {listening}"
        for number, address in enumerate(host_network().inner)
        if address in own and not address.is_loopback
    } | {"bridge": f"tcp {OWN_BRIDGE} {listening}"}
    assert f"tcp {world.machine} {listening}" in machine.values()
    around = {f"lan{number}": f"tcp {address} 80" for number, address in enumerate(LAN)} | {
        "metadata": f"tcp {METADATA} 80",
        "azure": f"tcp {AZURE} 80",
        "carrier": f"tcp {CARRIER} 80",
        "resolver_web": f"tcp {LAN_RESOLVER} 80",
    }
    public = {"public": f"tcp {PUBLIC} 80", "also": f"tcp {ALSO_PUBLIC} 80", "name": "name model.example"}
    datagrams = {"udp": f"udp {PUBLIC} 9999", "other_names": f"name model.example {PUBLIC_RESOLVER}"}
    mail = {"mail": f"tcp {PUBLIC} 25"}
    inner_names = {"inner": "name inner.example", "metadata_name": "name metadata.example"}
    tries = machine | around | public | datagrams | mail | inner_names

    with open_network(api, world.control) as network:
        control = await asyncio.to_thread(tried_without_rules, api, network, tries, LAN_RESOLVER)
    found = await tried(executor, tries)

    reached = dict.fromkeys([*machine, *around, "public", "also", "mail"], "reached")
    answers = {"name": PUBLIC, "inner": LAN[0], "metadata_name": METADATA}
    assert control == reached | answers | {"udp": "answered", "other_names": PUBLIC}
    assert found == (
        dict.fromkeys([*machine, *around], CLOSED)
        | dict.fromkeys(["public", "also"], "reached")
        | answers  # a public name may stand for an inner address: which is closed all the same
        | {"mail": SHUT, "udp": NOT_SENT, "other_names": NOT_SENT}
    )


async def test_a_name_server_that_is_public_is_asked_as_well(world: World) -> None:
    async with gated(world, resolver=IPv4Address(PUBLIC_RESOLVER)) as executor:
        tries = {"name": "name model.example", "lan": f"name model.example {LAN_RESOLVER}"}
        assert await tried(executor, tries) == {"name": PUBLIC, "lan": NOT_SENT}


async def test_no_job_makes_packets_of_its_own_or_changes_what_it_was_given(
    world: World, executor: DockerExecutor, api: APIClient
) -> None:
    tries = {"ping": "ping"}
    with open_network(api, world.control) as network:
        control = await asyncio.to_thread(tried_without_rules, api, network, {"raw": "raw", **tries})
    assert control == {"raw": "opened opened", "ping": "opened"}
    found = await tried(executor, {"raw": "raw", **tries})
    forbidden = "refused (Operation not permitted)"
    assert found == {"raw": f"{forbidden} {forbidden}", "ping": "refused (Permission denied)"}
    changes = (
        f"ip route add {LAN[0]}/32 via 203.0.113.1", "ip addr add 203.0.113.77/32 dev eth0", "ip link set eth0 down",
        "iptables -F", "echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6", "unshare -rn true",
    )  # fmt: skip
    script = "\n".join(f"({change}) 2>/dev/null && echo done || echo refused" for change in changes)
    assert await output(executor, script) == ["refused"] * len(changes)


async def test_there_is_no_ipv6(world: World, executor: DockerExecutor, api: APIClient, listening: int) -> None:
    v6 = f"fd00:213:{world.control.network_address.packed[2]:x}::"
    tries = {"bridge": f"tcp6 {v6}1 {listening}"}
    with open_network(api, world.control, v6=f"{v6}/64") as network:
        assert await asyncio.to_thread(tried_without_rules, api, network, tries) == {"bridge": "reached"}
        found = await tried(executor, tries | {"loopback": f"tcp6 ::1 {listening}"})
    unreachable = ("refused (Network is unreachable)", "refused (Cannot assign requested address)")
    assert found["bridge"] in unreachable
    assert found["loopback"] in unreachable


async def test_another_job_is_closed_by_our_rules_and_not_only_by_the_engine(
    world: World, executor: DockerExecutor, api: APIClient
) -> None:
    """Of the engine's isolation nothing is shown here: it lets what is on one bridge in the dark, and we say no."""
    listener = "while true; do nc -l -p 4000 -e true; done & hostname -i; "
    other = hostile_spec(listener + "sleep 300")
    await launch(executor, other)
    address = (await first_line(executor, other.job_id)).strip()
    assert IPv4Network(address).subnet_of(world.range)
    itself = await output(executor, listener + "until probe tcp 127.0.0.1 4000 | grep reached; do true; done; kill $!")
    assert itself[1:] == ["reached"]  # what listens there does
    assert await tried(executor, {"other": f"tcp {address} 4000"}) == {"other": CLOSED}


async def test_connections_are_bounded(world: World, executor: DockerExecutor, api: APIClient) -> None:
    tries = {"crowd": f"crowd {PUBLIC} 80 400"}
    with open_network(api, world.control) as network:
        assert await asyncio.to_thread(tried_without_rules, api, network, tries) == {"crowd": "400"}
    crowd = int((await tried(executor, tries))["crowd"])
    assert 100 <= crowd <= 256


@pytest.mark.parametrize("direction", ["fetch {} 80 30000000", "send {} 8080 30000000"])
async def test_bytes_are_counted_and_bounded(world: World, api: APIClient, direction: str) -> None:
    tries = {"bytes": direction.format(PUBLIC)}
    with open_network(api, world.control) as network:
        assert int((await asyncio.to_thread(tried_without_rules, api, network, tries))["bytes"]) >= 30_000_000
    async with gated(world, max_mb=4) as executor:
        spec = hostile_spec(side_by_side(tries) + "; sleep 300")
        await launch(executor, spec)
        got = int(read([await first_line(executor, spec.job_id)])["bytes"])
        assert 2 * MIB < got < 10 * MIB  # what was sent, but never arrived, counts as taken by the socket
        use = await executor.network_use(spec.job_id)
        assert use is not None
        assert (use.spent, use.trouble, use.most_bytes) == (True, "", 4 * MIB)
        received, sent = use.received_bytes, use.sent_bytes
        assert max(received, sent) >= 4 * MIB * 9 // 10


async def test_a_new_address_of_this_machine_gives_no_answer_either(
    world: World, api: APIClient, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules were loaded before it had that address: its own answers come from too near."""
    tries = {"machine": f"tcp {world.machine} {listening}", "public": f"tcp {PUBLIC} 80"}
    before = replace(host_network(), inner=())
    monkeypatch.setattr(gateways, "host_network", lambda: before)
    async with gated(world) as executor:
        assert await tried(executor, tries) == {"machine": "silent", "public": "reached"}
    with open_network(api, world.control) as network:
        control = await asyncio.to_thread(tried_without_rules, api, network, tries)
    assert control == {"machine": "reached", "public": "reached"}


async def test_a_job_without_a_network_has_none(executor: DockerExecutor) -> None:
    spec = hostile_spec(side_by_side({"public": f"tcp {PUBLIC} 80"}), Network.NONE)
    await launch(executor, spec)
    assert read(texts(await read_all(executor, spec.job_id))) == {"public": "refused (Network is unreachable)"}
    assert await executor.network_use(spec.job_id) is None


async def output(executor: DockerExecutor, script: str) -> list[str]:
    spec = hostile_spec(script)
    await launch(executor, spec)
    lines = texts(await read_all(executor, spec.job_id))
    assert (await ended(executor, spec.job_id)).state is ExecutionState.EXITED
    await executor.remove(spec.job_id)
    return lines


async def first_line(executor: DockerExecutor, job_id: str) -> str:
    async def come() -> str | None:
        async with contextlib.aclosing(executor.follow(job_id, None)) as batches:
            async for batch in batches:
                return batch[0].text
        return None

    return await until(come)
