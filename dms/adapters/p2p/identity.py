"""The node's Ed25519 identity: one key file, made once, and what can be signed and checked with it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import base58
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from dms.disk import create_file, make_folder, unusable
from dms.errors import ConfigError
from dms.key_file import read_key
from dms.passphrase import Passphrase

WHAT = "The node's key file"
_TITLE = "NuNet DMS node key, format 2: keep it secret. Peer: "
_NAMED = re.compile(rb"[^\n]*\bPeer: ([1-9A-HJ-NP-Za-km-z]{40,64})\n")

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
        """The identity in the key file, which is made if it isn't there. Of several processes that start at once, all
        get the same key. Raises ConfigError."""
        return cls.load(path) or cls.create(path)

    @classmethod
    def load(cls, path: Path, expected: str = "", passphrase: Passphrase | None = None) -> Identity | None:
        """The identity in the key file; None when there is none. expected: the peer that it should be, for the message.
        passphrase: asked for only when the key is encrypted. Raises ConfigError."""
        found = read_key(path, WHAT)
        return None if found is None else cls.read(path, found, expected, passphrase)

    @classmethod
    def read(cls, path: Path, text: bytes, expected: str = "", passphrase: Passphrase | None = None) -> Identity:
        """Of a key file's content; path: for the messages. Raises ConfigError."""
        return cls(_read(path, text, expected, passphrase))

    @classmethod
    def create(cls, path: Path) -> Identity:
        """Makes the key file, unless another process was first: then its key counts. Raises ConfigError."""
        try:
            make_folder(path.parent)
            create_file(path, _text(Ed25519PrivateKey.generate()))
        except OSError as error:
            raise unusable(f"{WHAT} {path} can't be made: {error.strerror}.", error) from error
        made = cls.load(path)
        if made is None:
            raise ConfigError(f"{WHAT} {path} was removed as soon as it was made.")
        return made

    def text(self, passphrase: bytes | None = None) -> bytes:
        """The content of its key file, encrypted where there is a passphrase."""
        return _text(self._key, BestAvailableEncryption(passphrase) if passphrase else NoEncryption())

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
    """The key inside a peer id (base58), or None when it doesn't hold an Ed25519 key, or isn't written as that key's id
    is: the decoder forgives white space at the end, and with it one peer would have many names."""
    if len(peer_id) > 64:  # before decoding, which takes quadratic time
        return None
    try:
        raw: bytes = base58.b58decode(peer_id)
    except ValueError:
        return None
    if len(raw) != _PEER_ID_SIZE or not raw.startswith(_PEER_ID_PREFIX) or base58.b58encode(raw).decode() != peer_id:
        return None
    return Ed25519PublicKey.from_public_bytes(raw[len(_PEER_ID_PREFIX) :])


def _peer_id(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    encoded: bytes = base58.b58encode(_PEER_ID_PREFIX + raw)
    return encoded.decode()


def is_encrypted(text: bytes) -> bool:
    """Whether a key file's content has a passphrase."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in text


def peer_named_in(text: bytes) -> str:
    """By the title of a key file's content, which anybody who can read it can read; empty in an older one."""
    named = _NAMED.match(text)
    return named[1].decode() if named else ""


_PLAIN = NoEncryption()


def _text(key: Ed25519PrivateKey, encryption: KeySerializationEncryption = _PLAIN) -> bytes:
    """The key file: PEM (PKCS #8), and before it a title. Any 32 bytes are some key, so the peer id there is what tells
    a damaged one."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return f"{_TITLE}{_peer_id(key.public_key())}\n".encode() + pem


def _read(path: Path, text: bytes, expected: str, passphrase: Passphrase | None) -> Ed25519PrivateKey:
    """Raises ConfigError. Files of older versions have no title, only the key."""
    peer_id = expected or peer_named_in(text)
    broken = (
        f"{WHAT} {path} is damaged{f': it should be the key of peer {peer_id}' if peer_id else ''}. Restore it from a "
        "backup to keep this node's identity, or give that up: nunet offboard --forget-identity"
    )
    encrypted = is_encrypted(text)
    try:
        key = _opened(path, text, passphrase) if encrypted else load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:  # not PEM; other bytes
        raise ConfigError(f"{broken}.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{broken}. (It holds a key of another kind: {type(key).__name__}.)")
    if not (peer_named_in(text) == _peer_id(key.public_key()) if encrypted else _is_text_of(key, text)):
        raise ConfigError(f"{broken}. (The key in it is that of peer {_peer_id(key.public_key())}.)")
    return key


def _is_text_of(key: Ed25519PrivateKey, text: bytes) -> bool:
    """Whether nothing in it is changed."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.split() in (_text(key).split(), pem.split())


def _opened(path: Path, text: bytes, passphrase: Passphrase | None) -> PrivateKeyTypes:
    """Of an encrypted one. Raises ConfigError."""
    secret = passphrase.read() if passphrase else None
    if passphrase is None or secret is None:
        raise ConfigError(
            f"{WHAT} {path} has a passphrase, and none is given: name a file that holds it in "
            "general.key_passphrase_file, hand it over as the systemd credential node.key.passphrase, or start the DMS "
            "at a terminal, which asks for it."
        )
    try:
        return load_pem_private_key(text, password=secret)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
        raise ConfigError(
            f"{WHAT} {path} can't be opened with the passphrase from {passphrase.source}: it is not its passphrase, or "
            "the file is damaged. Nothing was changed. Give the right one, or restore the file from a backup."
        ) from error
