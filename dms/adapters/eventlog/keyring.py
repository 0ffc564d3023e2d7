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
import re
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dms.errors import InvalidInput, LogCorrupt
from dms.recent import Recent

PSEUDONYMS = "pseudonyms"  # the scope of the key that makes pseudonyms
PSEUDONYM = re.compile(r"[0-9a-f]{32}")
KEY_BYTES, ID_BYTES, NONCE_BYTES = 32, 16, 12
REMEMBERED = 4096

KeyRow = tuple[str, bytes, bytes]
"""(scope, id, secret)"""


class KeyRows(Protocol):
    """The keys that a database keeps. Used by one thread at a time. Raises PersistenceError."""

    def of_scope(self, scope: str) -> KeyRow | None:
        """The one that the scope has now."""

    def secret(self, key_id: bytes) -> bytes | None:
        """None when there is none any more."""

    def is_known(self, key_id: bytes) -> bool:
        """Also when it is destroyed."""

    def close(self) -> None: ...


class Keyring:
    """Satisfies domain.sealing.Opener. For any thread. Keys that are not on disk yet are in `unwritten`."""

    def __init__(self, rows: KeyRows) -> None:
        self._rows, self._lock = rows, threading.Lock()
        self._by_scope: Recent[str, KeyRow] = Recent(REMEMBERED)
        self._ciphers: Recent[bytes, AESGCM] = Recent(REMEMBERED)
        self._unwritten: dict[str, KeyRow] = {}
        self._random, self._used = b"", 0

    def close(self) -> None:
        with self._lock:
            self._rows.close()

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

    def has(self, scope: str) -> bool:
        with self._lock:
            return self._of_scope(scope) is not None

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

    def unwritten(self) -> list[KeyRow]:
        """For the next transaction."""
        with self._lock:
            return list(self._unwritten.values())

    def written(self, rows: Sequence[KeyRow]) -> None:
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

    def _keep(self, scope: str, secret: bytes) -> KeyRow:
        row = (scope, _fingerprint(secret), secret)
        self._unwritten[scope] = row
        self._remember(row)
        self._cipher(row[1], secret)
        return row

    def _of_scope(self, scope: str) -> KeyRow | None:
        row = self._unwritten.get(scope) or self._by_scope.get(scope)
        if row is None:
            row = self._rows.of_scope(scope)
            if row is not None:
                self._remember(row)
        return row

    def _is_known(self, key_id: bytes) -> bool:
        """Also when it is destroyed."""
        unwritten = any(row[1] == key_id for row in self._unwritten.values())
        return unwritten or self._rows.is_known(key_id)

    def _of_id(self, key_id: bytes) -> AESGCM | None:
        cipher = self._ciphers.get(key_id)
        if cipher is not None:
            return cipher
        secret = self._rows.secret(key_id)
        return None if secret is None else self._cipher(key_id, secret)

    def _cipher(self, key_id: bytes, secret: bytes) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCM(secret)
        return cipher

    def _remember(self, row: KeyRow) -> None:
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
