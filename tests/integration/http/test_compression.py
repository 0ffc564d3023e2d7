"""Large JSON answers are compressed for those who take it, and only where their length tells a stranger nothing."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from dms.adapters.http import compression
from tests.integration.http.node import Node, running_node

API = "/api/v1"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with running_node(tmp_path_factory.mktemp("node")) as running:
        for _ in range(3):
            await running.job()
        yield running


async def got(node: Node, path: str, method: str = "GET", **headers: str) -> tuple[Mapping[str, str], bytes]:
    """(headers, the body as it came)."""
    given = {"accept-encoding": "gzip", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with node.client() as client, client.stream(method, path, headers=given) as answer:
        return answer.headers, b"".join([part async for part in answer.aiter_raw()])


async def plain(node: Node, path: str) -> Any:
    async with node.client() as client:
        answer: httpx.Response = await client.get(path, headers={"accept-encoding": "identity"})
        return answer.json()


@pytest.mark.parametrize("path", [f"{API}/jobs", "/openapi.json"])
async def test_a_large_answer_is_the_same_and_smaller(node: Node, path: str) -> None:
    headers, body = await got(node, path)
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "Accept-Encoding, Origin")
    assert int(headers["content-length"]) == len(body)
    text = gzip.decompress(body)
    assert len(body) < len(text) / 2
    assert json.loads(text) == await plain(node, path)
    of_head, nothing = await got(node, path, "HEAD")
    assert (of_head["content-encoding"], of_head["content-length"], nothing) == ("gzip", str(len(body)), b"")


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "br", ""])
async def test_who_does_not_take_it_gets_it_plain_and_caches_are_told(node: Node, accepted: str) -> None:
    headers, body = await got(node, f"{API}/jobs", accept_encoding=accepted)
    assert ("content-encoding" in headers, headers["vary"]) == (False, "Accept-Encoding, Origin")
    assert len(json.loads(body)["items"]) == 3


async def test_small_answers_and_streams_stay_as_they_are(node: Node) -> None:
    for path in ("/livez", f"{API}/events", f"{API}/events/export", "/docs", "/metrics"):
        headers, _ = await got(node, path)
        assert "content-encoding" not in headers, path


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_a_page_of_elsewhere_asks_for_is_never_compressed(node: Node, site: str) -> None:
    assert "content-encoding" not in (await got(node, f"{API}/jobs", sec_fetch_site=site))[0]
    assert "content-encoding" in (await got(node, f"{API}/jobs", sec_fetch_site="same-origin"))[0]


async def test_no_error_and_no_secret_is_compressed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "LEAST_BYTES", 1)
    headers, body = await got(node, f"{API}/jobs?status={'x' * 64}")
    assert ("content-encoding" in headers, b"x" * 64 in body) == (False, True)
    headers, body = await got(node, f"{API}/onboarding/address/new?blockchain=ethereum")
    assert ("content-encoding" in headers, b"private_key" in body) == (False, True)
    assert "content-encoding" in (await got(node, f"{API}/peers/self"))[0]


async def test_an_output_is_compressed_as_other_answers_are(node: Node, tmp_path: Path) -> None:
    job = await node.job()
    await node.submit(job)
    await node.respond(job)
    await node.print_lines(job, *[("stdout", f"epoch {number}") for number in range(200)])
    headers, body = await got(node, f"{API}/jobs/{job}/output", x_log_token=node.services.log_token(job))
    assert headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(body))["lines"]) == 200
