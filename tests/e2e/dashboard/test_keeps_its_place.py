"""What comes late to a page moves nothing that is there: what one is about to press stays under the pointer."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Request, Route

from tests.e2e.dashboard.conftest import Dmses
from tests.e2e.dashboard.jobs import Shown
from tests.e2e.dashboard.test_every_page import PLACES
from tests.fixtures.browser import PATIENCE_MS, watched

pytestmark = [
    pytest.mark.slow,
    pytest.mark.docker,
    pytest.mark.usefixtures("demo_images"),
    pytest.mark.asyncio(loop_scope="module"),
]
QUIET_SECONDS = 0.4
"""A page that asks for nothing more within this time has all that it shows."""
NOTE_MOVES = """
window.moves = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) for (const { node, previousRect: was, currentRect: is } of entry.sources)
    if (node && Math.abs(was.y - is.y) > 1 && was.height > 0)
      window.moves.push(`${(node.textContent || "").slice(0, 50)}: ${was.y} to ${is.height > 0 ? is.y : "gone"}`);
}).observe({ type: "layout-shift", buffered: true });
"""
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.parametrize("newest_first", [False, True], ids=["in-order", "newest-first"])
@pytest.mark.parametrize("place", sorted(set(PLACES) - {"job-running", "start", "no-such-page"}))  # output runs along
async def test_answers_that_come_one_by_one_move_nothing(
    dmses: Dmses, browser: Browser, shown: Shown, place: str, newest_first: bool
) -> None:
    dms = dmses.provider if PLACES[place].startswith("/cp") else dmses.requester
    async with watched(browser) as pages:
        page = await pages.context.new_page()
        await page.add_init_script(NOTE_MOVES)
        held = HeldUp(page)
        await page.route("**/api/v1/**", held.take)
        await page.goto(f"{dms.url}/dashboard{PLACES[place].format(**shown._asdict())}")
        passed = 0
        while await held.pass_one(newest_first):
            passed += 1
        moves = await page.evaluate("window.moves")
        await page.unroute_all(behavior="ignoreErrors")
    assert passed > 0
    assert moves == []


class HeldUp:
    """Requests of a page, which go on one at a time, each when what came before it is painted."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._routes: list[Route] = []
        self._over: set[Request] = set()
        page.on("requestfinished", self._done)
        page.on("requestfailed", self._done)

    async def take(self, route: Route) -> None:
        if route.request.method == "GET" and not urlsplit(route.request.url).path.endswith("/session"):
            self._routes.append(route)
        else:
            await route.continue_()

    async def pass_one(self, newest_first: bool) -> bool:
        """Whether one waited."""
        await asyncio.sleep(QUIET_SECONDS)
        if not self._routes:
            return False
        route = self._routes.pop(-1 if newest_first else 0)
        if route.request not in self._over:  # the page may have given it up
            await route.continue_()
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while route.request not in self._over:
                await asyncio.sleep(0.02)
        await self._page.evaluate(TWO_FRAMES)
        return True

    def _done(self, request: Request) -> None:
        self._over.add(request)
