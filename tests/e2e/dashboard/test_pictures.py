"""The pictures in the README show the pages as they are. `make pictures` takes them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.e2e.dashboard.conftest import Dmses
from tests.e2e.dashboard.jobs import Shown, settled
from tests.fixtures.browser import watched

pytestmark = [
    pytest.mark.slow, pytest.mark.docker, pytest.mark.usefixtures("demo_images"),
    pytest.mark.asyncio(loop_scope="module"),
]  # fmt: skip
ROOT = Path(__file__).parents[3]
PICTURES = ROOT / "docs" / "pictures"
PLACES = {"service-provider": "/sp/jobs/{completed}?tab=output", "compute-provider": "/cp"}
_NAMED = re.compile(r'^\s*- (heading|button|link|columnheader|tab|switch) "([^"]*)"', re.MULTILINE)


@pytest.mark.parametrize("name", PLACES)
async def test_a_picture_shows_what_the_page_shows(
    dmses: Dmses, whole_browser: Browser, shown: Shown, name: str
) -> None:
    dms = dmses.provider if PLACES[name].startswith("/cp") else dmses.requester
    async with watched(whole_browser, color_scheme="light", viewport={"width": 1280, "height": 800}) as pages:
        page = await pages.open(f"{dms.url}/dashboard{PLACES[name].format(**shown._asdict())}")
        await settled(page)
        found = await parts(page)
        if os.environ.get("TAKE_PICTURES"):
            await page.screenshot(path=PICTURES / f"{name}.png")
            (PICTURES / f"{name}.txt").write_text(found)
    assert found == (PICTURES / f"{name}.txt").read_text(), (
        "the page has changed: run `make pictures`, and look at them"
    )
    assert f"docs/pictures/{name}.png" in (ROOT / "README.md").read_text()


async def parts(page: Page) -> str:
    """What can be read and used on it, a line each, without what differs from run to run."""
    seen = {f"{role} {_masked(name)}" for role, name in _NAMED.findall(await page.locator("body").aria_snapshot())}
    return "\n".join([*sorted(seen), ""])


def _masked(name: str) -> str:
    name = re.sub(r"12D3\w*(…\w+)?", "PEER", name)
    name = re.sub(r"[0-9a-f]{4,}(-[0-9a-f]+)+|[0-9a-f]{2,}…[0-9a-f]+", "ID", name)
    return re.sub(r"[0-9]+([.,:][0-9]+)*", "#", name)
