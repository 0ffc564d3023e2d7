"""From an event's commit to the text of a dashboard's page: many open pages of one browser, against a bare reader of
the event stream that hears the same events on the same machine."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from statistics import quantiles

import orjson
import websockets
from playwright.async_api import Page

from ops.bench.report import Row
from tests.fixtures.browser import Watched, chromium, watched
from tests.fixtures.chromium_without_netlink import WHOLE
from tests.fixtures.dms import Dms

FIRST_LOAD_KB, MAIN_THREAD_MS = 150, 1000
PAGES, EVENTS = 50, 100
WARM_UP_EVENTS = 6  # an even number: the machine is then as available as before
PAUSE_SECONDS = 1.0  # between events: each is to be seen by itself, once all pages have drawn the one before
_WATCH = """() => {
  window.seenAt = {};
  const shown = document.querySelector('[data-testid="freshness"]');
  const look = () => {
    const position = Number(/position ([0-9,]+)/.exec(shown.textContent)?.[1].replaceAll(",", ""));
    if (position && !(position in window.seenAt)) window.seenAt[position] = performance.timeOrigin + performance.now();
  };
  new MutationObserver(look).observe(shown, {subtree: true, childList: true, characterData: true});
}"""
_SIZES = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .filter(({name}) => name.includes("/dashboard/")).reduce((sum, {encodedBodySize}) => sum + encodedBodySize, 0)"""
Seen = Mapping[int, float]
"""Position -> Unix time in ms."""


def run() -> Iterator[Row]:
    loaded, busy = asyncio.run(_first_load())
    yield Row(
        "first load, compressed", f"budget: {FIRST_LOAD_KB} kB", f"{loaded:.1f} kB", loaded / FIRST_LOAD_KB, "<= 1"
    )
    yield Row(
        "main thread until all is shown",
        f"budget: {MAIN_THREAD_MS} ms",
        f"{busy:.0f} ms",
        busy / MAIN_THREAD_MS,
        "<= 1",
    )
    bare, shown = asyncio.run(_measured())
    yield Row(
        f"commit to text, {PAGES} pages, p99",
        f"one bare websocket: {_p99(bare):.1f} ms",
        f"{_p99(shown):.1f} ms (median {sorted(shown)[len(shown) // 2]:.1f}, worst {max(shown):.1f})",
        _p99(shown) / _p99(bare),
        "p99 < 200 ms",
    )


async def _first_load() -> tuple[float, float]:
    """kB that came over the wire, and ms of the main thread, of a first visit to a page with live figures."""
    async with _onboarded() as (dms, pages):
        page = await pages.context.new_page()
        devtools = await pages.context.new_cdp_session(page)
        await devtools.send("Performance.enable")
        await page.goto(f"{dms.url}/dashboard/cp")
        await page.locator(".fresh.live").wait_for()
        await page.locator(".chart canvas").first.wait_for()
        sizes = await page.evaluate(_SIZES)
        metrics = (await devtools.send("Performance.getMetrics"))["metrics"]
    return sizes / 1000, next(one["value"] for one in metrics if one["name"] == "TaskDuration") * 1000


async def _measured() -> tuple[Sequence[float], Sequence[float]]:
    """Delays in ms: of the bare reader, and of all pages."""
    async with _onboarded() as (dms, pages):
        opened = [await pages.open(f"{dms.url}/dashboard/cp") for _ in range(PAGES)]
        await asyncio.gather(*(page.locator(".fresh.live").wait_for() for page in opened))
        await asyncio.gather(*(page.locator(".chart canvas").first.wait_for() for page in opened))
        return await _during(dms, opened)


@asynccontextmanager
async def _onboarded() -> AsyncIterator[tuple[Dms, Watched]]:
    """A DMS that offers its machine, and a browser."""
    with tempfile.TemporaryDirectory() as folder:
        dms = Dms(Path(folder), settings={"job.executor": "process", "job.allow_process_for_peers": "true"})
        dms.start()
        try:
            await dms.ready()
            await dms.onboard()
            async with chromium(WHOLE) as browser, watched(browser) as pages:
                yield dms, pages
        finally:
            dms.end()


def _reached(times: Seen, position: int) -> float:
    """When a page first showed it, or a newer one: of two that come at once only the second may be drawn."""
    return min(at for shown, at in times.items() if shown >= position)


async def _during(dms: Dms, pages: Sequence[Page]) -> tuple[Sequence[float], Sequence[float]]:
    await asyncio.gather(*(page.evaluate(_WATCH) for page in pages))
    await _tell(dms, WARM_UP_EVENTS)  # what is measured are pages that are open, not pages that open
    heard: dict[int, float] = {}
    committed: dict[int, float] = {}
    async with websockets.connect(f"ws://127.0.0.1:{dms.rest_port}/api/v1/events/ws?after={dms.head()}") as socket:
        reading = asyncio.create_task(_read(socket, heard, committed))
        await _tell(dms, EVENTS)
        async with asyncio.timeout(60):
            await reading
    seen = [await _seen(page, max(committed)) for page in pages]
    bare = [heard[position] - at for position, at in committed.items()]
    shown = [_reached(times, position) - at for times in seen for position, at in committed.items()]
    return bare, shown


async def _tell(dms: Dms, events: int) -> None:
    for number in range(events):
        await dms.post("/device/status", {"is_available": number % 2 == 1})
        await asyncio.sleep(PAUSE_SECONDS)


async def _read(socket: websockets.ClientConnection, heard: dict[int, float], committed: dict[int, float]) -> None:
    async for text in socket:
        now = time.time() * 1000
        event = orjson.loads(text)
        heard[event["position"]] = now
        committed[event["position"]] = datetime.fromisoformat(event["time"]).timestamp() * 1000
        if len(heard) == EVENTS:
            return


async def _seen(page: Page, last: int) -> Seen:
    """Once the page shows the last event."""
    await page.wait_for_function("(last) => last in window.seenAt", arg=last)
    found = await page.evaluate("() => window.seenAt")
    return {int(position): at for position, at in found.items()}


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98]
