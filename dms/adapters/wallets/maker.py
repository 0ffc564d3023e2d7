"""New wallets, offline. Nothing of them is kept here."""

from __future__ import annotations

from dms.adapters.wallets import cardano, ethereum
from dms.domain.wallet import CARDANO, NewWallet, check_kind


def new_wallet(blockchain: str, network: str = "") -> NewWallet:
    """As check_kind takes them. Raises InvalidInput."""
    chain, chosen = check_kind(blockchain, network)
    return cardano.new_wallet(chosen) if chain == CARDANO else ethereum.new_wallet()
