"""Every GET is driven with all that it takes, and what the node is before and after is compared: one that changes
something is known as such, and web pages of elsewhere may not ask for it. A new one is found by itself."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from dms.adapters.http import examples
from dms.adapters.http.routes import Parameter, Route
from dms.adapters.http.server import ROUTES
from dms.application.chats import Chats
from dms.domain.event import new_id
from tests.integration.http.node import Node, running_node

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
    """With something there that each known change would change."""
    async with running_node(tmp_path) as running:
        await running.services.device.change_default_provider(examples.PEER_ID)
        await _paid_job(running)
        _waiting_chat(running.services.chats)
        yield running


async def _paid_job(node: Node) -> None:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.complete(job)
    await node.views.wait(node.log.head)
