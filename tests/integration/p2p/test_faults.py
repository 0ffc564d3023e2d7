"""A peer in a process of its own that is killed, frozen and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import Yamux

from dms.adapters.p2p import discovery
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.links import open_on
from dms.adapters.p2p.network import Libp2pNetwork
from dms.config import P2p
from dms.errors import PeerUnreachable
from tests.fixtures.local_peers import LOCAL
from tests.integration.p2p.peer import BULK, ECHO, QUIET
from tests.integration.p2p.waiting import wait_until

SCRIPT = Path(__file__).with_name("peer.py")
ROOT = Path(__file__).parents[3]


class Peer:
    """The process and its address."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process, self.address = process, address
        self.peer_id = address.rpartition("/")[2]
        self.port = address.split("/")[4]

    @classmethod
    async def start(cls, key_file: Path, port: str = "0", bootstrap: str = "") -> Peer:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SCRIPT), str(key_file), port, bootstrap),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 120)
        return cls(process, line.decode().strip())

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    peer = await Peer.start(tmp_path / "peer.key")
    yield peer
    await peer.kill()


@pytest.fixture
async def network(peer: Peer) -> AsyncIterator[Libp2pNetwork]:
    async with connected(peer, heartbeat=(60.0, 60.0)) as network:
        yield network


@pytest.fixture
async def attentive(peer: Peer) -> AsyncIterator[Libp2pNetwork]:
    """Soon misses a peer that says nothing."""
    async with connected(peer, heartbeat=(1.0, 1.0)) as network:
        yield network


@contextlib.asynccontextmanager
async def connected(peer: Peer, heartbeat: tuple[float, float]) -> AsyncIterator[Libp2pNetwork]:
    network = Libp2pNetwork(Identity.generate(), LOCAL, heartbeat=heartbeat)
    await network.start()
    network.add_addresses(peer.peer_id, [peer.address])
    assert await network.request(peer.peer_id, ECHO, b"1", 120) == b"1"
    yield network
    await network.close()


async def until_gone(network: Libp2pNetwork) -> None:
    await wait_until(lambda: not network.peers())


@pytest.mark.slow
async def test_a_killed_peer_cuts_its_streams_and_is_dropped(peer: Peer, network: Libp2pNetwork) -> None:
    stream = network.stream(peer.peer_id, QUIET, b"1")
    await anext(stream)
    await peer.kill()
    with pytest.raises(PeerUnreachable):
        await asyncio.wait_for(anext(stream), 120)
    await until_gone(network)


@pytest.mark.slow
async def test_a_killed_and_restarted_peer_is_reached_whatever_pause_its_dials_have(
    peer: Peer, network: Libp2pNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "PAUSES_SECONDS", (600.0, 600.0))
    await peer.kill()
    again = await Peer.start(tmp_path / "peer.key", peer.port)
    try:
        assert again.peer_id == peer.peer_id
        assert await network.request(peer.peer_id, ECHO, b"2", 120) == b"2"
    finally:
        await again.kill()


@pytest.mark.slow
async def test_a_frozen_idle_peer_is_dropped(peer: Peer, attentive: Libp2pNetwork) -> None:
    peer.process.send_signal(signal.SIGSTOP)
    await until_gone(attentive)
    with pytest.raises(PeerUnreachable):
        await attentive.request(peer.peer_id, ECHO, b"1", 0.5)


@pytest.mark.slow
async def test_a_frozen_reader_is_dropped_though_a_writer_is_stuck(peer: Peer, attentive: Libp2pNetwork) -> None:
    peer.process.send_signal(signal.SIGSTOP)
    body = b'"' + b"x" * 250_000 + b'"'
    writers = [asyncio.create_task(attentive.request(peer.peer_id, ECHO, body, 120)) for _ in range(60)]
    await until_gone(attentive)
    for outcome in await asyncio.gather(*writers, return_exceptions=True):
        assert isinstance(outcome, PeerUnreachable)


@pytest.mark.slow
async def test_a_write_that_is_cancelled_half_way_leaves_the_connection_whole(peer: Peer) -> None:
    network = Libp2pNetwork(Identity.generate(), LOCAL, heartbeat=(60.0, 30.0))
    await network.start()
    network.add_addresses(peer.peer_id, [peer.address])
    assert await network.request(peer.peer_id, ECHO, b"1", 120) == b"1"
    changes: list[bool] = []
    network.on_peer(lambda _peer_id, connected: changes.append(connected))
    body = b'"' + b"x" * 250_000 + b'"'
    thread, node = network._parts()

    async def freeze(seconds: float) -> None:
        peer.process.send_signal(signal.SIGSTOP)
        await trio.sleep(seconds)
        peer.process.send_signal(signal.SIGCONT)

    async def cancel_writes() -> None:
        conn = node.links.live(peer.peer_id)
        assert conn is not None
        wires = [await open_on(conn, ECHO, 120) for _ in range(100)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(freeze, 2.0)
            with trio.move_on_after(1):
                async with trio.open_nursery() as writers:
                    for wire in wires:  # more than the socket takes
                        writers.start_soon(wire.write_frame, body, 120)
        for wire in wires:
            await wire.reset()

    await thread.call(cancel_writes)
    assert await network.request(peer.peer_id, ECHO, body, 120) == body
    assert changes == []
    await network.close()


@pytest.mark.slow
async def test_a_bulk_stream_arrives_whole(peer: Peer, network: Libp2pNetwork) -> None:
    """And the window of the stream, all of which a slow reader would have to hold, stays below its cap."""
    stream = network.stream(peer.peer_id, BULK, b"400")
    sizes = [len(await anext(stream)) for _ in range(300)]
    thread, node = network._parts()

    async def largest_window() -> int:
        conn = node.links.live(peer.peer_id)
        assert conn is not None
        return max(s.target_recv_window for s in cast("Yamux", conn.muxed_conn).streams.values())

    assert await thread.call(largest_window) <= 1 << 20
    sizes += [len(chunk) async for chunk in stream]
    assert sizes == [48_002] * 400


@pytest.mark.slow
async def test_bootstrap_peers_are_dialled_until_they_come(tmp_path: Path) -> None:
    network = Libp2pNetwork(Identity.generate(), LOCAL)
    await network.start()
    dialler = await Peer.start(tmp_path / "dialler.key", bootstrap=network.listen_addresses[0])
    try:
        await wait_until(network.peers)
        address, identity = network.listen_addresses[0].partition("/p2p/")[0], network._identity
        await network.close()
        network = Libp2pNetwork(identity, P2p(listen_address=(address,), mdns=False))
        await network.start()
        await wait_until(lambda: [found.peer_id for found in network.peers()] == [dialler.peer_id])
    finally:
        await dialler.kill()
        await network.close()


@pytest.mark.slow
async def test_a_reader_may_pause_for_longer_than_five_seconds(peer: Peer, network: Libp2pNetwork) -> None:
    stream = network.stream(peer.peer_id, BULK, b"200")  # more than window and buffers hold
    await anext(stream)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while loop.time() < begin + 7:
        await network.ping(peer.peer_id, 120)
        await asyncio.sleep(0.1)
    assert len([chunk async for chunk in stream]) == 199
