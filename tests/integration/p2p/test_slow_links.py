"""Peers that are far away, busy, moved or misnamed: real hosts, with a line in between that delays every byte."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from msgspec import structs

from dms.adapters.p2p import names
from dms.adapters.p2p.addresses import remarks_on
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.adapters.p2p.remembered import MOST_PEERS, Remembered, RememberedPeers
from dms.errors import ConfigError, PeerSlow, PeerUnreachable
from tests.fixtures.local_peers import LOCAL
from tests.integration.p2p.waiting import wait_until

ONE_WAY_SECONDS = 0.35


class SlowLine:
    """A TCP proxy that hands on every byte after a while, in either direction, or none while it is frozen."""

    def __init__(self, port: int, seconds: float) -> None:
        self._target, self.seconds = port, seconds
        self.frozen = asyncio.Event()
        self._server: asyncio.Server
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        for task in list(self._pumps):
            task.cancel()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        clock = asyncio.get_running_loop().time

        async def deliver() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - clock()))
                sink.write(data)
                if not data:
                    return sink.close()
                with contextlib.suppress(OSError):
                    await sink.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                try:
                    data = await source.read(65_536)
                except OSError:
                    data = b""
                if not self.frozen.is_set() or not data:
                    waiting.put_nowait((clock() + self.seconds, data))
                if not data:
                    return


async def echo(_peer_id: str, body: bytes) -> bytes:
    return body


@asynccontextmanager
async def host(
    identity: Identity | None = None, bootstrap: tuple[str, ...] = (), **more: Any
) -> AsyncIterator[Libp2pNetwork]:
    settings = structs.replace(LOCAL, bootstrap_peers=bootstrap)
    network = Libp2pNetwork(identity or Identity.generate(), settings, **more)
    network.serve_request("/test/echo/1", echo)
    await network.start()
    try:
        yield network
    finally:
        await network.close()


def port_of(network: Libp2pNetwork) -> int:
    return int(network.listen_addresses[0].split("/")[4])


@asynccontextmanager
async def line_to(network: Libp2pNetwork, seconds: float = ONE_WAY_SECONDS) -> AsyncIterator[tuple[SlowLine, str]]:
    line = SlowLine(port_of(network), seconds)
    port = await line.open()
    try:
        yield line, f"/ip4/127.0.0.1/tcp/{port}"
    finally:
        await line.close()


@pytest.mark.slow
async def test_a_peer_behind_a_slow_line_answers_and_its_heartbeat_says_so() -> None:
    async with host() as far, line_to(far) as (_, address), host() as near:
        near.add_addresses(far.peer_id, [address])
        assert await near.ping(far.peer_id, 12) >= 2 * ONE_WAY_SECONDS
        await wait_until(lambda: near.heard(far.peer_id) is not None and near.heard(far.peer_id).rtt_seconds)  # type: ignore[union-attr]
        heard = near.heard(far.peer_id)
        assert heard is not None
        assert heard.rtt_seconds >= 2 * ONE_WAY_SECONDS
        assert await near.request(far.peer_id, "/test/echo/1", b"1", 120) == b"1"


@pytest.mark.slow
async def test_a_slow_line_is_not_cut_for_its_round_trip() -> None:
    """Its heartbeat takes longer than the patience that was configured."""
    async with host() as far, line_to(far, 0.2) as (_, address), host(heartbeat=(0.2, 0.6)) as near:
        seen: list[bool] = []
        near.on_peer(lambda _peer, connected: seen.append(connected))
        near.add_addresses(far.peer_id, [address])
        await near.ping(far.peer_id, 12)
        first = near.heard(far.peer_id)
        assert first is not None
        began = time.monotonic()
        while time.monotonic() - began < 3:  # some ten beats
            await near.request(far.peer_id, "/test/echo/1", b"1", 120)
        assert seen == [True]


async def test_slow_is_told_from_gone() -> None:
    async with host() as far, line_to(far, 0.0) as (line, address), host() as near:
        near.add_addresses(far.peer_id, [address])
        await near.ping(far.peer_id, 12)
        line.frozen.set()
        with pytest.raises(PeerSlow):
            await near.ping(far.peer_id, 1)
        await line.close()
        await far.close()
        await wait_until(lambda: not near.peers())
        assert near.heard(far.peer_id) is None
        with pytest.raises(PeerUnreachable) as gone:
            await near.ping(far.peer_id, 12)
        assert not isinstance(gone.value, PeerSlow)


async def test_a_frozen_peer_is_still_found_out() -> None:
    async with host() as far, line_to(far, 0.0) as (line, address), host(heartbeat=(0.2, 0.5)) as near:
        near.add_addresses(far.peer_id, [address])
        await near.ping(far.peer_id, 12)
        line.frozen.set()
        await wait_until(lambda: not near.peers())
        line.frozen.clear()


def _burn(until: float) -> None:
    while time.monotonic() < until:
        pass


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Something else wants all of it."""
    context = multiprocessing.get_context("spawn")
    burning = [context.Process(target=_burn, args=(time.monotonic() + 60,)) for _ in range(3)]
    for process in burning:
        process.start()
    yield
    for process in burning:
        process.kill()
        process.join()


