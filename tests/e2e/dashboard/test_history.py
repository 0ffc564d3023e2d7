"""The history slider: pages of both roles as they were, in a real browser against real daemons."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.e2e.dashboard.conftest import Dmses
from tests.fixtures.browser import Watched
from tests.fixtures.dms import Dms, pair
from tests.fixtures.process_jobs import PROCESSES, begin, over

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


class Past(NamedTuple):
    """started: the position at which the requester heard that its job runs."""

    job_id: str
    started: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dmses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dmses]:
    async with pair(tmp_path_factory.mktemp("history"), **PROCESSES) as (requester, provider):
        yield Dmses(requester, provider)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def past(dmses: Dmses) -> Past:
    job_id = await begin(dmses.requester, "echo done")
    await over(dmses.requester, job_id)
    started = await position_of(dmses.requester, job_id, "job.deployment_responded")
    return Past(job_id, started)


async def position_of(dms: Dms, job_id: str, topic: str) -> int:
    events = (await dms.get(f"/jobs/{job_id}/history"))["items"]
    return int(next(event["position"] for event in events if event["topic"] == topic))


def slider(page: Page) -> Locator:
    return page.get_by_label("Moment of the log")


async def test_the_list_shows_the_past_framed_and_nothing_can_be_changed_there(
    dmses: Dmses, past: Past, pages: Watched
) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp?at={past.started}")
    jobs = page.get_by_role("main")
    await expect(jobs.locator(".status.running", has_text="running").last).to_be_visible()
    await expect(page.get_by_test_id("past-notice")).to_contain_text("You look at")
    await expect(page.get_by_test_id("moment")).to_contain_text("job.deployment_responded")
    await expect(jobs.get_by_role("button", name=re.compile("^Stop")).first).to_be_disabled()
    await page.get_by_role("button", name="Back to now").click()
    await expect(jobs.get_by_role("link", name="Run again")).to_be_visible()
    await expect(page).to_have_url(f"{dmses.requester.url}/dashboard/sp")
    await expect(page.get_by_test_id("past-notice")).to_have_count(0)


async def test_keys_walk_through_the_log(dmses: Dmses, past: Past, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp")
    await page.get_by_role("button", name="History").click()
    head = int(await slider(page).get_attribute("max") or 0)
    await slider(page).press("ArrowLeft")
    await expect(page).to_have_url(re.compile(f"at={head - 1}$"))
    await slider(page).press("Home")
    await expect(page).to_have_url(re.compile("at=1$"))
    await expect(page.get_by_test_id("moment")).to_contain_text("position 1 of")
    await slider(page).press("Shift+ArrowRight")
    await expect(page).to_have_url(re.compile("at=11$"))
    await page.reload()
    await expect(page.get_by_test_id("moment")).to_contain_text("position 11 of")
    await slider(page).press("End")
    await expect(page.get_by_test_id("past-notice")).to_have_count(0)


@pytest.mark.parametrize("role", ["sp", "cp"])
async def test_a_job_s_page_is_never_empty_between_two_moments(
    dmses: Dmses, past: Past, pages: Watched, role: str
) -> None:
    dms = dmses.requester if role == "sp" else dmses.provider
    page = await pages.open(f"{dms.url}/dashboard/{role}/jobs/{past.job_id}")
    main = page.get_by_role("main")
    await expect(main.get_by_role("tab", name="Timeline")).to_be_visible()
    await page.evaluate(
        "new MutationObserver(() => { window.wasEmpty ||= !document.querySelector('main [role=tab]') })"
        ".observe(document.querySelector('main'), {subtree: true, childList: true})"
    )
    await page.get_by_role("button", name="History").click()
    for _ in range(3):
        before = page.url
        await slider(page).press("ArrowLeft")
        await expect(page).not_to_have_url(before)
        await expect(page.get_by_test_id("moment")).to_be_visible()
    await page.get_by_role("button", name="Now", exact=True).click()
    await expect(page.get_by_test_id("past-notice")).to_have_count(0)
    assert not await page.evaluate("window.wasEmpty")


async def test_the_slider_goes_on_with_the_log(dmses: Dmses, past: Past, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp")
    await page.get_by_role("button", name="History").click()
    head = int(await slider(page).get_attribute("max") or 0)
    await over(dmses.requester, await begin(dmses.requester, "echo more"))
    await expect(slider(page)).not_to_have_attribute("max", str(head))


async def test_two_moments_are_compared_in_words(dmses: Dmses, past: Past, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp?at={past.started}")
    await page.get_by_role("button", name="Compare").click()
    changed = page.get_by_role("listitem").filter(has_text="running → completed")
    await expect(changed).to_contain_text("exit code: 0")
    await changed.get_by_role("link").click()
    await expect(page).to_have_url(re.compile(f"/dashboard/sp/jobs/{past.job_id}\\?at={past.started}$"))


async def test_the_provider_s_page_is_played_until_now(dmses: Dmses, past: Past, pages: Watched) -> None:
    cp = dmses.provider
    created = await position_of(cp, past.job_id, "deployment.container_created")
    page = await pages.open(f"{cp.url}/dashboard/cp?at={created}")
    await expect(page.get_by_role("main")).to_contain_text("reserved 200 MHz")
    await page.get_by_label("events").select_option("100")
    await page.get_by_role("button", name="Play").click()
    await expect(page.get_by_test_id("past-notice")).to_have_count(0)
    await expect(page.get_by_role("main")).to_contain_text("reserved 0 MHz")
    await expect(page).to_have_url(f"{cp.url}/dashboard/cp")
