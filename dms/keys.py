"""The key files of a DMS, each held against its log: its identity, and the key of its output logs' addresses."""

from __future__ import annotations

import logging
import os
import secrets
from hashlib import sha256
from pathlib import Path

from eventsourcing.persistence import PersistenceError

from dms.adapters.eventlog.owner import LogOwner
from dms.adapters.eventlog.recorder import LogRecorder
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.heads.file import FILE_NAME as HEADS_FILE
from dms.adapters.heads.file import read_heads
from dms.adapters.p2p.identity import WHAT, Identity, is_encrypted, peer_named_in
from dms.config import Settings
from dms.disk import create_file, sync_folder, unusable, whole_file
from dms.errors import ConfigError, InvalidInput, LogUnavailable, NotFound
from dms.key_file import read_key
from dms.passphrase import KEY_CREDENTIAL, NO_PASSPHRASE, Passphrase, credential, read_credential

log = logging.getLogger("dms")

NODE_KEY = "node.key"
ADDRESS_KEY = "token.key"  # of the output logs' addresses
TOKEN_KEY_BYTES = 32


def node_identity(
    path: Path, recorder: LogRecorder, data_dir: Path, passphrase: Passphrase = NO_PASSPHRASE
) -> Identity:
    """Of the key that systemd handed over, else of the key file, which must be that of the log; made where the log is
    nobody's. Raises ConfigError."""
    try:
        owner = LogOwner(recorder, _witnessed(data_dir))
        expected, handed = owner.peers[-1] if owner.peers else "", credential(KEY_CREDENTIAL)
        found: Identity | None
        if handed is not None:
            path = handed
            found = Identity.read(path, read_credential(path), expected, passphrase)
        else:
            found = Identity.load(path, expected, passphrase)
        if found is None:
            owner.check_gone(str(path))
            owner.release()
            found = Identity.create(path)
        else:
            owner.check(found.peer_id, str(path))
        owner.take(found.peer_id)
    except PersistenceError as error:
        raise LogUnavailable(f"{recorder.where} can't be written: {error}") from error
    return found


def _witnessed(data_dir: Path) -> str:
    """The peer whose heads are kept there; empty when nobody's are, or that can't be told."""
    try:
        return read_heads(data_dir / HEADS_FILE).peer_id
    except (NotFound, InvalidInput):
        return ""


def change_passphrase(settings: Settings, old: Passphrase, new: bytes | None) -> str:
    """Encrypts the key file under another passphrase, or under none; answers whose it is. Killed at any point, the file
    is the old one or the new one, and its owner's. Raises ConfigError; NotFound when there is no key file."""
    path = settings.general.work_dir / NODE_KEY
    _check_not_handed_over()
    found = Identity.load(path, "", old)
    if found is None:
        raise NotFound(f"there is no key file {path}: the first start of the DMS makes it")
    path = path.resolve()
    try:
        before = path.stat()
        with whole_file(path) as file:
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(found.text(new))
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}. The key is as it was.") from error
    return found.peer_id


def has_passphrase(settings: Settings) -> bool:
    """Whether the key file is encrypted. Raises ConfigError."""
    return is_encrypted(read_key(settings.general.work_dir / NODE_KEY, WHAT) or b"")


def _check_not_handed_over() -> None:
    """Raises ConfigError."""
    if (handed := credential(KEY_CREDENTIAL)) is not None:
        raise ConfigError(f"The node's key is handed over by systemd ({handed}): change it where that takes it from.")


def named_peer(settings: Settings) -> str:
    """Which peer a stopped DMS is, as far as that can be told without its passphrase; empty for one that never ran.
    Raises ConfigError."""
    key_file = settings.general.work_dir / NODE_KEY
    text = read_key(key_file, WHAT)
    if text is not None:
        return peer_named_in(text) or Identity.read(key_file, text).peer_id
    if not settings.events_db.exists():
        return ""
    recorder = SQLiteRecorder(settings.events_db)
    try:
        peers = LogOwner(recorder, _witnessed(settings.general.data_dir)).peers
    finally:
        recorder.close()
    return peers[-1] if peers else ""


def forget_identity(settings: Settings) -> str:
    """Gives up the identity of a DMS that does not run; answers whose it was, empty when nobody's. Killed at any point,
    it is given up or it is not. Raises DmsError: AlreadyRunning, LogCorrupt, ConfigError, LogUnavailable."""
    _check_not_handed_over()
    key_file = settings.general.work_dir / NODE_KEY
    recorder = SQLiteRecorder(settings.events_db) if settings.events_db.exists() else None
    peer_id = ""
    try:
        if recorder is not None:
            owner = LogOwner(recorder, _witnessed(settings.general.data_dir))
            peer_id = owner.peers[-1] if owner.peers else ""
            owner.release()
        if os.path.lexists(key_file):
            key_file.unlink()
            sync_folder(key_file.parent)
        return peer_id
    except OSError as error:
        raise ConfigError(f"{key_file} can't be removed: {error.strerror}") from error
    except PersistenceError as error:
        raise LogUnavailable(f"{settings.events_db} can't be written: {error}") from error
    finally:
        if recorder is not None:
            recorder.close()


def token_key(path: Path, recorder: LogRecorder) -> bytes:
    """32 random bytes, made once: the key of the logs' tokens. Which it is the log remembers by a digest, since any
    32 bytes would do. Raises ConfigError, LogUnavailable."""
    what = "The key file of the output logs' addresses"
    way_out = (
        "Restore it from a backup, or move it away: the next start makes a new one, and addresses of logs that were "
        "given out before no longer open."
    )
    noted = recorder.note("token key")
    try:
        found = read_key(path, what)
        if found is None:
            if noted:
                log.warning("%s is gone: a new one is made, and addresses given out before no longer open", path)
                recorder.set_note("token key", b"")  # first: a kill must leave no key that is refused
            create_file(path, secrets.token_bytes(TOKEN_KEY_BYTES))
            found, noted = read_key(path, what) or b"", None
        if len(found) != TOKEN_KEY_BYTES:
            raise ConfigError(
                f"{what}, {path}, is damaged: it has {len(found)} bytes, not {TOKEN_KEY_BYTES}. {way_out}"
            )
        mark = sha256(b"nunet-dms token key" + found).digest()[:16]
        if not noted:
            recorder.set_note("token key", mark)
        elif noted != mark:
            raise ConfigError(f"{what}, {path}, is damaged or was replaced: it is not the one used so far. {way_out}")
    except OSError as error:
        raise unusable(f"{what}, {path}, can't be made: {error.strerror}", error) from error
    except PersistenceError as error:
        raise LogUnavailable(f"{recorder.where} can't be written: {error}") from error
    return found
