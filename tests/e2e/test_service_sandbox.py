"""The package's service under the restrictions of its own unit, as a user whose only right is the engine's socket: a
job of another node runs to its end, its workspace is saved, and the next one goes on from there. systemd itself need
not run for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_checkpoints import received, resuming, run
from tests.fixtures.dms import Dms, request_body, user_of_docker_group

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

UNIT = Path(__file__).parents[2] / "debian" / "nunet-dms.service"
LAUNCHER = (sys.executable, "-m", "tests.fixtures.unit_sandbox")


def confined(folder: Path) -> list[str]:
    """What runs a program so."""
    return [*LAUNCHER, "mounts", str(folder), "--", *user_of_docker_group(), *LAUNCHER, "filter", str(UNIT), "--"]


CALL = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); c.{}; raise OSError(ctypes.get_errno(), 'refused')"
SOCKET = "import socket; socket.socket(socket.{}, socket.SOCK_STREAM)"
FOLDER = "import pathlib; from dms.wiring.adapters import folder_at; folder_at(pathlib.Path('/etc/dms-was-here'))"
REFUSED = "[Errno 1]"


@pytest.mark.parametrize(
    ("attempt", "word"),
    [
        ("open('/etc/dms-was-here', 'w')", "Read-only file system"),
        (FOLDER, "ReadWritePaths="),
        (SOCKET.format("AF_PACKET"), REFUSED),
        (SOCKET.format("AF_VSOCK"), REFUSED),
        (CALL.format("unshare(0x10000000)"), REFUSED),
        (CALL.format("ptrace(0, 0, 0, 0)"), REFUSED),
        (CALL.format("mount(b'a', b'/mnt', b'tmpfs', 0, b'')"), REFUSED),
    ],
)
def test_the_sandbox_holds(tmp_path: Path, attempt: str, word: str) -> None:
    """Else the next test proves nothing."""
    command = [*confined(tmp_path), sys.executable, "-c", attempt]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert word in done.stderr


KEEPING = "cd /workspace; [ ! -e state ] || cat state; echo 40 > state; echo hello"


async def test_a_job_runs_and_another_goes_on_from_it_on_a_service_that_may_do_no_more_than_its_unit_says(
    tmp_path: Path,
) -> None:
    cp = Dms(tmp_path / "cp", of_docker_group=True, tries_sandbox=True)
    cp._as_user = confined(cp.folder)
    cp.start()
    sp: Dms | None = None
    try:
        await cp.ready()
        sp = Dms(tmp_path / "sp", bootstrap=[await cp.address()])
        sp.start()
        await sp.ready()
        await cp.onboard()
        await sp.sees_provider()
        examined = await cp.post("/device/doctor", {})
        assert [row for row in examined["sandbox"] if row["state"] != "passed"] == []
        first = await run(sp, request_body(KEEPING), "tx-confined")
        assert first.names[-1] == "job-completed", (first.last_message, cp.log_tail())
        assert first.text("stdout") == "hello\n"
        checkpoint = await received(sp, first.job_id)
        second = await run(sp, resuming(request_body(KEEPING), str(checkpoint)), "tx-goes-on")
        assert second.text("stdout") == "40\nhello\n", (second.last_message, cp.log_tail())
        assert is_filtered(cp.pid)
        assert cp.stop() == 0
    finally:
        for dms in (sp, cp):
            if dms is not None:
                dms.end()


def is_filtered(pid: int) -> bool:
    return "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
