"""How the dashboards' files are served: from memory, kept by browsers as long as they stay the same."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dms.adapters.http import dashboard
from tests.integration.http.node import Node, running_node

SCRIPT = b"export const answer = 42;\n" * 100


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small build."""
    folder = tmp_path / "built"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>DMS</title>")
    (folder / "assets" / "main-ABC.js").write_bytes(SCRIPT)
    (folder / "assets" / "main-ABC.js.gz").write_bytes(gzip.compress(SCRIPT))
    monkeypatch.setattr(dashboard, "FILES", folder)
    return folder


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as made:
        yield made


async def fetched(node: Node, path: str, **headers: str) -> httpx.Response:
    async with node.client() as client:
        return await client.get(path, headers={"accept-encoding": "identity"} | headers)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/sp/jobs/0199"])
async def test_a_place_within_the_dashboards_gets_the_page(node: Node, path: str) -> None:
    answer = await fetched(node, path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.usefixtures("built")
async def test_an_asset_is_kept_for_ever_and_packed_for_who_takes_that(node: Node) -> None:
    plain = await fetched(node, "/dashboard/assets/main-ABC.js")
    assert (plain.content, "content-encoding" in plain.headers) == (SCRIPT, False)
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert plain.headers["vary"] == "Accept-Encoding, Origin"
    packed = await fetched(node, "/dashboard/assets/main-ABC.js", **{"accept-encoding": "br, gzip;q=0.8"})
    assert (packed.headers["content-encoding"], packed.content) == ("gzip", SCRIPT)
    refused = await fetched(node, "/dashboard/assets/main-ABC.js", **{"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


@pytest.mark.usefixtures("built")
async def test_what_a_browser_has_is_not_sent_again(node: Node) -> None:
    tag = (await fetched(node, "/dashboard/")).headers["etag"]
    assert tag.startswith('W/"'), "the same for what is packed and what is not"
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = await fetched(node, "/dashboard/", **{"if-none-match": known})
        assert (again.status_code, again.content) == (304, b""), known
    assert (await fetched(node, "/dashboard/", **{"if-none-match": '"other"'})).status_code == 200


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("path", ["assets/none.js", "assets/../index.html.gz", "assets/%2e%2e/%2e%2e/server.py"])
async def test_no_other_file_is_served(node: Node, path: str) -> None:
    answer = await fetched(node, f"/dashboard/{path}")
    assert (answer.status_code == 404) or answer.headers["content-type"].startswith("text/html")
    assert b"import" not in answer.content


async def test_what_was_not_built_says_how_to_build_it(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "FILES", tmp_path / "nothing")
    answer = await fetched(node, "/dashboard/")
    assert answer.status_code == 503
    assert "ops/setup.sh dashboard" in answer.text
