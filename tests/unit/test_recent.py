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
