"""Signed heads: what is genuine, what contradicts what, what is kept, and what a log says against them."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dms.adapters.p2p.identity import Identity, verify_signature
from dms.domain import heads as module
from dms.domain.heads import (
    Countersignature,
    HeadBook,
    Heads,
    SignedHead,
    contradiction,
    countersign,
    held_against,
    is_genuine,
    sign_head,
    signed_by_author,
    whose,
)
from dms.errors import Conflict, InvalidInput

AUTHOR, WITNESS, OTHER = Identity.generate(), Identity.generate(), Identity.generate()
HOUR = 3_600_000_000  # µs


def link_at(position: int, history: str = "") -> bytes:
    return sha256(f"{history}{position}".encode()).digest()


def head(position: int, time: int | None = None, history: str = "", author: Identity = AUTHOR) -> SignedHead:
    time = position if time is None else time
    return sign_head(author.peer_id, position, link_at(position, history), time, author.sign)


def seen(position: int, witness: Identity = WITNESS, time: int = HOUR, history: str = "") -> Countersignature:
    return countersign(head(position, history=history), witness.peer_id, time, witness.sign)


def book(identity: Identity = WITNESS) -> HeadBook:
    return HeadBook(Heads(peer_id=identity.peer_id))


def faults(*found: Countersignature, last: int = 100) -> tuple[str, ...]:
    """Of the author's log, which ends at `last`."""
    kept = [Heads(peer_id=WITNESS.peer_id, seen=found)]
    return held_against(kept, AUTHOR.peer_id, last, link_at, verify_signature).faults


# --- signatures ----------------------------------------------------------------------------------------
def test_a_countersignature_is_of_one_head_one_witness_and_one_time() -> None:
    found = seen(7)
    assert is_genuine(found, verify_signature)
    changed = [
        replace(found, time=found.time + 1),
        replace(found, witness=OTHER.peer_id),
        replace(found, head=replace(found.head, position=8)),
        replace(found, head=replace(found.head, time=8)),
        replace(found, head=replace(found.head, hash=link_at(8).hex())),
        replace(found, head=replace(found.head, peer_id=OTHER.peer_id)),
        replace(found, head=replace(found.head, signature="00" * 64)),
        replace(found, signature=found.head.signature),
        countersign(found.head, AUTHOR.peer_id, HOUR, AUTHOR.sign),  # nobody is a witness of itself
        countersign(found.head, "nobody's", HOUR, WITNESS.sign),
    ]
    assert not any(is_genuine(one, verify_signature) for one in changed)


def test_a_head_is_signed_by_its_author_alone() -> None:
    assert signed_by_author(head(7), verify_signature)
    forged = sign_head(AUTHOR.peer_id, 7, link_at(7), 7, OTHER.sign)
    assert not signed_by_author(forged, verify_signature)


@pytest.mark.parametrize(
    "change",
    [{"position": 0}, {"position": 2**63}, {"position": -1}, {"hash": "ab"}, {"hash": "Z" * 64}, {"time": 2**60},
     {"time": -1}, {"peer_id": ""}, {"peer_id": "1" * 200}, {"signature": "ab"}],
)  # fmt: skip
def test_an_absurd_head_can_not_be_read(change: dict[str, object]) -> None:
    body = msgspec.json.encode(msgspec.to_builtins(head(7)) | change)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=SignedHead)


# --- what we sign, and keep --------------------------------------------------------------------------
def test_the_same_head_again_gets_the_same_answer() -> None:
    ours = book()
    first = ours.witness(head(5), HOUR, WITNESS.sign)
    assert ours.witness(head(5, time=9), 2 * HOUR, WITNESS.sign) == first
    assert ours.witness(head(6), 3 * HOUR, WITNESS.sign).head.position == 6
    assert [found.head.position for found in ours.kept.seen] == [5, 6]


@pytest.mark.parametrize("later", [head(3, time=50), head(5, history="other"), head(3, time=50, history="other")])
def test_a_head_that_contradicts_is_refused_and_kept_beside_what_it_contradicts(later: SignedHead) -> None:
    ours = book()
    first = ours.witness(head(5), HOUR, WITNESS.sign)
    for _ in range(3):
        with pytest.raises(Conflict):
            ours.witness(later, 2 * HOUR, WITNESS.sign)
    ours.witness(head(9, time=60), 3 * HOUR, WITNESS.sign)
    (kept,) = ours.kept.contradictions
    assert (kept.witnessed, kept.later) == (first, later)
    assert signed_by_author(kept.later, verify_signature)


