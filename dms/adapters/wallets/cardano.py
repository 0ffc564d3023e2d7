"""Keys of a Cardano wallet from its words. Curve and word list come from libraries (libsodium, the reference
implementation of BIP-39); what is here is only the order of the hashes, and the standards' vectors test it.

Sources: CIP-3 (Icarus master key), CIP-1852 (paths), BIP32-Ed25519 (Khovratovich and Law, 2017).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple

from mnemonic import Mnemonic
from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from dms.domain.wallet import CARDANO, NewWallet, cardano_base_address

ENTROPY_BITS = 256  # 24 words
HARDENED = 2**31
ACCOUNT = (1852 + HARDENED, 1815 + HARDENED, HARDENED)
PAYMENT, STAKE = (*ACCOUNT, 0, 0), (*ACCOUNT, 2, 0)
_ROUNDS = 4096

_words = Mnemonic("english")


class ExtendedKey(NamedTuple):
    """left: the scalar, right: the other half of the key, chain_code: 32 bytes each, little-endian."""

    left: bytes
    right: bytes
    chain_code: bytes

    def __repr__(self) -> str:
        return "ExtendedKey(...)"

    @property
    def public_key(self) -> bytes:
        return crypto_scalarmult_ed25519_base_noclamp(self.left)


def new_wallet(network: str) -> NewWallet:
    mnemonic = _words.generate(ENTROPY_BITS)
    return NewWallet(blockchain=CARDANO, address=address_of(mnemonic, network), network=network, mnemonic=mnemonic)


def address_of(mnemonic: str, network: str) -> str:
    """The first base address of the first account: what wallets show when the words are entered."""
    master = master_key(bytes(_words.to_entropy(mnemonic)))
    return cardano_base_address(derive(master, PAYMENT).public_key, derive(master, STAKE).public_key, network)


def master_key(entropy: bytes, passphrase: bytes = b"") -> ExtendedKey:
    data = bytearray(hashlib.pbkdf2_hmac("sha512", passphrase, entropy, _ROUNDS, 96))
    data[0] &= 0b1111_1000
    data[31] = data[31] & 0b0001_1111 | 0b0100_0000
    return ExtendedKey(bytes(data[:32]), bytes(data[32:64]), bytes(data[64:]))


def derive(key: ExtendedKey, path: Sequence[int]) -> ExtendedKey:
    for index in path:
        key = _child(key, index)
    return key


def _child(key: ExtendedKey, index: int) -> ExtendedKey:
    hardened = index >= HARDENED
    material = (key.left + key.right if hardened else key.public_key) + index.to_bytes(4, "little")
    child = _hmac(key.chain_code, (b"\x00" if hardened else b"\x02") + material)
    left = int.from_bytes(key.left, "little") + 8 * int.from_bytes(child[:28], "little")
    right = int.from_bytes(key.right, "little") + int.from_bytes(child[32:], "little")
    chain_code = _hmac(key.chain_code, (b"\x01" if hardened else b"\x03") + material)[32:]
    return ExtendedKey(left.to_bytes(32, "little"), (right % 2**256).to_bytes(32, "little"), chain_code)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha512")
