"""Allowances of requests: what one caller uses up is missed by nobody else, and health checks and log-in go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dms.adapters.http import access
from dms.adapters.http.connection import Allowance, Connection
from dms.config import Rest
from dms.domain.api_token import Role
from dms.domain.origin import origin_of
from tests.fixtures.other_users import NOBODY, ask
from tests.integration.http.node import Node, running_node
from tests.security.access_world import API

FEW = 5
OTHER = 61_001


async def statuses(
    node: Node, path: str, times: int, *, uid: int = OTHER, method: str = "GET", body: Any = None
) -> set[int]:
    return {(await ask(("127.0.0.1", node.port), method, path, body, uid=uid)).status for _ in range(times)}


async def test_one_user_of_the_machine_uses_up_nothing_of_another(tmp_path: Path) -> None:
    async with running_node(tmp_path, Rest(requests_a_minute=FEW, require_token=True)) as node:
        assert 429 in await statuses(node, f"{API}/session", FEW + 1)
        assert await statuses(node, f"{API}/session", 1, uid=NOBODY) == {200}
        assert await statuses(node, f"{API}/session", 1, uid=0) == {200}


async def test_health_checks_and_log_in_go_on_where_all_requests_are_used_up(tmp_path: Path) -> None:
    """Behind one address, or one proxy, callers can't be told apart."""
    async with running_node(tmp_path, Rest(requests_a_minute=FEW, require_token=True)) as node:
        token = str(await node.services.tokens.create("ops", Role.ADMIN))
        assert await statuses(node, "/livez", FEW + 5) == {200}
        assert 429 in await statuses(node, f"{API}/session", FEW + 1)
        for path in ("/livez", "/readyz", f"{API}/livez", f"{API}/readyz", "/login", "/login/login.js"):
            assert 429 not in await statuses(node, path, 1), path
        assert await statuses(node, f"{API}/session", 1, method="POST", body={"token": token}) == {200}


async def test_guesses_are_counted_wherever_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "LOG_INS_A_MINUTE", FEW)
    async with running_node(tmp_path, Rest(requests_a_minute=FEW)) as node:
        for path in ("/livez", f"{API}/jobs"):
            headers = {"authorization": "Bearer x"}
            answers = [await ask(("127.0.0.1", node.port), "GET", path, headers=headers) for _ in range(FEW + 1)]
            assert answers[-1].status == 429, path
        wrong = await statuses(node, f"{API}/session", FEW + 1, method="POST", body={"token": "x"})
        assert wrong == {401, 429}


async def test_who_asked_too_often_is_told_how_long_to_wait(tmp_path: Path) -> None:
    async with running_node(tmp_path, Rest(requests_a_minute=FEW, require_token=True)) as node:
        while (answer := await ask(("127.0.0.1", node.port), "GET", f"{API}/session", uid=OTHER)).status != 429:
            assert "retry-after" not in answer.headers
        assert 1 <= int(answer.headers["retry-after"]) <= 60 / FEW


def test_the_wait_that_is_told_is_long_enough_and_no_longer() -> None:
    allowance, now = Allowance(FEW, 0.0), 0.0
    for _ in range(20):
        while allowance.take(now):
            assert allowance.next_in_seconds <= 60 / FEW
        wait = allowance.next_in_seconds
        assert 0 < wait <= 60 / FEW
        assert not allowance.take(now + wait * 0.9)
        now += wait + 1e-6


@pytest.mark.parametrize(
    ("host", "uid", "party"),
    [
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", None, "1.2.3.4"),
        ("127.0.0.1", 61_001, "user 61001"),
    ],
)
def test_who_has_no_token_counts_by_user_or_address(host: str, uid: int | None, party: str) -> None:
    connection = Connection.__new__(Connection)
    connection.origin, connection.peer_uid = origin_of(host), uid
    assert connection.party == party
