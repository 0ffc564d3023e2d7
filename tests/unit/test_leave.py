"""When the package goes, the jobs of its node end, and those of nobody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.p2p.identity import Identity
from dms.application.ports.executor import ExecutionSpec, ExecutionState
from dms.config import Settings
from ops import leave


def moved(work: Path) -> Settings:
    """The settings of a service whose folders are others than the package's."""
    config = work / "dms_config.json"
    config.write_text(json.dumps({"general": {"work_dir": str(work), "data_dir": str(work / "data")}}))
    return leave.settings_of(config)


async def test_processes_of_its_jobs_end(tmp_path: Path) -> None:
    mine = Identity.load_or_create(tmp_path / "node.key").peer_id
    executor = ProcessExecutor(mine, tmp_path / "data" / "processes")
    await executor.create(
        ExecutionSpec(job_id="job", node_id=mine, image="", arguments=("sleep 600",), cpu_mhz=1, memory_mb=64)
    )
    await executor.start("job")
    assert (await executor.inspect("job")).state is ExecutionState.RUNNING
    assert await asyncio.to_thread(leave.main, moved(tmp_path), ()) == 0
    assert (await executor.inspect("job")).state is ExecutionState.EXITED
    await executor.close()


def test_a_node_that_never_ran_has_nothing_to_stop(tmp_path: Path) -> None:
    assert leave.main(moved(tmp_path)) == 0


def test_what_could_not_be_stopped_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "node.key").write_bytes(b"no key")
    assert leave.main(moved(tmp_path)) == 1
    assert "jobs may still run" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "says"), [(None, "no such configuration file"), ("{", "expected")])
def test_settings_that_can_not_be_read_leave_the_packages_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, says: str
) -> None:
    config = tmp_path / "dms_config.json"
    if text is not None:
        config.write_text(text)
    general = leave.settings_of(config).general
    assert general.work_dir == general.data_dir == Path("/var/lib/nunet")
    assert says in capsys.readouterr().err
