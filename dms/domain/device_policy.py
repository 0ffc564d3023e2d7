"""Whose jobs, and which images, the owner of a machine takes. It holds beside the configuration: both must allow.

What is denied is denied even if it is allowed. An empty list of what is allowed allows all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

import msgspec
from msgspec import Struct

from dms.domain.image import ImageReference
from dms.domain.image_patterns import allows, check_pattern, first_match
from dms.domain.peer_id import is_peer_id
from dms.errors import InvalidInput

MOST_ENTRIES = 1000  # of one list
PEER_DENIED = "the owner of this node takes nothing of this peer"
PEER_NOT_ALLOWED = "the owner of this provider takes jobs only of peers on a list, and this one is not on it"


class Lists(Struct, frozen=True, kw_only=True):
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class DevicePolicy(Struct, frozen=True, kw_only=True):
    """images: patterns as `job.image_allow` has them. peers: peer ids."""

    images: Lists = Lists()
    peers: Lists = Lists()

    @property
    def digest(self) -> str:
        """Of what the lists say, 32 hexadecimal digits."""
        return sha256(msgspec.json.encode(self)).hexdigest()[:32]

    def check(self, own_peer_id: str) -> None:
        """Raises InvalidInput that names each entry which is wrong."""

        def check_peer(peer_id: str) -> None:
            if not is_peer_id(peer_id):
                raise InvalidInput(f"{peer_id[:80]!r} is not a peer id: expected 12D3KooW... or Qm...")
            if peer_id == own_peer_id:
                raise InvalidInput("this is the machine itself")

        problems = [*_problems("images", self.images, check_pattern), *_problems("peers", self.peers, check_peer)]
        if problems:
            raise InvalidInput("; ".join(f"{pointer}: {text}" for pointer, text in problems[:3]), problems)

    def denies(self, peer_id: str) -> bool:
        """Whether nothing at all is taken of that peer."""
        return peer_id in self.peers.deny

    def objection_to_peer(self, peer_id: str) -> str:
        """Why no job of it is taken; empty when jobs are."""
        if self.denies(peer_id):
            return PEER_DENIED
        return PEER_NOT_ALLOWED if self.peers.allow and peer_id not in self.peers.allow else ""

    def objection_to_image(self, reference: ImageReference, digests: Iterable[str] = ()) -> str:
        """digests: of the image, as far as they are known. Empty when it is taken."""
        known = {reference.digest, *digests} - {""}
        if denied := first_match(self.images.deny, reference, known):
            return f"image {reference} is denied by the owner of this provider (by {denied!r})"
        if not allows(self.images.allow, reference, known):
            return f"image {reference} is not on the list of images that the owner of this provider allows"
        return ""


EVERYTHING = DevicePolicy()


def _problems(name: str, lists: Lists, check: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """(JSON pointer, what is wrong)"""
    for part, entries in (("allow", lists.allow), ("deny", lists.deny)):
        if len(entries) > MOST_ENTRIES:
            yield f"/{name}/{part}", f"has {len(entries)} entries; at most {MOST_ENTRIES} are kept"
        seen: set[str] = set()
        for number, entry in enumerate(entries[:MOST_ENTRIES]):
            try:
                check(entry)
                if entry in seen:
                    raise InvalidInput(f"{entry[:80]!r} is there twice")
            except InvalidInput as error:
                yield f"/{name}/{part}/{number}", str(error)
            seen.add(entry)
