"""Checking and replaying a history where nothing can be written: a mounted backup, a disc."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dms.database import connect
from tests.fixtures import prepared
from tests.integration.audit.test_audit import stored

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def medium(tmp_path: Path) -> Iterator[Path]:
    """Read-only, with a copy of a whole data folder."""
    data, folder = tmp_path / "data", tmp_path / "medium"
    data.mkdir()
    folder.mkdir()

    async def made() -> None:
        async with stored(data):
            pass

    asyncio.run(made())
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "dms-test", folder], check=True)
    try:
        for file in data.iterdir():
            shutil.copy(file, folder)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def nunet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return prepared.run(["-o", "json", *arguments], os.environ)


@pytest.mark.slow
def test_a_history_on_a_read_only_medium_is_verified_and_replayed(medium: Path) -> None:
    before = {path.name for path in medium.iterdir()}
    done = nunet("audit", "verify", "--database", str(medium / "events.db"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["intact"]
    assert found["views"]
    assert found["events"]
    done = nunet("replay", "--database", str(medium / "events.db"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events"] == found["events"]
    assert {path.name for path in medium.iterdir()} == before


def test_damage_on_a_read_only_medium_is_found(medium: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", medium], check=True)
    with closing(connect(medium / "events.db")) as connection:
        connection.execute("UPDATE event SET time = time + 1 WHERE position = 20")
    subprocess.run(["mount", "-o", "remount,ro", medium], check=True)
    done = nunet("audit", "verify", "--database", str(medium / "events.db"))
    assert done.returncode == 1
    assert "position 20 " in json.loads(done.stdout)["fault"]


def test_commits_that_can_not_be_read_there_are_told(medium: Path) -> None:
    """As after a kill: the newest events are in the journal, and a copy has not all of the files."""
    subprocess.run(["mount", "-o", "remount,rw", medium], check=True)
    with closing(connect(medium / "events.db")) as connection:
        connection.execute("INSERT OR REPLACE INTO note VALUES ('of a test', x'00')")
        assert (medium / "events.db-wal").stat().st_size
        (medium / "kept").write_bytes((medium / "events.db-wal").read_bytes())
    (medium / "kept").rename(medium / "events.db-wal")
    (medium / "events.db-shm").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", medium], check=True)
    for command in ("audit verify", "replay"):
        done = nunet(*command.split(), "--database", str(medium / "events.db"))
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "events.db-wal holds commits that can't be read" in said
        assert "copy events.db and events.db-wal" in said
        assert "Traceback" not in said
