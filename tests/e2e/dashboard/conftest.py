"""For tests of the dashboards: two real daemons that know each other, and a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.e2e.dashboard.jobs import ENDLESS, TRAINING, Dmses, Shown, begin, run, until
from tests.fixtures.browser import Watched, chromium, watched
from tests.fixtures.chromium_without_netlink import WHOLE
from tests.fixtures.dms import pair

__all__ = ["Dmses"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dmses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dmses]:
    async with pair(tmp_path_factory.mktemp("dashboard")) as (requester, provider):
        yield Dmses(requester, provider)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def pages(browser: Browser) -> AsyncIterator[Watched]:
    """A context of the test's own; what its consoles complain of fails the test."""
    async with watched(browser) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_browser() -> AsyncIterator[Browser]:
    """As people use it: it has notifications, which the other one refuses."""
    async with chromium(WHOLE) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def whole_pages(whole_browser: Browser) -> AsyncIterator[Watched]:
    async with watched(whole_browser) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(dmses: Dmses) -> AsyncIterator[Shown]:
    completed, failed = await run(dmses, TRAINING, "a1"), await run(dmses, "echo no such file >&2; exit 3", "a2")
    running = await begin(dmses, ENDLESS, "a3")
    yield Shown(completed, failed, running)
    await dmses.requester.post(f"/jobs/{running}/stop", {})
    await until(dmses, running, "failed")
