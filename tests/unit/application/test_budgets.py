"""Token buckets of peers, of strangers together, and of all."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.application.network.budgets import BUDGETS, MOST_PEERS, Budget, Budgets, Rate
from dms.errors import Unavailable

KIND = "things"
SMALL = Budget(unit="number", known=Rate(4, 1), stranger=Rate(2, 0.5), strangers=Rate(5, 1), total=Rate(8, 2))
FRIENDS = {"friend", "other friend", "third friend"}


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def made(clock: Clock | None = None) -> Budgets:
    return Budgets(FRIENDS.__contains__, clock or Clock(), {KIND: SMALL})


def granted(budgets: Budgets, *peers: str) -> list[bool]:
    return [budgets.allows(KIND, peer) for peer in peers]


def test_a_peer_that_floods_takes_nothing_from_another() -> None:
    budgets = made()
    assert granted(budgets, *["a"] * 4, "b") == [True, True, False, False, True]
    assert budgets.refused == {(KIND, "stranger"): 2}


def test_fresh_identities_share_a_budget_and_take_nothing_from_known_peers() -> None:
    budgets = made()
    assert sum(granted(budgets, *(f"fresh {number}" for number in range(1000)))) == SMALL.strangers.burst
    assert granted(budgets, "friend") == [True]


def test_it_comes_back_with_time_up_to_its_burst() -> None:
    clock = Clock()
    budgets = made(clock)
    granted(budgets, "a", "a")
    clock.seconds += 2
    assert granted(budgets, "a", "a") == [True, False]
    clock.seconds += 1000
    assert granted(budgets, "a", "a", "a") == [True, True, False]


def test_what_costs_more_than_a_bucket_holds_is_never_granted_and_takes_nothing() -> None:
    budgets = made()
    assert not budgets.allows(KIND, "friend", 5)
    assert budgets.allows(KIND, "friend", 4)


def test_the_refusal_says_when_to_ask_again() -> None:
    budgets = made()
    granted(budgets, "a", "a")
    with pytest.raises(Unavailable, match="no more things of you just now; try again in 2 s"):
        budgets.check(KIND, "a")


def test_strangers_push_no_known_peers_bucket_out() -> None:
    clock = Clock()
    budgets = made(clock)
    granted(budgets, *["friend"] * 4)
    for number in range(MOST_PEERS + 10):
        clock.seconds += 1e-6
        budgets.allows(KIND, f"fresh {number}")
    assert granted(budgets, "friend") == [False]


async def test_who_waits_goes_on_once_the_budget_has_it() -> None:
    budget = Budget(
        unit="number", known=Rate(1, 100), stranger=Rate(1, 100), strangers=Rate(10, 100), total=Rate(10, 100)
    )
    budgets = Budgets(lambda _: False, budgets={KIND: budget})
    for _ in range(5):
        await budgets.wait(KIND, "a", 1.0)
    async with asyncio.timeout(120):
        await budgets.wait(KIND, "a", 1000.0)  # more than ever: as much as it holds
    assert budgets.refused == {}


@given(st.lists(st.tuples(st.sampled_from(["friend", "a", "b", "c"]), st.floats(0.1, 2), st.floats(0, 3))))
def test_no_more_is_granted_than_burst_and_rate_allow(asked: list[tuple[str, float, float]]) -> None:
    clock = Clock()
    budgets = made(clock)
    spent: dict[str, float] = {}
    for peer, cost, pause in asked:
        clock.seconds += pause
        if budgets.allows(KIND, peer, cost):
            spent[peer] = spent.get(peer, 0) + cost
    strangers = sum(cost for peer, cost in spent.items() if peer != "friend")
    limits = {
        "friend": SMALL.known, "a": SMALL.stranger, "b": SMALL.stranger, "c": SMALL.stranger,
    }  # fmt: skip
    for amount, rate in (
        *((cost, limits[peer]) for peer, cost in spent.items()),
        (strangers, SMALL.strangers),
        (sum(spent.values()), SMALL.total),
    ):
        assert amount <= rate.burst + clock.seconds * rate.per_second + 1e-6


@pytest.mark.parametrize("kind", BUDGETS)
def test_strangers_leave_room_for_known_peers_in_each_budget(kind: str) -> None:
    budget = BUDGETS[kind]
    assert budget.stranger.burst <= budget.known.burst
    if budget.total.burst != float("inf"):
        assert budget.stranger.burst < budget.strangers.burst < budget.total.burst
        assert budget.stranger.per_second < budget.strangers.per_second < budget.total.per_second
        assert budget.strangers.burst + budget.known.burst <= budget.total.burst
