"""The service provider's pages, in a real browser, against two real daemons whose jobs run in real containers."""

from __future__ import annotations

import asyncio
import re
import shlex
import tarfile
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.e2e.dashboard.conftest import Dmses
from tests.fixtures.browser import AWAY, Watched
from tests.fixtures.dms import request_body
from tests.fixtures.images import SHELL_IMAGE

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]
FOREVER = "while true; do sleep 1; done"


async def filled_form(pages: Watched, dmses: Dmses, script: str) -> Page:
    """A form that describes a job of the shell image, whose entry point takes a script."""
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp/new")
    await page.get_by_label("Image", exact=True).fill(SHELL_IMAGE)
    await page.get_by_label("Command", exact=True).last.fill(shlex.quote(script))
    await page.get_by_label("CPU", exact=True).fill("500")
    await page.get_by_label("Memory", exact=True).fill("64")
    return page


async def quoted_job(pages: Watched, dmses: Dmses, script: str) -> Page:
    """The page of a job that was described in the browser, and waits for its payment."""
    page = await filled_form(pages, dmses, script)
    await expect(page.get_by_label("Offers")).to_contain_text("1 can take it")
    await page.get_by_role("button", name="Ask for it").click()
    await expect(page).to_have_url(re.compile("/dashboard/sp/jobs/"))
    return page


async def pay(page: Page) -> None:
    await page.get_by_label("Then paste the transaction's hash").fill(f"0x{uuid4().hex * 2}")
    await page.get_by_role("button", name="Report the payment").click()


async def paid_job(pages: Watched, dmses: Dmses, script: str) -> Page:
    page = await quoted_job(pages, dmses, script)
    await pay(page)
    return page


def now(page: Page) -> Locator:
    return page.get_by_label("Now", exact=True)


async def asked(dmses: Dmses, script: str = "true", **constraints: Any) -> str:
    """The id of a job that waits for its payment."""
    quote = await dmses.requester.post("/run/request-service", request_body(script, **constraints))
    return str(quote["job_id"])


async def test_a_job_is_described_paid_and_watched_to_its_end(dmses: Dmses, whole_pages: Watched) -> None:
    await whole_pages.context.grant_permissions(["notifications"])
    await whole_pages.context.add_init_script(
        "window.told = []; window.Notification = class extends Notification {"
        " constructor(title, options) { super(title, options); window.told.push(title); } };"
    )
    page = await quoted_job(whole_pages, dmses, "echo dms-metric loss=0.5 step=1; cd /workspace; echo 1 >'a b.txt'")
    await page.get_by_role("button", name="Tell me when it ends").click()
    await pay(page)
    await expect(now(page)).to_contain_text("The job completed.")
    await expect(now(page)).to_contain_text("The provider has earned all of it")
    timeline = page.locator("table.timeline")
    for step in ("Waits for its payment", "Payment is checked", "Provider makes it ready", "Runs", "Completed"):
        await expect(timeline.get_by_role("row", name=step)).to_have_class("done")
    assert await page.evaluate("window.told") == ["✔ Your job has completed"]

    await page.get_by_role("tab", name="Results").click()
    await expect(page.get_by_label("Figures")).to_contain_text("loss")
    async with page.expect_download() as download:
        await page.get_by_label("Files").get_by_role("link", name="a b.txt").click()
    assert (await (await download.value).path()).read_text() == "1\n"
    async with page.expect_download() as archive:
        await page.get_by_label("Checkpoints").get_by_role("link", name="Download").click()
    with tarfile.open(await (await archive.value).path()) as checkpoint:
        assert any(name.endswith("a b.txt") for name in checkpoint.getnames())
    await page.evaluate("sessionStorage.clear()")
    await page.get_by_role("link", name="Go on from it").click()
    await expect(page.get_by_text("It goes on from the checkpoint")).to_be_visible()
    await expect(page.get_by_label("Offers")).to_contain_text("1 can take it")


