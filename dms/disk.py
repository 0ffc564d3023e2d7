"""How the DMS makes its files and folders: for its user alone whatever the umask, and whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from dms.errors import ConfigError, DiskTrouble, DmsError

FILE_MODE, FOLDER_MODE = 0o600, 0o700
COPY_BYTES = 1 << 20
DAEMON_UMASK = 0o077  # for what libraries make; what is made here does not rely on it

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)  # a file system's way to refuse a second name
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_writing = [threading.Lock() for _ in range(16)]  # two writers of one file would share its draft


def make_folder(folder: Path) -> Path:
    """With those above it that are missing. One that is there is left as its owner made it. Raises OSError."""
    try:
        return _folder(folder)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_folder(folder.parent)
        return _folder(folder)  # /proc makes none, and says that what is there is not


def _folder(folder: Path) -> Path:
    """In one that is there."""
    try:
        folder.mkdir(FOLDER_MODE)
    except OSError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(FOLDER_MODE)
    return folder


def real_folder(folder: Path) -> Path:
    """As `make_folder`; where it really lies, be it a link to another disk. Raises OSError."""
    return make_folder(folder).resolve()


def private(path: str | Path, flags: int) -> int:
    """An `opener` for open(): one that is there is closed to others, too, if it is ours. Raises OSError."""
    handle = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    try:
        keep_private(handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def append_to(path: Path) -> FileIO:
    """An unbuffered file: what is written is with the kernel at once. Raises OSError."""
    return open(path, "ab", buffering=0, opener=private)  # pathlib knows no openers


def keep_private(handle: int) -> None:
    """Takes from others what they may do with a file of ours. Raises OSError."""
    found = os.fstat(handle)
    if found.st_mode & 0o777 != FILE_MODE and found.st_uid == os.geteuid():
        os.fchmod(handle, FILE_MODE)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """All or nothing: a reader sees the old file or the new one. durable: on the disk when it returns; without, a power
    cut may bring the old one back, or an empty one. Raises OSError; then the old one is there as it was."""
    draft = path.with_name(f".{path.name}.new")
    with _writing[hash(path) % len(_writing)]:
        draft.unlink(missing_ok=True)  # of one who was killed
        try:
            with _new_file(draft, durable=durable) as file:
                file.write(data)
            if durable:
                publish(draft, path)
            else:
                draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """As a durable `write_file`, for what comes bit by bit: it is there once the block has ended, and not at all when
    that ends with an error. A process that is killed meanwhile leaves a draft beside it. Raises OSError."""
    draft = _own_draft(path)
    try:
        with _new_file(draft, durable=True) as file:
            yield file
        publish(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (draft, str(draft)):
            error.filename = str(path)  # nobody asked for the draft
        raise


def create_file(path: Path, data: bytes) -> bool:
    """As `write_file`, but only if there is none; whether it was this call that made it. Of many at once, in any
    process, one makes it."""
    draft = _own_draft(path)
    try:
        with _new_file(draft, durable=True) as file:
            file.write(data)
        try:
            _name_first(draft, path)
        except FileExistsError:
            return False
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _name_first(draft: Path, path: Path) -> None:
    """Where a file can have no second name, the name is taken a moment before the content has it. Raises
    FileExistsError."""
    try:
        os.link(draft, path)
    except OSError as error:
        if not has_no_links(error):
            raise
        with _new_file(path, durable=True):
            pass
        draft.replace(path)


def publish(draft: Path, path: Path) -> None:
    """Gives a finished file, which is on the disk already, its name for good. Raises OSError."""
    draft.replace(path)
    sync_folder(path.parent)


def share(file: Path, path: Path) -> None:
    """Gives a file, which is on the disk already, a second name, or where there can be none, as on another disk, a copy
    that has it; what had it is replaced. Raises OSError."""
    draft = _own_draft(path)
    try:
        try:
            os.link(file, draft, follow_symlinks=False)
        except OSError as error:
            if not has_no_links(error):
                raise
            _copy(file, draft)
        publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def has_no_links(error: OSError) -> bool:
    """Whether it says that a file can have no second name there."""
    return error.errno in _NO_LINK


def sync_folder(folder: Path) -> None:
    """So that names made or removed in it survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(file: Path, path: Path) -> None:
    handle = os.open(file, _READ)
    with os.fdopen(handle, "rb") as source, _new_file(path, durable=True) as target:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(file))
        shutil.copyfileobj(source, target, COPY_BYTES)


def _own_draft(path: Path) -> Path:
    """That no other call writes to."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


@contextmanager
def _new_file(path: Path, *, durable: bool) -> Iterator[BinaryIO]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        keep_private(file.fileno())
        yield file
        file.flush()
        if durable:
            os.fsync(file.fileno())


def is_of_the_disk(error: BaseException) -> bool:
    """Whether it says that the disk takes or gives nothing just now: that passes, or somebody mends it."""
    return isinstance(error, DiskTrouble) or (isinstance(error, OSError) and error.errno in (
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENODEV, errno.ESTALE,
    ))  # fmt: skip


def is_short(error: BaseException | None) -> bool:
    """Whether it says nothing of the file: descriptors or memory are short."""
    short = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
    return isinstance(error, OSError) and error.errno in short


def is_of_the_machine(error: BaseException) -> bool:
    """Whether it says nothing of what was to be done: this machine lacks something just now."""
    return is_of_the_disk(error) or is_short(error)


def passes(error: OSError) -> bool:
    """Whether it is over by itself, or once somebody makes room; not so where nobody ever may write."""
    return is_short(error) or (is_of_the_disk(error) and error.errno != errno.EROFS)


def unusable(text: str, error: OSError) -> DmsError:
    """Of a file or folder that a start needs: DiskTrouble for what passes, else ConfigError, which no restart mends."""
    return DiskTrouble(text) if passes(error) else ConfigError(text)
