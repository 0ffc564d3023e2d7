"""What all pages of the dashboards share, in a real browser against real daemons."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from playwright.async_api import expect

from dms.adapters.http.dashboard import FILES
from tests.e2e.dashboard.conftest import Dmses
from tests.fixtures.browser import Watched

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
FIRST_LOAD_BYTES = 150_000


async def test_the_page_needs_nobody_else_and_says_how_fresh_it_is(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/")
    await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
    await page.get_by_role("link", name="Service provider").first.click()
    await expect(page).to_have_url(f"{dmses.requester.url}/dashboard/sp")
    assert pages.elsewhere(dmses.requester.url) == []


def test_the_first_load_is_small() -> None:
    assert 0 < sum(packed(path) for path in FILES.rglob("*") if path.is_file()) < FIRST_LOAD_BYTES


def packed(path: Path) -> int:
    return 0 if path.suffix == ".gz" else len(gzip.compress(path.read_bytes()))
