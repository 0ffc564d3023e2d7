"""A js-libp2p peer dials, identifies, pings and uses our protocols, and ours dial it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.errors import NotFound
from tests.fixtures.local_peers import LOCAL
from tests.fixtures.npm import NODE, installed

FOLDER = Path(__file__).parents[2] / "fixtures" / "js_peer"
ECHO, COUNT, FAIL = "/test/echo/1", "/test/count/1", "/test/fail/1"
GARBAGE = ["05ffffffffff", "ff" * 40, "00", "ffffffff7f", "0a" * 3000, "037b227d"]


class JsPeer:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, command: str, **options: Any) -> Any:
        """Raises AssertionError with what the peer says went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"command": command, **options}).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 120))
        assert "ok" in answer, answer
        return answer["ok"]


@pytest.fixture(scope="session")
def js_folder() -> Path:
    """With its packages installed, once for each lock file. node and npm must be there."""
    return installed(FOLDER)


@pytest.fixture
async def js(js_folder: Path) -> AsyncIterator[JsPeer]:
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), str(js_folder / "peer.mjs")), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    yield JsPeer(process)
    process.kill()
    await process.communicate()


@pytest.fixture
async def network() -> AsyncIterator[Libp2pNetwork]:
    async def echo(_peer_id: str, body: bytes) -> bytes:
        return body

    async def fail(_peer_id: str, _body: bytes) -> bytes:
        raise NotFound("no such job")

    async def count(_peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        for number in range(int(body)):
            yield b"%d" % number

    network = Libp2pNetwork(Identity.generate(), LOCAL)
    network.serve_request(ECHO, echo)
    network.serve_request(FAIL, fail)
    network.serve_stream(COUNT, count)
    network.serve_gossip("/test/gossip", lambda _peer, _body: None)
    await network.start()
    yield network
    await network.close()


@pytest.mark.slow
async def test_js_dials_identifies_pings_and_asks(js: JsPeer, network: Libp2pNetwork) -> None:
    address = network.listen_addresses[0]
    assert await js.ask("dial", address=address) == network.peer_id
    identity = await js.ask("identify", address=address)
    assert identity["peer"] == network.peer_id
    assert {ECHO, COUNT, "/ipfs/ping/1.0.0", "/meshsub/1.1.0"} <= set(identity["protocols"])
    assert identity["addresses"][0] in address
    assert await js.ask("ping", address=address) < 30_000
    assert await js.ask("request", address=address, protocol=ECHO, body={"é": [1]}) == {"ok": {"é": [1]}}
    failed = await js.ask("request", address=address, protocol=FAIL, body=1)
    assert failed == {"error": {"kind": "not_found", "message": "no such job"}}
    frames = await js.ask("stream", address=address, protocol=COUNT, body=20)
    assert frames == [{"item": number} for number in range(20)] + [{"end": True}]


async def test_we_dial_js_ping_and_ask(js: JsPeer, network: Libp2pNetwork) -> None:
    address = (await js.ask("addresses"))[0]
    peer_id = address.rpartition("/")[2]
    network.add_addresses(peer_id, [address])
    assert await network.ping(peer_id, 30) < 30  # seconds
    assert json.loads(await network.request(peer_id, ECHO, b'{"a": 1}', 30)) == {"a": 1}
    assert [peer.peer_id for peer in network.peers()] == [peer_id]


@pytest.mark.slow
async def test_garbage_from_js_is_survived(js: JsPeer, network: Libp2pNetwork) -> None:
    address = network.listen_addresses[0]
    protocols = (await js.ask("identify", address=address))["protocols"]
    for protocol in protocols:
        for garbage in GARBAGE:
            await js.ask("garbage", address=address, protocol=protocol, hex=garbage)
    assert await js.ask("request", address=address, protocol=ECHO, body=1) == {"ok": 1}
    assert network._thread is not None
    assert not network._thread.ended.done()
