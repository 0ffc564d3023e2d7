"""Each page of the dashboards, as it stands with real jobs: usable by all (axe-core), without a complaint in the
console, in both themes, on a phone and on a wide screen. Its pictures are in build/screenshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.e2e.dashboard.conftest import Dmses
from tests.e2e.test_main_job import frames_until_over, socket_of
from tests.fixtures.browser import watched
from tests.fixtures.dms import payment, request_body

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
TRAINING = r"""
for epoch in 1 2 3 4 5 6 7 8; do echo "epoch $epoch: loss=0.$((90 / epoch)) accuracy=0.$((80 + epoch))"; done
printf '\033[32msaved\033[0m model.bin\n'; echo 'a warning of the library' >&2
"""
ENDLESS = "i=0; while true; do i=$((i+1)); echo step $i; sleep 1; done"


class Shown(NamedTuple):
    """The jobs that the pages show."""

    completed: str
    failed: str
    running: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(dmses: Dmses) -> AsyncIterator[Shown]:
    completed, failed = await run(dmses, TRAINING, "a1"), await run(dmses, "echo no such file >&2; exit 3", "a2")
    running = await begin(dmses, ENDLESS, "a3")
    yield Shown(completed, failed, running)
    await dmses.requester.post(f"/jobs/{running}/stop", {})
    await until(dmses, running, "failed")


async def run(dmses: Dmses, script: str, tx_hash: str) -> str:
    async with socket_of(dmses.requester) as socket:
        quote = await dmses.requester.post("/run/request-service", request_body(script))
        await socket.send(payment(tx_hash * 32, quote["job_id"]))
        await frames_until_over(socket)
    return str(quote["job_id"])


async def begin(dmses: Dmses, script: str, tx_hash: str) -> str:
    async with socket_of(dmses.requester) as socket:
        quote = await dmses.requester.post("/run/request-service", request_body(script))
        await socket.send(payment(tx_hash * 32, quote["job_id"]))
        await until(dmses, quote["job_id"], "running")
    return str(quote["job_id"])


async def until(dmses: Dmses, job_id: str, status: str) -> None:
    async with asyncio.timeout(120):
        while (await dmses.requester.get(f"/jobs/{job_id}"))["status"] != status:
            await asyncio.sleep(0.05)


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
    "earnings": "/cp/earnings",
    "settings": "/cp/settings",
    "peers": "/peers",
    "no-such-page": "/nowhere",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
async def test_it_is_usable_by_all(dmses: Dmses, browser: Browser, shown: Shown, place: str, theme: str) -> None:
    dms = dmses.provider if PLACES[place].startswith("/cp") else dmses.requester
    async with watched(browser, color_scheme=theme, viewport=WIDE) as pages:
        page = await pages.open(f"{dms.url}/dashboard{PLACES[place].format(**shown._asdict())}")
        await settled(page)
        found = [*await findings(page)]
        await page.screenshot(path=SCREENSHOTS / f"{place}-{theme}.png", full_page=True)
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        found += await findings(page)
        await page.screenshot(path=SCREENSHOTS / f"{place}-{theme}-phone.png", full_page=True)
        wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert pages.elsewhere(dms.url) == []
    assert found == []
    assert wider <= 0, "the page scrolls sideways on a phone"


async def settled(page: Page) -> None:
    """Live, and all that it fetched is there."""
    await page.locator(".fresh.live").wait_for()
    await page.locator("main h1").first.wait_for()
    await page.wait_for_function("() => !document.querySelector('[aria-busy=\"true\"]')")


async def findings(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical: rule, element, why."""
    await page.evaluate(AXE.read_text())
    found: dict[str, Any] = await page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
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