@pytest.mark.slow
async def test_who_was_heard_of_needs_no_ping_on_a_busy_machine(busy_machine: None) -> None:
    async with host() as far, line_to(far) as (_, address), host() as near:
        near.add_addresses(far.peer_id, [address])
        await near.ping(far.peer_id, 30)
        await asyncio.gather(*(near.request(far.peer_id, "/test/echo/1", b"%d" % n, 120) for n in range(50)))
        heard = near.heard(far.peer_id)
        assert heard is not None
        assert heard.silent_seconds < 20


# --- a peer that comes back elsewhere ---------------------------------------------------------------------
async def test_a_peer_that_restarts_on_another_port_finds_those_it_knew(tmp_path: Path) -> None:
    """Neither is a bootstrap peer of the other's once they have met."""
    identity, file = Identity.generate(), tmp_path / "peers.json"
    async with host() as stays:
        first = Libp2pNetwork(
            identity,
            structs.replace(LOCAL, bootstrap_peers=tuple(stays.listen_addresses)),
            remembered=file,
        )
        await first.start()
        await wait_until(lambda: [peer.peer_id for peer in stays.peers()] == [identity.peer_id])
        await wait_until(lambda: file.exists() and stays.peer_id in file.read_text())
        old = first.listen_addresses
        await first.close()
        await wait_until(lambda: not stays.peers())
        async with host(identity, remembered=file) as again:
            assert again.listen_addresses != old
            await wait_until(lambda: [peer.peer_id for peer in stays.peers()] == [identity.peer_id])
            assert await stays.ping(identity.peer_id, 10) > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_what_others_tell_of_a_new_address_is_tried_at_once() -> None:
    async with host() as peer, host() as other:
        other.add_addresses(peer.peer_id, ["/ip4/127.0.0.1/tcp/1"])
        with pytest.raises(PeerUnreachable):
            await other.ping(peer.peer_id, 10)
        other.add_addresses(peer.peer_id, [peer.listen_addresses[0]])
        assert await other.ping(peer.peer_id, 10) > 0


@pytest.mark.parametrize(
    "content", [b"", b"[", b"{}", b"[1]", b"\xff", b"[" * 100_000, b'[{"peer_id":"x","addresses":[],"seen_at":1e30}]']
)
async def test_a_damaged_file_of_peers_only_means_to_know_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "peers.json"
    file.write_bytes(content)
    assert RememberedPeers(file).load() == []
    async with host(remembered=file) as network:
        assert network.listen_addresses


def test_the_file_of_peers_is_bounded_and_forgets(tmp_path: Path) -> None:
    file, now = tmp_path / "peers.json", int(time.time())
    peers = [Remembered(peer_id=f"p{n}", addresses=("/ip4/1.2.3.4/tcp/1",), seen_at=now - n) for n in range(1000)]
    RememberedPeers(file).save(peers)
    assert [peer.peer_id for peer in RememberedPeers(file).load()] == [f"p{n}" for n in range(MOST_PEERS)]
    RememberedPeers(file).save([Remembered(peer_id="old", addresses=(), seen_at=now - 8 * 86_400)])
    assert RememberedPeers(file).load() == []


