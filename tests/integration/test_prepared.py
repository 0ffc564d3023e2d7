"""A command from a process that has its modules loaded is the same command."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import prepared
from tests.fixtures.network import environment
from tests.fixtures.ports import FIRST, LAST, free_port


@pytest.mark.parametrize(
    "arguments", [["--version"], ["no-such-command"], ["config", "check", "--config", "none.json"]]
)
@pytest.mark.slow
def test_what_it_prints_and_ends_with_is_what_a_new_interpreter_does(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "dms.cli", *arguments]
    usual = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
    quick = prepared.run(arguments, environment(), cwd=tmp_path)
    assert (quick.returncode, quick.stdout, quick.stderr) == (usual.returncode, usual.stdout, usual.stderr)


def test_it_has_the_environment_folder_and_streams_that_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "positions"
    path.write_text("7\n")
    with (tmp_path / "log").open("wb") as log:
        arguments = ["127.0.0.1", str(free_port()), "ndjson", path.name]
        reader = prepared.start(arguments, log, environment(), "tests.fixtures.event_reader", cwd=tmp_path)
    try:
        assert Path(f"/proc/{reader.pid}/cwd").resolve() == tmp_path
        assert Path(f"/proc/{reader.pid}/fd/1").resolve() == tmp_path / "log"
        assert reader.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.01)
    finally:
        reader.kill()
    assert reader.wait(60) == -signal.SIGKILL
    reader.kill()  # meets nobody, also when another process has its number now


def test_a_port_that_one_process_has_claimed_is_not_given_to_another() -> None:
    mine = {free_port() for _ in range(50)}
    code = (
        "import itertools; from tests.fixtures import ports; "
        f"ports._steps = itertools.count({min(mine) - FIRST}); print(*(ports.free_port() for _ in range(50)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=prepared.ROOT)
    theirs = {int(port) for port in done.stdout.split()}
    assert len(theirs) == 50
    assert not mine & theirs
    assert all(FIRST <= port < LAST for port in mine | theirs)
