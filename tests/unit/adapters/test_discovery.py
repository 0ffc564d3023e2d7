"""What is kept of peers that came and went."""

from __future__ import annotations

from typing import cast

import pytest
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID

from dms.adapters.p2p import addresses, discovery
from dms.adapters.p2p.addresses import AddressBook
from dms.adapters.p2p.discovery import Discovery
from dms.adapters.p2p.host import build_host
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.inbound import InboundGuard

OWN, WANTED = (Identity.generate().peer_id for _ in range(2))


def test_strangers_leave_a_bounded_trace() -> None:
    book = AddressBook()
    book.add(WANTED, ["/ip4/192.0.2.1/tcp/1"])
    found = Discovery(OWN, [WANTED], book)
    found._failed(WANTED, "away", 0)
    for number in range(discovery._PAUSES * 2):
        found.connected(f"peer {number}")
        found.disconnected(f"peer {number}")
        if number % 100 == 0:  # as in each tick
            found._due(0.0)
    assert len(found._pauses) <= discovery._PAUSES
    assert len(found._lost) <= 64
    assert found._pauses[WANTED][1] == 1  # it still waits for its next try


@pytest.mark.parametrize("how", ["bootstrap", "found by name", "nearby", "connected", "lost", "remembered"])
def test_made_up_peers_push_no_wanted_one_out_of_the_book(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_PEERS", 20)
    book, where = AddressBook(), "/ip4/192.0.2.1/tcp/1"
    book.add(WANTED, [where])
    found = Discovery(OWN, [WANTED] if how == "bootstrap" else [], book)
    match how:
        case "found by name":
            found.found(WANTED, where)
        case "nearby":
            found.nearby(WANTED)
        case "remembered":
            found.remembered([WANTED])
        case "connected":
            found.connected(WANTED)
        case "lost":
            found.connected(WANTED)
            found.disconnected(WANTED)
    told = [Identity.generate().peer_id for _ in range(60)]
    for peer_id in told:
        book.add(peer_id, ["/ip4/198.51.100.1/tcp/1"])
    assert book.of(WANTED) == [where]
    assert len(book.peers()) == 20
    assert set(book.peers()) == {WANTED, *told[-19:]}


def test_the_library_keeps_no_list_of_all_who_ever_left() -> None:
    host = build_host(Identity.generate(), (), InboundGuard())
    connector = cast("Swarm", host.get_network()).auto_connector
    connector.record_disconnect(ID.from_string(WANTED))
    assert not connector._recent_disconnects
