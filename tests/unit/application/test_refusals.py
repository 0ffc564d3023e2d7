"""What was refused to peers of late is kept in bounds."""

from __future__ import annotations

from dms.application.device.refusals import LONGEST_REASON, MOST_KEPT, Refusals


def test_strangers_can_not_make_much_be_remembered() -> None:
    refusals = Refusals(lambda: 1)
    for number in range(MOST_KEPT + 5):
        refusals.note(f"peer-{number}", "request", "x" * 10 * LONGEST_REASON)
    kept = refusals.newest()
    assert (len(kept), kept[0].peer_id) == (MOST_KEPT, f"peer-{MOST_KEPT + 4}")
    assert {len(one.reason) for one in kept} == {LONGEST_REASON}
