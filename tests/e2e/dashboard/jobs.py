"""Two daemons whose pages are looked at, and jobs for them to show."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from playwright.async_api import Page

from tests.e2e.test_main_job import frames_until_over, socket_of
from tests.fixtures.dms import Dms, payment, request_body

TRAINING = r"""
for epoch in 1 2 3 4 5 6 7 8; do echo "epoch $epoch: loss=0.$((90 / epoch)) accuracy=0.$((80 + epoch))"; done
printf '\033[32msaved\033[0m model.bin\n'; echo 'a warning of the library' >&2
"""
ENDLESS = "i=0; while true; do i=$((i+1)); echo step $i; sleep 1; done"


class Dmses(NamedTuple):
    """provider: onboarded, and known to the requester."""

    requester: Dms
    provider: Dms


class Shown(NamedTuple):
    """The jobs that the pages show."""

    completed: str
    failed: str
    running: str


async def run(dmses: Dmses, script: str, tx_hash: str) -> str:
    async with socket_of(dmses.requester) as socket:
        quote = await dmses.requester.post("/run/request-service", request_body(script))
        await socket.send(payment(tx_hash * 32, quote["job_id"]))
        await frames_until_over(socket)
    return str(quote["job_id"])


async def begin(dmses: Dmses, script: str, tx_hash: str) -> str:
    """With a time limit that no module of tests reaches, however slow the machine."""
    async with socket_of(dmses.requester) as socket:
        quote = await dmses.requester.post("/run/request-service", request_body(script, time=120))
        await socket.send(payment(tx_hash * 32, quote["job_id"]))
        await until(dmses, quote["job_id"], "running")
    return str(quote["job_id"])


async def until(dmses: Dmses, job_id: str, status: str) -> None:
    async with asyncio.timeout(120):
        while (await dmses.requester.get(f"/jobs/{job_id}"))["status"] != status:
            await asyncio.sleep(0.05)


async def settled(page: Page) -> None:
    """Live, and all that it fetched is there."""
    await page.locator(".fresh.live").wait_for()
    await page.locator("main h1").first.wait_for()
    await page.wait_for_function("() => !document.querySelector('[aria-busy=\"true\"]')")
