"""REST of whose jobs, and which images, the owner of this machine takes, and of what was refused of late."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.answers import Time
from dms.adapters.http.examples import JOB_ID, PEER_ID
from dms.adapters.http.past import AS_OF, views_at
from dms.adapters.http.replies import iso, json_reply, known_tags
from dms.adapters.http.routes import Api, Route
from dms.adapters.http.strict_json import parse
from dms.domain.device_policy import MOST_ENTRIES, DevicePolicy, Lists
from dms.domain.image_patterns import LONGEST_PATTERN
from projections.device import OWN, DeviceView

_VIEW = DeviceView()
_Entries = Annotated[tuple[Annotated[str, Meta(max_length=LONGEST_PATTERN)], ...], Meta(max_length=MOST_ENTRIES)]


class ListsBody(Struct, frozen=True, kw_only=True):
    """What is denied is denied even if it is allowed. An empty `allow` allows all."""

    allow: Annotated[_Entries, Meta(description="what alone is taken; empty for all")]
    deny: Annotated[_Entries, Meta(description="what is never taken")]


class PolicyBody(Struct, frozen=True, kw_only=True):
    """The whole of it, beside what the configuration says: both must allow."""

    images: Annotated[ListsBody, Meta(description="patterns: busybox, ghcr.io/nunet/*, name:tag, sha256:...")]
    peers: Annotated[ListsBody, Meta(description="peer ids")]


class PolicyLists(Struct, frozen=True, kw_only=True):
    allow: Annotated[tuple[str, ...], Meta(description="what alone is taken; empty for all")]
    deny: Annotated[tuple[str, ...], Meta(description="what is never taken, even if it is allowed")]


class Policy(Struct, frozen=True, kw_only=True):
    """Whose jobs, and which images, are taken, beside what the configuration says."""

    images: Annotated[PolicyLists, Meta(description="patterns: busybox, ghcr.io/nunet/*, name:tag, sha256:...")]
    peers: Annotated[PolicyLists, Meta(description="peer ids")]


class RefusedPeer(Struct, frozen=True, kw_only=True):
    """What a peer wanted and did not get; the same again is counted."""

    peer_id: Annotated[str, Meta(description="who wanted it")]
    kind: Annotated[str, Meta(description="what the reason is about: provider, peer, image, capacity, file, chat, ...")]
    reason: Annotated[str, Meta(description="what the peer was told")]
    job_id: Annotated[str, Meta(description="of the newest such job; empty where it is not about a job")]
    count: Annotated[int, Meta(description="how often")]
    first_at: Time
    last_at: Time


class RefusedList(Struct, frozen=True, kw_only=True):
    items: Annotated[list[RefusedPeer], Meta(description="newest first; since the daemon started, the last 200")]


async def show(request: Request, api: Api) -> HTTPResponse:
    row = await (await views_at(request, api)).get(_VIEW, OWN)
    return _reply(DevicePolicy() if row is None else row.policy)


async def change(request: Request, api: Api) -> HTTPResponse:
    """400 names each entry that is wrong; 412 where If-Match names other lists than there are."""
    body = parse(request.body, PolicyBody)
    policy = DevicePolicy(images=_lists(body.images), peers=_lists(body.peers))
    await api.services.device.change_policy(policy, known_tags(request))
    return _reply(policy)


async def refusals(_request: Request, api: Api) -> HTTPResponse:
    items = [
        RefusedPeer(
            peer_id=one.peer_id,
            kind=one.kind,
            reason=one.reason,
            job_id=one.job_id,
            count=one.count,
            first_at=iso(one.first_us) or "",
            last_at=iso(one.last_us) or "",
        )
        for one in api.services.refusals.newest()
    ]
    return json_reply(RefusedList(items=items))


def _reply(policy: DevicePolicy) -> HTTPResponse:
    return json_reply(_shown(policy), headers={"etag": f'"{policy.digest}"'})


def _shown(policy: DevicePolicy) -> Policy:
    images, peers = policy.images, policy.peers
    return Policy(
        images=PolicyLists(allow=images.allow, deny=images.deny), peers=PolicyLists(allow=peers.allow, deny=peers.deny)
    )


def _lists(body: ListsBody) -> Lists:
    return Lists(allow=body.allow, deny=body.deny)


_POLICY: dict[str, Any] = {
    "images": {"allow": ["ghcr.io/nunet/*"], "deny": ["ghcr.io/nunet/old"]}, "peers": {"allow": [], "deny": [PEER_ID]},
}  # fmt: skip
_REFUSED: dict[str, Any] = {
    "peer_id": PEER_ID, "kind": "peer", "reason": "the owner of this node takes nothing of this peer", "job_id": JOB_ID,
    "count": 2, "first_at": "2026-01-31T12:00:00.000000+00:00", "last_at": "2026-01-31T12:05:00.000000+00:00",
}  # fmt: skip
_TAGS = ("device",)
ROUTES = (
    Route(
        "GET", "/device/policy", show, "Whose jobs, and which images, are taken.", query=(AS_OF,), answer=Policy,
        answer_example=_POLICY, errors=(400,), tags=_TAGS, tagged=True,
    ),
    Route(
        "PUT", "/device/policy", change, "Change whose jobs, and which images, are taken.", PolicyBody,
        body_example=_POLICY, answer=Policy, answer_example=_POLICY, errors=(400,), tags=_TAGS,
        tagged=True,
        description="The whole of it: what is left out of a list is not on it any more. With the ETag of the lists "
        "that were read as `If-Match`, nothing that others changed meanwhile is lost. It holds at once for what is "
        "asked from then on, beside `job.image_allow` and `job.image_deny`; jobs that run go on. Of a denied peer "
        "nothing is taken: no job, file or chat, and no offer of its own.",
    ),
    Route(
        "GET", "/device/refusals", refusals, "What peers wanted of late and did not get.", answer=RefusedList,
        answer_example={"items": [_REFUSED]}, tags=_TAGS,
    ),
)  # fmt: skip
