"""Heads of logs that their authors signed, and the signatures of peers who have seen them.

A hash chain alone does not show that its end is missing. So peers that work together sign each other's heads: one
signature for position N witnesses all events up to N. Nothing but the signatures is needed to check them, so what
one peer keeps can be held against the log of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from dms.domain.export import Verify, head_statement
from dms.errors import Conflict, InvalidInput

KEPT_OF_A_WITNESS = 3  # of our own heads; one would do, since the newest covers all before it
KEPT_OF_A_PEER = 8  # of another's heads: it may show a longer log that does not go on from the one we saw
MOST_WITNESSES, MOST_SEEN = 256, 1024
MOST_CONTRADICTIONS, CONTRADICTIONS_OF_A_PEER = 256, 4

PeerId = Annotated[str, Meta(min_length=1, max_length=128)]
Position = Annotated[int, Meta(ge=1, le=2**62)]
Time = Annotated[int, Meta(ge=0, le=2**53)]  # Unix µs, up to the year 2255
Link = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Signature = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
LinkAt = Callable[[int], bytes | None]
"""The hash that a log has at a position; None when it can't be told: the position was archived."""


class SignedHead(Struct, frozen=True, kw_only=True):
    """What a peer says of its log: the hash at its newest position, and when. signature: its own, over `statement`."""

    peer_id: PeerId
    position: Position
    hash: Link
    time: Time
    signature: Signature

    @property
    def statement(self) -> bytes:
        return head_statement(self.peer_id, self.position, self.hash) + f", at {self.time}".encode()


class Countersignature(Struct, frozen=True, kw_only=True):
    """A peer has seen another's head. time: when. signature: the witness's, over `statement`."""

    head: SignedHead
    witness: PeerId
    time: Time
    signature: Signature

    @property
    def statement(self) -> bytes:
        return f"nunet-dms {self.witness} has seen at {self.time}: ".encode() + self.head.statement


class Contradiction(Struct, frozen=True, kw_only=True):
    """Two heads of one peer that can't both be of one log: the one that was witnessed, and what it signed later."""

    witnessed: Countersignature
    later: SignedHead


class Heads(Struct, frozen=True, kw_only=True):
    """What one DMS keeps, as it stands in its file. peer_id: whose file it is. own: its own heads, signed by peers;
    seen: heads of peers, signed by itself, of each peer the newest last."""

    peer_id: PeerId
    format: Literal[1] = 1
    own: Annotated[tuple[Countersignature, ...], Meta(max_length=MOST_WITNESSES * KEPT_OF_A_WITNESS)] = ()
    seen: Annotated[tuple[Countersignature, ...], Meta(max_length=MOST_SEEN)] = ()
    contradictions: Annotated[tuple[Contradiction, ...], Meta(max_length=MOST_CONTRADICTIONS)] = ()


def sign_head(peer_id: str, position: int, link: bytes, time: int, sign: Callable[[bytes], bytes]) -> SignedHead:
    draft = SignedHead(peer_id=peer_id, position=position, hash=link.hex(), time=time, signature="")
    return replace(draft, signature=sign(draft.statement).hex())


def countersign(head: SignedHead, witness: str, time: int, sign: Callable[[bytes], bytes]) -> Countersignature:
    draft = Countersignature(head=head, witness=witness, time=time, signature="")
    return replace(draft, signature=sign(draft.statement).hex())


def signed_by_author(head: SignedHead, verify: Verify) -> bool:
    return verify(head.peer_id, head.statement, bytes.fromhex(head.signature))


def is_genuine(found: Countersignature, verify: Verify) -> bool:
    """Both signatures are those of whom they name, who are two."""
    return (
        found.witness != found.head.peer_id
        and signed_by_author(found.head, verify)
        and verify(found.witness, found.statement, bytes.fromhex(found.signature))
    )


