"""The users' files on disk: which of them may be given out, and where received ones appear."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from dms.application.files.file_parts import disk_trouble, open_regular
from dms.disk import create_file, has_no_links, make_folder, passes, share, sync_folder, write_file
from dms.domain.transfer import numbered, plain_name
from dms.errors import Forbidden, InvalidInput, NotFound, Unavailable
from dms.service_view import hiding_hint

log = logging.getLogger(__name__)

MOST_NAMESAKES = 10_000
_NOTE = ".name"


class Reach(Enum):
    """Which files of this machine a caller may have sent."""

    NONE = 0  # it is elsewhere
    PUBLIC = 1  # those that any user of this machine may read
    DAEMONS = 2  # those that the daemon may read; a daemon that is root reads for nobody what is not public


class Outbox:
    """Decides which files may be sent.

    With `folders`: those below one of them, whoever asks. Without: those in the caller's reach. Never the daemon's own
    files (keys, event log), except those received. The original read any path, as root, for whoever reached its
    port."""

    def __init__(self, folders: Sequence[Path], own: Sequence[Path], received: Path) -> None:
        """own: folders that the daemon keeps its data in; received: the one of them that may be sent from."""
        self._folders, self._own, self._received = folders, own, received

    def check(self, path: Path, reach: Reach) -> Path:
        """The file's resolved path. Blocking. Raises InvalidInput, NotFound, Forbidden, Unavailable."""
        if not self._folders and reach is Reach.NONE:
            raise Forbidden(
                "files can be sent by callers on this machine only, and behind a proxy (rest.public_url) by none; for "
                "others set files.send_folders"
            )
        if not path.is_absolute():
            raise InvalidInput(f"filePath {str(path)[:256]!r} must be an absolute path", [("/filePath", "absolute")])
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, OSError) and passes(error):
                raise Unavailable(f"file {path.name!r} can't be read: {error.strerror}") from error
            raise NotFound(f"there is no file {path.name!r} that can be read{hiding_hint(path)}") from error
        if not str(real).isprintable():  # also what is not UTF-8: it could be neither shown nor recorded
            raise InvalidInput("the file's path holds characters that can't be shown; rename it", [("/filePath", "")])
        os.close(self.open(real, reach))
        return real

    def open(self, real: Path, reach: Reach) -> int:
        """A descriptor of the file at a path that `check` gave once. What is asked is asked of what was opened, which
        is then that file, whatever is put in its place. Blocking. Raises NotFound, Forbidden, Unavailable."""
        self._check_place(real)
        fd = open_regular(real)
        try:
            self._check_reach(real, os.fstat(fd).st_mode, reach)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_place(self, real: Path) -> None:
        if not self._is_received(real) and any(real.is_relative_to(own.resolve()) for own in self._own):
            raise Forbidden("the files of the DMS itself are not given out")
        if self._folders and not any(real.is_relative_to(folder.resolve()) for folder in self._folders):
            raise Forbidden(f"{real.name!r} lies in none of the folders that files.send_folders allows")

    def _check_reach(self, real: Path, mode: int, reach: Reach) -> None:
        """mode: of the opened file."""
        if self._folders or (reach is Reach.DAEMONS and (os.geteuid() != 0 or self._is_received(real))):
            return
        if not _anyone_may_read(real, mode):
            why = "this DMS runs as root" if os.geteuid() == 0 else "this caller is not the DMS's operator"
            raise Forbidden(
                f"{real.name!r} can't be read by every user of this machine, and {why}: allow its folder with "
                "files.send_folders, or make it readable (chmod o+r; o+x for the folders above it)"
            )

    def _is_received(self, real: Path) -> bool:
        return real.is_relative_to(self._received.resolve())


def _anyone_may_read(real: Path, mode: int) -> bool:
    return bool(mode & stat.S_IROTH) and all(p.stat().st_mode & stat.S_IXOTH for p in real.parents)


class Inbox:
    """`folder` holds whole, checked files only; what is on its way lies in a folder of its own inside."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._incoming = folder, folder / ".incoming"

    def prepare(self, open_ids: Sequence[str]) -> None:
        """Makes the folders, and removes what transfers that are over left behind. Blocking."""
        make_folder(self._incoming)
        for path in self._incoming.iterdir():
            if path.name.removesuffix(".part").removesuffix(_NOTE) not in open_ids:
                try:
                    path.unlink()
                except OSError as error:
                    log.warning("%s belongs to no transfer, and can't be removed: %s", path, error)

    def place(self, transfer_id: str) -> Path:
        """Where it is fetched to."""
        return self._incoming / transfer_id

    def publish(self, transfer_id: str, name: str) -> str:
        """The name that the file has in the folder: never another file's. Safe to repeat until `forget`. Blocking.
        Raises DiskTrouble."""
        here = self.place(transfer_id)
        with disk_trouble(here):
            try:
                return self._link(here, name)
            except OSError as error:
                if not has_no_links(error):
                    raise
                return self._copy(here, name)

    def _link(self, here: Path, name: str) -> str:
        for choice in _choices(name):
            target = self.folder / choice
            try:
                os.link(here, target, follow_symlinks=False)
            except FileExistsError:
                if not os.path.lexists(target) or not os.path.samestat(target.lstat(), here.lstat()):
                    continue
            sync_folder(self.folder)
            return choice
        raise _too_many(name)

    def _copy(self, here: Path, name: str) -> str:
        """Where a file can have no second name. A note tells which one an earlier call took."""
        note = here.with_name(here.name + _NOTE)
        choice = note.read_text() if note.exists() else self._take(name)
        write_file(note, choice.encode())
        share(here, self.folder / choice)
        return choice

    def _take(self, name: str) -> str:
        """A name that nobody has, with an empty file."""
        for choice in _choices(name):
            if create_file(self.folder / choice, b""):
                return choice
        raise _too_many(name)

    def discard(self, name: str) -> bool:
        """Removes a file that `publish` gave that name; whether it was there. Blocking."""
        path = self.folder / plain_name(name)
        there = path.is_file()
        path.unlink(missing_ok=True)
        return there

    def forget(self, transfer_id: str) -> None:
        """Removes what is no longer needed of a transfer that is over. Blocking."""
        here = self.place(transfer_id)
        for path in (here, here.with_name(here.name + ".part"), here.with_name(here.name + _NOTE)):
            path.unlink(missing_ok=True)


def _too_many(name: str) -> Forbidden:
    return Forbidden(f"{MOST_NAMESAKES} files are named like {name!r} already")


def _choices(name: str) -> Iterator[str]:
    return (numbered(name, number) for number in range(MOST_NAMESAKES))
