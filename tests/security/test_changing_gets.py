"""Every GET is driven with all that it takes, and what the node is before and after is compared: one that changes
something is known as such, and web pages of elsewhere may not ask for it. A new one is found by itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from dms.adapters.http import debug, examples
from dms.adapters.http.routes import Parameter, Route
from dms.adapters.http.server import ROUTES
from dms.application.network.chats import Chat
from dms.application.network.messages import FileOffer
from dms.domain.access import Need
from dms.domain.event import new_id
from dms.domain.payment import Payment, payment_key
from tests.fixtures.live_folders import below
from tests.integration.http.node import Node, now_us, running_node

# GETs that nobody may ask who may not also change something, and that change nothing. Any other of them changes
# something: it has `changes`, and web pages of elsewhere may not ask for it.
READ_BY_WHO_STEERS = {"/peers/file", "/peers/files", "/peers/files/<transfer_id>", "/peers/chat", "/tokens"}
READERS = {Need.NOTHING, Need.LOCAL, Need.SEE, Need.SEE_JOBS, Need.SEE_PROVIDER, Need.SEE_PAYMENTS, Need.AUDIT}
READS = [route for route in ROUTES if route.method == "GET"]
CHANGES = [route for route in READS if route.changes]
FOREIGN: Mapping[str, dict[str, str]] = {
    "an image": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    "an image of another port here": {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    "a link": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    "a browser that only tells the page": {"referer": "http://evil.example/page?x=1"},
    "a page of another port here": {"referer": "http://127.0.0.1:1/"},
    "a page with an odd address": {"referer": "http://[evil"},
    "what is fetched ahead": {"sec-fetch-site": "none", "sec-purpose": "prefetch;prerender"},
    "a script": {"origin": "http://evil.example"},
}
OWN: Mapping[str, Callable[[Node], dict[str, str]]] = {
    "a program": lambda node: {},
    "the address bar": lambda node: {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    "a page of ours": lambda node: {"sec-fetch-site": "same-origin", "referer": f"{node.url}/docs?x"},
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running, running.client() as client:
        running.app.ctx.client = client  # one for all that is asked: each makes a TLS context
        yield running


async def prepare(node: Node) -> None:
    """Something is there that each known change would change."""
    services = node.services
    await services.device.change_default_provider(examples.PEER_ID)
    job, tx_hash = await node.job(), new_id().replace("-", "")
    await node.submit(job, tx_hash)
    payment = Payment(payment_key(tx_hash))
    payment.use(job)
    await node.log.save(payment)
    await node.respond(job)
    await node.complete(job)
    chat = Chat(new_id(), examples.PEER_ID, now_us())
    services.chats._incoming[chat.chat_id] = chat
    offer = FileOffer(transfer_id=new_id(), name="a", size_bytes=1, sha256="0" * 64)
    await services.transfers._on_offer(examples.PEER_ID, msgspec.json.encode(offer))
    await node.views.wait(node.log.head)


def what_it_is(node: Node) -> tuple[Any, ...]:
    """All that a request could change: what is recorded, and what lives in memory only."""
    services = node.services
    return (
        node.log.head,
        services.service_provider.default_provider,
        [chat.chat_id for chat in services.chats.waiting()],
        [transfer.key for transfer in services.transfers.waiting()],
        services.directory.advertisements(),
        sorted(path.name for path in below(services.database_path.parent) if path.suffix not in (".db-wal",)),
    )


def questions(route: Route) -> Iterator[str]:
    """The route's address with nothing, and with each of its parameters at each value that it may have."""
    path = re.sub(r"<\w+>", new_id(), route.address)
    yield path
    for parameter in route.query:
        for value in values(parameter):
            yield f"{path}?{urlencode({parameter.name: value})}"


def values(parameter: Parameter) -> list[Any]:
    schema = parameter.schema
    found = [*schema.get("enum", ()), parameter.example, schema.get("default"), schema.get("minimum"), "0", "1"]
    return [value for value in found if value not in (None, "")] + (["true"] if schema.get("type") == "boolean" else [])


async def ask(node: Node, method: str, url: str, headers: Mapping[str, str]) -> int:
    """The status; of a stream that has no end only its head is read."""
    async with node.app.ctx.client.stream(method, url, headers=headers) as answer:
        return int(answer.status_code)


def test_a_get_of_who_steers_is_known_to_change_something_or_to_change_nothing() -> None:
    """By the tables, those of NUNET_DEBUG too: a new one that nobody thought of fails."""
    steering = [route for route in (*ROUTES, *debug.ROUTES) if route.method == "GET" and route.needs not in READERS]
    assert {route.path for route in steering if not route.changes} == READ_BY_WHO_STEERS


@pytest.mark.parametrize("path", [route.address for route in debug.ROUTES if route.changes])
async def test_no_page_of_elsewhere_may_ask_for_what_is_only_there_to_look_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("NUNET_DEBUG", "1")
    async with running_node(tmp_path) as node, node.client() as client:
        for headers in FOREIGN.values():
            for method in ("GET", "HEAD"):
                answer = await client.request(method, f"{path}?peerID={examples.PEER_ID}", headers=headers)
                assert answer.status_code == 403, headers
        assert (await client.get(f"{path}?peerID={examples.PEER_ID}")).status_code in (200, 404, 503)


@pytest.mark.slow
async def test_a_get_that_changes_something_is_known_as_one(node: Node) -> None:
    changing = set()
    await prepare(node)
    for route in READS:
        for url in questions(route):
            before = what_it_is(node)
            assert await ask(node, "GET", url, {}) < 500 or route.status == 501, url
            if what_it_is(node) != before:
                changing.add(route.address)
                await prepare(node)
    assert changing == {route.address for route in CHANGES}


@pytest.mark.slow
@pytest.mark.parametrize("what", FOREIGN)
async def test_no_page_of_elsewhere_may_ask_for_it(node: Node, what: str) -> None:
    await prepare(node)
    before = what_it_is(node)
    for route in CHANGES:
        for url, method in itertools.product(questions(route), ("GET", "HEAD")):
            assert await ask(node, method, url, FOREIGN[what]) == 403, url
    assert what_it_is(node) == before


@pytest.mark.parametrize("who", OWN)
async def test_programs_and_our_own_pages_may(node: Node, who: str) -> None:
    await prepare(node)
    answer = await ask(node, "GET", "/api/v1/peers/depreq?peerID=0", OWN[who](node))
    assert (answer, node.services.service_provider.default_provider) == (200, "")


async def test_head_changes_nothing(node: Node) -> None:
    await prepare(node)
    before = what_it_is(node)
    for route in CHANGES:
        for url in questions(route):
            assert await ask(node, "HEAD", url, {}) == 200, url
    assert what_it_is(node) == before


async def test_what_browsers_tell_counts_for_every_other_change_too(node: Node) -> None:
    before = what_it_is(node)
    for route in ROUTES:
        if route.method != "GET":
            for headers in FOREIGN.values():
                assert await ask(node, route.method, route.address, headers) == 403, route.address
    assert what_it_is(node) == before