def contradiction(witnessed: SignedHead, later: SignedHead) -> str:
    """Why no one log can have had both heads; empty when one can. A smaller position that was signed at an earlier
    time is only late."""
    if later.position == witnessed.position and later.hash != witnessed.hash:
        return f"another event stands at position {later.position}"
    if later.position < witnessed.position and later.time >= witnessed.time:
        return f"its log reached position {witnessed.position}, and ended at {later.position} later"
    return ""


class HeadBook:
    """What one DMS keeps of heads, bounded: see `Heads`."""

    def __init__(self, kept: Heads) -> None:
        self.peer_id = kept.peer_id
        self._own: dict[str, list[Countersignature]] = {}
        for found in kept.own:
            self._own.setdefault(found.witness, []).append(found)
        self._seen: dict[str, list[Countersignature]] = {}  # lowest position first
        for found in sorted(kept.seen, key=_position):
            self._seen.setdefault(found.head.peer_id, []).append(found)
        self._contradictions = list(kept.contradictions)
        self.changes = 0  # counted up with each change, so that what is stored can be told from what is new

    @property
    def kept(self) -> Heads:
        return Heads(
            peer_id=self.peer_id,
            own=tuple(found for group in self._own.values() for found in group),
            seen=tuple(found for group in self._seen.values() for found in group),
            contradictions=tuple(self._contradictions),
        )

    def newest_own(self, witness: str = "") -> list[Countersignature]:
        """That of the highest position of each witness, or of one."""
        groups = [self._own.get(witness, [])] if witness else list(self._own.values())
        return [max(group, key=_position) for group in groups if group]

    def keep_own(self, found: Countersignature) -> None:
        """A peer's signature under our head. Highest positions are kept, not newest: should our log be cut, what it
        was before is still there. Beyond the bound, the witness that signed longest ago is forgotten."""
        group = [*self._own.get(found.witness, []), found]
        self._own[found.witness] = sorted(group, key=_position)[-KEPT_OF_A_WITNESS:]
        if len(self._own) > MOST_WITNESSES:
            del self._own[min(self._own, key=lambda witness: max(map(_time, self._own[witness])))]
        self.changes += 1

    def witness(self, head: SignedHead, time: int, sign: Callable[[bytes], bytes]) -> Countersignature:
        """Signs a peer's head, whose own signature was checked. The same head again gets the same answer. Raises
        Conflict when it is not ahead of what we signed before; a contradiction is then kept.

        Whether a longer log goes on from the one we saw, a head alone does not tell. So older ones stay: an audit finds
        what of them the log does not have."""
        known = self._seen.get(head.peer_id, [])
        if known and head.position <= known[-1].head.position:
            return self._again(known, head)
        found = countersign(head, self.peer_id, time, sign)
        self._seen[head.peer_id] = [*known, found]
        self._forget_seen(head.peer_id)
        self.changes += 1
        return found

    def _again(self, known: Sequence[Countersignature], head: SignedHead) -> Countersignature:
        same = [found for found in known if (found.head.position, found.head.hash) == (head.position, head.hash)]
        if same and same[0] is known[-1]:
            return known[-1]
        for found in reversed(known):
            if why := contradiction(found.head, head):
                self._keep_contradiction(Contradiction(witnessed=found, later=head))
                raise Conflict(f"{why}; the head witnessed at {when(found.time)} is kept")
        if same:
            return same[0]
        raise Conflict(f"position {known[-1].head.position} of that log was witnessed already")

    def _forget_seen(self, peer_id: str) -> None:
        """Beyond the bounds: of that peer, then of the one with the most, then the peer that was seen longest ago."""
        if len(self._seen[peer_id]) > KEPT_OF_A_PEER:
            _thin(self._seen[peer_id])
        if sum(map(len, self._seen.values())) <= MOST_SEEN:
            return
        most = max(self._seen.values(), key=len)
        if len(most) > 1:
            _thin(most)
        else:
            del self._seen[min(self._seen, key=lambda peer: self._seen[peer][-1].time)]

    def _keep_contradiction(self, found: Contradiction) -> None:
        """The first ones stay: what comes later must not push evidence out."""
        of_peer = [c for c in self._contradictions if c.later.peer_id == found.later.peer_id]
        if any(c.witnessed == found.witnessed for c in of_peer) or len(of_peer) >= CONTRADICTIONS_OF_A_PEER:
            return
        if len(self._contradictions) < MOST_CONTRADICTIONS:
            self._contradictions.append(found)
            self.changes += 1


