"""The files of a node's keys beside its log: damaged, gone, or another's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.heads.file import HeadFile
from dms.adapters.p2p.identity import Identity
from dms.config import General, Settings
from dms.domain.device import Capacity, Device, Offer
from dms.domain.heads import Heads
from dms.errors import AlreadyRunning, ConfigError, DiskTrouble
from dms.keys import NODE_KEY, forget_identity, node_identity, token_key
from tests.fixtures import prepared

FLIPPED = [2, 40, 100, 130, 160, 190]  # bytes of the key file: its title, its peer id, its PEM


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / NODE_KEY


@contextmanager
def the_log(folder: Path) -> Iterator[SQLiteRecorder]:
    recorder = SQLiteRecorder(folder / "events.db")
    try:
        yield recorder
    finally:
        recorder.close()


def start(folder: Path) -> str:
    """As the daemon does; the peer it is."""
    with the_log(folder) as recorder:
        return node_identity(folder / NODE_KEY, recorder, folder).peer_id


def record(folder: Path, peer_id: str, *, offboarded: bool = False) -> None:
    device = Device(peer_id)
    device.onboard(
        Offer(cpu_mhz=2000, memory_mb=6400, channel="nunet-test", payment_address="addr"),
        Capacity(cpu_mhz=8000, memory_mb=16000, cores=4),
    )
    if offboarded:
        device.offboard(False)

    async def save() -> None:
        log = SQLiteEventLog(folder / "events.db")
        await log.start()
        await log.save(device)
        await log.close()

    asyncio.run(save())


def older_format(key: Path, private: Ed25519PrivateKey | None = None) -> str:
    """As files were before they had a title; the peer."""
    private = private or Ed25519PrivateKey.generate()
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    return Identity(private).peer_id


def without_notes(folder: Path) -> None:
    """As an older version left the log."""
    with the_log(folder) as recorder, recorder.writer._between_events() as connection:
        connection.execute("DROP TABLE note")


# --- damage that the file itself tells ----------------------------------------------------------------
@pytest.mark.parametrize("place", FLIPPED)
def test_any_flipped_bit_is_noticed_without_a_log(key: Path, place: int) -> None:
    peer_id = Identity.load_or_create(key).peer_id
    whole = key.read_bytes()
    for bit in range(8):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        key.write_bytes(damaged)
        with pytest.raises(ConfigError, match=rf"{key} is damaged.*backup.*--forget-identity"):
            Identity.load(key)
        assert key.read_bytes() == damaged
    key.write_bytes(whole)
    assert Identity.load_or_create(key).peer_id == peer_id


def test_a_key_file_without_a_title_is_read_on(key: Path) -> None:
    peer_id = older_format(key)
    assert Identity.load_or_create(key).peer_id == peer_id


@pytest.mark.parametrize("where", ["node.key", "token.key"])
def test_what_is_no_readable_file_is_named(tmp_path: Path, where: str) -> None:
    path = tmp_path / where

    def use() -> None:
        with the_log(tmp_path) as recorder:
            if where == NODE_KEY:
                node_identity(path, recorder, tmp_path)
            else:
                token_key(path, recorder)

    path.mkdir()
    with pytest.raises(ConfigError, match=f"{path} is a folder"):
        use()
    path.rmdir()
    path.symlink_to(tmp_path / "away")
    with pytest.raises(ConfigError, match=f"{path} is a link to {tmp_path / 'away'}, which is not there"):
        use()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=f"{path} is not a regular file"):
        use()
    path.unlink()
    use()
    whole = path.read_bytes()
    path.chmod(0o664)
    use()
    assert (path.stat().st_mode & 0o777, path.read_bytes()) == (0o600, whole)
    for cut in (b"", whole[:3], whole[:-1], whole + b"x"):
        path.write_bytes(cut)
        if cut == whole[:-1] and where == NODE_KEY:
            continue  # a line's end
        with pytest.raises(ConfigError, match=f"{path},? is damaged"):
            use()


AS_NOBODY = """
import os, sys
from pathlib import Path
from dms.adapters.p2p.identity import Identity
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(Identity.load(Path(sys.argv[1])).peer_id)
"""


@pytest.mark.parametrize(
    ("owner", "mode", "said"),
    [
        (0, 0o600, "can't be used: Permission denied. The user of the DMS (uid 65534) must be able to read it"),
        (1234, 0o644, "belongs to another user (uid 1234), who can change it"),
        (0, 0o644, "is open to other users, and that can't be changed: chmod 600 it"),
        (65534, 0o644, "was open to other users; now it is not"),
        (65534, 0o400, ""),
    ],
)
@pytest.mark.slow
def test_a_key_file_of_another_user_is_told_from_our_own(owner: int, mode: int, said: str) -> None:
    with TemporaryDirectory() as name:  # others can't reach tmp_path
        folder, key = Path(name), Path(name, "node.key")
        peer_id = Identity.load_or_create(key).peer_id
        folder.chmod(0o755)
        os.chown(key, owner, -1)
        key.chmod(mode)
        ended = subprocess.run([sys.executable, "-c", AS_NOBODY, key], capture_output=True, text=True, check=False)
        assert said in ended.stderr
        if owner == 65534:
            assert (ended.stdout.strip(), key.stat().st_mode & 0o077) == (peer_id, 0)
        else:
            assert "dms.errors.ConfigError: The node's key file" in ended.stderr
            assert ended.stdout == ""


# --- damage that only the log can tell ----------------------------------------------------------------
@pytest.mark.parametrize("onboarded", [True, False])
@pytest.mark.parametrize("what", ["replaced", "another in the older format", "gone"])
def test_another_key_or_none_beside_a_log_is_refused(tmp_path: Path, key: Path, what: str, onboarded: bool) -> None:
    peer_id = start(tmp_path)
    if onboarded:
        record(tmp_path, peer_id)
    whole = key.read_bytes()
    key.unlink()
    if what == "replaced":
        Identity.load_or_create(key)
    elif what != "gone":
        older_format(key)
    there = key.exists()
    for _ in range(2):  # also not at the second try
        with pytest.raises(ConfigError, match=rf"{key} .*peer {peer_id}.*backup.*--forget-identity"):
            start(tmp_path)
    assert key.exists() == there
    key.write_bytes(whole)
    assert start(tmp_path) == peer_id


def test_a_log_of_an_older_version_tells_whose_it_is_by_its_device(tmp_path: Path, key: Path) -> None:
    peer_id = older_format(key)
    start(tmp_path)
    record(tmp_path, peer_id)
    without_notes(tmp_path)
    whole = key.read_bytes()
    older_format(key)
    with pytest.raises(ConfigError, match=peer_id):
        start(tmp_path)
    key.unlink()
    with pytest.raises(ConfigError, match=peer_id):
        start(tmp_path)
    key.write_bytes(whole)
    assert start(tmp_path) == peer_id


def test_a_log_of_an_older_version_tells_whose_it_is_by_its_heads(tmp_path: Path, key: Path) -> None:
    peer_id = start(tmp_path)
    asyncio.run(HeadFile(tmp_path, peer_id).save(Heads(peer_id=peer_id)))
    without_notes(tmp_path)
    key.unlink()
    with pytest.raises(ConfigError, match=peer_id):
        start(tmp_path)


# --- another identity on purpose ------------------------------------------------------------------------
def test_an_offboarded_node_gets_a_new_identity_once_its_key_is_deleted(tmp_path: Path, key: Path) -> None:
    peer_id = start(tmp_path)
    record(tmp_path, peer_id, offboarded=True)
    key.unlink()
    new = start(tmp_path)
    assert new not in ("", peer_id)
    assert start(tmp_path) == new


@pytest.mark.parametrize("state", ["whole", "damaged", "gone", "a dangling link"])
def test_an_identity_is_given_up_on_purpose(tmp_path: Path, key: Path, state: str) -> None:
    settings = Settings(general=General(work_dir=tmp_path, data_dir=tmp_path))
    peer_id = start(tmp_path)
    record(tmp_path, peer_id)
    if state == "damaged":
        key.write_bytes(b"noise")
    elif state != "whole":
        key.unlink()
        if state == "a dangling link":
            key.symlink_to(tmp_path / "away")
    with the_log(tmp_path), pytest.raises(AlreadyRunning):
        forget_identity(settings)
    assert forget_identity(settings) == peer_id
    assert not os.path.lexists(key)
    new = start(tmp_path)
    assert new != peer_id
    assert start(tmp_path) == new


def test_the_command_asks_first_and_needs_the_daemon_stopped(tmp_path: Path, key: Path) -> None:
    peer_id = start(tmp_path)
    env = {**os.environ, "DMS_GENERAL_DATA_DIR": str(tmp_path), "DMS_GENERAL_WORK_DIR": str(tmp_path)}
    command = ["offboard", "--forget-identity"]
    done = prepared.run(command, env)
    assert (done.returncode != 0, key.exists()) == (True, True)
    assert "--yes" in done.stderr
    with the_log(tmp_path):
        done = prepared.run([*command, "--yes"], env)
        assert (done.returncode != 0, key.exists()) == (True, True)
        assert "is in use by another DMS" in done.stderr
    done = prepared.run([*command, "--yes"], env)
    assert (done.returncode, key.exists()) == (0, False), done.stderr
    assert peer_id in done.stdout + done.stderr


def test_an_identity_that_was_not_given_up_to_the_end_is_kept(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two steps."""
    peer_id = start(tmp_path)
    settings = Settings(general=General(work_dir=tmp_path, data_dir=tmp_path))

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            forget_identity(settings)
    assert start(tmp_path) == peer_id
    key.unlink()
    with pytest.raises(ConfigError):
        start(tmp_path)
    forget_identity(settings)
    with monkeypatch.context() as patch:
        patch.setattr("dms.adapters.eventlog.owner.LogOwner.take", kill)  # the new key is made, and not noted
        with pytest.raises(Killed):
            start(tmp_path)
    made = Identity.load_or_create(key).peer_id
    assert start(tmp_path) == made != peer_id


