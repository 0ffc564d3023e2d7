"""Wallet addresses: the standards' own test vectors, and what looks like one but is not."""

from __future__ import annotations

import pytest

from dms.domain.wallet import blockchain_of
from dms.errors import InvalidInput

CARDANO = [  # CIP-19's test vectors: base, pointer, enterprise; mainnet and testnet
    "addr1qx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgse35a3x",
    "addr1gx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer5pnz75xxcrzqf96k",
    "addr1vx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzers66hrl8",
    "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgs68faae",
    "addr_test1vz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzerspjrlsz",
]
ETHEREUM = [  # EIP-55's test vectors, and one case only
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
]


@pytest.mark.parametrize("address", CARDANO)
def test_a_cardano_payment_address_is_taken(address: str) -> None:
    assert blockchain_of(address) == "Cardano"


@pytest.mark.parametrize("address", ETHEREUM)
def test_an_ethereum_address_is_taken(address: str) -> None:
    assert blockchain_of(address) == "Ethereum"


@pytest.mark.parametrize("address", CARDANO)
def test_every_single_typing_error_of_a_cardano_address_is_found(address: str) -> None:
    for at in range(address.index("1") + 1, len(address)):
        wrong = address[:at] + ("q" if address[at] != "q" else "p") + address[at + 1 :]
        with pytest.raises(InvalidInput, match="invalid cardano wallet address"):
            blockchain_of(wrong)


@pytest.mark.parametrize(
    "address",
    [
        "stake1uyehkck0lajq8gr28t9uxnuvgcqrc6070x3k9r8048z8y5gh6ffgw",  # a right one, but nothing can be paid to it
        "addr1",
        "addr",
        CARDANO[0][:-1],
        CARDANO[0] + "q",
        CARDANO[0].upper()[:20] + CARDANO[0][20:],
        CARDANO[0].replace("addr1", "addr_test1"),
    ],
)
def test_what_can_not_be_paid_to_is_no_cardano_address(address: str) -> None:
    with pytest.raises(InvalidInput, match="invalid cardano wallet address"):
        blockchain_of(address)


@pytest.mark.parametrize(
    "address",
    ["0x", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "0x" + "g" * 40, ETHEREUM[0] + "0", "0X" + "a" * 40],
)
def test_a_wrong_ethereum_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="invalid ethereum wallet address"):
        blockchain_of(address)


@pytest.mark.parametrize(
    "address", ["", "hello", "1", "\0", "x" * 10_000, "Ae2tdPwUPEZFSi1cTyL1ZL6bgixhc2vSy5heg6Zg9uP7PpumkAJ82Qprt8b"]
)
def test_anything_else_is_no_address(address: str) -> None:
    with pytest.raises(InvalidInput, match="invalid wallet address"):
        blockchain_of(address)
