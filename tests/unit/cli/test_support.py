"""What surrounds the daemon: version, logs for a helper, completion, what is left out."""

from __future__ import annotations

import json
import os
import platform
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dms.cli.main import cli
from dms.cli.support import without_secrets


def nunet(*args: str, **env: str) -> Result:
    return CliRunner().invoke(cli, args, env=env, catch_exceptions=False)


def test_version_names_program_python_and_platform() -> None:
    found = json.loads(nunet("version", "-o", "json").stdout)
    assert set(found) == {"name", "version", "python", "platform"}
    assert (found["name"], found["python"]) == ("nunet-dms", f"CPython {platform.python_version()}")
    assert found["version"] in nunet("--version").stdout
    assert found["version"] in nunet("version").stdout


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dms.log").write_text('{"message": "ready", "url": "nats://user:hunter2@host:4222"}\n')
    (folder / "dms.log.d").mkdir()  # somebody else's
    (folder / "dms.log.1").write_text('{"message": "older, token=abc123"}\n')
    return folder


def settings(data_dir: Path) -> dict[str, str]:
    return {"DMS_GENERAL_DATA_DIR": str(data_dir), "DMS_NATS_URL": "nats://user:hunter2@host:4222"}


def test_log_puts_log_version_and_settings_into_one_archive(data_dir: Path, tmp_path: Path) -> None:
    archive = tmp_path / "to" / "nunet-log.tar.gz"
    result = nunet("log", "--to", str(archive), **settings(data_dir))
    assert (result.exit_code, result.stdout) == (0, f"{archive}\n")
    assert result.stderr.startswith("Collecting logs...")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        parts = {name: tar.extractfile(name) for name in names}
        content = b"".join(part.read() for part in parts.values() if part is not None)
    logs = {"nunet-log/dms.log", "nunet-log/dms.log.1", "nunet-log/settings.json", "nunet-log/version.json"}
    assert logs <= set(names)
    assert b'"ready"' in content
    assert b"hunter2" not in content
    assert b"abc123" not in content
    assert archive.stat().st_mode & 0o777 == 0o600
    assert archive.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    assert nunet("log", "--to", str(archive), **settings(data_dir)).exit_code == 0  # again, over the old one


def test_log_writes_through_nobody_elses_link(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    result = nunet("log", "--to", str(tmp_path / "link" / "x.tar.gz"), **settings(data_dir))
    assert result.exit_code == 4
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
        assert nunet("log", "--to", str(theirs / "x.tar.gz"), **settings(data_dir)).exit_code == 4
        assert list(theirs.iterdir()) == []


def test_log_says_where_it_looked(tmp_path: Path) -> None:
    result = nunet("log", "--to", str(tmp_path / "x.tar.gz"), **settings(tmp_path), PATH=str(tmp_path))
    assert (result.exit_code, result.stdout) == (3, "")
    assert str(tmp_path / "dms.log") in result.stderr
    assert "nunet-dms.service" in result.stderr


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        (b'{"mnemonic": "abandon"}', b"abandon"),
        (b"GET /jobs/1/logs?token=0f3a&after=1", b"0f3a"),
        (b'{"message": "{\\"private_key\\": \\"0xfeed\\"}"}', b"0xfeed"),
        (b"postgresql://dms:pw@host/dms", b"pw"),
    ],
)
def test_secrets_do_not_leave_the_machine(line: bytes, secret: bytes) -> None:
    assert secret not in without_secrets(line)
    assert without_secrets(b"after=1 nothing here: a://b/c") == b"after=1 nothing here: a://b/c"


def test_shell_is_left_out_and_says_so() -> None:
    result = nunet("shell", "--node-id", "12D3KooW")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "left out on purpose" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str) -> None:
    result = nunet("autocomplete", shell)
    assert result.exit_code == 0
    assert "_NUNET_COMPLETE" in result.stdout