# --- names and bootstrap addresses ---------------------------------------------------------------------------
class NameServer(asyncio.DatagramProtocol):
    """Answers TXT questions; records change as the test likes."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text().rstrip(".")
        self.asked.append(name)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if name in self.records:
            texts = [f'"{text}"' for text in self.records[name]]
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", *texts))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)  # no such name
        self._transport.sendto(answer.to_wire(), addr)  # type: ignore[attr-defined]


@pytest.fixture
async def name_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))

    def resolver() -> dns.asyncresolver.Resolver:
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
        return made

    monkeypatch.setattr(names, "make_resolver", resolver)
    monkeypatch.setattr(names, "AGAIN_SECONDS", (0.1, 0.2))
    yield server
    transport.close()


async def test_a_dnsaddr_leads_to_its_peers_also_through_another(name_server: NameServer) -> None:
    async with host() as peer, host() as other:
        name_server.records = {
            "_dnsaddr.boot.example": [
                "dnsaddr=/dnsaddr/more.example", "spam", "dnsaddr=", "dnsaddr=/ip4/1.2.3.4/udp/1/quic-v1/p2p/x",
                f"dnsaddr=/ip4/127.0.0.1/udp/1/quic-v1/p2p/{other.peer_id}", "dnsaddr=/dnsaddr/boot.example",
            ],
            "_dnsaddr.more.example": [f"dnsaddr={peer.listen_addresses[0]}", f"dnsaddr={other.listen_addresses[0]}"],
        }  # fmt: skip
        async with host(bootstrap=("/dnsaddr/boot.example",)) as node:
            await wait_until(lambda: {p.peer_id for p in node.peers()} == {peer.peer_id, other.peer_id})
        async with host(bootstrap=(f"/dnsaddr/boot.example/p2p/{other.peer_id}",)) as node:
            await wait_until(lambda: other.peer_id in {p.peer_id for p in node.peers()})


async def test_a_name_that_is_not_there_is_told_once_and_asked_again(
    name_server: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with host() as peer, host(bootstrap=("/dnsaddr/boot.example",)) as node:
        await wait_until(lambda: len(name_server.asked) >= 3)
        told = [r for r in caplog.records if r.levelno == logging.WARNING and "gives no peer" in r.getMessage()]
        assert len(told) == 1
        name_server.records["_dnsaddr.boot.example"] = [f"dnsaddr={peer.listen_addresses[0]}"]
        await wait_until(lambda: [p.peer_id for p in node.peers()] == [peer.peer_id])


async def test_a_name_of_the_system_is_found() -> None:
    """As /etc/hosts has it: no name server knows it."""
    async with host() as peer:
        for family in ("dns", "dns4"):
            async with host(bootstrap=(f"/{family}/localhost/tcp/{port_of(peer)}/p2p/{peer.peer_id}",)) as node:
                await wait_until(node.peers)
                assert [found.peer_id for found in node.peers()] == [peer.peer_id]


@pytest.mark.parametrize("name", ["a..b", "x" * 70, "xn--", "*"])
def test_a_name_that_can_be_none_is_refused_when_the_configuration_is_read(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a multiaddr"):
        remarks_on([f"/dns4/{name}/tcp/1/p2p/{Identity.generate().peer_id}"])


@pytest.mark.parametrize("name", ["nowhere.invalid", "x.y.z.invalid"])
async def test_a_name_that_can_not_be_found_stops_nothing(name: str) -> None:
    identity = Identity.generate()
    async with host() as peer, host(bootstrap=(f"/dns4/{name}/tcp/1/p2p/{identity.peer_id}",)) as node:
        with pytest.raises(PeerUnreachable, match="was not found"):
            await node.ping(identity.peer_id, 10)
        node.add_addresses(peer.peer_id, peer.listen_addresses)
        assert await node.ping(peer.peer_id, 10) > 0


async def test_a_bootstrap_peer_that_is_another_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    expected = Identity.generate().peer_id
    async with host() as peer:
        wrong = peer.listen_addresses[0].replace(peer.peer_id, expected)
        async with host(bootstrap=(wrong,)) as node:

            def told() -> list[str]:
                return [r.getMessage() for r in caplog.records if "bootstrap peer at" in r.getMessage()]

            await wait_until(told)
            for _ in range(2):
                with pytest.raises(PeerUnreachable):
                    await node.ping(expected, 10)
            (line,) = told()
            assert peer.peer_id in line
            assert expected in line


def test_what_is_said_of_bootstrap_addresses() -> None:
    peer_id = Identity.generate().peer_id
    (quic,) = remarks_on([f"/ip4/1.2.3.4/udp/9000/quic-v1/p2p/{peer_id}", f"/ip4/1.2.3.4/tcp/1/p2p/{peer_id}"])
    assert "is not used" in quic
    (relay,) = remarks_on([f"/ip4/1.2.3.4/tcp/1/ws/p2p/{peer_id}"])
    assert "is not used" in relay
    (name,) = remarks_on(["/dnsaddr/bootstrap.p2p.nunet.io"])
    assert "looked up" in name
    for wrong in ("/ip4/1.2.3.4/tcp/1", "/dnsaddr/a/tcp/1", "/dnsaddr/a/p2p/x", "/nothing", "x"):
        with pytest.raises(ConfigError):
            remarks_on([wrong])