async def test_what_is_wrong_is_named_before_anybody_is_asked(dmses: Dmses, pages: Watched) -> None:
    page = await filled_form(pages, dmses, "true")
    await page.get_by_label("CPU", exact=True).fill("half")
    await expect(page.locator("#problems")).to_contain_text("CPU a whole number is expected")
    await expect(page.get_by_label("Offers")).to_contain_text("As soon as the form is filled in")
    await page.get_by_label("CPU", exact=True).fill("100000000")
    await expect(page.get_by_label("Offers")).to_contain_text("MHz")  # why the provider can't take it
    await expect(page.get_by_label("Offers")).to_contain_text("1 can't")
    pages.allowed.append("status of 404")  # the browser tells of each refusal


async def test_a_draft_survives_a_reload_and_its_secrets_do_not(dmses: Dmses, pages: Watched) -> None:
    page = await filled_form(pages, dmses, "true")
    await page.get_by_text("Inputs, variables, results, payment").click()
    await page.get_by_role(
        "button", name="Add an input"
    ).click()  # without a URL it is wrong, and left by the next click
    await page.get_by_role("button", name="Add a secret").click()
    await page.get_by_label("Secret 1, name").fill("TOKEN")
    await page.get_by_label("Secret 1, value").fill("hf_not_for_the_store")
    stored = await page.evaluate("JSON.stringify(sessionStorage) + JSON.stringify(localStorage) + location.href")
    assert "TOKEN" in stored
    assert "hf_not_for_the_store" not in stored
    await page.reload()
    await expect(page.get_by_label("Image", exact=True)).to_have_value(SHELL_IMAGE)
    await expect(page.get_by_label("Secret 1, name")).to_have_value("TOKEN")
    await expect(page.locator("#problems")).to_contain_text("Secret TOKEN has no value")


async def test_a_failure_is_told_with_its_fault_and_can_be_run_again(dmses: Dmses, pages: Watched) -> None:
    page = await paid_job(pages, dmses, "echo gone wrong >&2; exit 3")
    await expect(now(page)).to_contain_text("The job failed")
    await expect(now(page)).to_contain_text("The job itself ended with an error.")
    await expect(now(page)).to_contain_text("The provider earns nothing")
    await page.evaluate("sessionStorage.clear()")  # the draft is not what fills the form
    await page.get_by_role("link", name="Run again").click()
    await expect(page.get_by_label("Command", exact=True).last).to_have_value("'echo gone wrong >&2; exit 3'")


async def test_a_running_job_is_stopped_after_a_question(dmses: Dmses, pages: Watched) -> None:
    page = await paid_job(pages, dmses, FOREVER)
    await expect(now(page)).to_contain_text("The job is running")
    await page.get_by_role("button", name="Stop…").click()
    question = page.get_by_role("dialog")
    await question.get_by_label("Reason").fill("seen enough")
    await question.get_by_role("button", name="Stop 1 job").click()
    await question.get_by_role("button", name="Done").click()
    await expect(now(page)).to_contain_text("seen enough")
    await expect(page.locator("table.timeline").get_by_role("row", name="Told to stop")).to_be_visible()
    await page.get_by_role("tab", name="Record").click()
    row = page.get_by_role("listitem").filter(has_text="job.termination_requested")
    await row.get_by_title("Link to this event").click()
    await page.reload()
    await expect(page.get_by_role("listitem").filter(has_text="seen enough")).to_have_class("chosen")


