"""Wallet addresses: which blockchain one belongs to, and whether it was typed right. Pure."""

from __future__ import annotations

from Crypto.Hash import keccak

from dms.errors import InvalidInput

CARDANO, ETHEREUM = "Cardano", "Ethereum"

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CARDANO_NETWORKS = {"addr": 1, "addr_test": 0}
_KEY_HASH_BYTES = 28
_LONGEST = 256


def blockchain_of(address: str) -> str:
    """ "Cardano" or "Ethereum". Raises InvalidInput, with the original's texts, on anything that can't be paid to."""
    if address.startswith(("0x", "0X")):
        if not _is_ethereum(address):
            raise _invalid("invalid ethereum wallet address", "0x and 40 hex digits, with a right EIP-55 checksum")
        return ETHEREUM
    if address.casefold().startswith(("addr", "stake")):
        if not _is_cardano_payment(address):
            raise _invalid("invalid cardano wallet address", "a payment address, addr1... or addr_test1...")
        return CARDANO
    raise _invalid("invalid wallet address", "a Cardano (addr1...) or Ethereum (0x...) address")


def _invalid(text: str, expected: str) -> InvalidInput:
    return InvalidInput(f"{text}: expected {expected}", [("/payment_addr", text)])


# --- Ethereum ------------------------------------------------------------------------------------------
def _is_ethereum(address: str) -> bool:
    digits = address[2:]
    if not address.startswith("0x") or len(digits) != 40 or not all(c in "0123456789abcdefABCDEF" for c in digits):
        return False
    return digits in (digits.lower(), digits.upper()) or digits == _checksummed(digits)


def _checksummed(digits: str) -> str:
    """The case of each letter carries a bit of the address's hash. Source: EIP-55."""
    lower = digits.lower()
    digest = keccak.new(digest_bits=256, data=lower.encode()).hexdigest()
    return "".join(c.upper() if int(h, 16) >= 8 else c for c, h in zip(lower, digest, strict=False))


# --- Cardano -------------------------------------------------------------------------------------------
def _is_cardano_payment(address: str) -> bool:
    """Source: CIP-19. The header's high half is the kind (0 to 7 can be paid to), the low half the network."""
    decoded = _bech32_decode(address)
    if decoded is None:
        return False
    prefix, payload = decoded
    if not payload or _CARDANO_NETWORKS.get(prefix) != payload[0] & 0x0F:
        return False
    kind, rest = payload[0] >> 4, payload[1:]
    if kind <= 3:
        return len(rest) == 2 * _KEY_HASH_BYTES
    if kind <= 5:
        return _is_pointer(rest[_KEY_HASH_BYTES:])
    return kind <= 7 and len(rest) == _KEY_HASH_BYTES


def _is_pointer(data: bytes) -> bool:
    """Three variable-length numbers, and nothing behind them."""
    ends = [i for i, byte in enumerate(data) if byte < 0x80]
    return len(ends) == 3 and ends[-1] == len(data) - 1


def _bech32_decode(text: str) -> tuple[str, bytes] | None:
    """(prefix, payload); None when the checksum or the form is wrong. Source: BIP-173, without its length limit."""
    if len(text) > _LONGEST or text not in (text.lower(), text.upper()):
        return None
    prefix, separator, data = text.lower().rpartition("1")
    if not separator or len(data) < 6 or any(c not in _ALPHABET for c in data):
        return None
    values = [_ALPHABET.index(c) for c in data]
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    if _polymod(expanded + values) != 1:
        return None
    payload = _to_bytes(values[:-6])
    return None if payload is None else (prefix, payload)


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                checksum ^= generator
    return checksum


def _to_bytes(values: list[int]) -> bytes | None:
    """From groups of 5 bits; the padding must be less than a group, and zero."""
    bits = number = 0
    for value in values:
        number = number << 5 | value
        bits += 5
    padding = bits % 8
    if padding >= 5 or number & ((1 << padding) - 1):
        return None
    return (number >> padding).to_bytes(bits // 8, "big")
