"""Finds peers that are dead, frozen or cut off, and ends their connections: the library never does."""

from __future__ import annotations

import logging
import secrets
import time
from typing import cast

import trio
from libp2p.network.connection.swarm_connection import SwarmConn

from dms.adapters.p2p.framing import Wire, cut_as_unreachable
from dms.adapters.p2p.links import open_on
from dms.adapters.p2p.workarounds import HardenedYamux, kill
from dms.errors import DmsError, ProtocolRefused

logger = logging.getLogger(__name__)

PING = "/ipfs/ping/1.0.0"
INTERVAL_SECONDS = 10.0
ANSWER_SECONDS = 5.0
_ROUND_TRIPS = 8.0  # that a slow link's answer may take: opening a stream is one, a lost packet costs several
_TRIES = 2  # a machine that is busy, ours included, may miss a beat
_PING_SIZE = 32


async def ping_over(wire: Wire, timeout_seconds: float) -> float:
    """Round trip in seconds. Raises PeerUnreachable."""
    payload = secrets.token_bytes(_PING_SIZE)
    with cut_as_unreachable(wire.peer_id), trio.fail_after(timeout_seconds):
        begin = trio.current_time()
        await wire.write(payload, timeout_seconds)
        await wire.read_bytes(_PING_SIZE)
        return trio.current_time() - begin


async def watch(conn: SwarmConn, interval: float = INTERVAL_SECONDS, patience: float = ANSWER_SECONDS) -> None:
    """Pings until the connection ends, and ends it when two pings in a row aren't answered in time while nothing else
    comes from the peer either. patience: seconds; more over a link whose round trips are long.
    A beat is not waited for but looked after: with a stuck socket, even giving up a write takes its time."""
    peer_id = str(conn.muxed_conn.peer_id)
    pulse = cast("HardenedYamux", conn.muxed_conn).pulse
    missed = 0
    while not conn.is_closed:
        answered, begun = trio.Event(), time.monotonic()
        allowed = max(patience, _ROUND_TRIPS * pulse.rtt)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_beat, conn, allowed, answered)
            with trio.move_on_after(allowed):
                await answered.wait()
            nursery.cancel_scope.cancel()
        missed = 0 if answered.is_set() or pulse.heard_at > begun else missed + 1
        if missed >= _TRIES:
            logger.warning("peer %s does not answer any more; its connection is closed", peer_id)
            await kill(conn)
        elif not missed:
            with trio.move_on_after(interval):
                await conn.event_closed.wait()


async def _beat(conn: SwarmConn, patience: float, answered: trio.Event) -> None:
    wire: Wire | None = None
    try:
        wire = await open_on(conn, PING, patience)
        cast("HardenedYamux", conn.muxed_conn).pulse.measured(await ping_over(wire, patience))
        answered.set()
        await wire.finish()
    except ProtocolRefused:
        answered.set()  # it speaks, though not this
    except DmsError as error:
        logger.debug("heartbeat: %s", error)
        if wire is not None:
            await wire.reset()
        if conn.is_closed:
            answered.set()
