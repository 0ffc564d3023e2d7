"""An Ethereum wallet: a random key on secp256k1, and its address."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dms.domain.wallet import ETHEREUM, NewWallet, ethereum_address


def new_wallet() -> NewWallet:
    secret = ec.generate_private_key(ec.SECP256K1()).private_numbers().private_value
    return NewWallet(blockchain=ETHEREUM, address=address_of(secret), private_key=f"0x{secret:064x}")


def address_of(secret: int) -> str:
    """secret: the private key as a number."""
    public_key = ec.derive_private_key(secret, ec.SECP256K1()).public_key()
    return ethereum_address(public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:])
