"""What a disk may hold when the power fails: images made of recorded steps.

The model is the strict one of POSIX. What was written to a file is there for certain once the file was synced, and a
name once its folder was; of all else a part may be there. Names are kept in the order of their changes, as a journal
keeps them; contents are kept as the kind of the cut says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from random import Random

from msgspec import Struct

from tests.fixtures.disk_shim import Done, Step

SECTOR_BYTES = 512


class Cut(StrEnum):
    """Which of what was not synced is there all the same."""

    NOTHING_LOST = "nothing lost"  # as behind kill -9
    ALL_LOST = "all lost"
    PREFIX = "prefix"  # of all steps, whatever the file
    FILES = "prefix of each file"
    TORN = "prefix of each file, torn"  # the last write up to some sector
    SCATTERED = "scattered"  # any sectors, in any order


class _Write(Struct, frozen=True):
    step: int
    offset: int
    data: bytes | None  # None: the file is cut, or grown, to `offset`


class _File:
    """durable: what is there for certain. pending: since then."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[_Write] = []

    def sync(self) -> None:
        for write in self.pending:
            _apply(self.durable, write)
        self.pending = []

    def after(self, kept: Sequence[_Write]) -> bytes:
        content = bytearray(self.durable)
        for write in kept:
            _apply(content, write)
        return bytes(content)


class _Naming(Struct, frozen=True):
    """A change of names. folder: what has to be synced for it. file: that the path leads to from now on, if any."""

    step: int
    folder: str
    path: str
    file: _File | None
    was: str = ""  # the name it had, which is gone with this


class RecordedDisk:
    """One after the other, all steps; at any of them, what a cut there may leave."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}  # as the program sees them
        self._durable: dict[str, _File] = {}
        self._folders: set[str] = set()
        self._namings: list[_Naming] = []  # not durable yet
        self.step = 0

    def take(self, done: Done) -> None:
        self.step += 1
        match done.kind:
            case Step.CREATE:
                self._name(_Naming(self.step, _folder(done.path), done.path, _File()))
            case Step.RENAME:
                self._name(_Naming(self.step, _folder(done.path), done.path, self._names[done.other], done.other))
            case Step.LINK:
                self._name(_Naming(self.step, _folder(done.path), done.path, self._names[done.other]))
            case Step.UNLINK:
                if done.path in self._names:  # else a program made it that is not recorded
                    self._name(_Naming(self.step, _folder(done.path), done.path, None))
            case Step.MKDIR:
                self._folders.add(done.path)  # always there: without it nothing below it would be either
            case Step.RMDIR:
                self._folders.discard(done.path)
            case Step.SYNC_FOLDER:
                self._sync_folder(done.path)
            case Step.SYNC if file := self._names.get(done.path):
                file.sync()
            case Step.WRITE | Step.TRUNCATE if file := self._names.get(done.path):
                data = done.data if done.kind is Step.WRITE else None
                file.pending.append(_Write(self.step, done.offset, data))

    def _name(self, naming: _Naming) -> None:
        self._namings.append(naming)
        _rename(self._names, naming)

    def _sync_folder(self, folder: str) -> None:
        """What a journal wrote before it is there, too."""
        last = max((n for n, naming in enumerate(self._namings) if naming.folder == folder), default=-1)
        for naming in self._namings[: last + 1]:
            _rename(self._durable, naming)
        del self._namings[: last + 1]

    def image(self, cut: Cut, random: Random) -> dict[str, bytes]:
        """Content by path."""
        names = dict(self._durable)
        until = self._horizon(cut, random)
        for naming in self._namings:
            if naming.step <= until:
                _rename(names, naming)
        contents: dict[int, bytes] = {}  # one for all names of a file
        for file in names.values():
            if id(file) not in contents:
                contents[id(file)] = file.after(list(_kept(file.pending, cut, until, random)))
        return {path: contents[id(file)] for path, file in names.items()}

    def _horizon(self, cut: Cut, random: Random) -> int:
        """Up to which step names are there, and with PREFIX contents."""
        if cut is Cut.NOTHING_LOST:
            return self.step
        pending = [write.step for file in self._names.values() for write in file.pending]
        steps = [naming.step for naming in self._namings] + (pending if cut is Cut.PREFIX else [])
        return 0 if cut is Cut.ALL_LOST else random.choice([0, *steps])

    @property
    def folders(self) -> set[str]:
        return self._folders


def write_image(folder: Path, files: dict[str, bytes], folders: set[str]) -> None:
    for name in sorted(folders):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o600)


def _kept(pending: Sequence[_Write], cut: Cut, until: int, random: Random) -> Iterator[_Write]:
    match cut:
        case Cut.NOTHING_LOST:
            yield from pending
        case Cut.PREFIX:
            yield from (write for write in pending if write.step <= until)
        case Cut.FILES | Cut.TORN:
            count = random.randint(0, len(pending))
            yield from pending[:count]
            if cut is Cut.TORN and count < len(pending):
                yield from _torn(pending[count], random)
        case Cut.SCATTERED:
            for write in pending:
                yield from _scattered(write, random)


def _torn(write: _Write, random: Random) -> Iterator[_Write]:
    if write.data is not None and len(write.data) > SECTOR_BYTES:
        sectors = random.randrange(1, -(-len(write.data) // SECTOR_BYTES))
        yield _Write(write.step, write.offset, write.data[: sectors * SECTOR_BYTES])


def _scattered(write: _Write, random: Random) -> Iterator[_Write]:
    if write.data is None:
        if random.random() < 0.5:
            yield write
        return
    for start in range(0, len(write.data), SECTOR_BYTES):
        if random.random() < 0.5:
            yield _Write(write.step, write.offset + start, write.data[start : start + SECTOR_BYTES])


def _apply(content: bytearray, write: _Write) -> None:
    end = write.offset if write.data is None else write.offset + len(write.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if write.data is None:
        del content[end:]
    else:
        content[write.offset : end] = write.data


def _rename(names: dict[str, _File], naming: _Naming) -> None:
    if naming.was:
        names.pop(naming.was, None)
    if naming.file is None:
        names.pop(naming.path, None)
    else:
        names[naming.path] = naming.file


def _folder(path: str) -> str:
    return str(Path(path).parent)
