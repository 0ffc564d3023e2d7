"""REST of the network: connected peers, and what is known of the compute providers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.onboarding import free_resources, gpu_info
from dms.adapters.http.replies import iso, json_reply
from dms.adapters.http.routes import Api, Route
from dms.application.ports.peers import PeerInfo
from dms.domain.access import Need
from dms.domain.directory import Advertisement

_ROWS_AT_ONCE = 500


async def peers(_request: Request, api: Api) -> HTTPResponse:
    return json_reply([_connected(peer, api) for peer in api.services.network.peers()])


async def own(_request: Request, api: Api) -> HTTPResponse:
    network = api.services.network
    return json_reply(_peer(network.peer_id, network.listen_addresses))


def _peer(peer_id: str, addresses: Sequence[str]) -> answers.Peer:
    found = list(addresses)
    return answers.Peer(upper_id=peer_id, upper_addrs=found, id=peer_id, addrs=found)


def _connected(peer: PeerInfo, api: Api) -> answers.Peer:
    heard = api.services.network.heard(peer.peer_id)
    return msgspec.structs.replace(
        _peer(peer.peer_id, peer.addresses),
        provider=api.services.directory.knows(peer.peer_id),
        rtt_ms=round(heard.rtt_seconds * 1000, 3) if heard is not None and heard.rtt_seconds else None,
        since=iso(peer.since * 1_000_000),
    )


async def known(_request: Request, api: Api) -> HTTPResponse:
    """Peer ids of the providers whose advertisement is known, without this node."""
    return json_reply([advertisement.peer_id for advertisement in api.services.directory.advertisements()])


async def dump(_request: Request, api: Api) -> HTTPResponse:
    """PeerData of all providers, this node first."""
    rows: list[dict[str, Any]] = []
    own = await api.services.advertisement.made()
    for number, found in enumerate((own, *api.services.directory.advertisements())):
        rows.append(_peer_data(found))
        if number % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)  # there may be 100,000 of them
    return await asyncio.to_thread(json_reply, rows)


def _peer_data(advertisement: Advertisement) -> dict[str, Any]:
    """services is always empty: the original told everybody which jobs, wallets and logs a provider had."""
    offering = advertisement.offering
    return {
        "peer_id": advertisement.peer_id,
        "is_available": offering.online,
        "has_gpu": bool(offering.gpus),
        "allow_cardano": offering.allow_cardano,
        "gpu_info": gpu_info(offering.gpus) or None,
        "tokenomics_addrs": offering.payment_address,
        "tokenomics_blockchain": offering.blockchain,
        "available_resources": free_resources(offering),
        "services": [],
        "timestamp": advertisement.sequence // 1_000_000,
    }


_PEERS = ("peers",)

ROUTES = (
    Route(
        "GET", "/peers", peers, "Connected peers.", answer=list[answers.Peer],
        answer_example=[
            examples.PEER | {"provider": True, "rtt_ms": 4.2, "since": "2026-01-31T12:00:00.000000+00:00"},
        ],
        tags=_PEERS,
        needs=Need.SEE,
    ),
    Route(
        "GET", "/peers/self", own, "This node's peer id and addresses.", answer=answers.Peer,
        answer_example=examples.PEER, tags=_PEERS,
        needs=Need.SEE,
    ),
    Route(
        "GET", "/peers/dht", known, "Peer ids of known compute providers, without this node.", answer=list[str],
        answer_example=[examples.PEER_ID], tags=_PEERS,
        needs=Need.SEE,
    ),
    Route(
        "GET", "/peers/kad-dht", known, "The same: this DMS keeps one table.", answer=list[str],
        answer_example=[examples.PEER_ID], tags=_PEERS,
        needs=Need.SEE,
    ),
    Route(
        "GET", "/peers/dht/dump", dump, "All that compute providers say of themselves, this node first.",
        answer=list[answers.PeerData], answer_example=[examples.PEER_DATA], tags=_PEERS,
        needs=Need.SEE,
    ),
)  # fmt: skip
