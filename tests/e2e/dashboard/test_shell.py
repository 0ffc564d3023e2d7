"""What all pages of the dashboards share, in a real browser against real daemons."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Route, expect

from dms.adapters.http.dashboard import FILES
from tests.e2e.dashboard.conftest import Dmses
from tests.fixtures.browser import Watched, chromium, watched
from tests.fixtures.chromium_without_netlink import WHOLE
from tests.fixtures.dms import request_body

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
FIRST_LOAD_BYTES = 150_000
NOT_LOADED = ("licences.txt", ".built-from")
ASKED_TWICE = (
    "() => performance.getEntriesByType('resource').filter(({name}) => name.includes('/providers')).length > 1"
)
"""For what no event makes the page ask for."""
ATTACK = """async (target) => {
  const read = await fetch(`${target}/api/v1/jobs`).then((answer) => answer.text(), () => "refused");
  const sent = await fetch(`${target}/api/v1/device/status`, {method: "POST", body: '{"available": false}',
    headers: {"content-type": "application/json"}}).then((answer) => answer.text(), () => "refused");
  const plain = await fetch(`${target}/api/v1/device/status`, {method: "POST", mode: "no-cors", body: "{}"})
    .then((answer) => answer.type, () => "refused");
  const socket = await new Promise((told) => {
    const tried = new WebSocket(`${target.replace("http", "ws")}/api/v1/live/ws`);
    tried.onmessage = () => told("open");
    tried.onclose = () => told("closed");
  });
  const frame = document.createElement("iframe");
  frame.src = `${target}/dashboard/`;
  const loaded = new Promise((done) => { frame.onload = done; });
  document.body.append(frame);
  await loaded;
  let framed = false;
  try { framed = frame.contentDocument !== null && frame.contentDocument.title === "DMS"; } catch { framed = false; }
  return {read, sent, socket, framed};
}"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """A page of another origin."""
    (tmp_path / "index.html").write_text("<!doctype html><link rel=icon href=data:,><title>Elsewhere</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        serving.join()


async def test_the_page_needs_nobody_else_and_says_how_fresh_it_is(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/")
    await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
    await page.get_by_role("link", name="Service provider").first.click()
    await expect(page).to_have_url(f"{dmses.requester.url}/dashboard/sp")
    assert pages.elsewhere(dmses.requester.url) == []


async def test_a_page_of_elsewhere_reads_and_changes_nothing(dmses: Dmses, pages: Watched, elsewhere: str) -> None:
    """In the same browser, where the dashboards are open."""
    await pages.open(f"{dmses.provider.url}/dashboard/")
    stranger = await pages.open(elsewhere)
    before = dmses.provider.head()
    pages.allowed += ["CORS", "403", "ERR_FAILED", "WebSocket connection", "ERR_BLOCKED", "frame-ancestors", "Framing"]
    found = await stranger.evaluate(ATTACK, dmses.provider.url)
    assert found == {"read": "refused", "sent": "refused", "socket": "closed", "framed": False}
    assert dmses.provider.head() == before


async def test_a_page_that_fails_says_so_and_the_rest_goes_on(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/")
    await page.route("**/api/v1/jobs/summary*", lambda route: route.fulfill(json={"by_status": None}))
    await page.goto(f"{dmses.requester.url}/dashboard/sp")
    await expect(page.get_by_role("heading", name="This page does not work")).to_be_visible()
    await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
    await page.get_by_role("link", name="Peers").click()
    await expect(page.get_by_role("heading", name="Peers")).to_be_visible()


async def test_a_request_that_the_browser_gives_up_is_made_again(dmses: Dmses, pages: Watched) -> None:
    """As it does when a network of its machine changes, which each container of a job does."""
    pages.allowed.append("ERR_FAILED")
    page = await pages.open(f"{dmses.requester.url}/dashboard/")
    given_up: list[str] = []

    async def give_up_once(route: Route) -> None:
        first = route.request.url not in given_up
        given_up.append(route.request.url)
        await (route.abort() if first else route.continue_())

    await page.route("**/api/v1/**", give_up_once)
    await page.get_by_role("link", name="Peers").click()
    await expect(page.get_by_test_id("peers")).to_contain_text("takes jobs")
    assert given_up
    await expect(page.get_by_text("does not answer")).to_have_count(0)


async def test_keys_are_listed_work_outside_of_fields_and_can_be_off(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/")
    await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
    await page.keyboard.press("?")
    help_of_keys = page.get_by_role("dialog", name="Keys")
    await expect(help_of_keys).to_contain_text("go to this machine")
    await help_of_keys.get_by_role("button", name="Close").click()
    await page.keyboard.press("g")
    await page.keyboard.press("j")
    await expect(page).to_have_url(f"{dmses.requester.url}/dashboard/sp")
    await page.get_by_placeholder("Search").press("?")
    await expect(help_of_keys).to_have_count(0)
    await page.get_by_role("button", name="Keys").click()
    await help_of_keys.get_by_label("Pages of this browser take single keys").uncheck()
    await help_of_keys.get_by_role("button", name="Close").click()
    await page.keyboard.press("g")
    await page.keyboard.press("c")
    await page.keyboard.press("?")
    await expect(help_of_keys).to_have_count(0)
    await expect(page).to_have_url(re.compile("/dashboard/sp"))


async def test_the_focus_goes_with_what_is_shown(dmses: Dmses, pages: Watched) -> None:
    """To the page that one went to, and from a dialog back to where it was."""
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp")
    await page.get_by_role("link", name="New job").last.press("Enter")
    await expect(page.get_by_label("Image", exact=True)).to_be_visible()
    await expect(page.locator("main")).to_be_focused()
    keys = page.get_by_role("button", name="Keys")
    await keys.press("Enter")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(keys).to_be_focused()
    await keys.press("Enter")
    await page.get_by_role("dialog", name="Keys").get_by_role("button", name="Close").press("Enter")
    await expect(keys).to_be_focused()


async def test_a_button_that_is_off_is_reached_by_keyboard_and_says_why(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp/earnings")
    claim = page.get_by_role("button", name="Claim all")
    await expect(claim).to_be_disabled()
    await claim.focus()
    await expect(claim).to_be_focused()
    await expect(claim).to_have_accessible_description("There is nothing to claim.")
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_contain_text("There is nothing to claim.")
    await expect(claim).to_be_focused()


async def test_a_page_that_one_comes_back_to_is_the_same_and_goes_on(dmses: Dmses) -> None:
    """The browser had put it to sleep as it was; it has missed nothing. Chromium without a window never does that."""
    async with chromium(WHOLE, without=["--disable-back-forward-cache"]) as browser, watched(browser) as sleeping:
        await sleeping.open(f"{dmses.requester.url}/dashboard/")  # keeps the worker, whose line never breaks
        page = await sleeping.open(f"{dmses.requester.url}/dashboard/sp")
        await page.locator(".fresh.live").wait_for()
        await page.evaluate("() => { window.isTheSame = true; }")
        sleeping.allowed.append("favicon.ico")  # of a page that names no icon
        await page.goto(f"{dmses.requester.url}/dashboard/licences.txt")
        quotes = [await dmses.requester.post("/run/request-service", request_body("true"))]
        await page.go_back(wait_until="commit")
        assert await page.evaluate("() => window.isTheSame === true")
        quotes.append(await dmses.requester.post("/run/request-service", request_body("true")))
        for quote in quotes:
            await expect(page.locator(f'a[href$="{quote["job_id"]}"]')).to_be_visible()
            await dmses.requester.post(f"/jobs/{quote['job_id']}/stop", {})
        await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
        await page.wait_for_function(ASKED_TWICE)


async def test_what_many_pages_need_after_an_event_is_asked_for_once(dmses: Dmses, pages: Watched) -> None:
    """By the worker that they share: the pages themselves, which alone are seen here, ask for nothing."""
    opened = [await pages.open(f"{dmses.requester.url}/dashboard/sp") for _ in range(6)]
    for page in opened:
        await page.locator(".fresh.live").wait_for()
    before = 0
    for _ in range(2):  # until the first one is shown, pages may still be opening
        before = len(pages.requested)
        quote = await dmses.requester.post("/run/request-service", request_body("true"))
        for page in opened:
            await expect(page.locator(f'a[href$="{quote["job_id"]}"]')).to_be_visible()
        await dmses.requester.post(f"/jobs/{quote['job_id']}/stop", {})
    asked = [url for url in pages.requested[before:] if urlsplit(url).path == "/api/v1/jobs"]
    assert len(asked) < len(opened), asked


async def test_the_first_load_is_small() -> None:
    loaded = [path for path in FILES.rglob("*") if path.is_file() and path.name not in NOT_LOADED]
    assert 0 < sum(map(packed, loaded)) < FIRST_LOAD_BYTES


def packed(path: Path) -> int:
    return 0 if path.suffix == ".gz" else len(gzip.compress(path.read_bytes()))
