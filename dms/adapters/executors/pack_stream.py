"""The archive of a workspace that only a container sees, read with the programs of a helper in it.

First its list, without names that have a line break in them: what is to be taken is known by that, and what is too
large is refused, before a byte of content is read. Then the content, once, into a file of this host without a name. A
file that the job wrote meanwhile, in place, is looked at again: it counts when what was read is still what it holds,
or begins with. One that was renamed to its name meanwhile was whole before. So each file is one state of it, as in
`pack`.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from dms.adapters.executors.archive_writer import (
    HEADERS_OF_A_FILE,
    Changed,
    Stopped,
    can_be_packed,
    check_room,
    check_size,
    header,
    until_stopped,
    write_archive,
)
from dms.adapters.executors.engine_exec import ExecStream
from dms.adapters.executors.pack import TRIES
from dms.adapters.executors.workspace_archive import BLOCK, ENTRIES, LONG_HEADER_BYTES, PATH_BYTES
from dms.application.ports.executor import PackedWorkspace
from dms.domain.results import Selection, chosen
from dms.errors import ArchiveRefused, ExecutorUnavailable

LOST = "the workspace is gone: the container engine, or what kept it there, was ended meanwhile"
_LINE_BYTES = PATH_BYTES * 4 + 128
_LIST_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_MOST_LOOKED_AT_AGAIN = 1_000

_LISTING = f"""
[ -e /state/ready ] && cd /workspace || exit 0
date +%s
find . -mindepth 1 -path '*
*' -prune -o -exec stat -c '%i %f %s %Y %Z %n' {{}} + | head -c {_LIST_BYTES}
"""
_LISTED = re.compile(r"([0-9]{1,20}) ([0-9a-f]{1,8}) ([0-9]{1,19}) (-?[0-9]{1,19}) (-?[0-9]{1,19}) (\./.*)")
_ALL = """
cd /workspace || exit 1
tar -c -f - . | head -c {most}
"""
_SOME = """
cd /workspace || exit 1
head -c {input} | xargs -0 -r -n 512 tar -c -f - | head -c {most}
"""
_DIGESTS = """
cd /workspace || exit 1
head -c {input} | while IFS= read -r line; do
  at="${{line#* }}"
  if [ -f "$at" ] && [ ! -h "$at" ]; then head -c "${{line%% *}}" "$at" | sha256sum; else echo no file; fi
