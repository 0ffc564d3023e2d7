"""The node's Ed25519 identity: one key file, made once, and what can be signed and checked with it."""

from __future__ import annotations

import logging
import os
import secrets
from functools import lru_cache
from pathlib import Path

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from dms.errors import ConfigError

logger = logging.getLogger(__name__)

# A peer id holds the key itself: identity multihash of 36 bytes, then the protobuf of an Ed25519 key of 32 bytes.
# Source: libp2p specs, peer-ids.md.
_PEER_ID_PREFIX = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))
_PEER_ID_SIZE = len(_PEER_ID_PREFIX) + 32


class Identity:
    """Implements the port Signer."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.peer_id = _peer_id(key.public_key())

    @classmethod
    def generate(cls) -> Identity:
        """A new identity that lives in memory only."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """The identity in the key file (PEM, PKCS #8, mode 0600), which is made if it isn't there.
        Of several processes that start at once, all get the same key. Raises ConfigError."""
        try:
            if not path.exists():
                _create(path)
            return cls(_load(path))
        except OSError as error:
            raise ConfigError(f"The node's key file {path} can't be used: {error.strerror}.") from error

    def seed(self) -> bytes:
        """The 32 secret bytes, for the libp2p host alone."""
        return self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def verify(self, peer_id: str, message: bytes, signature: bytes) -> bool:
        return verify_signature(peer_id, message, signature)

    def public_key(self, peer_id: str) -> str:
        key = public_key(peer_id)
        return "" if key is None else key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def verify_signature(peer_id: str, message: bytes, signature: bytes) -> bool:
    """False for a wrong signature, and for a peer id that isn't one of an Ed25519 key."""
    key = public_key(peer_id)
    if key is None:
        return False
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=4096)
def public_key(peer_id: str) -> Ed25519PublicKey | None:
    """The key inside a peer id (base58), or None when it doesn't hold an Ed25519 key."""
    if len(peer_id) > 64:  # before decoding, which takes quadratic time
        return None
    try:
        raw: bytes = base58.b58decode(peer_id)
    except ValueError:
        return None
    if len(raw) != _PEER_ID_SIZE or not raw.startswith(_PEER_ID_PREFIX):
        return None
    return Ed25519PublicKey.from_public_bytes(raw[len(_PEER_ID_PREFIX) :])


def _peer_id(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    encoded: bytes = base58.b58encode(_PEER_ID_PREFIX + raw)
    return encoded.decode()


def _load(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        logger.warning("the key file %s was open to other users; now it is not", path)
        path.chmod(0o600)
    broken = (
        f"The node's key file {path} is damaged. Restore it from a backup to keep this node's identity, "
        "or move it away: the next start then makes a new identity, unknown to other peers."
    )
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:  # not PEM; encrypted
        raise ConfigError(broken) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{broken} (It holds a key of another kind: {type(key).__name__}.)")
    return key


def _create(path: Path) -> None:
    """Whole and on disk, or not at all: a link to a finished file, so that no reader sees half a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first; its key counts
        _sync_directory(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
