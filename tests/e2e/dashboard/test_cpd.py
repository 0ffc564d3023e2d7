"""The compute provider's pages in a real browser: a machine is onboarded, runs jobs, earns, refuses, and leaves."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
import websockets
from playwright.async_api import Locator, Page, Route, expect

from tests.e2e.dashboard.conftest import Dmses
from tests.fixtures.browser import Watched
from tests.fixtures.dms import ADDRESS, Dms, payment, request_body
from tests.fixtures.images import SHELL_IMAGE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.docker,
    pytest.mark.usefixtures("demo_images"),
    pytest.mark.asyncio(loop_scope="module"),
]
BUSY = "i=0; while true; do i=$((i+1)); [ $((i % 200000)) -eq 0 ] && echo at $i; done"


async def begin(requester: Dms, script: str, minutes: int = 30) -> str:
    """Asks for a job, pays for it, and waits until it runs; answers its id."""
    quote = await requester.post("/run/request-service", request_body(script, time=minutes))
    job_id = str(quote["job_id"])
    address = f"ws://127.0.0.1:{requester.rest_port}/api/v1/run/deploy?job_id={job_id}"
    async with websockets.connect(address, max_size=None) as socket, asyncio.timeout(120):
        await socket.send(payment(uuid4().hex, job_id))
        while orjson.loads(await socket.recv())["action"] != "deployment-response":
            continue
    return job_id


def bar(page: Page, name: str, words: str) -> Locator:
    return page.get_by_role("img", name=re.compile(f"^{name}.*{re.escape(words)}"))


def taking(page: Page) -> Locator:
    return page.get_by_test_id("taking")


async def test_a_machine_is_offboarded_and_onboarded_in_the_page(dmses: Dmses, pages: Watched) -> None:
    """Each rule of the DMS is told before it refuses."""
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp/settings")
    await page.get_by_role("button", name="Offboard…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("offers nothing any more")
    await dialog.get_by_role("button", name="Offboard").click()
    await page.get_by_role("link", name="Offer this machine").click()

    form, onboard = page.get_by_test_id("onboarding"), page.get_by_role("button", name="Onboard this machine")
    await expect(form).to_contain_text("nobody can run jobs on it")
    await form.get_by_label("CPU in MHz").fill("1")
    await expect(form.get_by_test_id("first-wrong")).to_contain_text("10 % of what the machine has")
    await expect(onboard).to_be_disabled()
    whole = await dmses.provider.get("/onboarding/provisioned")
    await form.get_by_label("CPU in MHz").fill(str(int(whole["cpu"] * 0.8)))
    address = form.get_by_label("Payment address")
    await address.fill(ADDRESS.replace("q", "p", 1))
    await expect(form).to_contain_text("A letter may be mistyped")
    await expect(onboard).to_be_disabled()
    await address.fill(ADDRESS)
    await expect(form).to_contain_text("an address of Cardano, typed without a mistake")
    await onboard.click()
    await expect(taking(page)).to_contain_text("taking jobs")
    await expect(page.get_by_test_id("sandbox")).to_contain_text("13 of 13 tests passed, Docker")
    assert (await dmses.provider.get("/onboarding/metadata"))["reserved"]["cpu"] == int(whole["cpu"] * 0.8)


async def test_resources_and_price_are_changed(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp/settings")
    beside = await pages.open(f"{dmses.provider.url}/dashboard/cp")
    offer = page.get_by_test_id("offer")
    memory = await offer.get_by_label("Memory in MB").input_value()
    await offer.get_by_label("Memory in MB").fill(str(int(memory) - 1024))
    await offer.get_by_label("Price").fill("0.003")
    await offer.get_by_role("button", name="Save").click()
    await expect(offer.get_by_role("button", name="Save")).to_have_attribute("title", "Nothing is changed.")
    own = next(row for row in (await dmses.provider.get("/capacity"))["providers"] if row["own"])
    assert (own["onboarded"]["memory_mb"], own["ntx_price"]) == (int(memory) - 1024, "0.003")
    await expect(beside.get_by_text("At least 0.003 NTX a minute")).to_be_visible()


async def test_who_goes_offline_takes_no_jobs_and_is_told_why(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp")
    switch = page.get_by_role("switch", name="Online")
    await expect(switch).to_be_checked()
    below = page.get_by_role("heading", name="Capacity")
    place = await below.bounding_box()
    await switch.click()
    try:
        await expect(taking(page)).to_contain_text("taking no jobs")
        await expect(page.get_by_role("list", name="Why no jobs are taken")).to_contain_text("offline")
        assert await below.bounding_box() == place, "the page jumped under the pointer"
        assert (await dmses.provider.get("/device/status"))["online"] is False
    finally:  # else the next tests have no provider
        await switch.click()
    await expect(taking(page)).to_have_text("✔ taking jobs")


async def test_a_job_appears_its_use_and_the_bars_move_and_it_is_ended(dmses: Dmses, pages: Watched) -> None:
    """The bars move by the events themselves: the answers that confirm them are held up until they have."""
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp")
    await expect(bar(page, "CPU", "reserved 0 MHz")).to_be_visible()
    may_answer = asyncio.Event()

    async def held_up(route: Route) -> None:
        await may_answer.wait()
        await route.continue_()

    await page.route("**/api/v1/providers?**", held_up)
    job_id = await begin(dmses.requester, BUSY)
    await expect(bar(page, "CPU", "reserved 500 MHz")).to_be_visible()
    await expect(bar(page, "Memory", "reserved 64 MB")).to_be_visible()
    may_answer.set()
    row = page.locator(f'[data-job="{job_id}"]')
    await expect(row).to_contain_text("running")
    await expect(row.get_by_test_id("left")).to_contain_text("min")
    left = await row.get_by_test_id("left").inner_text()
    await expect(row.get_by_test_id("left")).not_to_have_text(left)
    await expect(row.get_by_role("img", name=re.compile(r"^\d+ MHz of 500 MHz"))).to_be_visible()
    await expect(bar(page, "CPU", "reserved 500 MHz")).to_be_visible()

    await row.get_by_role("button", name=f"End job {job_id}").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("You earn nothing for it.")
    await dialog.get_by_label("Reason").fill("the roof leaks")
    await dialog.get_by_role("button", name="End the job").click()
    await expect(row).to_have_count(0)
    await expect(bar(page, "CPU", "reserved 0 MHz")).to_be_visible()
    job = await dmses.provider.get(f"/jobs/{job_id}")
    assert (job["status"], job["reason"], job["fault"]) == ("stopped", "the roof leaks", "provider")


async def test_what_a_job_earned_is_shown_and_claimed(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp")
    await expect(page.get_by_test_id("earned-today")).to_have_text("0 NTX")
    job_id = await begin(dmses.requester, "echo done", minutes=5)
    price = (await dmses.provider.get(f"/jobs/{job_id}"))["price"]
    await expect(page.get_by_test_id("earned-today")).to_have_text(f"{price} NTX")
    await expect(page.get_by_test_id("to-claim")).to_have_text(f"{price} NTX")
    await page.get_by_role("button", name="Claim").click()
    await expect(page.get_by_test_id("claimed")).to_contain_text(f"Claimed {price} NTX of 1 job")
    await expect(page.get_by_test_id("to-claim")).to_have_text("0 NTX")

    await page.get_by_role("link", name="Earnings by day and job").click()
    jobs = (await dmses.provider.get("/earnings?role=cp"))["total"]["jobs"]  # also those that earned nothing
    await expect(page.get_by_test_id("earned-total")).to_contain_text(f"{price} NTX by {jobs} job")
    await expect(page.get_by_test_id("earned").locator("tbody tr")).to_have_count(1)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="CSV").click()
    rows = (await (await download.value).path()).read_text().splitlines()
    assert rows[0].startswith("day,jobs,earned_ntx")
    assert f",{jobs},{price}," in rows[1]
    await page.get_by_role("button", name="by job").click()
    await expect(page.get_by_role("listitem").filter(has_text="all of the price, claimed")).to_have_count(1)

    await page.goto(f"{dmses.provider.url}/dashboard/cp/jobs/{job_id}")
    await expect(page.get_by_test_id("summary")).to_contain_text("completed with exit code 0")
    await expect(page.get_by_test_id("summary")).to_contain_text("all of the price, claimed")
    await expect(page.get_by_test_id("timeline")).to_contain_text("container ended")
    await page.get_by_role("tab", name="Output").click()
    await expect(page.get_by_text("done", exact=True)).to_be_visible()
    await page.get_by_role("tab", name="Record").click()
    await expect(page.get_by_role("region", name="Verification")).to_contain_text("verified")


async def test_jobs_that_ran_here_are_found_by_filters_that_a_reload_keeps(dmses: Dmses, pages: Watched) -> None:
    ended = await begin(dmses.requester, "exit 3", minutes=5)
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp/jobs")
    await expect(page.locator(f'a[href*="{ended}"]')).to_be_visible()
    await page.get_by_label("State").select_option("failed")
    await expect(page.get_by_test_id("count")).to_contain_text("1 job fit")
    await page.reload()
    await expect(page.get_by_label("State")).to_have_value("failed")
    await expect(page.get_by_test_id("count")).to_contain_text("1 job fit")
    await page.get_by_role("searchbox").fill("no such image")
    await expect(page.get_by_role("heading", name="No job fits")).to_be_visible()


async def test_a_denied_image_is_refused_with_its_reason(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp/settings")
    lists, images = page.get_by_test_id("policy"), page.get_by_label("Images refused")
    save = lists.get_by_role("button", name="Save lists")
    await page.get_by_label("Peers refused").fill("somebody")
    await expect(lists).to_contain_text("somebody is no peer id")
    await expect(save).to_be_disabled()
    await page.get_by_label("Peers refused").fill("")
    await images.fill(SHELL_IMAGE)
    await save.click()
    await expect(save).to_have_attribute("title", "Nothing is changed.")
    refusal = await refused(dmses.requester)
    assert "denied by the owner" in refusal
    await expect(page.get_by_test_id("refused")).to_contain_text("denied by the owner")
    await images.fill("")
    await save.click()
    await expect(save).to_have_attribute("title", "Nothing is changed.")
    assert (await dmses.provider.get("/device/policy"))["images"] == {"allow": [], "deny": []}


async def test_lists_that_were_changed_elsewhere_are_not_saved_over(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp/settings")
    lists, images = page.get_by_test_id("policy"), page.get_by_label("Images refused")
    empty: dict[str, list[str]] = {"allow": [], "deny": []}
    pages.allowed.append("412 (Precondition Failed)")
    await images.fill("mine/image")
    await dmses.provider.put("/device/policy", {"images": empty | {"deny": ["their/image"]}, "peers": empty})
    await expect(lists).to_contain_text("changed elsewhere meanwhile")
    await expect(images).to_have_value("mine/image")
    await lists.get_by_role("button", name="Save lists").click()
    await expect(lists).to_contain_text("read them again")
    assert (await dmses.provider.get("/device/policy"))["images"]["deny"] == ["their/image"]
    await lists.get_by_role("button", name="Show them instead of mine").click()
    await expect(images).to_have_value("their/image")
    await dmses.provider.put("/device/policy", {"images": empty, "peers": empty})
    await expect(images).to_have_value("")


async def refused(requester: Dms) -> str:
    """What a request is refused with."""
    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
        answer = await client.post(f"{requester.url}/api/v1/run/request-service", json=request_body("echo no"))
    assert answer.status_code == 404, answer.text
    found: dict[str, Any] = answer.json()
    return str(found["detail"])


async def test_in_the_past_actions_are_off_and_say_why(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.provider.url}/dashboard/cp?at={dmses.provider.head()}")
    await expect(page.get_by_test_id("past-notice")).to_contain_text("You look at")
    for button in (page.get_by_role("switch", name="Online"), page.get_by_role("button", name=re.compile("Claim"))):
        await expect(button).to_be_disabled()
        await expect(button).to_have_attribute("title", re.compile("You look at the past"))
    await page.get_by_test_id("past-notice").get_by_role("button", name="Back to now").click()
    await expect(page.get_by_role("switch", name="Online")).to_be_enabled()


async def test_peers_are_shown_with_distance_offer_and_price(dmses: Dmses, pages: Watched) -> None:
    page = await pages.open(f"{dmses.requester.url}/dashboard/peers")
    table = page.get_by_test_id("peers")
    await expect(table).to_contain_text("✔ takes jobs")
    await table.get_by_role("button", name="Make default").click()
    await expect(table.get_by_role("button", name="Clear the default provider")).to_be_visible()
    await table.get_by_role("button", name="Clear the default provider").click()
    await expect(table.get_by_role("button", name="Make default")).to_be_visible()
    await expect(table).to_contain_text(re.compile(r"[0-9.]+ ms"))
