"""A second DMS peer in an operating system process of its own, for tests that kill, freeze or restart one.

    python peer.py KEY_FILE [PORT] [BOOTSTRAP]

It prints its address on a line, then serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import uvloop

from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.config import P2p

ECHO, COUNT, BULK, QUIET = (f"/test/{name}/1" for name in ("echo", "count", "bulk", "quiet"))


async def echo(_peer_id: str, body: bytes) -> bytes:
    return body


async def count(_peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
    for number in range(int(body)):
        yield b"%d" % number


async def bulk(_peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
    chunk = b'"' + b"x" * 48_000 + b'"'
    for _ in range(int(body)):
        yield chunk


async def quiet(_peer_id: str, _body: bytes) -> AsyncGenerator[bytes, None]:
    yield b'"began"'
    await asyncio.Event().wait()


async def main(key_file: str, port: str = "0", bootstrap: str = "") -> None:
    network = Libp2pNetwork(
        Identity.load_or_create(Path(key_file)),
        P2p(
            listen_address=(f"/ip4/127.0.0.1/tcp/{port}",),
            bootstrap_peers=(bootstrap,) if bootstrap else (),
            mdns=False,
        ),
    )
    network.serve_request(ECHO, echo)
    for protocol, handler in ((COUNT, count), (BULK, bulk), (QUIET, quiet)):
        network.serve_stream(protocol, handler)
    await network.start()
    sys.stdout.write(network.listen_addresses[0] + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await network.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main(*sys.argv[1:]))