done
"""

Run = Callable[[str], AbstractContextManager[ExecStream]]
"""Runs a script in the helper; it has ended, without an error, once the manager is left."""


class _Seen(Struct, frozen=True):
    """A line of the list. times: of the last change of content, and of anything; Unix seconds."""

    inode: int
    mode: int
    size: int
    times: tuple[int, int]
    name: str

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.name.split("/")[1:])

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class _Read(Struct, frozen=True):
    """A file or folder whose content lies in the spool at `offset`."""

    parts: tuple[str, ...]
    mode: int
    mtime: int
    folder: bool = False
    offset: int = 0
    size: int = 0
    sha256: str = ""


class StreamedPack:
    """Of one job's workspace. settled: (digest of a list, state) of one that nothing has touched since it was
    archived, so that it needs not be read again."""

    def __init__(self, run: Run, stopped: threading.Event, settled: tuple[str, str] | None) -> None:
        self._run, self._stopped, self.settled = run, stopped, settled

    def pack(self, into: Path, max_bytes: int, known_state: str, selection: Selection) -> PackedWorkspace | None:
        """As `pack.pack`. Raises ExecutorUnavailable also when the workspace is gone."""
        try:
            for _ in range(TRIES):
                try:
                    return self._once(into, max_bytes, known_state, selection)
                except Changed:
                    continue
            raise ExecutorUnavailable(f"the workspace changed during each of {TRIES} readings")
        except Stopped:
            return None
        except OSError as error:
            raise ExecutorUnavailable(f"the workspace can't be archived: {error.strerror or error}") from error

    def _once(self, into: Path, max_bytes: int, known_state: str, selection: Selection) -> PackedWorkspace | None:
        began, seen = self._list()
        files = [item for item in seen if item.is_file and can_be_packed(item.parts)]
        taken = chosen(selection, [item.parts for item in files])
        selected = (
            files if taken is None else [item for item in until_stopped(files, self._stopped) if taken(item.parts)]
        )
        content = sum(item.size for item in selected)
        check_size(content, max_bytes)
        listed = _digest_of(seen, selection)
        untouched = all(item.times[1] < began for item in seen)
        if not seen or not (selected or taken is None) or (untouched and self.settled == (listed, known_state)):
            return None
        check_room(into, 2 * content)
        with tempfile.TemporaryFile(dir=into.parent) as spool:
            found = self._read(spool, selected, max_bytes, None if taken is None else selected)
            self._check_again(began, selected, found)
            state = _state(found)
            if untouched:
                self.settled = (listed, state)
            if not found or state == known_state:
                return None
            sha256, size = write_archive(
                found, content, max_bytes, into, lambda tar, item: _add(tar, spool, item), self._stopped
            )
        others = [
            item
            for item in until_stopped(seen, self._stopped)
            if not _is_taken(item) and (taken is None or taken(item.parts))
        ]
        files_packed = sum(not item.folder for item in found)
        return PackedWorkspace(size_bytes=size, sha256=sha256, files=files_packed, skipped=len(others), state=state)

    # --- the list --------------------------------------------------------------------------------
    def _list(self) -> tuple[int, list[_Seen]]:
        """(the helper's clock when it began, what there is)."""
        with self._run(_LISTING) as stream:
            lines = _lines(stream, self._stopped)
            began = next(lines, "")
            seen = [line for line in map(_seen, lines) if line is not None]
        if not began.isdecimal():
            raise ExecutorUnavailable(LOST)
        if len(seen) > ENTRIES:
            raise ArchiveRefused(f"the workspace holds more than {ENTRIES} files and folders")
        return int(began), seen

    # --- the content -----------------------------------------------------------------------------
    def _read(
        self, spool: BinaryIO, selected: Sequence[_Seen], max_bytes: int, only: Sequence[_Seen] | None
    ) -> list[_Read]:
        """Puts each file's content into the spool. only: None for all there is, folders included."""
        most = max_bytes + (len(selected) + ENTRIES) * HEADERS_OF_A_FILE
        names = b"".join(_encoded(f"{item.name}\0") for item in only or ())
        script = _ALL.format(most=most) if only is None else _SOME.format(most=most, input=len(names))
        with self._run(script) as stream:
            stream.give(names)
            return sorted(_TarSpool(stream, spool, max_bytes, self._stopped).entries(), key=lambda item: item.parts)

    def _check_again(self, began: int, before: Sequence[_Seen], found: Sequence[_Read]) -> None:
        """Raises Changed when a file was written in place while it was read, or was not read and is there."""
        inodes = {item.parts: item.inode for item in before}
        _, after = self._list()
        now = {item.parts: item for item in after}
        read = {item.parts for item in found}
        if any(item.parts in now and item.parts not in read for item in before):
            raise Changed
        doubtful = [
            item
            for item in found
            if not item.folder
            and (one := now.get(item.parts)) is not None
            and one.times[1] >= began - 1
            and one.inode == inodes.get(item.parts)
        ]
        if not doubtful:
            return
        if len(doubtful) > _MOST_LOOKED_AT_AGAIN or any("\n" in "/".join(item.parts) for item in doubtful):
            raise Changed
        wanted = b"".join(_encoded(f"{item.size} ./{'/'.join(item.parts)}\n") for item in doubtful)
        with self._run(_DIGESTS.format(input=len(wanted))) as stream:
            stream.give(wanted)
            digests = [line[:64] for line in _lines(stream, self._stopped)]
        if digests != [item.sha256 for item in doubtful]:
            raise Changed


class _TarSpool:
    """Reads what busybox writes of what a stranger's job holds, one tar or several behind each other: in bounded
    memory, believing nothing."""

    def __init__(self, stream: ExecStream, spool: BinaryIO, max_bytes: int, stopped: threading.Event) -> None:
        self._stream, self._spool, self._left, self._stopped = stream, spool, max_bytes, stopped
        self._max_bytes = max_bytes
        self._files: dict[str, _Read] = {}  # by their names in the tar: what hard links lead to

    def entries(self) -> Iterator[_Read]:
        name = link = ""
        count = 0
        while (entry := self._header()) is not None:
            count += 1
            if count > 3 * ENTRIES:
                raise ArchiveRefused(f"the workspace holds more than {ENTRIES} files and folders")
            if entry.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                text = self._long_text(entry.size)
                name, link = (text, link) if entry.type == tarfile.GNUTYPE_LONGNAME else (name, text)
                continue
            found = self._entry(entry, name or entry.name, link or entry.linkname)
            name = link = ""
            if found is not None:
                yield found

    def _entry(self, entry: tarfile.TarInfo, name: str, link: str) -> _Read | None:
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        ours = bool(parts) and ".." not in parts and can_be_packed(parts)
        if entry.type == tarfile.DIRTYPE:
            return _Read(parts, entry.mode, int(entry.mtime), folder=True) if ours else None
        if entry.type == tarfile.LNKTYPE:
            same = self._files.get(link)
            return replace(same, parts=parts) if ours and same else None
        if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            return None
        offset, sha256 = self._content(entry.size)
        found = _Read(parts, entry.mode, int(entry.mtime), False, offset, entry.size, sha256)
        self._files[name] = found
        return found if ours else None

    def _content(self, size: int) -> tuple[int, str]:
        self._left -= size
        check_size(self._max_bytes - self._left, self._max_bytes)
        offset, digest = self._spool.tell(), hashlib.sha256()
        left = size
        while left:
            if self._stopped.is_set():
                raise Stopped
            data = self._some(min(left, _READ_BYTES))
            digest.update(data)
            self._spool.write(data)
            left -= len(data)
        self._exactly(-size % BLOCK)
        return offset, digest.hexdigest()

    def _header(self) -> tarfile.TarInfo | None:
        while (block := self._block()) == bytes(BLOCK):  # an end, and perhaps another tar behind it
            pass
        if not block:
            return None
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise ExecutorUnavailable(f"what the helper reads is not a tar archive: {error}") from error
        if entry.size < 0:
            raise ExecutorUnavailable("what the helper reads has a file of negative size")
        return entry

    def _block(self) -> bytes:
        """b"" at the end of all."""
        if not (begun := self._stream.read(BLOCK)):
            return b""
        return begun + self._exactly(BLOCK - len(begun))

    def _long_text(self, size: int) -> str:
        if size > LONG_HEADER_BYTES:
            raise ArchiveRefused(f"the workspace has a name of {size} bytes")
        text = self._exactly(size).rstrip(b"\0").decode("utf-8", "surrogateescape")
        self._exactly(-size % BLOCK)
        return text

    def _some(self, most: int) -> bytes:
        data = self._stream.read(most)
        if not data:
            raise Changed  # busybox gives up on a file that has become shorter
        return data

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += self._some(size - len(found))
        return found


def _add(tar: tarfile.TarFile, spool: BinaryIO, item: _Read) -> None:
    if item.folder:
        tar.addfile(header(item.parts, item.mode, tarfile.DIRTYPE, item.mtime))
        return
    spool.seek(item.offset)
    tar.addfile(header(item.parts, item.mode, tarfile.REGTYPE, item.mtime, item.size), spool)


def _state(found: Sequence[_Read]) -> str:
    """Changes when any content does."""
    digest = hashlib.sha256()
    for item in found:
        times = 0 if item.folder else (item.mtime, item.size, item.sha256)
        digest.update(_encoded(repr((item.parts, item.mode & 0o777, times))))
    return digest.hexdigest()


def _digest_of(seen: Sequence[_Seen], selection: Selection) -> str:
    digest = hashlib.sha256(_encoded(repr(selection)))
    for item in sorted(seen, key=lambda one: one.name):
        digest.update(_encoded(repr((item.inode, item.mode, item.size, item.times, item.name))))
    return digest.hexdigest()


def _seen(line: str) -> _Seen | None:
    """None for a line that is cut off, or that a name with a line break in it makes."""
    found = _LISTED.fullmatch(line)
    if found is None:
        return None
    inode, mode, size, changed, touched, name = found.groups()
    return _Seen(int(inode), int(mode, 16), int(size), (int(changed), int(touched)), name)


def _is_taken(item: _Seen) -> bool:
    return (item.is_file or stat.S_ISDIR(item.mode)) and can_be_packed(item.parts)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _lines(stream: ExecStream, stopped: threading.Event) -> Iterator[str]:
    rest = b""
    while data := stream.read(_READ_BYTES):
        if stopped.is_set():
            raise Stopped
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise ArchiveRefused("the workspace has a name that is too long to be listed")
        yield from (line.decode("utf-8", "surrogateescape") for line in whole)
