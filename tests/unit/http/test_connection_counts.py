"""Connections to the API, counted by user of this machine, by address, and in all."""

from __future__ import annotations

import resource

import pytest

from dms.adapters.http import connection_counts
from dms.adapters.http.connection_counts import MOST, ConnectionCounts, most_connections

OPERATOR = 0
LOCAL = "127.0.0.1"


def counts(most: int = 100, *, proxied: bool = False) -> ConnectionCounts:
    return ConnectionCounts(lambda uid: uid == OPERATOR, most, proxied=proxied)


def entered(counted: ConnectionCounts, origin: str, uid: int | None, times: int = 1000) -> int:
    return sum(counted.enter(origin, uid) is not None for _ in range(times))


def test_a_user_of_this_machine_has_a_number_whatever_address_of_it_is_used() -> None:
    counted = counts()
    assert entered(counted, LOCAL, 1000, 20) + entered(counted, "127.9.9.9", 1000) + entered(counted, "::1", 1000) == 25
    assert entered(counted, LOCAL, None) == 25, "of whom nothing can be told"


def test_all_others_together_leave_the_operator_a_quarter() -> None:
    counted = counts()
    assert sum(entered(counted, LOCAL, uid) for uid in range(1000, 1100)) == 75
    assert entered(counted, "1.2.3.4", None) == 0
    assert entered(counted, LOCAL, OPERATOR) == 25
    assert len(counted) == 100


def test_the_operator_may_have_all_and_no_more() -> None:
    counted = counts()
    assert (entered(counted, LOCAL, OPERATOR), entered(counted, LOCAL, 1000)) == (100, 0)


def test_a_proxy_has_more_and_leaves_some_to_another_user() -> None:
    counted = counts(proxied=True)
    assert (entered(counted, LOCAL, 33), entered(counted, LOCAL, 1000)) == (50, 25)


def test_an_address_of_elsewhere_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_counts, "MOST_OF_AN_ADDRESS", 3)
    counted = counts()
    assert (entered(counted, "1.2.3.4", None), entered(counted, "2001:db8::/64", None)) == (3, 3)


def test_what_is_gone_is_forgotten() -> None:
    counted = counts()
    for uid in (1000, OPERATOR, None):
        for _ in range(1000):
            party = counted.enter(LOCAL, uid)
            assert party is not None
            counted.leave(party)
    assert not counted._of


@pytest.mark.parametrize(("files", "most"), [(64, 32), (1_024, 512), (20_000, 15_904), (65_536, MOST)])
def test_the_rest_of_the_files_is_for_all_else(files: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most
