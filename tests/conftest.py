"""What any test may use: waiting for a condition instead of sleeping, and leaving out Docker where there is none."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.fixtures.engine_starts import engine_starts
from tests.fixtures.ethereum import chain, own_chain
from tests.fixtures.event_logs import log
from tests.fixtures.images import demo_images
from tests.fixtures.leftovers import unmount_left_workspaces

__all__ = ["chain", "demo_images", "engine_starts", "log", "own_chain"]

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that: run so, too, the tests see what
# a person sees who presses it.
signal.signal(signal.SIGINT, signal.default_int_handler)

T = TypeVar("T")

# No test measures time: the machine may be busy with something else.
settings.register_profile("dms", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dms")


@pytest.fixture
def wait_until() -> Callable[..., object]:
    """wait_until(probe, timeout_seconds=10): the first truthy answer of probe(); fails the test after the deadline."""
    return _wait_until


def _wait_until(probe: Callable[[], T | None], timeout_seconds: float = 120) -> T:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if answer := probe():
            return answer
        time.sleep(0.01)  # between two looks, not in place of one
    pytest.fail(f"not within {timeout_seconds} s: {probe}")


@cache
def _docker_answers() -> bool:
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def pytest_sessionstart() -> None:
    unmount_left_workspaces()


@pytest.hookimpl(trylast=True)  # after pytest's own sorting by fixtures
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, as the Makefile runs them (`-n 8 --dist loadgroup`): tests that share something of their module
    stay on one worker, any other is taken by whichever is free. What takes long comes first, so that it isn't last."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        if _shares_something(item) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _shares_something(item: pytest.Item) -> bool:
    found: dict[str, list[Any]] = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009  # pytest tells it nowhere else
    return any(definitions[-1].scope in ("module", "class", "package") for definitions in found.values())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`make test` starts Docker first, so that a missing daemon is a failure there and not a silent skip."""
    if item.get_closest_marker("docker") and not _docker_answers():
        pytest.fail("no Docker daemon answers: run `make setup`, or leave these tests out with -m 'not docker'")
