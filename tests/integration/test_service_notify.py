"""The daemon under a service manager: a real datagram socket, and a real `nunet run`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from dms.adapters.service.notify import ServiceManager
from tests.fixtures.ports import free_port


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def next(self, timeout_seconds: float = 120) -> list[str]:
        self._socket.settimeout(timeout_seconds)
        return self._socket.recv(4096).decode().splitlines()

    def until(self, line: str) -> list[str]:
        """All lines up to this one."""
        seen: list[str] = []
        while line not in seen:
            seen += self.next()
        return seen

    def is_silent(self, seconds: float) -> bool:
        try:
            return not self.next(seconds)
        except TimeoutError:
            return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "a file" else f"@nunet-dms-test/{uuid4().hex}"
    made = Manager(address)
    yield made
    made.close()


def test_each_state_is_one_datagram(manager: Manager) -> None:
    service = ServiceManager(manager.address)
    service.status("reading\nthe log")
    service.ready("ready: REST on port 9999")
    service.stopping()
    assert [manager.next(1) for _ in range(3)] == [
        ["STATUS=reading the log"],
        ["READY=1", "STATUS=ready: REST on port 9999"],
        ["STOPPING=1", "STATUS=stopping"],
    ]


def test_jobs_do_not_inherit_the_way_to_speak_for_the_daemon() -> None:
    env = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    assert ServiceManager.from_environment(env).watchdog_seconds == 3.0
    assert env == {"HOME": "/"}


@pytest.mark.parametrize(
    "env", [{}, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": ""}]
)
async def test_without_a_watchdog_of_ours_there_is_nothing_to_watch(env: dict[str, str]) -> None:
    async with asyncio.timeout(120):
        await ServiceManager.from_environment(env).watch(lambda: None)


def test_nothing_is_sent_without_a_manager_and_a_lost_one_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager().ready("ready")
    assert not caplog.records
    ServiceManager(str(tmp_path / "gone")).ready("ready")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the service manager can't be told READY=1"
    ]


async def test_an_unhealthy_daemon_gives_no_sign_of_life_and_says_why(manager: Manager) -> None:
    faults: list[str] = []
    watch = asyncio.create_task(ServiceManager(manager.address, 0.05).watch(lambda: faults[0] if faults else None))
    signs = [await asyncio.to_thread(manager.next) for _ in range(3)]
    assert signs == [["WATCHDOG=1"]] * 3
    faults.append("the views can't follow the log")
    seen = await asyncio.to_thread(manager.until, "STATUS=the views can't follow the log")
    assert await asyncio.to_thread(manager.is_silent, 0.3)
    faults.clear()
    assert await asyncio.to_thread(manager.next) == ["WATCHDOG=1"]
    assert set(seen) <= {"WATCHDOG=1", "STATUS=the views can't follow the log"}
    watch.cancel()


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait(120)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], subprocess.Popen[bytes]]]:
    """Starts `nunet run` with these variables; ends it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(env: dict[str, str]) -> subprocess.Popen[bytes]:
        settings = {
            "general.data_dir": str(tmp_path / "data"),
            "general.work_dir": str(tmp_path / "work"),
            "rest.port": str(free_port()),
            "p2p.listen_address": "/ip4/127.0.0.1/tcp/0",
            "p2p.mdns": "false",
            "job.executor": "process",
        }
        pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        with (tmp_path / "daemon.log").open("ab") as out:
            command = [sys.executable, "-m", "dms.cli", "run", *pairs]
            started.append(subprocess.Popen(command, env={**os.environ, **env}, stdout=out, stderr=out))
        return started[-1]

    yield start
    for process in started:
        end(process)


@pytest.mark.slow
def test_a_service_is_ready_alive_and_stopping(
    manager: Manager, run: Callable[[dict[str, str]], subprocess.Popen[bytes]]
) -> None:
    process = run({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"})
    start = manager.until("READY=1")
    assert start[:2] == ["STATUS=reading the log", "STATUS=joining the network"]
    assert "WATCHDOG=1" not in start  # systemd counts from READY=1
    manager.until("WATCHDOG=1")
    manager.until("WATCHDOG=1")
    process.terminate()
    manager.until("STOPPING=1")
    assert process.wait(120) == 0


@pytest.mark.slow
def test_a_daemon_that_hangs_gives_no_sign_of_life(
    manager: Manager, run: Callable[[dict[str, str]], subprocess.Popen[bytes]]
) -> None:
    process = run({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"})
    manager.until("WATCHDOG=1")
    process.send_signal(signal.SIGSTOP)  # it neither runs nor ends
    while not manager.is_silent(1.0):
        pass  # what was on its way
    assert process.poll() is None