# --- the key of the logs' addresses -----------------------------------------------------------------------
def test_a_token_key_that_is_not_the_one_used_so_far_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token.key"

    def use() -> bytes:
        with the_log(tmp_path) as recorder:
            return token_key(path, recorder)

    first = use()
    assert (len(first), path.stat().st_mode & 0o777, use()) == (32, 0o600, first)
    for place in (0, 17, 31):
        damaged = bytearray(first)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"token\.key, is damaged.*Restore it"):
            use()
    path.unlink()
    second = use()
    assert second not in (first, b"")
    assert use() == second


def test_a_token_key_of_an_older_version_is_used_on(tmp_path: Path) -> None:
    (tmp_path / "token.key").write_bytes(bytes(range(32)))
    with the_log(tmp_path) as recorder:
        assert token_key(tmp_path / "token.key", recorder) == bytes(range(32))


def test_no_draft_is_left_of_a_key_that_could_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, the_log(tmp_path) as recorder:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskTrouble, match=r"node\.key can't be made: No space left"):
            Identity.create(tmp_path / NODE_KEY)
        with pytest.raises(DiskTrouble, match=r"token\.key, can't be made: No space left"):
            token_key(tmp_path / "token.key", recorder)
    assert {path.name for path in tmp_path.iterdir()} <= {
        "events.db",
        "events.db-wal",
        "events.db-shm",
        "events.db.lock",
    }
