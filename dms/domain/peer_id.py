"""What a peer id looks like: a multihash in base58, of an Ed25519 key as it is (12D3KooW...) or of any key's
SHA-256 (Qm..., the original's). Source: libp2p specs, peer-ids."""

from __future__ import annotations

_DIGITS = {c: i for i, c in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_MAX_LENGTH = 64
_ED25519 = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))
_SHA256 = bytes((0x12, 0x20))


def is_peer_id(text: str) -> bool:
    if not 40 <= len(text) <= _MAX_LENGTH or any(c not in _DIGITS for c in text):
        return False
    number = 0
    for c in text:
        number = number * 58 + _DIGITS[c]
    zeros = len(text) - len(text.lstrip("1"))
    decoded = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    return (decoded.startswith(_ED25519) and len(decoded) == len(_ED25519) + 32) or (
        decoded.startswith(_SHA256) and len(decoded) == len(_SHA256) + 32
    )
