"""The key file, and what is signed with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from dms.adapters.p2p.addresses import AddressBook, read_bootstrap
from dms.adapters.p2p.identity import Identity, public_key, verify_signature
from dms.domain.peer_id import is_peer_id
from dms.errors import ConfigError


def test_the_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "data" / "node.key"
    first = Identity.load_or_create(path)
    assert Identity.load_or_create(path).peer_id == first.peer_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["node.key"]


def test_starting_at_once_makes_one_identity(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Identity.load_or_create(tmp_path / "node.key").peer_id, range(8)))
    assert len(set(made)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_file_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="backup"):
        Identity.load_or_create(path)
    assert path.read_bytes() == content


def test_a_key_file_open_to_others_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    Identity.load_or_create(path)
    path.chmod(0o644)
    Identity.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_signature_is_verified_by_peer_id_alone() -> None:
    identity, other = Identity.generate(), Identity.generate()
    signature = identity.sign(b"message")
    assert len(signature) == 64
    assert other.verify(identity.peer_id, b"message", signature)
    assert not other.verify(identity.peer_id, b"another", signature)
    assert not other.verify(other.peer_id, b"message", signature)
    for wrong in ("", "12D3KooW", "0OIl", "é" * 40, identity.peer_id + "1", "Qm" * 500):
        assert not other.verify(wrong, b"message", signature)


def test_the_peer_id_is_the_one_that_libp2p_gives_the_key() -> None:
    identity = Identity.generate()
    assert str(ID.from_pubkey(create_new_key_pair(identity.seed()).public_key)) == identity.peer_id


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\r", "\r\n", "\v", "\f", "\0", "\x85", "\xa0", "\u2028", "\u3000"])
def test_a_peer_has_one_name(space: str) -> None:
    """With a second one it would pass every list that it is on."""
    identity = Identity.generate()
    book, address = AddressBook(), "/ip4/192.0.2.1/tcp/1"
    for other in (f"{identity.peer_id}{space}", f"{space}{identity.peer_id}", f"1{identity.peer_id}"):
        assert public_key(other) is None
        assert not is_peer_id(other)
        assert not verify_signature(other, b"1", identity.sign(b"1"))
        assert not book.add(other, [address])
        with pytest.raises(ConfigError, match="is not a"):
            read_bootstrap(f"{address}/p2p/{other}")
    assert verify_signature(identity.peer_id, b"1", identity.sign(b"1"))
