"""The default provider: the peer that gets the requests which name none. `/peers/depreq` of the original."""

from __future__ import annotations

from msgspec import Struct, field
from sanic import HTTPResponse, Request

from dms.adapters.http import examples
from dms.adapters.http.files import checked_peer
from dms.adapters.http.replies import in_query, json_reply, query
from dms.adapters.http.routes import Api, Parameter, Route
from dms.adapters.http.strict_json import parse
from dms.domain.access import Need
from dms.domain.request import Text

CLEAR = "0"  # as a peer id: none


class DefaultProviderBody(Struct, frozen=True, kw_only=True):
    """`peerID` as in the query of GET; "0" for none."""

    peer_id: Text = field(name="peerid")


class DefaultProvider(Struct, frozen=True, kw_only=True):
    """peer_id: empty when there is none."""

    message: str
    peer_id: str


async def show_or_set(request: Request, api: Api) -> HTTPResponse:
    """Without peerID it is shown."""
    peer_id = query(request, "peerID")
    with in_query():
        return await _change(api, peer_id) if peer_id else _default_provider_answer(api)


async def change(request: Request, api: Api) -> HTTPResponse:
    return await _change(api, parse(request.body, DefaultProviderBody).peer_id)


async def clear(_request: Request, api: Api) -> HTTPResponse:
    return await _change(api, CLEAR)


def _default_provider_answer(api: Api) -> HTTPResponse:
    peer_id = api.services.service_provider.default_provider
    text = f"default peer is {peer_id}" if peer_id else "no default peer set"
    return json_reply(DefaultProvider(message=text, peer_id=peer_id))


async def _change(api: Api, peer_id: str) -> HTTPResponse:
    provider = api.services.service_provider
    if peer_id == CLEAR:
        await provider.clear_default_provider()
        text = "default peer successfully removed"
    else:
        await provider.set_default_provider(checked_peer(peer_id))
        text = f"Successfully set {peer_id} as default deployment request receiver."
    return json_reply(DefaultProvider(message=text, peer_id=provider.default_provider))


_EXAMPLE = {"message": f"default peer is {examples.PEER_ID}", "peer_id": examples.PEER_ID}
_NONE = {"message": "default peer successfully removed", "peer_id": ""}
_TAGS = ("peers",)

ROUTES = (
    Route(
        "GET", "/peers/depreq", show_or_set, "The default provider; with peerID it is set, as by POST.",
        query=(Parameter("peerID", "The new one, 0 for none; absent to see it.", example=examples.PEER_ID),),
        answer=DefaultProvider, answer_example=_EXAMPLE, errors=(400,), changes=True, tags=_TAGS,
        needs=Need.ADMINISTER,
    ),
    Route(
        "POST", "/peers/depreq", change, "Set the default provider.", DefaultProviderBody, answer=DefaultProvider,
        body_example={"peerid": examples.PEER_ID}, answer_example=_EXAMPLE, errors=(400,), tags=_TAGS,
        description="It must be a known compute provider that answers a ping. It is kept over restarts.",
        needs=Need.ADMINISTER,
    ),
    Route(
        "DELETE", "/peers/depreq", clear, "Have no default provider.", answer=DefaultProvider, answer_example=_NONE,
        tags=_TAGS, description="`job.target_peer` of the configuration, if any, counts again.",
        needs=Need.ADMINISTER,
    ),
)  # fmt: skip
