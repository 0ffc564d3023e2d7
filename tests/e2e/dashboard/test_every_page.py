"""Each page of the dashboards, as it stands with real jobs: usable by all (axe-core), without a complaint in the
console, in both themes, on a phone and on a wide screen. Its pictures are in build/screenshots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.e2e.dashboard.conftest import Dmses
from tests.e2e.dashboard.jobs import Shown, settled
from tests.fixtures.browser import watched

pytestmark = [
    pytest.mark.slow,
    pytest.mark.docker,
    pytest.mark.usefixtures("demo_images"),
    pytest.mark.asyncio(loop_scope="module"),
]
ROOT = Path(__file__).parents[3]
AXE = ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = ROOT / "build" / "screenshots"
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
EVERY_RULE = {"resultTypes": ["violations"]}
OF_COLOURS = EVERY_RULE | {"runOnly": ["color-contrast", "link-in-text-block"]}  # what a theme can break
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
PLACES = {
    "start": "/",
    "jobs": "/sp",
    "new-job": "/sp/new",
    "job-output": "/sp/jobs/{completed}?tab=output",
    "job-timeline": "/sp/jobs/{completed}?tab=timeline",
    "job-record": "/sp/jobs/{completed}?tab=record",
    "job-results": "/sp/jobs/{completed}?tab=results",
    "job-failed": "/sp/jobs/{failed}",
    "job-running": "/sp/jobs/{running}",
    "machine": "/cp",
    "deployment": "/cp/jobs/{running}",
    "deployments": "/cp/jobs",
    "earnings": "/cp/earnings",
    "settings": "/cp/settings",
    "peers": "/peers",
    "no-such-page": "/nowhere",
}


@pytest.mark.parametrize("place", PLACES)
async def test_it_is_usable_by_all(dmses: Dmses, browser: Browser, shown: Shown, place: str) -> None:
    dms = dmses.provider if PLACES[place].startswith("/cp") else dmses.requester
    found: list[str] = []
    async with watched(browser) as pages:
        page = await pages.open(f"{dms.url}/dashboard{PLACES[place].format(**shown._asdict())}")
        await settled(page)
        assert (await page.locator("main h1").first.inner_text() == "No such page") is (place == "no-such-page")
        await page.evaluate(AXE.read_text())
        for suffix, size in (("", WIDE), ("-phone", PHONE)):
            await page.set_viewport_size(size)  # type: ignore[arg-type]
            found += await findings(page)
            await page.screenshot(path=SCREENSHOTS / f"{place}-light{suffix}.png", full_page=True)
            await page.emulate_media(color_scheme="dark")
            found += await findings(page, OF_COLOURS)
            await page.screenshot(path=SCREENSHOTS / f"{place}-dark{suffix}.png", full_page=True)
            await page.emulate_media(color_scheme="light")
        wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert pages.elsewhere(dms.url) == []
    assert found == []
    assert wider <= 0, "the page scrolls sideways on a phone"


async def test_the_theme_of_the_system_is_followed(dmses: Dmses, browser: Browser) -> None:
    """So that what is seen above in the dark was dark."""
    async with watched(browser) as pages:
        page = await pages.open(f"{dmses.requester.url}/dashboard/")
        light = await page.evaluate(BACKGROUND)
        await page.emulate_media(color_scheme="dark")
        assert await page.evaluate(BACKGROUND) != light


async def findings(page: Page, only: Mapping[str, Any] = EVERY_RULE) -> list[str]:
    """What axe-core finds that is serious or critical: rule, element, why. only: options of its run."""
    found: dict[str, Any] = await page.evaluate("(only) => axe.run(document, only)", only)
    return [
        f"{one['id']}: {node['html'][:200]}: {node['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


async def test_ten_open_tabs_starve_nobody(dmses: Dmses, browser: Browser) -> None:
    """A browser allows six connections to one origin."""
    async with watched(browser) as pages:
        opened = [await pages.open(f"{dmses.requester.url}/dashboard/sp") for _ in range(10)]
        for page in opened:
            await page.locator(".fresh.live").wait_for()
            assert await page.evaluate("fetch('/api/v1/capacity').then((answer) => answer.status)") == 200
        streams = [line for line in (await metrics(opened[0])).splitlines() if line.startswith("dms_live_sockets")]
        assert streams in ([], ["dms_live_sockets 1.0"])


async def metrics(page: Page) -> str:
    return str(await page.evaluate("fetch('/metrics').then((answer) => answer.text())"))