def _thin(group: list[Countersignature]) -> None:
    """Takes one away that is neither the first nor the newest, so that the others are spread over the time in which
    they were seen. It is our clock that counts: however many heads a peer shows, it can't push out an older one soon.
    Of two the first."""
    inner = range(1, len(group) - 1)
    del group[min(inner, key=lambda i: group[i + 1].time - group[i - 1].time, default=0)]


# --- a log against what its peers have seen ----------------------------------------------------------
class Witnessed(Struct, frozen=True, kw_only=True):
    """The outcome. countersignatures, witnesses: how many are genuine and of that peer's log. position: the highest
    of them, 0 for none. unchecked: those whose position can't be told any more. faults: what does not fit."""

    peer_id: str
    countersignatures: int
    witnesses: int
    position: int
    unchecked: int
    faults: tuple[str, ...]


def held_against(kept: Iterable[Heads], peer_id: str, last: int, link_at: LinkAt, verify: Verify) -> Witnessed:
    """A log of that peer, which ends at position `last`, against all that is kept of its heads."""
    faults: list[str] = []
    forged: list[str] = []
    genuine: list[Countersignature] = []
    unchecked = 0
    for found in sorted(of_log(kept, peer_id), key=_position, reverse=True):
        if not is_genuine(found, verify):
            forged.append(f"the countersignature of {found.witness} for position {found.head.position} is not genuine")
            continue
        genuine.append(found)
        seen = f"peer {found.witness} witnessed"
        if found.head.position > last:
            faults.append(
                f"the tail was cut: {seen} position {found.head.position} at {when(found.time)}, the log ends at {last}"
            )
        elif (link := link_at(found.head.position)) is None:
            unchecked += 1
        elif link.hex() != found.head.hash:
            faults.append(f"position {found.head.position} is not what {seen} at {when(found.time)}")
    return Witnessed(
        peer_id=peer_id,
        countersignatures=len(genuine),
        witnesses=len({found.witness for found in genuine}),
        position=max(map(_position, genuine), default=0),
        unchecked=unchecked,
        faults=tuple(faults + forged),
    )


def of_log(kept: Iterable[Heads], peer_id: str) -> list[Countersignature]:
    """All countersignatures for heads of that peer, each once."""
    found = (c for heads in kept for c in countersignatures(heads) if c.head.peer_id == peer_id)
    return list({c.signature + c.statement.decode(): c for c in found}.values())


def countersignatures(heads: Heads) -> Iterator[Countersignature]:
    yield from heads.own
    yield from heads.seen
    for found in heads.contradictions:
        yield found.witnessed


def whose(kept: Sequence[Heads], link_at: LinkAt) -> str:
    """The one peer whose log can be meant: the one with heads that the log has, else the only one in files of others.
    Raises InvalidInput when it is not one."""
    owners = {heads.peer_id for heads in kept}
    found = [c.head for heads in kept for c in countersignatures(heads)]
    peers = {head.peer_id for head in found}
    fitting = {head.peer_id for head in found if link_at(head.position) == bytes.fromhex(head.hash)}
    meant = fitting or peers - owners or peers
    if len(meant) != 1:
        raise InvalidInput(f"the heads are of {len(meant)} peers, and nothing says which of them wrote the log")
    return meant.pop()


def when(time: int) -> str:
    return datetime.fromtimestamp(time / 1_000_000, UTC).isoformat(timespec="seconds")


def _position(found: Countersignature) -> int:
    return found.head.position


def _time(found: Countersignature) -> int:
    return found.time
