"""The keys of personal data, in the event log's own database: a new one is written by the very commit that first uses
it, and destroying one overwrites its bytes.

A sealed text is `<key id>.<nonce and ciphertext in base64>`: AES-256-GCM, with the event's topic as associated data.
The key id is a fingerprint of the key, so two nodes that share a key name it alike, and it tells nothing once the key
is gone. Source: NIST SP 800-38D (96-bit random nonces; a key seals a few dozen texts, the bound is 2^32).
"""

from __future__ import annotations

import binascii
import hmac
import os
import sqlite3
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dms.errors import InvalidInput, LogCorrupt, LogUnavailable
from dms.recent import Recent

# Rows are only put at the end and only overwritten in place, so no page is ever split or merged with a key in it, which
# would leave a copy behind.
SCHEMA = """
CREATE TABLE seal_key (
  number INTEGER PRIMARY KEY, scope TEXT NOT NULL, destroyed INTEGER NOT NULL, id BLOB NOT NULL, secret BLOB NOT NULL
);
CREATE INDEX seal_key_scope ON seal_key (scope);
CREATE INDEX seal_key_id ON seal_key (id);
"""
INSERT = "INSERT INTO seal_key (scope, destroyed, id, secret) VALUES (?, 0, ?, ?)"
_OF_SCOPE = "SELECT scope, id, secret FROM seal_key WHERE scope = ? AND NOT destroyed"
_OF_ID = "SELECT secret FROM seal_key WHERE id = ? AND NOT destroyed LIMIT 1"
_KNOWN = "SELECT 1 FROM seal_key WHERE id = ? LIMIT 1"
_DESTROY = "UPDATE seal_key SET destroyed = 1, secret = zeroblob(32) WHERE scope = ? AND NOT destroyed"
PSEUDONYMS = "pseudonyms"  # the scope of the key that makes pseudonyms
KEY_BYTES, ID_BYTES, NONCE_BYTES = 32, 16, 12
REMEMBERED = 4096
TRUNCATE_SECONDS = 10.0  # readers may hold the write-ahead log for a moment

Row = tuple[str, bytes, bytes]
"""(scope, id, secret), as INSERT takes it."""


