"""How the DMS makes its files and folders: for its user alone whatever the umask, and whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from dms.errors import DiskTrouble

FILE_MODE, FOLDER_MODE = 0o600, 0o700
DAEMON_UMASK = 0o077  # for what libraries make; what is made here does not rely on it

_writing = [threading.Lock() for _ in range(16)]  # two writers of one file would share its draft


def make_folder(folder: Path) -> Path:
    """With those above it that are missing. One that is there is left as its owner made it. Raises OSError."""
    try:
        folder.mkdir(FOLDER_MODE)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_folder(folder.parent)
        return make_folder(folder)
    except OSError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(FOLDER_MODE)
    return folder


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
            os.link(draft, path)
        except FileExistsError:
            return False
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return True


def publish(draft: Path, path: Path) -> None:
    """Gives a finished file, which is on the disk already, its name for good. Raises OSError."""
    draft.replace(path)
    sync_folder(path.parent)


def share(file: Path, path: Path) -> None:
    """Gives a file, which is on the disk already, a second name; what had it is replaced. Raises OSError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.link(file, draft, follow_symlinks=False)
    try:
        publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """So that names made or removed in it survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def is_short(error: OSError) -> bool:
    """Whether it says nothing of the file: descriptors or memory are short."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
