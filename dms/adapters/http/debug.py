"""REST for looking inside, only there when the environment has NUNET_DEBUG, as in the original."""

from __future__ import annotations

from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples, peers
from dms.adapters.http.files import checked_peer
from dms.adapters.http.replies import in_query, json_reply, query
from dms.adapters.http.routes import Api, Parameter, Route
from dms.domain.access import Need

PING_SECONDS = 10.0


async def ping(request: Request, api: Api) -> HTTPResponse:
    """RTT in nanoseconds. 503 when the peer does not answer."""
    peer_id = _peer_id(request)
    seconds = await api.services.network.ping(peer_id, PING_SECONDS)
    known = api.services.directory.knows(peer_id)
    return json_reply(answers.Ping(message=f"{peer_id} answered", peer_in_dht=known, rtt=int(seconds * 1e9)))


async def update(_request: Request, api: Api) -> HTTPResponse:
    """Tells the network of this node again, and asks all connected peers for what they know."""
    api.services.advertisement.stir()
    api.services.directory.refresh()
    return json_reply(answers.Message(message="the table of providers is being renewed"))


async def cleanup(request: Request, api: Api) -> HTTPResponse:
    """Forgets what is known of a provider, until it is heard of again."""
    peer_id = _peer_id(request)
    await api.services.directory.forget(peer_id)
    return json_reply(answers.Message(message=f"{peer_id} is forgotten"))


def _peer_id(request: Request) -> str:
    with in_query():
        return checked_peer(query(request, "peerID"))


_PEER = (Parameter("peerID", "The peer.", {"type": "string", "minLength": 1}, required=True, example=examples.PEER_ID),)
_TAGS = ("debug",)
_PONG = {"message": f"{examples.PEER_ID} answered", "peer_in_dht": True, "RTT": 1_500_000}

ROUTES = (
    Route(
        "GET", "/dht", peers.dump, "All that providers say of themselves.", answer=list[answers.PeerData],
        answer_example=[examples.PEER_DATA], tags=_TAGS,
        needs=Need.SEE,
    ),
    Route(
        "GET", "/kad-dht", peers.known, "Peer ids of known providers.", answer=list[str],
        answer_example=[examples.PEER_ID], tags=_TAGS,
        needs=Need.SEE,
    ),
    Route(
        "GET", "/dht/update", update, "Renew the table of providers.", answer=answers.Message,
        answer_example={"message": "the table of providers is being renewed"}, changes=True, tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
    *(
        Route("GET", path, ping, "Ping a peer.", query=_PEER, answer=answers.Ping, answer_example=_PONG, errors=(400,),
              changes=True, tags=_TAGS, needs=Need.ADMINISTER)
        for path in ("/ping", "/oldping")
    ),
    Route(
        "GET", "/cleanup", cleanup, "Forget a provider until it is heard of again.", query=_PEER,
        answer=answers.Message, answer_example={"message": f"{examples.PEER_ID} is forgotten"}, errors=(400, 404),
        changes=True, tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip
