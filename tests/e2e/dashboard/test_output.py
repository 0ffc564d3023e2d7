"""The output of real jobs in a real browser: as it comes, held, hostile, searched, linked to, a million lines of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.dashboard.conftest import Dmses
from tests.fixtures.browser import AWAY, Watched, watched
from tests.fixtures.dms import Dms, pair
from tests.fixtures.process_jobs import PROCESSES, begin, over, touch

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
MILLION = "seq 1000000"
MOVING = """
say() { i=0; while [ $i -lt $1 ]; do echo "$2 $i"; i=$((i+1)); done; }
step() { while [ ! -e "$1" ]; do sleep 0.05; done; }
say 200 first; step a; say 30 second; step b; say 312 third; step c; say 20 fourth
printf 'loading 10%%\\r'; step d; printf 'loading 99%%\\rloaded\\n'; step e; echo over
"""
HOSTILE = r"""
printf '<img src=x onerror="window.hit=1"><script>window.hit=1</script> &amp;\n'
printf '\033[31mred\033[0m \033[38;2;1;2;3mown\033[0m \033]0;title\007\033[2Jplain\n'
printf 'safe \342\200\256gnp.exe\007\n'
printf '10%%\r50%%\rdone\n'
printf 'to the error stream\n' >&2
head -c 1000000 /dev/zero | tr '\0' 'x'; echo
i=0; while [ $i -lt 3000 ]; do echo "row $i"; i=$((i+1)); done
"""
FRAMES = """async () => {
  const box = document.querySelector(".lines"), rows = [];
  for (let step = 0; step <= 60; step++) {
    box.scrollTop = (step / 60) * (box.scrollHeight - box.clientHeight);
    await new Promise(requestAnimationFrame);
    rows.push(document.querySelectorAll(".lines .line").length);
  }
  return Math.max(...rows);
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dmses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dmses]:
    """Jobs are plain processes: what they print is what these tests are about."""
    async with pair(tmp_path_factory.mktemp("output"), **PROCESSES) as (requester, provider):
        yield Dmses(requester, provider)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def million(dmses: Dmses) -> str:
    """Begun first, so that it prints while the other tests run."""
    return await begin(dmses.requester, MILLION)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile(dmses: Dmses, million: str) -> str:
    job_id = await begin(dmses.requester, HOSTILE)
    await over(dmses.requester, job_id)
    return job_id


def address(dms: Dms, job_id: str, rest: str = "", role: str = "sp") -> str:
    return f"{dms.url}/dashboard/{role}/jobs/{job_id}?tab=output{rest}"


def line(page: Page, text: str) -> Locator:
    return page.locator(".lines .text").get_by_text(text, exact=True)


async def shown(page: Page) -> list[str]:
    return await page.locator(".lines .line").all_inner_texts()


def pages_asked(pages: Watched) -> int:
    """How many windows of the output were fetched."""
    return sum("/output?" in url for url in pages.requested)


async def test_output_moves_is_held_paused_and_goes_on(dmses: Dmses, pages: Watched, million: str) -> None:
    sp, cp = dmses
    job_id = await begin(sp, MOVING)
    page = await pages.open(address(sp, job_id))
    await expect(line(page, "first 199")).to_be_visible()
    touch(cp, job_id, "a")
    await expect(line(page, "second 29")).to_be_visible()

    await page.locator(".lines").hover()
    await page.mouse.wheel(0, -400)
    await expect(page.get_by_role("button", name="Follow")).to_be_visible()
    before, asked = await shown(page), pages_asked(pages)
    touch(cp, job_id, "b")
    new = page.get_by_role("button", name="↓ 312 new")
    await expect(new).to_be_visible()
    assert (await shown(page), pages_asked(pages)) == (before, asked)
    await new.click()
    await expect(line(page, "third 311")).to_be_visible()

    await page.get_by_role("button", name="Pause").click()
    before, asked = await shown(page), pages_asked(pages)
    touch(cp, job_id, "c")
    await expect(page.get_by_role("button", name="↓ 20 new")).to_be_visible()
    assert (await shown(page), pages_asked(pages)) == (before, asked)
    await page.get_by_role("button", name="↓ 20 new").click()
    await expect(page.locator(".growing")).to_contain_text("loading 10%")
    touch(cp, job_id, "d")
    await expect(line(page, "loaded")).to_be_visible()
    await expect(page.locator(".growing")).to_have_count(0)
    touch(cp, job_id, "e")
    await expect(line(page, "over")).to_be_visible()
    await expect(page.get_by_text("564 lines")).to_contain_text("complete")


async def test_a_daemon_restarted_under_the_page_is_nothing_but_a_pause(
    dmses: Dmses, pages: Watched, million: str
) -> None:
    sp, cp = dmses
    job_id = await begin(sp, MOVING)
    page = await pages.open(address(sp, job_id))
    await expect(line(page, "first 199")).to_be_visible()
    await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
    pages.allowed += AWAY
    sp.kill9()
    try:
        await expect(page.get_by_test_id("freshness")).to_contain_text("reconnecting, last seen")
        await expect(page.locator(".stale-notice")).to_be_visible()
        touch(cp, job_id, "a")
    finally:
        sp.start()
    await expect(page.get_by_test_id("freshness")).to_contain_text("live · position")
    touch(cp, job_id, "b")
    await expect(line(page, "third 311")).to_be_visible()
    await expect(page.get_by_text("542 lines")).to_be_visible()
    texts = await shown(page)
    assert len(set(texts)) == len(texts), "a line is shown twice"
    for name in "cde":
        touch(cp, job_id, name)
    await over(sp, job_id)


async def test_hostile_output_is_text(dmses: Dmses, pages: Watched, hostile: str) -> None:
    page = await pages.open(address(dmses.provider, hostile, "#L1", role="cp"))
    await expect(line(page, '<img src=x onerror="window.hit=1"><script>window.hit=1</script> &amp;')).to_be_visible()
    await expect(page.locator(".lines").locator("img, script")).to_have_count(0)
    await expect(page.locator(".lines .fg-1")).to_have_text("red")
    await expect(page.locator(".lines [style*='rgb(1, 2, 3)']")).to_have_text("own")
    texts = await shown(page)
    assert texts[1].endswith("red own plain")
    assert texts[2].endswith("safe [RLO]gnp.exe^G")
    assert texts[3].endswith("done")
    assert "%" not in texts[3]
    await expect(page.locator(".line.stderr")).to_contain_text("to the error stream")
    assert await page.evaluate("window.hit") is None

    await page.get_by_role("button", name="show all 65.5 kB").first.click()
    whole = page.get_by_role("dialog")
    await expect(whole.locator(".text")).to_have_text(re.compile("^x{65536}$"))
    await whole.get_by_role("button", name="Close").click()
    assert max(map(len, await shown(page))) < 4200


async def test_lines_are_searched_filtered_and_linked_to(dmses: Dmses, pages: Watched, hostile: str) -> None:
    page = await pages.open(address(dmses.requester, hostile, "#L1500"))
    await expect(page.locator(".line.marked .number")).to_have_text("1500")
    await page.get_by_label("Search in the output").fill("ROW 299")
    await expect(page.get_by_text("11 lines have it")).to_be_visible()
    await page.get_by_label("Search in the output").press("Enter")
    await expect(page.get_by_text("1 of 11")).to_be_visible()
    await expect(page.locator(".lines mark").first).to_have_text("row 299")
    await page.get_by_role("button", name="Previous hit").click()
    await expect(line(page, "row 2999")).to_be_visible()

    await page.get_by_role("radio", name="stderr").check()
    await expect(line(page, "to the error stream")).to_be_visible()
    await expect(page.locator(".lines .line")).to_have_count(1)
    await page.reload()
    await expect(page.locator(".lines .line")).to_have_count(1)
    await expect(page.get_by_text("no line has it")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download").click()
    assert (await (await download.value).path()).read_text() == "to the error stream\n"


async def test_a_million_lines_are_a_few_rows(dmses: Dmses, browser: Browser, million: str) -> None:
    await over(dmses.requester, million)
    async with watched(browser, viewport={"width": 390, "height": 800}) as pages:
        page = await pages.open(address(dmses.requester, million))
        await expect(line(page, "1000000")).to_be_visible()
        assert pages_asked(pages) == 1
        assert await page.evaluate(FRAMES) < 100
        await page.evaluate("document.querySelector('.lines').scrollTop = 0")
        await expect(line(page, "1")).to_be_visible()
        await page.evaluate("location.hash = 'L777777'")
        await expect(line(page, "777777")).to_be_visible()
        await page.get_by_label("wrap").check()
        await expect(line(page, "777777")).to_be_visible()
