"""The peers that this node was connected with, on disk: after a restart on another port it finds them again, and they
it. A cache, private to the node's user: no file, or a damaged one, only means to be found by others."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from dms.disk import write_file
from dms.domain.bounds import Unreadable, read

logger = logging.getLogger(__name__)

MOST_PEERS = 256
MOST_ADDRESSES = 8
KEPT_SECONDS = 7 * 86_400
_MAX_BYTES = 1 << 20

_Text = Annotated[str, Meta(max_length=256)]


class Remembered(Struct, frozen=True, kw_only=True):
    """seen_at: Unix time, seconds."""

    peer_id: _Text
    addresses: Annotated[tuple[_Text, ...], Meta(max_length=MOST_ADDRESSES)]
    seen_at: int


class RememberedPeers:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: list[tuple[str, tuple[str, ...]]] = []

    def load(self) -> list[Remembered]:
        """Those seen in the last days, the latest first."""
        try:
            with self._path.open("rb") as file:
                body = file.read(_MAX_BYTES)
            found = read(body, tuple[Remembered, ...])
        except FileNotFoundError:
            return []
        except (OSError, Unreadable) as error:
            logger.warning("the peers of the last run are not known: %s can't be read: %s", self._path, error)
            return []
        now = time.time()
        return sorted(
            (peer for peer in found[:MOST_PEERS] if now - KEPT_SECONDS < peer.seen_at <= now + 86_400),
            key=lambda peer: -peer.seen_at,
        )

    def save(self, peers: Sequence[Remembered]) -> None:
        """Whole or not at all; nothing where nothing but a time is new. Raises OSError."""
        kept = sorted(peers, key=lambda peer: -peer.seen_at)[:MOST_PEERS]
        content = sorted((peer.peer_id, peer.addresses) for peer in kept)
        if content == self._saved:
            return
        write_file(self._path, msgspec.json.encode(kept))
        self._saved = content
