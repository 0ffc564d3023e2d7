"""Wallets against the standards' own vectors, and the command that makes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic
from nacl.bindings import crypto_core_ed25519_is_valid_point

from dms.adapters.wallets import cardano, ethereum
from dms.adapters.wallets.maker import new_wallet
from dms.cli.main import cli
from dms.domain import bech32
from dms.domain.wallet import blockchain_of, cardano_base_address
from dms.errors import InvalidInput

# CIP-3, Icarus.md, "Test vectors": the 15 words "eight country switch draw ... keep usage title".
ICARUS_ENTROPY = "46e62370a138a182a498b8e2885bc032379ddf38"
ICARUS = [
    (
        b"",
        (
            "c065afd2832cd8b087c4d9ab7011f481ee1e0721e78ea5dd609f3ab3f156d245d176bd8fd4ec60b4731c3918a2a72a02"
            "26c0cd119ec35b47e4d55884667f552a23f7fdcd4a10c6cd2c7393ac61d877873e248f417634aa3d812af327ffe9d620"
        ),
    ),
    (
        b"foo",
        (
            "70531039904019351e1afb361cd1b312a4d0565d4ff9f8062d38acf4b15cce41d7b5738d9c893feea55512a3004acb0d"
            "222c35d3e3d5cde943a15a9824cbac59443cf67e589614076ba01e354b1a432e0e6db3b59e37fc56b5fb0222970a010e"
        ),
    ),
]
# CIP-1852 addresses of known words: cardano-serialization-lib, rust/src/address.rs (tests bip32_12_base to
# bip32_24_base), as (words, main network, test networks).
CIP_1852 = [
    (
        "test walk nut penalty hip pave soap entry language right filter choice",
        "addr1qx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3jcu5d8ps7zex2k2xt3uqxgjqnnj83ws8lhrn648jjxtwqfjkjv7",
        "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3jcu5d8ps7zex2k2xt3uqxgjqnnj83ws8lhrn648jjxtwq2ytjqp",
    ),
    (
        "art forum devote street sure rather head chuckle guard poverty release quote oak craft enemy",
        "addr1q9u5vlrf4xkxv2qpwngf6cjhtw542ayty80v8dyr49rf5ewvxwdrt70qlcpeeagscasafhffqsxy36t90ldv06wqrk2qld6xc3",
        "addr_test1qpu5vlrf4xkxv2qpwngf6cjhtw542ayty80v8dyr49rf5ewvxwdrt70qlcpeeagscasafhffqsxy36t90ldv06wqrk2qum8x5w",
    ),
    (
        (
            "excess behave track soul table wear ocean cash stay nature item turtle palm soccer lunch horror start "
            "stumble month panic right must lock dress"
        ),
        "addr1qyy6nhfyks7wdu3dudslys37v252w2nwhv0fw2nfawemmn8k8ttq8f3gag0h89aepvx3xf69g0l9pf80tqv7cve0l33sdn8p3d",
        "addr_test1qqy6nhfyks7wdu3dudslys37v252w2nwhv0fw2nfawemmn8k8ttq8f3gag0h89aepvx3xf69g0l9pf80tqv7cve0l33sw96paj",
    ),
]
# CIP-19, "Test vectors": the two keys, and address type 0 of them.
CIP_19_KEYS = (
    "addr_vk1w0l2sr2zgfm26ztc6nl9xy8ghsk5sh6ldwemlpmp9xylzy4dtf7st80zhd",
    "stake_vk1px4j0r2fk7ux5p23shz8f3y5y2qam7s954rgf3lg5merqcj6aetsft99wu",
)
CIP_19_BASE = [
    (
        "mainnet",
        "addr1qx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgse35a3x",
    ),
    (
        "preprod",
        "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgs68faae",
    ),
]
# The key with which EIP-155 signs its example, and go-ethereum's crypto_test.go (testPrivHex, testAddrHex).
ETHEREUM = [
    ("4646464646464646464646464646464646464646464646464646464646464646", "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"),
    ("289c2857d4598e37fb9647507e47a309d6133539bf21a8b9cb6df88fd5232032", "0x970E8128AB834E8EAC17Ab8E3812F010678CF791"),
]


@pytest.mark.parametrize(("passphrase", "key"), ICARUS)
def test_master_keys_of_cip_3(passphrase: bytes, key: str) -> None:
    assert b"".join(cardano.master_key(bytes.fromhex(ICARUS_ENTROPY), passphrase)).hex() == key


@pytest.mark.parametrize(("words", "main", "test"), CIP_1852)
def test_addresses_of_cip_1852(words: str, main: str, test: str) -> None:
    assert cardano.address_of(words, "mainnet") == main
    assert cardano.address_of(words, "preprod") == cardano.address_of(words, "preview") == test


@pytest.mark.parametrize(("network", "address"), CIP_19_BASE)
def test_base_addresses_of_cip_19(network: str, address: str) -> None:
    payment, stake = (found[1] for text in CIP_19_KEYS if (found := bech32.decode(text)))
    assert cardano_base_address(payment, stake, network) == address


@pytest.mark.parametrize(("secret", "address"), ETHEREUM)
def test_addresses_of_known_ethereum_keys(secret: str, address: str) -> None:
    assert ethereum.address_of(int(secret, 16)) == address


@given(st.text("abcdefghij_", min_size=1, max_size=10), st.binary(max_size=100))
def test_bech32_reads_what_it_wrote(prefix: str, payload: bytes) -> None:
    assert bech32.decode(bech32.encode(prefix, payload)) == (prefix, payload)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_can_come_up_is_a_point_of_the_curve(entropy: bytes) -> None:
    key = cardano.derive(cardano.master_key(entropy), cardano.STAKE)
    assert crypto_core_ed25519_is_valid_point(key.public_key)


def test_a_new_cardano_wallet_is_for_a_test_network_unless_asked_otherwise() -> None:
    wallet = new_wallet("cardano")
    assert len(wallet.mnemonic.split()) == 24
    assert Mnemonic("english").check(wallet.mnemonic)
    assert (wallet.network, wallet.private_key) == ("preprod", "")
    assert wallet.address.startswith("addr_test1q")
    assert blockchain_of(wallet.address) == wallet.blockchain == "Cardano"
    assert new_wallet("Cardano", "mainnet").address.startswith("addr1q")
    assert new_wallet("", "preview").mnemonic != wallet.mnemonic


def test_a_new_ethereum_wallet_has_a_key_and_a_checksummed_address() -> None:
    wallet = new_wallet("ethereum")
    assert re.fullmatch("0x[0-9a-f]{64}", wallet.private_key)
    assert ethereum.address_of(int(wallet.private_key, 16)) == wallet.address
    assert blockchain_of(wallet.address) == "Ethereum"
    assert wallet.address not in (wallet.address.lower(), wallet.address.upper())
    assert wallet.private_key != new_wallet("ethereum").private_key


@pytest.mark.parametrize(
    ("blockchain", "network"), [("bitcoin", ""), ("cardano", "moon"), ("ethereum", "mainnet"), ("x" * 1000, "")]
)
def test_a_wallet_of_another_kind_is_refused(blockchain: str, network: str) -> None:
    with pytest.raises(InvalidInput, match="invalid wallet"):
        new_wallet(blockchain, network)


def test_a_wallet_in_a_message_or_a_trace_does_not_show_its_secret() -> None:
    for wallet in (new_wallet("cardano"), new_wallet("ethereum")):
        secret = wallet.mnemonic or wallet.private_key
        assert secret not in f"{wallet!r} {wallet}"
    assert "ExtendedKey(...)" in repr(cardano.master_key(b"\1" * 32))


# --- the command ---------------------------------------------------------------------------------------
def nunet(*args: str) -> Result:
    return CliRunner().invoke(cli, args, catch_exceptions=False)


def test_wallet_new_prints_the_originals_lines_and_says_the_rest_on_standard_error() -> None:
    made = nunet("wallet", "new", "-c")
    assert made.exit_code == 0
    address, words = made.stdout.splitlines()
    assert address == "address: " + cardano.address_of(words.removeprefix("mnemonic: "), "preprod")
    assert "test networks" in made.stderr
    assert nunet("wallet", "new", "-c", "--network", "mainnet").stdout.startswith("address: addr1")
    assert re.fullmatch(r"address: 0x\w{40}\nprivate_key: 0x[0-9a-f]{64}\n", nunet("wallet", "new", "-e").stdout)


def test_wallet_new_as_json() -> None:
    made = json.loads(nunet("-o", "json", "wallet", "new", "--ethereum").stdout)
    assert list(made) == ["address", "private_key"]


def test_wallet_new_wants_exactly_one_kind() -> None:
    neither, both = nunet("wallet", "new"), nunet("wallet", "new", "-c", "-e")
    assert (neither.exit_code, both.exit_code) == (2, 2)
    assert "no wallet flag specified" in neither.stderr
    assert "cannot create both wallets" in both.stderr


OFFLINE = """
import sys
def watch(event, arguments):
    if event.startswith("socket.") or (event == "open" and set(str(arguments[1])) & set("wax+")):
        raise SystemExit(f"{event} {arguments}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
from dms.cli.main import cli
cli.main(["wallet", "new", "--KIND"], prog_name="nunet")
"""


@pytest.mark.parametrize("kind", ["cardano", "ethereum"])
def test_wallet_new_opens_no_socket_and_writes_no_file(kind: str) -> None:
    program = OFFLINE.replace("KIND", kind)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("address: ")
