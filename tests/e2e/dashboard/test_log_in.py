"""Who needs a token logs in to the dashboards with it, in a real browser."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from playwright.async_api import Browser, Page, expect

from dms.config import Rest
from dms.domain.api_token import Role
from tests.fixtures.browser import watched
from tests.integration.http.node import running_node

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

HOSTILE = (
    "//evil.example", "https://evil.example/", "javascript:alert(1)", "/dashboard//evil.example", "/dashboard/\\evil",
    "/dashboard/../login", "/dashboardx", "/dashboard/%2e%2e/", "/dashboard@evil", "/dashboard/sp\n//evil",
    "\t/dashboard/sp", "/dashboard/sp?q=<script>", "/dashboard/sp?q=a//b", "/dashboard/sp#a/b",
    f"/dashboard/sp?q={'a' * 2000}",
)  # fmt: skip


async def log_in(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Log in").click()


async def test_the_dashboards_ask_for_a_token_and_forget_it_at_log_out(tmp_path: Path, browser: Browser) -> None:
    async with running_node(tmp_path, Rest(require_token=True)) as node, watched(browser) as pages:
        token = str(await node.services.tokens.create("team-a", Role.SPD))
        pages.allowed += ["status of 401", "WebSocket connection to"]
        page = await pages.open(f"{node.url}/dashboard/sp")
        await log_in(page, "dms_wrong")
        await expect(page.get_by_role("alert")).to_contain_text("no such token")
        await log_in(page, token)
        await expect(page).to_have_url(f"{node.url}/dashboard/sp")
        await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
        kept = await page.evaluate("[document.cookie, ...Object.values({...localStorage, ...sessionStorage})].join()")
        assert token not in kept, "no script can read it"
        assert "dms_session" not in kept
        assert not any(token in unquote(url) for url in pages.requested)
        await page.get_by_role("button", name="Log out").click()
        await expect(page).to_have_url(f"{node.url}/login")
        await page.goto(f"{node.url}/dashboard/sp")
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_a_log_in_leads_back_to_the_same_state_of_the_page_and_nowhere_else(
    tmp_path: Path, browser: Browser
) -> None:
    async with running_node(tmp_path, Rest(require_token=True)) as node, watched(browser) as pages:
        token = str(await node.services.tokens.create("team-a", Role.SPD))
        pages.allowed += ["status of 401", "WebSocket connection to"]
        page = await pages.open(f"{node.url}/dashboard/sp?q=a%20b&status=failed,completed#main")
        await log_in(page, token)
        await expect(page).to_have_url(f"{node.url}/dashboard/sp?q=a+b&status=failed%2Ccompleted#main")
        for place in HOSTILE:
            await page.goto(f"{node.url}/login?next={quote(place, safe='')}")
            await log_in(page, token)
            await expect(page).to_have_url(f"{node.url}/dashboard")


async def test_a_page_whose_session_is_over_asks_for_a_token(tmp_path: Path, browser: Browser) -> None:
    async with running_node(tmp_path, Rest(require_token=True)) as node, watched(browser) as pages:
        token = str(await node.services.tokens.create("team-a", Role.SPD))
        pages.allowed += ["status of 401", "WebSocket connection to"]
        page = await pages.open(f"{node.url}/dashboard/sp/new")
        await log_in(page, token)
        await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
        await page.request.delete(f"{node.url}/api/v1/session")  # as by a log-out elsewhere, or a restart
        await expect(page).to_have_url(f"{node.url}/login?next=%2Fdashboard%2Fsp%2Fnew", timeout=120_000)