async def test_filters_survive_a_reload_and_an_empty_list_says_what_hides_the_rest(
    dmses: Dmses, pages: Watched
) -> None:
    job_id = await asked(dmses)
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp")
    row = page.get_by_role("listitem").filter(has=page.locator(f'a[href$="{job_id}"]'))
    await expect(row).to_contain_text("awaiting")
    await page.get_by_label("State", exact=True).select_option("awaiting")
    await page.get_by_label("Order").select_option("price.desc")
    await page.get_by_label("Search").fill(job_id)
    await expect(page.locator(".found")).to_contain_text(re.compile("1 of [0-9,]+ match"))
    await page.reload()
    await expect(page.get_by_label("Search")).to_have_value(job_id)
    await expect(page.get_by_label("State", exact=True)).to_have_value("awaiting")
    await expect(row).to_be_visible()
    await dmses.requester.post(f"/jobs/{job_id}/stop", {})
    await expect(page.locator(".found")).to_contain_text(re.compile("0 of [0-9,]+ match"))
    await page.get_by_role("button", name="clear", exact=True).click()
    await expect(row).to_contain_text("failed")


async def test_stopping_several_stops_those_that_were_shown_and_no_other(dmses: Dmses, pages: Watched) -> None:
    chosen = [await asked(dmses) for _ in range(2)]
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp?status=awaiting")
    for job_id in chosen:
        await page.get_by_label(f"Select job {job_id}").check()
    await page.get_by_role("group", name="Selected jobs").get_by_role("button", name="Stop…").click()
    question = page.get_by_role("dialog")
    await expect(question.get_by_role("listitem")).to_have_count(2)
    later = await asked(dmses)
    await expect(page.locator(f'a[href$="{later}"]')).to_be_visible()
    await expect(question.get_by_role("listitem")).to_have_count(2)
    await question.get_by_role("button", name="Stop 2 jobs").click()
    await question.get_by_role("button", name="Done").click()
    states = {job_id: (await dmses.requester.get(f"/jobs/{job_id}"))["status"] for job_id in (*chosen, later)}
    assert states == {chosen[0]: "failed", chosen[1]: "failed", later: "awaiting"}
    await page.reload()
    await expect(page.get_by_role("group", name="Selected jobs")).to_have_count(0)


async def test_several_are_run_again_once_their_prices_are_known(dmses: Dmses, pages: Watched) -> None:
    script = "echo twice"
    chosen = [await asked(dmses, script) for _ in range(2)]
    prices = [(await dmses.requester.get(f"/jobs/{job_id}"))["price"] for job_id in chosen]
    secret = request_body(script)
    secret["params"]["secret_env"] = {"TOKEN": "of the test"}
    kept = str((await dmses.requester.post("/run/request-service", secret))["job_id"])
    before = (await dmses.requester.get("/jobs/summary"))["total"]
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp?status=awaiting")
    for job_id in (*chosen, kept):
        await page.get_by_label(f"Select job {job_id}").check()
    await page.get_by_role("group", name="Selected jobs").get_by_role("button", name="Run again…").click()
    question = page.get_by_role("dialog")
    await expect(question.get_by_role("listitem").filter(has_text=kept)).to_contain_text("secrets (TOKEN) are not kept")
    await expect(question).to_contain_text(f"{sum(map(Decimal, prices)):f} NTX for 2 jobs")
    assert (await dmses.requester.get("/jobs/summary"))["total"] == before  # nothing was asked for yet
    await question.get_by_role("button", name="Ask for 2 jobs").click()
    links = question.get_by_role("link", name=re.compile("^Pay"))
    await expect(links).to_have_count(2)
    assert (await dmses.requester.get("/jobs/summary"))["total"] == before + 2
    new_id = str(await links.first.get_attribute("href")).rpartition("/")[2]
    assert new_id not in chosen
    again = await dmses.requester.get(f"/jobs/{new_id}/request?personal=true")
    assert again["request"]["params"]["model_url"] == script
    await question.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("group", name="Selected jobs")).to_have_count(0)
    total = (await dmses.requester.get("/jobs/summary"))["open_ntx"]
    assert Decimal(total) >= 2 * sum(map(Decimal, prices))
    await expect(page.locator(".spent")).to_contain_text(f"open: at most {total} NTX")


