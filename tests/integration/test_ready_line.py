"""The line that says that the DMS is ready says only what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.bootstrap import build
from dms.config import Job
from tests.fixtures.own_daemon import own_settings


@pytest.mark.parametrize("engine", ["nothing there", "no engine"])
async def test_docker_is_not_said_without_access_to_it(
    engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "docker.sock"
    if engine == "no engine":
        socket.write_text("")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    caplog.set_level("INFO")
    daemon = await build(own_settings(tmp_path, job=Job(executor="docker")))
    await daemon.start()
    ready = next(record.getMessage() for record in caplog.records if record.getMessage().startswith("ready:"))
    await daemon.close()
    assert "jobs run with docker" not in ready
    assert "no jobs of peers: the provider's container engine does not answer" in ready