def test_a_head_that_only_comes_late_is_no_contradiction() -> None:
    ours = book()
    ours.witness(head(5), HOUR, WITNESS.sign)
    with pytest.raises(Conflict, match="position 5 of that log was witnessed already"):
        ours.witness(head(3), 2 * HOUR, WITNESS.sign)
    assert ours.kept.contradictions == ()


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=2, max_size=2, unique=True))
def test_heads_of_one_log_that_only_grows_never_contradict(places: list[tuple[int, int]]) -> None:
    (low, high), (early, late) = sorted(p for p, _ in places), sorted(t for _, t in places)
    older = SignedHead(peer_id="a", position=low, hash=link_at(low).hex(), time=early, signature="")
    newer = SignedHead(peer_id="a", position=high, hash=link_at(high).hex(), time=late, signature="")
    assert contradiction(older, newer) == ""


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_WITNESSES", "MOST_SEEN", "MOST_CONTRADICTIONS"):
        monkeypatch.setattr(module, name, 4)
    ours, peers = book(AUTHOR), [Identity.generate() for _ in range(6)]
    for position, peer in enumerate(peers, 1):
        ours.keep_own(seen(position, peer, time=position))
        ours.witness(head(position, author=peer), position, AUTHOR.sign)
    assert {found.witness for found in ours.kept.own} == {peer.peer_id for peer in peers[2:]}
    assert {found.head.peer_id for found in ours.kept.seen} == {peer.peer_id for peer in peers[2:]}
    peers = [Identity.generate() for _ in range(6)]
    for peer in peers:
        ours.witness(head(5, author=peer), HOUR, AUTHOR.sign)
        with pytest.raises(Conflict):
            ours.witness(head(5, history="other", author=peer), HOUR, AUTHOR.sign)
    assert [found.later.peer_id for found in ours.kept.contradictions] == [peer.peer_id for peer in peers[:4]]


def test_a_rewritten_log_that_is_longer_is_signed_and_yet_contradicted_by_what_was_signed_before() -> None:
    """However many heads it shows after that."""
    ours = book()
    day = 24 * HOUR
    for number in range(1, 31):
        ours.witness(head(number * 10), number * day, WITNESS.sign)
    for number in range(3000):  # one a second, more than are kept
        ours.witness(head(301 + number, history="rewritten"), 31 * day + number * 1_000_000, WITNESS.sign)
    kept = [found.head.position for found in ours.kept.seen]
    assert (len(kept), kept[0], kept[-1]) == (module.KEPT_OF_A_PEER, 10, 3300)
    assert len([position for position in kept if position <= 300]) >= 5
    rewritten = held_against(
        [ours.kept], AUTHOR.peer_id, 3300, lambda position: link_at(position, "rewritten"), verify_signature
    )
    assert rewritten.faults[0].startswith(f"position {max(p for p in kept if p <= 300)} is not what peer")


def test_a_head_shown_late_is_held_against_all_that_are_kept() -> None:
    ours = book()
    first = ours.witness(head(5), HOUR, WITNESS.sign)
    ours.witness(head(9), 2 * HOUR, WITNESS.sign)
    assert ours.witness(head(5), 3 * HOUR, WITNESS.sign) == first
    with pytest.raises(Conflict, match="another event stands at position 5"):
        ours.witness(head(5, history="other"), 3 * HOUR, WITNESS.sign)
    with pytest.raises(Conflict, match="reached position 9, and ended at 5 later"):
        ours.witness(head(5, time=50), 3 * HOUR, WITNESS.sign)
    assert [found.witnessed.head.position for found in ours.kept.contradictions] == [5, 9]


