"""Who waits is woken by the next change, and nobody by one that came before."""

from __future__ import annotations

import asyncio

from dms.application.wakeup import Wakeup


async def test_it_wakes_all_who_wait_and_nobody_who_comes_later() -> None:
    wakeup = Wakeup()
    waiting = [asyncio.create_task(wakeup.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    wakeup.wake()
    await asyncio.gather(*waiting)
    later = asyncio.create_task(wakeup.wait())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not later.done()
    wakeup.wake()
    await later
