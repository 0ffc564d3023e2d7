"""The node's key with a passphrase, or handed over by systemd: what opens it, what is said when nothing does, and that
no kill leaves a file that is neither the old nor the new one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.p2p.identity import Identity, is_encrypted, peer_named_in
from dms.config import General, Settings
from dms.errors import ConfigError, NotFound
from dms.keys import NODE_KEY, change_passphrase, forget_identity, has_passphrase, node_identity
from dms.passphrase import NO_PASSPHRASE, Passphrase, passphrase_of
from ops import leave
from tests.fixtures.ports import free_port

SECRET = b"correct horse battery staple"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(general=General(data_dir=tmp_path, work_dir=tmp_path))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / NODE_KEY


@pytest.fixture
def peer_id(key: Path) -> str:
    return Identity.load_or_create(key).peer_id


def holding(folder: Path, name: str, text: bytes) -> Path:
    file = folder / name
    file.write_bytes(text)
    file.chmod(0o600)
    return file


def start(folder: Path, passphrase: Passphrase) -> str:
    recorder = SQLiteRecorder(folder / "events.db")
    try:
        return node_identity(folder / NODE_KEY, recorder, folder, passphrase).peer_id
    finally:
        recorder.close()


def nunet(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    named = {"DMS_GENERAL_DATA_DIR": str(folder), "DMS_GENERAL_WORK_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "dms.cli", *words], check=False, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, env=os.environ | named | (environment or {}),
    )  # fmt: skip


def test_an_encrypted_key_is_the_same_peer_and_opens_with_its_passphrase_alone(
    tmp_path: Path, key: Path, peer_id: str, settings: Settings
) -> None:
    plain = key.read_bytes()
    assert change_passphrase(settings, NO_PASSPHRASE, SECRET) == peer_id
    text = key.read_bytes()
    assert (is_encrypted(text), peer_named_in(text), key.stat().st_mode & 0o777) == (True, peer_id, 0o600)
    assert Identity.load_or_create(tmp_path / "other.key").peer_id != peer_id

    file = holding(tmp_path, "passphrase", SECRET + b"\n")
    assert start(tmp_path, Passphrase(file)) == peer_id
    assert change_passphrase(settings, Passphrase(file), b"another") == peer_id
    with pytest.raises(ConfigError, match=r"is not its passphrase, or the file is damaged\. Nothing was changed"):
        start(tmp_path, Passphrase(file))
    again = holding(tmp_path, "another", b"another")
    assert change_passphrase(settings, Passphrase(again), None) == peer_id
    assert key.read_bytes() == plain
    assert not has_passphrase(settings)


def test_an_encrypted_key_is_not_opened_without_a_passphrase_and_stays_as_it_is(
    tmp_path: Path, key: Path, peer_id: str, settings: Settings
) -> None:
    change_passphrase(settings, NO_PASSPHRASE, SECRET)
    text = key.read_bytes()
    for passphrase in (NO_PASSPHRASE, Passphrase(), passphrase_of(settings)):
        with pytest.raises(ConfigError, match=r"has a passphrase, and none is given.*general\.key_passphrase_file"):
            start(tmp_path, passphrase)
    with pytest.raises(ConfigError, match="none is given"):
        change_passphrase(settings, NO_PASSPHRASE, b"another")
    assert key.read_bytes() == text
    assert peer_id.encode() in text


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"two\nlines\n", "is no passphrase"), (b"x" * 2000, "is no passphrase")],
)
def test_what_is_no_passphrase_is_told_and_not_shown(
    tmp_path: Path, peer_id: str, settings: Settings, content: bytes, said: str
) -> None:
    change_passphrase(settings, NO_PASSPHRASE, SECRET)
    with pytest.raises(ConfigError, match=said) as caught:
        start(tmp_path, Passphrase(holding(tmp_path, "passphrase", content)))
    assert "two" not in str(caught.value)
    assert "xxx" not in str(caught.value)
    with pytest.raises(ConfigError, match="is not there"):
        start(tmp_path, Passphrase(tmp_path / "gone"))


def test_a_damaged_encrypted_key_is_told_as_one(tmp_path: Path, key: Path, peer_id: str, settings: Settings) -> None:
    change_passphrase(settings, NO_PASSPHRASE, SECRET)
    file, text = holding(tmp_path, "passphrase", SECRET), key.read_bytes()
    damaged = [text[: len(text) // 2], text.replace(peer_id[:8].encode(), b"12D3KooX"), text.replace(b"M", b"N", 3)]
    for content in damaged:
        key.write_bytes(content)
        with pytest.raises(ConfigError, match="damaged"):
            start(tmp_path, Passphrase(file))
        assert key.read_bytes() == content


def test_systemd_hands_over_the_key_and_its_passphrase(
    tmp_path: Path, key: Path, peer_id: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_passphrase(settings, NO_PASSPHRASE, SECRET)
    handed = tmp_path / "credentials"
    handed.mkdir()
    key.rename(handed / "node.key")
    (handed / "node.key").chmod(0o440)  # as systemd has it: another user's access is in an ACL
    holding(handed, "node.key.passphrase", SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    assert start(tmp_path, passphrase_of(settings)) == peer_id
    assert not key.exists()
    assert (handed / "node.key").stat().st_mode & 0o777 == 0o440
    with pytest.raises(ConfigError, match="is handed over by systemd"):
        change_passphrase(settings, NO_PASSPHRASE, None)
    with pytest.raises(ConfigError, match="is handed over by systemd"):
        forget_identity(settings)

    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigError, match=f"{peer_id}"):
        start(tmp_path, NO_PASSPHRASE)


def test_there_is_nothing_to_encrypt_before_the_first_start(settings: Settings) -> None:
    with pytest.raises(NotFound, match="the first start of the DMS makes it"):
        change_passphrase(settings, NO_PASSPHRASE, SECRET)


def ended_at(step: int, settings: Settings, old: Path) -> int:
    """The exit code of a process that encrypts the key and ends as if killed at its so many-th call of the system, or 0
    when it does not come so far."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = iter(range(step - 1))

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(left, None) is None:
                os._exit(KILLED)
            return real(*arguments, **named)

        return call

    try:
        for name in ("open", "fchmod", "fchown", "fsync", "rename", "replace", "close", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        change_passphrase(settings, Passphrase(old), SECRET)
        os._exit(0)
    finally:
        os._exit(1)


KILLED = 77


def test_a_kill_at_any_step_leaves_the_old_key_or_the_new_one(
    tmp_path: Path, key: Path, peer_id: str, settings: Settings
) -> None:
    before, old, new = key.read_bytes(), holding(tmp_path, "old", b"old"), holding(tmp_path, "new", SECRET)
    ends: list[int] = []
    seen: set[bool] = set()
    while not ends or ends[-1] == KILLED:
        key.write_bytes(before)
        ends.append(ended_at(len(ends) + 1, settings, old))
        text = key.read_bytes()
        assert text == before or is_encrypted(text)
        assert start(tmp_path, Passphrase(new)) == peer_id
        seen.add(is_encrypted(text))
    assert (ends[-1], len(ends) > 5, seen) == (0, True, {False, True})


# --- the command --------------------------------------------------------------------------------------------
def test_the_command_encrypts_changes_and_decrypts_and_a_start_without_it_is_refused(
    tmp_path: Path, key: Path, peer_id: str
) -> None:
    first, second = holding(tmp_path, "first", SECRET), holding(tmp_path, "second", b"another one")
    done = nunet(tmp_path, "key", "encrypt", "--passphrase-file", str(first))
    assert (done.returncode, f"peer {peer_id} is encrypted" in done.stderr) == (0, True), done.stderr
    done = nunet(tmp_path, "key", "encrypt", "--passphrase-file", str(second), "--old-file", str(first))
    assert done.returncode == 0, done.stderr

    text, port = key.read_bytes(), {"DMS_REST_PORT": str(free_port())}
    for environment in ({}, {"DMS_GENERAL_KEY_PASSPHRASE_FILE": str(first)}):
        refused = nunet(tmp_path, "run", environment=port | environment)
        assert refused.returncode == 2
        said = json.loads(refused.stderr.splitlines()[-1])["message"]
        assert said.startswith(f"The node's key file {key} ")
        assert "passphrase" in said
        assert "Traceback" not in refused.stderr
        assert key.read_bytes() == text
    assert nunet(tmp_path, "key", "encrypt").returncode == 2  # nobody can be asked

    wrong = nunet(tmp_path, "key", "decrypt", "--passphrase-file", str(first))
    assert (wrong.returncode, key.read_bytes()) == (2, text)
    done = nunet(tmp_path, "key", "decrypt", "--passphrase-file", str(second))
    assert (done.returncode, "is no longer encrypted" in done.stderr) == (0, True)
    assert Identity.load_or_create(key).peer_id == peer_id
    assert all(word not in done.stdout + done.stderr for word in (SECRET.decode(), "another one"))


def test_at_a_terminal_it_is_asked_for_twice_and_not_shown(tmp_path: Path, key: Path, peer_id: str) -> None:
    named = {"DMS_GENERAL_DATA_DIR": str(tmp_path), "DMS_GENERAL_WORK_DIR": str(tmp_path)}
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-m", "dms.cli", "key", "encrypt"], os.environ | named)
    shown = b""
    for prompt in (b"New passphrase of the node's key: ", b"The same again: "):
        while prompt not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, SECRET + b"\n")
    try:
        while more := os.read(terminal, 1000):
            shown += more
    except OSError:
        pass  # how a terminal says that its other end is closed
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    assert SECRET not in shown
    assert start(tmp_path, Passphrase(holding(tmp_path, "passphrase", SECRET))) == peer_id


def test_what_a_removed_package_leaves_is_found_with_an_encrypted_key_too(
    tmp_path: Path, key: Path, peer_id: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    async def noted(peer: str, _: Path) -> None:
        found.append(peer)

    monkeypatch.setattr(leave, "processes", noted)
    change_passphrase(settings, NO_PASSPHRASE, SECRET)
    assert leave.main(settings, ()) == 0
    start(tmp_path, Passphrase(holding(tmp_path, "passphrase", SECRET)))
    key.unlink()  # it may be handed over by systemd
    assert leave.main(settings, ()) == 0
    assert found == [peer_id, peer_id]