def test_where_there_are_too_many_the_peers_with_the_most_heads_lose_older_ones_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_SEEN", 4)
    ours, other = book(), Identity.generate()
    for position in (1, 2, 3):
        ours.witness(head(position), position, WITNESS.sign)
    for position in (1, 2, 3):
        ours.witness(head(position, author=other), position, WITNESS.sign)
    assert [(found.head.peer_id, found.head.position) for found in ours.kept.seen] == [
        (AUTHOR.peer_id, 1), (AUTHOR.peer_id, 3), (other.peer_id, 1), (other.peer_id, 3),
    ]  # fmt: skip


def test_of_a_witness_the_highest_positions_are_kept_also_after_our_log_was_cut() -> None:
    ours = book(AUTHOR)
    for position in (10, 20, 30, 40, 5):
        ours.keep_own(seen(position))
    assert [found.head.position for found in ours.kept.own] == [20, 30, 40]
    assert [found.head.position for found in ours.newest_own(WITNESS.peer_id)] == [40]


def test_what_was_kept_is_taken_up_again() -> None:
    ours = book()
    ours.keep_own(countersign(head(4, author=WITNESS), OTHER.peer_id, HOUR, OTHER.sign))
    ours.witness(head(5), HOUR, WITNESS.sign)
    with pytest.raises(Conflict):
        ours.witness(head(5, history="other"), HOUR, WITNESS.sign)
    again = HeadBook(msgspec.json.decode(msgspec.json.encode(ours.kept), type=Heads))
    assert again.kept == ours.kept
    with pytest.raises(Conflict):
        again.witness(head(4, time=9), HOUR, WITNESS.sign)


# --- a log against what was kept ---------------------------------------------------------------------
def test_a_log_that_has_all_that_was_witnessed_is_sound() -> None:
    kept = [Heads(peer_id=WITNESS.peer_id, seen=(seen(100),)), Heads(peer_id=AUTHOR.peer_id, own=(seen(60, OTHER),))]
    found = held_against([*kept, kept[0]], AUTHOR.peer_id, 100, link_at, verify_signature)
    assert (found.countersignatures, found.witnesses, found.position, found.faults) == (2, 2, 100, ())


def test_a_cut_tail_names_the_position_the_witness_and_the_time() -> None:
    text = f"the tail was cut: peer {WITNESS.peer_id} witnessed position 101 at 1970-01-01T01:00:00+00:00"
    assert faults(seen(101), seen(90)) == (f"{text}, the log ends at 100",)


def test_another_history_names_the_position_and_the_witness() -> None:
    assert faults(seen(90, history="other")) == (
        f"position 90 is not what peer {WITNESS.peer_id} witnessed at 1970-01-01T01:00:00+00:00",
    )


def test_a_forged_countersignature_is_told_and_proves_nothing() -> None:
    forged = countersign(head(500), WITNESS.peer_id, HOUR, OTHER.sign)
    assert faults(forged) == (f"the countersignature of {WITNESS.peer_id} for position 500 is not genuine",)
    text = faults(forged, seen(101))
    assert text[0].startswith("the tail was cut")
    assert len(text) == 2


def test_what_was_archived_is_counted_as_unchecked() -> None:
    kept = [Heads(peer_id=WITNESS.peer_id, seen=(seen(10),))]
    found = held_against(kept, AUTHOR.peer_id, 100, lambda _: None, verify_signature)
    assert (found.unchecked, found.faults) == (1, ())


def nowhere(_: int) -> None:
    """The links of a log that has none of the positions."""


def test_whose_log_is_meant_is_told_only_when_it_is_one_peers() -> None:
    kept = Heads(peer_id=WITNESS.peer_id, own=(countersign(head(4, author=WITNESS), OTHER.peer_id, 1, OTHER.sign),))
    assert whose([kept], nowhere) == WITNESS.peer_id
    both = replace(kept, seen=(seen(3),))
    assert whose([both], nowhere) == AUTHOR.peer_id
    own = kept.own[0].head
    assert whose([both], {own.position: bytes.fromhex(own.hash)}.get) == WITNESS.peer_id  # a log that has its heads
    two = countersign(head(4, author=OTHER), WITNESS.peer_id, 1, WITNESS.sign)
    with pytest.raises(InvalidInput, match="2 peers"):
        whose([replace(kept, seen=(seen(3), two))], nowhere)
    with pytest.raises(InvalidInput, match="0 peers"):
        whose([Heads(peer_id=WITNESS.peer_id)], nowhere)
