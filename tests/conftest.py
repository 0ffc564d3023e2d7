"""What any test may use: waiting for a condition instead of sleeping, and leaving out Docker where there is none."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, TypeVar

import pytest
from _pytest.nodeid import NodeId
from hypothesis import HealthCheck, Phase, settings
from websockets.asyncio.client import connect

from dms.process import GC_THRESHOLDS
from tests.fixtures import known_sandbox, order
from tests.fixtures.database_locks import forbid_opening_databases
from tests.fixtures.engine_starts import engine_starts
from tests.fixtures.ethereum import chain, own_chain
from tests.fixtures.event_logs import log
from tests.fixtures.images import demo_images
from tests.fixtures.leftovers import remove_again, unmount_left_workspaces
from tests.fixtures.security_page import is_security_test

__all__ = ["chain", "demo_images", "engine_starts", "log", "own_chain"]

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: run so, too, the tests see what
# a person sees who presses it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is loaded stays: nobody looks through it for garbage, neither meanwhile nor (see below) in each test.
gc.disable()

known_sandbox.know()
forbid_opening_databases()

# On a busy machine an answer may take longer than the 10 and 20 seconds that a client gives it on its own.
connect.__init__.__kwdefaults__ = {**(connect.__init__.__kwdefaults__ or {}), "open_timeout": 120, "ping_timeout": None}

T = TypeVar("T")

# No test measures time: the machine may be busy with something else.
settings.register_profile("dms", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A mutant is noticed by few examples or by none, and nobody wants the smallest.
settings.register_profile(
    "mutants", settings.get_profile("dms"), max_examples=20, derandomize=True, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("dms")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A command that is run in this process sets it for good."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _sandbox(request: pytest.FixtureRequest) -> Iterator[None]:
    with known_sandbox.tried() if request.node.get_closest_marker("tries_sandbox") else nullcontext():
        yield


@pytest.fixture
def wait_until() -> Callable[..., object]:
    """wait_until(probe, timeout_seconds=10): the first truthy answer of probe(); fails the test after the deadline."""
    return _wait_until


def _wait_until(probe: Callable[[], T | None], timeout_seconds: float = 120) -> T:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if answer := probe():
            return answer
        time.sleep(0.02)  # between two looks, not in place of one
    pytest.fail(f"not within {timeout_seconds} s: {probe}")


@cache
def _docker_answers() -> bool:
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as in the daemon; with Python's own, a fifth of a test's time goes there
    gc.enable()


def pytest_sessionstart() -> None:
    unmount_left_workspaces()


def pytest_sessionfinish() -> None:
    remove_again()


def pytest_itemcollected(item: pytest.Item) -> None:
    if is_security_test(item.nodeid):
        item.add_marker("security")


@pytest.hookimpl(trylast=True)  # after pytest's own sorting by fixtures
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, as the Makefile runs them: tests that share something of their module stay on one worker, any
    other is taken by whichever is free."""
    if not hasattr(config, "workerinput"):
        return
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        units.setdefault(_group(item) or item.nodeid, []).append(item)
    known = order.recorded()
    items[:] = [item for unit in order.spread(units.values(), partial(_seconds, known)) for item in unit]
    for item in items:
        if group := _group(item):
            # By what pytest-xdist looks at. It would do so itself by its marker, but for pytest 9.2, where it sets in
            # vain what holds the node's id no longer.
            item._id = NodeId.parse(f"{item.nodeid}@{group}")


def _group(item: pytest.Item) -> str:
    """Of the tests that stay on one worker with it; empty for none."""
    marker = item.get_closest_marker("xdist_group")
    if marker is not None:
        return str(marker.args[0])
    return item.nodeid.partition("::")[0] if _shares_something(item) else ""


def _shares_something(item: pytest.Item) -> bool:
    found: dict[str, list[Any]] = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009  # pytest tells it nowhere else
    return any(definitions[-1].scope in ("module", "class", "package") for definitions in found.values())


def _seconds(known: Mapping[str, float], unit: Sequence[pytest.Item]) -> float:
    """How long they take one after the other, as far as we know."""
    return sum(known.get(item.nodeid, _guess(item)) for item in unit)


def _guess(item: pytest.Item) -> float:
    return order.SLOW_SECONDS if item.get_closest_marker("slow") else order.QUICK_SECONDS


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`make test` starts Docker first, so that a missing daemon is a failure there and not a silent skip."""
    if item.get_closest_marker("docker") and not _docker_answers():
        pytest.fail("no Docker daemon answers: run `make setup`, or leave these tests out with -m 'not docker'")
