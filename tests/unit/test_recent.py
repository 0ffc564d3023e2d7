"""What was used last is remembered, and no more than so much."""

from __future__ import annotations

from dms.recent import Recent


def test_the_one_unused_for_longest_goes() -> None:
    recent: Recent[str, int] = Recent(2)
    recent["a"], recent["b"] = 1, 2
    assert recent.get("a") == 1
    recent["c"] = 3
    assert dict(recent) == {"a": 1, "c": 3}
    recent["a"] = 4  # setting one is a use
    recent["d"] = 5
    assert dict(recent) == {"a": 4, "d": 5}
    assert recent.get("b") is None
    assert recent.get("b", 0) == 0


def test_without_a_bound_the_order_of_use_is_kept_for_whoever_takes_items_out() -> None:
    recent: Recent[str, int] = Recent()
    for number, name in enumerate("abc"):
        recent[name] = number
    assert recent.get("a") == 0
    assert list(recent) == ["b", "c", "a"]
    assert recent["b"] == 1  # only a look
    assert next(iter(recent)) == "b"
