"""How far the relay has come, kept beside the log. The stream itself knows better; this is for when
its limits have dropped all that we ever sent, so that it is not sent again."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from dms.disk import write_file
from dms.domain.decoding import UNREADABLE

log = logging.getLogger(__name__)


class Place(Struct, frozen=True, kw_only=True):
    """stream: when the stream was created, as its server says: another time is another stream.
    position, hash: of the newest event known to be in it."""

    stream: str
    position: int
    hash: str


def load(path: Path) -> Place | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        log.warning("%s can't be read (%s); the stream is asked instead", path, error, extra={"action": "nats_place"})
        return None


def save(path: Path, place: Place) -> None:
    """All or nothing, and on the disk when it returns. Blocking."""
    write_file(path, msgspec.json.encode(place))
