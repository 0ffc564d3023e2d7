"""The port PeerNetwork over py-libp2p. This is asyncio's side; what it calls runs in trio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path

from dms.adapters.p2p.addresses import (
    AddressBook,
    DnsAddr,
    announceable,
    expand,
    listenable,
    read_bootstrap,
    remarks_on,
    remarks_on_listening,
)
from dms.adapters.p2p.discovery import Discovery
from dms.adapters.p2p.exchange import Server, check_body, consume
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard, InboundLimits
from dms.adapters.p2p.liveness import ANSWER_SECONDS, INTERVAL_SECONDS
from dms.adapters.p2p.mdns import Mdns
from dms.adapters.p2p.node import Node, StreamServer
from dms.adapters.p2p.remembered import MOST_ADDRESSES, MOST_PEERS, Remembered, RememberedPeers
from dms.adapters.p2p.runtime import Pipe, Stopped, TrioThread
from dms.application.loops import Loop, Loops, Patience
from dms.application.ports.peers import GossipHandler, Heard, PeerInfo, RequestHandler, StreamHandler
from dms.application.tasks import background
from dms.config import P2p
from dms.errors import DmsError, PeerSlow, PeerUnreachable
from dms.operators import Operators
from dms.recent import Recent

logger = logging.getLogger(__name__)

PeerCallback = Callable[[str, bool], None]
_CLOSE_SECONDS = 1.8
_PATIENCE = Patience(first=0.05, longest=5.0)  # peers wait for us
_REMEMBER_SECONDS = 2.0
_GOSSIP_WAITING = 4 << 20  # bytes of messages on their way to the asyncio loop; more are dropped
_GOSSIP_COST = 1024  # bytes that a message counts for beside its own


class Libp2pNetwork:
    """Implements Host. settings: the section `p2p`. heartbeat: seconds between pings of a peer, and seconds that its
    answer may take. remembered: the file of the peers of the last run; without one they are forgotten.
    inbound: how many connections others may have to us.
    Raises ConfigError."""

    def __init__(
        self,
        identity: Identity,
        settings: P2p,
        *,
        heartbeat: tuple[float, float] = (INTERVAL_SECONDS, ANSWER_SECONDS),
        loops: Loops | None = None,
        remembered: Path | None = None,
        inbound: InboundLimits | None = None,
    ) -> None:
        self.peer_id = identity.peer_id
        self._identity, self._heartbeat = identity, heartbeat
        self._announce: Sequence[str] = announceable(settings.announce_address)
        self._listen: Sequence[str] = listenable(settings.listen_address)
        self._book = AddressBook()
        for remark in (*remarks_on_listening(settings.listen_address), *remarks_on(settings.bootstrap_peers)):
            logger.warning("%s", remark)
        entries = [read_bootstrap(text) for text in settings.bootstrap_peers]
        names = [entry for entry in entries if isinstance(entry, DnsAddr)]
        peers = [entry for entry in entries if entry is not None and not isinstance(entry, DnsAddr)]
        for peer_id, address in peers:
            self._book.add(peer_id, [address])
        self._discovery = Discovery(self.peer_id, [peer_id for peer_id, _ in peers], self._book, names)
        self._remembered = RememberedPeers(remembered) if remembered else None
        self._last_seen: Recent[str, int] = Recent(MOST_PEERS)  # peer -> Unix time, seconds; the latest last
        self._mdns = Mdns(self.peer_id, self._nearby) if settings.mdns else None
        self._servers: dict[str, Callable[[Server], StreamServer]] = {}
        self._topics: dict[str, GossipHandler] = {}
        self._callbacks: list[PeerCallback] = []
        self._connected: dict[str, tuple[Sequence[str], int]] = {}  # observed addresses; since when, Unix seconds
        self._owners: Recent[str, int | None] = Recent(4096)  # the user of this machine that it was last connected by
        self._operators = Operators()
        self._gossip_heard = self._gossip_handled = 0  # bytes; each is written by one thread alone
        self._guard = InboundGuard(inbound)
        self._thread: TrioThread | None = None
        self._node: Node | None = None
        self._loops = loops or Loops()
        self._background: list[Loop] = []
        self._closing = False

    async def start(self) -> None:
        """Raises Unavailable naming an address that can't be listened on."""
        if self._remembered is not None:
            self._recall(await asyncio.to_thread(self._remembered.load))
        await self._run()
        self._background.append(
            self._loops.start("peer-to-peer host", self._watch_host, needed=True, patience=_PATIENCE)
        )
        if (remembered := self._remembered) is not None:
            remember = partial(self._remember, remembered)
            self._background.append(
                self._loops.every(_REMEMBER_SECONDS, "remembering of peers", remember, at_once=False)
            )
        if self._mdns is not None:
            self._background.append(self._loops.start("discovery on the local network", self._look_nearby))

    async def close(self) -> None:
        """Within 2 s. Safe to repeat."""
        self._closing = True
        for loop in self._background:
            await loop.close()
        if self._remembered is not None and self._node is not None:
            await self._remember(self._remembered)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(self._close_mdns(), self._close_node())

    # --- from one run to the next ------------------------------------------------------------------
    def _recall(self, peers: Sequence[Remembered]) -> None:
        for peer in reversed(peers):
            if self._book.add(peer.peer_id, peer.addresses):
                self._last_seen[peer.peer_id] = peer.seen_at
        self._discovery.remembered([peer.peer_id for peer in peers])

    async def _remember(self, remembered: RememberedPeers) -> None:
        for peer_id in self._connected:
            self._saw(peer_id)
        peers = [
            Remembered(peer_id=peer_id, addresses=tuple(self._book.of(peer_id)[:MOST_ADDRESSES]), seen_at=at)
            for peer_id, at in self._last_seen.items()
        ]
        try:
            await asyncio.to_thread(remembered.save, [peer for peer in peers if peer.addresses])
        except OSError as error:
            logger.debug("the peers of this run are not remembered: %s", error)

    def _saw(self, peer_id: str) -> None:
        self._last_seen[peer_id] = int(time.time())

    async def _close_mdns(self) -> None:
        if self._mdns is not None:
            await self._mdns.close()

    async def _close_node(self) -> None:
        thread, node = self._thread, self._node
        self._thread = self._node = None
        if thread is None or node is None:
            return
        thread.post(node.stop)
        try:
            await asyncio.wait([thread.ended])
        finally:
            thread.cancel()

    async def _run(self) -> None:
        thread = TrioThread()

        async def main(started: Callable[[Node], None]) -> None:
            server = Server(thread)
            node = Node(
                self._identity,
                self._announce,
                self._book,
                self._discovery,
                lambda *seen: thread.to_asyncio(self._seen, *seen),
                self._heartbeat,
                self._guard,
            )
            servers = {protocol: make(server) for protocol, make in self._servers.items()}
            topics = {topic: partial(self._deliver, thread, topic) for topic in self._topics}
            await node.run(self._listen, servers, topics, started)

        node = await thread.start(main)
        self._thread, self._node = thread, node
        self._listen = node.bound  # a restart takes the same ports

    async def _watch_host(self) -> None:
        """The libp2p host is one trio program, which any bug in it ends as a whole: then it starts anew."""
        if self._thread is None:
            await self._run()
        thread, _ = self._parts()
        await asyncio.wait([thread.ended])
        self._thread = self._node = None
        for peer_id in list(self._connected):
            self._seen(peer_id, False, (), None)
        raise RuntimeError("the p2p host ended") from thread.ended.exception()

    async def _look_nearby(self) -> None:
        if self._mdns is None:
            return
        await self._mdns.close()  # what is left of an earlier try
        await self._mdns.start(self.listen_addresses)
        await asyncio.get_running_loop().create_future()  # it works by itself from here on

    def _parts(self) -> tuple[TrioThread, Node]:
        if self._thread is None or self._node is None:
            raise Stopped("The peer-to-peer host is not running.")
        return self._thread, self._node

    @property
    def listen_addresses(self) -> Sequence[str]:
        if self._node is None:
            return ()
        return tuple(f"{address}/p2p/{self.peer_id}" for address in expand(self._node.bound, self._announce))

    # --- what others may ask of us ---------------------------------------------------------------
    def serve_request(self, protocol: str, handler: RequestHandler) -> None:
        self._serve(protocol, lambda server: server.requests(handler))

    def serve_stream(self, protocol: str, handler: StreamHandler, *, raw: bool = False) -> None:
        self._serve(protocol, lambda server: server.streams(handler, raw=raw))

    def _serve(self, protocol: str, make: Callable[[Server], StreamServer]) -> None:
        self._servers[protocol] = make
        thread, node = self._thread, self._node
        if thread is not None and node is not None:
            thread.post(lambda: node.serve(protocol, make(Server(thread))))

    def serve_gossip(self, topic: str, handler: GossipHandler) -> None:
        """One handler a topic; a second one takes the first one's place."""
        known = topic in self._topics
        self._topics[topic] = handler
        thread, node = self._thread, self._node
        if thread is not None and node is not None and not known:
            thread.post(lambda: node.subscribe(topic, partial(self._deliver, thread, topic)))

    def _deliver(self, thread: TrioThread, topic: str, signer: str, body: bytes) -> None:
        """In trio. Gossip that comes faster than it is handled is dropped: it comes again, or is out of date."""
        if self._gossip_heard - self._gossip_handled >= _GOSSIP_WAITING:
            return
        self._gossip_heard += len(body) + _GOSSIP_COST
        thread.to_asyncio(self._handle_gossip, topic, signer, body)

    def _handle_gossip(self, topic: str, signer: str, body: bytes) -> None:
        self._gossip_handled += len(body) + _GOSSIP_COST
        try:
            self._topics[topic](signer, body)
        except DmsError as error:
            logger.info("gossip of peer %s on %s: %s", signer, topic, error)

    # --- what we ask of others -------------------------------------------------------------------
    async def publish(self, topic: str, body: bytes) -> None:
        thread, node = self._parts()
        await thread.call(node.gossip.publish, topic, body)

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        check_body(body)
        thread, node = self._parts()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await thread.call(node.client.request, peer_id, protocol, body, timeout_seconds)
        except TimeoutError as error:
            raise PeerUnreachable(f"Peer {peer_id} did not answer within {timeout_seconds:g} s.") from error

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        check_body(body)
        thread, node = self._parts()

        async def follow(pipe: Pipe) -> None:
            await thread.call(node.client.follow, peer_id, protocol, body, pipe)

        async with contextlib.aclosing(consume(thread, follow)) as items:
            async for item in items:
                yield item

    async def ping(self, peer_id: str, timeout_seconds: float) -> float:
        thread, node = self._parts()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await thread.call(node.ping, peer_id, timeout_seconds)
        except TimeoutError as error:
            kind = PeerSlow if peer_id in self._connected else PeerUnreachable
            raise kind(f"Peer {peer_id} did not answer within {timeout_seconds:g} s.") from error

    def heard(self, peer_id: str) -> Heard | None:
        return self._node.heard(peer_id) if self._node is not None else None

    def refused_connections(self) -> int:
        return self._guard.refused

    def is_local(self, peer_id: str) -> bool:
        uid = self._owners.get(peer_id)
        return uid is not None and self._operators.is_known(uid)

    # --- who is there ----------------------------------------------------------------------------
    def add_addresses(self, peer_id: str, addresses: Sequence[str]) -> None:
        if self._book.add(peer_id, addresses) and self._thread is not None:
            self._thread.post(partial(self._discovery.moved, peer_id))

    def peers(self) -> Sequence[PeerInfo]:
        return [self._info(peer_id) for peer_id in sorted(self._connected)]

    def _info(self, peer_id: str) -> PeerInfo:
        observed, since = self._connected[peer_id]
        known = self._book.of(peer_id) or observed
        bare = dict.fromkeys(address.partition("/p2p/")[0] for address in known)
        return PeerInfo(peer_id, tuple(f"{address}/p2p/{peer_id}" for address in bare), since)

    def on_peer(self, callback: PeerCallback) -> None:
        """Calls callback(peer_id, connected), on the asyncio loop, for each peer that comes or goes."""
        self._callbacks.append(callback)

    def _seen(self, peer_id: str, connected: bool, observed: Sequence[str], owner: int | None) -> None:
        """owner: the user of this machine who has the other end; None from elsewhere."""
        if connected == (peer_id in self._connected):
            return
        if connected:
            self._connected[peer_id] = observed, int(time.time())
            self._owners[peer_id] = owner
            if owner is not None and not self._operators.is_known(owner):
                background(self._operators.has(owner), "whether a peer's user is an operator")
            self._saw(peer_id)
        else:
            del self._connected[peer_id]
        for callback in self._callbacks:
            callback(peer_id, connected)

    def _nearby(self, peer_id: str, addresses: Sequence[str]) -> None:
        moved = self._book.add(peer_id, addresses)
        if moved and self._thread is not None:
            self._thread.post(partial(self._discovery.moved, peer_id))
        if self._thread is not None:
            self._thread.post(partial(self._discovery.nearby, peer_id))
