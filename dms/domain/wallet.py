"""Wallet addresses: which blockchain one belongs to, whether it was typed right, and how one is put together. Pure."""

from __future__ import annotations

import hashlib

from Crypto.Hash import keccak  # nosec B413  # PyCryptodome, which is kept up, and no longer PyCrypto
from msgspec import Struct

from dms.domain import bech32
from dms.errors import InvalidInput

CARDANO, ETHEREUM = "Cardano", "Ethereum"

# Cardano's networks: the two test networks share their addresses.
MAINNET, PREPROD, PREVIEW = "mainnet", "preprod", "preview"
NETWORKS = (MAINNET, PREPROD, PREVIEW)

_CARDANO_NETWORKS = {"addr": 1, "addr_test": 0}
_KEY_HASH_BYTES = 28


class NewWallet(Struct, frozen=True, kw_only=True):
    """mnemonic of Cardano, 24 words; private_key of Ethereum, 0x and 64 hex digits. Whoever knows it owns
    the wallet: it is shown once to who asked, and stored, logged and recorded nowhere."""

    blockchain: str
    address: str
    network: str = ""  # of Cardano only: an Ethereum address is the same on all networks
    mnemonic: str = ""
    private_key: str = ""

    def __repr__(self) -> str:
        return f"NewWallet(blockchain={self.blockchain!r}, address={self.address!r})"


def check_kind(blockchain: str, network: str) -> tuple[str, str]:
    """(blockchain, network) of a wallet to be made. blockchain: in any case, empty for Cardano; network: empty
    for a test network, since the NTX on offer here is a test currency. Raises InvalidInput."""
    named = {"": CARDANO, CARDANO.casefold(): CARDANO, ETHEREUM.casefold(): ETHEREUM}.get(blockchain.casefold())
    if named is None:
        text = f"invalid wallet: blockchain is cardano or ethereum, not '{blockchain[:64]}'"
        raise InvalidInput(text, [("?blockchain", "cardano or ethereum")])
    if named == ETHEREUM and network:
        text = "invalid wallet: network is for Cardano; an Ethereum address is the same on all networks"
        raise InvalidInput(text, [("?network", "only with blockchain=cardano")])
    chosen = (network.casefold() or PREPROD) if named == CARDANO else ""
    if named == CARDANO and chosen not in NETWORKS:
        text = f"invalid wallet: network is {', '.join(NETWORKS)}, not '{network[:64]}'"
        raise InvalidInput(text, [("?network", " or ".join(NETWORKS))])
    return named, chosen


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


def is_address_of(blockchain: str, address: str) -> bool:
    try:
        return blockchain_of(address) == blockchain
    except InvalidInput:
        return False


def other_blockchain(named: str, paid_on: str) -> str:
    """Why a job can't be paid on the blockchain that its request names; empty when it can. named: empty for any.
    paid_on: the only one on which payments are looked up; empty where none is."""
    if not paid_on or named.casefold() in ("", paid_on.casefold()):
        return ""
    return f"the request is to be paid on {named[:32]}; payments are checked on {paid_on} here"


def other_payee(address: str, paid_on: str) -> str:
    """The same of a provider's address."""
    if not paid_on or is_address_of(paid_on, address):
        return ""
    return f"the provider's payment address '{address[:64]}' is not one of {paid_on}"


def _invalid(text: str, expected: str) -> InvalidInput:
    return InvalidInput(f"{text}: expected {expected}", [("/payment_addr", text)])


# --- Ethereum ------------------------------------------------------------------------------------------
def ethereum_address(public_key: bytes) -> str:
    """public_key: x and y of the point, 64 bytes. The case of the letters is the checksum of EIP-55."""
    digest = keccak.new(digest_bits=256, data=public_key).digest()
    return "0x" + _checksummed(digest[-20:].hex())


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
def cardano_base_address(payment_key: bytes, stake_key: bytes, network: str) -> str:
    """Of two public keys, 32 bytes each. Source: CIP-19, address type 0."""
    hashes = (hashlib.blake2b(key, digest_size=_KEY_HASH_BYTES).digest() for key in (payment_key, stake_key))
    prefix = "addr" if network == MAINNET else "addr_test"
    return bech32.encode(prefix, bytes([_CARDANO_NETWORKS[prefix]]) + b"".join(hashes))


def _is_cardano_payment(address: str) -> bool:
    """Source: CIP-19. The header's high half is the kind (0 to 7 can be paid to), the low half the network."""
    decoded = bech32.decode(address)
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
