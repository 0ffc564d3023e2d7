"""Who needs a token logs in to the dashboards with it, in a real browser."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.async_api import Browser, expect

from dms.config import Rest
from dms.domain.api_token import Role
from tests.fixtures.browser import watched
from tests.integration.http.node import running_node

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


async def test_the_dashboards_ask_for_a_token_and_forget_it_at_log_out(tmp_path: Path, browser: Browser) -> None:
    async with running_node(tmp_path, Rest(require_token=True)) as node, watched(browser) as pages:
        token = str(await node.services.tokens.create("team-a", Role.SPD))
        pages.allowed += ["status of 401", "WebSocket connection to"]
        page = await pages.open(f"{node.url}/dashboard/sp")
        field = page.get_by_label("Token")
        await field.fill("dms_wrong")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("no such token")
        await field.fill(token)
        await page.get_by_role("button", name="Log in").click()
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
