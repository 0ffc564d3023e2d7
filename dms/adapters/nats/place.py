"""How far the relay has come, kept beside the log. The stream itself knows better; this is for when
its limits have dropped all that we ever sent, so that it is not sent again."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import msgspec
from msgspec import Struct

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


_one_at_a_time = threading.Lock()  # a cancelled save goes on in its thread


def save(path: Path, place: Place) -> None:
    """All or nothing, and on the disk when it returns. Blocking."""
    new = path.with_name(path.name + ".new")
    with _one_at_a_time:
        _write(new, msgspec.json.encode(place))
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
