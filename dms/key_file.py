"""Reading a secret key from its file, and saying what is wrong with one that can't be used."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from dms.disk import unusable
from dms.errors import ConfigError
from dms.service_view import hiding_hint

log = logging.getLogger(__name__)

MOST_BYTES = 65_536


def read_key(path: Path, what: str) -> bytes | None:
    """The file's bytes; None when there is none. what: "The node's key file". One that other users can read is closed
    to them, if that can be done. Raises ConfigError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ConfigError(
                f"{what} {path} is a link to {path.readlink()}, which is not there: put that back, or mount its place."
            ) from error
        return None
    except OSError as error:
        user = f"The user of the DMS (uid {os.geteuid()}) must be able to read it{hiding_hint(path)}."
        raise unusable(f"{what} {path} can't be used: {error.strerror}. {user}", error) from error
    try:
        _check(os.fstat(handle), path, what, handle)
        return os.read(handle, MOST_BYTES)
    except OSError as error:
        raise unusable(f"{what} {path} can't be used: {error.strerror}.", error) from error
    finally:
        os.close(handle)


def _check(found: os.stat_result, path: Path, what: str, handle: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise ConfigError(f"{what} {path} is {kind}: put the file back from a backup, or move that away.")
    user = os.geteuid()
    if user != 0 and found.st_uid not in (user, 0):
        raise ConfigError(
            f"{what} {path} belongs to another user (uid {found.st_uid}), who can change it, and the DMS runs as uid "
            f"{user}: chown it, or run the DMS as its owner."
        )
    if not found.st_mode & 0o077:
        return
    try:
        os.fchmod(handle, stat.S_IMODE(found.st_mode) & 0o700)
    except OSError as error:
        raise ConfigError(f"{what} {path} is open to other users, and that can't be changed: chmod 600 it.") from error
    log.warning("%s %s was open to other users; now it is not", what, path, extra={"action": "key_file_closed"})
