"""Bech32, the spelling of Cardano's addresses. Source: BIP-173, without its length limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_LONGEST = 256


def encode(prefix: str, payload: bytes) -> str:
    padding = -len(payload) * 8 % 5
    bits = (len(payload) * 8 + padding) // 5
    number = int.from_bytes(payload, "big") << padding
    values = [number >> 5 * (bits - 1 - i) & 31 for i in range(bits)]
    checksum = _polymod([*_expanded(prefix), *values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{prefix}1{''.join(_ALPHABET[value] for value in values)}"


def decode(text: str) -> tuple[str, bytes] | None:
    """(prefix, payload); None when the checksum or the form is wrong."""
    if len(text) > _LONGEST or text not in (text.lower(), text.upper()):
        return None
    prefix, separator, data = text.lower().rpartition("1")
    if not separator or len(data) < 6 or any(c not in _ALPHABET for c in data):
        return None
    values = [_ALPHABET.index(c) for c in data]
    if _polymod([*_expanded(prefix), *values]) != 1:
        return None
    payload = _to_bytes(values[:-6])
    return None if payload is None else (prefix, payload)


def _expanded(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _polymod(values: Sequence[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                checksum ^= generator
    return checksum


def _to_bytes(values: Sequence[int]) -> bytes | None:
    """From groups of 5 bits; the padding must be less than a group, and zero."""
    bits = number = 0
    for value in values:
        number = number << 5 | value
        bits += 5
    padding = bits % 8
    if padding >= 5 or number & ((1 << padding) - 1):
        return None
    return (number >> padding).to_bytes(bits // 8, "big")