class Keyring:
    """Satisfies domain.sealing.Opener. For any thread. Keys that are not on disk yet are in `unwritten`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """connection: read-only, and this object's alone."""
        self._connection, self._lock = connection, threading.Lock()
        self._by_scope: Recent[str, Row] = Recent(REMEMBERED)
        self._ciphers: Recent[bytes, AESGCM] = Recent(REMEMBERED)
        self._unwritten: dict[str, Row] = {}
        self._random, self._used = b"", 0

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # --- sealing and opening -----------------------------------------------------------------------
    def seal(self, scope: str, plain: bytes, topic: str) -> str:
        with self._lock:
            _, key_id, secret = self._of_scope(scope) or self._keep(scope, os.urandom(KEY_BYTES))
            cipher, nonce = self._cipher(key_id, secret), self._nonce()
        sealed = nonce + cipher.encrypt(nonce, plain, topic.encode())
        return f"{key_id.hex()}.{b64encode(sealed).decode()}"

    def open(self, token: str, topic: str) -> bytes | None:
        key_id, _, text = token.partition(".")
        try:
            sealed = b64decode(text, validate=True)
            with self._lock:
                cipher = self._of_id(bytes.fromhex(key_id))
            return (
                None if cipher is None else cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], topic.encode())
            )
        except (binascii.Error, ValueError, InvalidTag):
            return None  # not ours: a peer may write anything there, and the hash chain tells of changes to our own

    # --- keys ----------------------------------------------------------------------------------------
    def secret(self, scope: str) -> bytes:
        """Made when there is none."""
        with self._lock:
            return (self._of_scope(scope) or self._keep(scope, os.urandom(KEY_BYTES)))[2]

    def adopt(self, scope: str, secret: bytes) -> None:
        """Raises InvalidInput for one that another scope has or had: the end of either would not be that of the key."""
        with self._lock:
            if self._of_scope(scope) is not None:
                return
            if self._is_known(_fingerprint(secret)):
                raise InvalidInput("the seal key is another job's: each job needs its own")
            self._keep(scope, secret)

    def of(self, scope: str) -> OneKey:
        """Opens what was sealed under the key that the scope has now, and nothing else."""
        with self._lock:
            row = self._of_scope(scope)
        return OneKey(self, "" if row is None else row[1].hex())

    def pseudonym(self, text: str) -> str:
        return hmac.digest(self.secret(PSEUDONYMS), text.encode(), "sha256").hex()[:32]

    def unwritten(self) -> list[Row]:
        """For the next transaction."""
        with self._lock:
            return list(self._unwritten.values())

    def written(self, rows: Sequence[Row]) -> None:
        """They are on disk."""
        with self._lock:
            for row in rows:
                if self._unwritten.get(row[0]) is row:
                    del self._unwritten[row[0]]

    def forget(self, scopes: Sequence[str]) -> None:
        """What memory has of keys that were destroyed."""
        with self._lock:
            for scope in scopes:
                self._by_scope.pop(scope, None)
                self._unwritten.pop(scope, None)
            self._ciphers.clear()

    def _nonce(self) -> bytes:
        """Random bytes are fetched many at a time: a system call each would cost more than the cipher."""
        if self._used >= len(self._random):
            self._random, self._used = os.urandom(NONCE_BYTES * 256), 0
        self._used += NONCE_BYTES
        return self._random[self._used - NONCE_BYTES : self._used]

    def _keep(self, scope: str, secret: bytes) -> Row:
        row = (scope, _fingerprint(secret), secret)
        self._unwritten[scope] = row
        self._remember(row)
        self._cipher(row[1], secret)
        return row

    def _of_scope(self, scope: str) -> Row | None:
        row = self._unwritten.get(scope) or self._by_scope.get(scope)
        if row is None:
            row = self._connection.execute(_OF_SCOPE, (scope,)).fetchone()
            if row is not None:
                self._remember(row)
        return row

    def _is_known(self, key_id: bytes) -> bool:
        """Also when it is destroyed."""
        unwritten = any(row[1] == key_id for row in self._unwritten.values())
        return unwritten or self._connection.execute(_KNOWN, (key_id,)).fetchone() is not None

    def _of_id(self, key_id: bytes) -> AESGCM | None:
        cipher = self._ciphers.get(key_id)
        if cipher is not None:
            return cipher
        row = self._connection.execute(_OF_ID, (key_id,)).fetchone()
        return None if row is None else self._cipher(key_id, row[0])

    def _cipher(self, key_id: bytes, secret: bytes) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCM(secret)
        return cipher

    def _remember(self, row: Row) -> None:
        self._by_scope[row[0]] = row


class OneKey:
    """Satisfies domain.sealing.Opener."""

    def __init__(self, keyring: Keyring, key_id: str) -> None:
        """key_id: in hex."""
        self._keyring, self._key_id = keyring, key_id

    def open(self, token: str, topic: str) -> bytes | None:
        return self._keyring.open(token, topic) if token.partition(".")[0] == self._key_id else None


def check(rows: Iterable[tuple[Any, ...]]) -> None:
    """rows: all of the table, by number. Raises LogCorrupt at the first key that is not what its name says, and when
    rows are missing."""
    expected = 0
    for number, scope, destroyed, key_id, secret in rows:
        expected += 1
        if number != expected:
            break
        whole = isinstance(secret, bytes) and isinstance(key_id, bytes) and len(secret) == KEY_BYTES
        if not whole or (secret != bytes(KEY_BYTES) if destroyed else _fingerprint(secret) != key_id):
            raise LogCorrupt(
                f"key {number} of personal data (of {scope}) was changed: what was sealed under it can't be read"
            )
    else:
        return
    raise LogCorrupt(f"key {expected} of personal data is missing: what was sealed under it can't be read")


def _fingerprint(secret: bytes) -> bytes:
    return sha256(b"nunet-dms seal key" + secret).digest()[:ID_BYTES]


def destroy(connection: sqlite3.Connection, scopes: Sequence[str], keyring: Keyring) -> int:
    """Overwrites the keys in the database, and empties its write-ahead log, which has older copies of the pages;
    answers how many keys there were. connection: writing, and used by nobody else meanwhile. keyring: forgets them,
    also when the write-ahead log can't be emptied. Blocking. Raises LogUnavailable, sqlite3.Error."""
    with closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        counts = [connection.execute(_DESTROY, (scope,)).rowcount for scope in scopes]
        connection.execute("COMMIT")
        keyring.forget(scopes)
        deadline = time.monotonic() + TRUNCATE_SECONDS
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                raise LogUnavailable("the keys are gone, but their bytes still stand in the write-ahead log: try again")
            time.sleep(0.05)
        return sum(counts)
