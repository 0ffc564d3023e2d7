"""What the daemon answers while it does not serve: every reason that it knows of, each once."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from dms.daemon import Readiness

DAMAGE = "position 100 of the log is damaged: restore a backup"


@pytest.fixture
def log() -> Any:
    return Mock(trouble=None)


@pytest.fixture
def readiness(log: Any) -> Readiness:
    return Readiness(log, Mock(trouble=None), lambda _phase: None)


def test_damage_that_is_found_during_the_start_is_told_with_its_phase(log: Any, readiness: Readiness) -> None:
    assert readiness.not_serving() == "starting"
    readiness.enter("reading the log")
    log.trouble = DAMAGE
    assert readiness.not_serving() == readiness.ready() == f"reading the log; {DAMAGE}"


def test_once_it_serves_requests_are_tried_though_it_is_not_ready(log: Any, readiness: Readiness) -> None:
    log.trouble = DAMAGE
    readiness.serve()
    assert (readiness.not_serving(), readiness.ready()) == (None, DAMAGE)


def test_damage_that_lets_nothing_be_answered_is_told_once(log: Any, readiness: Readiness) -> None:
    log.trouble = DAMAGE
    readiness.serve(DAMAGE)
    assert readiness.not_serving() == DAMAGE


def test_a_daemon_that_stops_serves_no_more(readiness: Readiness) -> None:
    readiness.serve()
    assert readiness.ready() is None
    readiness.stop()
    assert readiness.not_serving() == "stopping"