async def test_running_several_again_ends_when_it_is_called_off(dmses: Dmses, pages: Watched) -> None:
    chosen = [await asked(dmses) for _ in range(3)]
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp?status=awaiting")
    for job_id in chosen:
        await page.get_by_label(f"Select job {job_id}").check()
    came, called_off = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        came.set()
        await called_off.wait()
        await route.continue_()

    await page.route("**/run/request-service", hold)
    await page.get_by_role("group", name="Selected jobs").get_by_role("button", name="Run again…").click()
    question = page.get_by_role("dialog")
    await question.get_by_role("button", name="Ask for 3 jobs").click()
    await came.wait()
    await page.keyboard.press("Escape")
    called_off.set()
    await expect(question.get_by_role("heading", name="Asked for")).to_be_visible()
    await expect(question.get_by_role("link", name=re.compile("^Pay"))).to_have_count(1)
    await expect(question.get_by_text("not asked for")).to_have_count(2)
    await page.keyboard.press("Escape")
    await expect(question).to_have_count(0)


async def test_the_list_is_used_by_keys_alone(dmses: Dmses, pages: Watched) -> None:
    job_id = await asked(dmses)
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp?q={job_id}")
    await expect(page.locator(f'a[href$="{job_id}"]')).to_be_visible()
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.get_by_label("Search").blur()
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{dmses.requester.url}/dashboard/sp/jobs/{job_id}")
    await expect(now(page)).to_contain_text("waits for its payment")


async def test_a_payment_that_is_refused_is_told_so(dmses: Dmses, pages: Watched) -> None:
    first, second = await asked(dmses), await asked(dmses)
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp/jobs/{first}")
    tx_hash = f"0x{uuid4().hex * 2}"
    for job_id in (first, second):
        await page.goto(f"{dmses.requester.url}/dashboard/sp/jobs/{job_id}")
        await page.get_by_label("Then paste the transaction's hash").fill(tx_hash)
        await page.get_by_role("button", name="Report the payment").click()
        await expect(page.get_by_label("Payment", exact=True)).to_have_count(0)
    await expect(now(page)).to_contain_text("The job failed")
    await expect(now(page)).to_contain_text("No payment was accepted for this job.")


async def test_of_a_long_list_only_what_is_in_sight_is_fetched_and_in_the_page(dmses: Dmses, pages: Watched) -> None:
    oldest = await asked(dmses)
    for _ in range(15):
        await asyncio.gather(*(asked(dmses) for _ in range(8)))
    newest = await asked(dmses)
    page = await pages.open(f"{dmses.requester.url}/dashboard/sp")
    await expect(page.locator(f'a[href$="{newest}"]')).to_be_visible()
    assert await page.locator(".job-row").count() < 50
    assert [url for url in pages.requested if "offset=100" in url] == []
    async with page.expect_request(lambda request: "offset=100" in request.url):
        await page.locator(".virtual.jobs").evaluate("box => box.scrollTop = box.scrollHeight")
    await expect(page.locator(".job-row.missing")).to_have_count(0)
    await page.get_by_label("Order").select_option("requested_at.asc")
    await page.get_by_label("Search").fill(oldest)
    await expect(page.locator(f'a[href$="{oldest}"]')).to_be_visible()
    assert await page.locator(".job-row").count() < 50


async def test_a_daemon_that_was_away_is_nothing_but_a_pause(dmses: Dmses, pages: Watched) -> None:
    pages.allowed += AWAY
    sp, job_id = dmses.requester, await asked(dmses)
    page = await pages.open(f"{sp.url}/dashboard/sp?q={job_id}")
    row = page.get_by_role("listitem").filter(has=page.locator(f'a[href$="{job_id}"]'))
    stop = row.get_by_role("button", name="Stop")
    await expect(stop).to_be_enabled()
    sp.kill9()
    await expect(stop).to_be_disabled()
    await expect(row).to_contain_text("awaiting")  # what was shown stays
    sp.start()
    await sp.ready()
    await expect(stop).to_be_enabled()
    await sp.post(f"/jobs/{job_id}/stop", {})
    await expect(row).to_contain_text("failed")
