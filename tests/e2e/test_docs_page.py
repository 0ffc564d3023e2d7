"""The page /docs in a real browser: it shows the API and tries it, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.fixtures.browser import chromium, texts, watched
from tests.fixtures.described import DOCUMENT
from tests.fixtures.dms import Dms

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dms(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dms]:
    running = Dms(tmp_path_factory.mktemp("dms"), settings={"job.executor": "process"})
    running.start()
    try:
        await running.ready()
        yield running
    finally:
        running.end()


async def test_the_page_shows_all_operations_and_tries_one(dms: Dms) -> None:
    document = await dms.get("/openapi.json")
    described = sum(len(methods) for methods in document["paths"].values())
    async with chromium() as browser, watched(browser) as pages:
        page = await pages.open(f"{dms.url}/docs")
        await page.locator(".opblock").nth(described - 1).wait_for(state="attached")
        operation = page.locator('[id$="get_own_peer"]')
        await operation.locator(".opblock-summary-control").click()
        await operation.locator("button.execute").click()
        answer = operation.locator(".live-responses-table .response")
        status = await answer.locator(".response-col_status").inner_text()
        text = await answer.locator(".response-col_description").inner_text()
        warnings = await texts(page, ".errors-wrapper, .version-pragma")
        warnings = [*warnings, *[word for word in await texts(page, "h4") if word == "Warning"]]
        streams = await page.locator('a[href="/asyncapi.json"]').inner_text()
    assert "AsyncAPI" in streams
    assert status.startswith("200")
    assert (await dms.get("/peers/self"))["ID"] in text
    assert warnings == []
    assert pages.elsewhere(dms.url) == []


async def test_the_page_may_load_nothing_but_its_own(dms: Dms) -> None:
    async with httpx.AsyncClient(timeout=120, base_url=dms.url) as client:
        page = await client.get("/docs")
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert (await client.get("/docs/swagger-ui.css")).headers["content-type"].startswith("text/css")
        assert (await client.get("/docs/other.js")).status_code == 404
        for old in ("/", "/swagger", "/swagger/index.html", "/swagger/doc.json"):
            answer = await client.get(old)
            assert (answer.status_code, answer.headers["location"]) == (302, "/docs")
        for name in ("openapi.json", "asyncapi.json"):
            assert (await client.get(f"/api/v1/{name}")).json() == (await client.get(f"/{name}")).json()


async def test_what_streams_is_described_with_all_that_this_dms_sends(dms: Dms) -> None:
    assert await dms.get("/asyncapi.json") == DOCUMENT
