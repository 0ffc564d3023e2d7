"""`heads.json` beside the log: what this DMS keeps of heads. Not in the log, since it would be cut with its tail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from itertools import chain, count
from pathlib import Path

import msgspec

from dms.application.writes import Writes
from dms.disk import write_file
from dms.domain.decoding import UNREADABLE
from dms.domain.heads import Heads
from dms.errors import InvalidInput, NotFound, Unavailable

FILE_NAME = "heads.json"
MAX_BYTES = 4 * 1024 * 1024  # the bounds of what is kept give less than half of it

log = logging.getLogger(__name__)
_encode = msgspec.json.encode
_decoder = msgspec.json.Decoder(Heads)


class HeadFile:
    """Implements application.ports.signing.HeadStore."""

    def __init__(self, folder: Path, peer_id: str, writes: Writes | None = None) -> None:
        self._path, self._peer_id, self._writes = folder / FILE_NAME, peer_id, writes or Writes()

    def load(self) -> Heads:
        """A file that can't be used is moved aside, not overwritten: it may be evidence."""
        try:
            kept = read_heads(self._path)
            if kept.peer_id == self._peer_id:
                return kept
            why, aside = f"it is of peer {kept.peer_id}", f"{FILE_NAME}.{kept.peer_id[:64]}"
        except NotFound:
            return Heads(peer_id=self._peer_id)
        except InvalidInput as error:
            why, aside = str(error), f"{FILE_NAME}.damaged"
        target = _unused(self._path.with_name(aside))
        log.error("%s is moved to %s: %s", self._path, target.name, why, extra={"action": "heads_unreadable"})
        with contextlib.suppress(OSError):
            self._path.rename(target)
        return Heads(peer_id=self._peer_id)

    async def save(self, heads: Heads) -> None:
        try:
            await asyncio.to_thread(write_file, self._path, _encode(heads) + b"\n")
        except OSError as error:
            self._writes.failed("heads", f"{self._path}: {error.strerror}")
            raise Unavailable(f"{self._path} can't be written: {error.strerror}") from error
        self._writes.worked("heads")


def _unused(path: Path) -> Path:
    """That path, or one with a number behind it: what was set aside before is evidence too."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(each for each in chain([path], numbered) if not os.path.lexists(each))


def read_heads(path: Path) -> Heads:
    """Blocking. Raises NotFound; InvalidInput when it is no such file."""
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}") from error
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error
    if len(body) > MAX_BYTES:
        raise InvalidInput(f"{path} is larger than a file of heads can be ({MAX_BYTES} bytes)")
    try:
        return _decoder.decode(body)
    except UNREADABLE as error:
        raise InvalidInput(f"{path} can't be read as a file of heads: {error}") from error
