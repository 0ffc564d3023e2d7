"""What the machine has: CPU and memory of this one, GPUs through a driver library of our own making."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from dms.adapters.hardware.probe import HardwareProbe, cpuinfo_frequencies
from tests.fixtures.nvml import DRIVER_NOT_LOADED, GPU_IS_LOST, Card, Driver

READER = """
import logging, sys, msgspec
from dms.adapters.hardware.nvidia import NvidiaGpus
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
gpus = NvidiaGpus(float(sys.argv[1]), float(sys.argv[2]))
for _ in sys.stdin:
    print(msgspec.json.encode(gpus.read()).decode(), flush=True)
"""
ONE, TWO = Card(uuid="GPU-1"), Card(uuid="GPU-2", name="Large GPU", total_mb=24_576)


class Reader:
    """A process that reads the GPUs each time it is asked: the library is loaded as in the daemon."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found

    def uuids(self) -> list[str]:
        return [gpu["uuid"] for gpu in self.read()]

    def close(self) -> list[str]:
        """What it logged. It must end even when a call into the driver never does."""
        _, log = self._process.communicate(timeout=120)
        assert self._process.returncode == 0
        return log.splitlines()


@contextmanager
def reader(environment: dict[str, str], patience_seconds: float = 20, keep_seconds: float = 0) -> Iterator[Reader]:
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(patience_seconds), str(keep_seconds)],
        env={**os.environ, **environment}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield Reader(process)
        finally:
            process.kill()


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


# --- CPU and memory ------------------------------------------------------------------------------------
def test_offers_what_the_machine_has() -> None:
    hardware = HardwareProbe().read()
    assert hardware.cores == psutil.cpu_count()
    assert hardware.memory_mb == psutil.virtual_memory().total // 1024**2
    assert hardware.cpu_mhz >= hardware.cores * 100
    assert hardware.core_mhz == hardware.cpu_mhz // hardware.cores


def test_the_cpu_figure_does_not_wander() -> None:
    probe = HardwareProbe()
    assert len({probe.read().cpu_mhz for _ in range(5)}) == 1


def test_reads_frequencies_of_cpuinfo() -> None:
    assert cpuinfo_frequencies("cpu MHz\t\t: 2445.404\nx\ncpu MHz : 1000.6\n") == [2445, 1001]
    assert cpuinfo_frequencies("BogoMIPS : 50.00\n") == []


# --- GPUs ------------------------------------------------------------------------------------------------
def test_no_library_is_no_gpus_and_said_once(tmp_path: Path) -> None:
    with reader({"LD_LIBRARY_PATH": str(tmp_path)}) as gpus:
        assert gpus.read() == gpus.read() == []
        (line,) = gpus.close()
    assert line.startswith("INFO no NVIDIA GPU is offered")


def test_a_library_without_its_driver_is_no_gpus_and_said_once(driver: Driver) -> None:
    driver.show(ONE, code=DRIVER_NOT_LOADED)
    with reader(driver.environment) as gpus:
        assert gpus.read() == gpus.read() == []
        (line,) = gpus.close()
    assert line == "INFO no NVIDIA GPU is offered: Driver Not Loaded"


def test_a_driver_that_fails_is_no_gpus_and_a_warning(driver: Driver) -> None:
    driver.show(ONE, code=999)
    with reader(driver.environment) as gpus:
        assert gpus.read() == gpus.read() == []
        (line,) = gpus.close()
    assert line.startswith("WARNING no NVIDIA GPU is offered")


def test_a_driver_without_gpus_is_nothing_to_speak_of(driver: Driver) -> None:
    with reader(driver.environment) as gpus:
        assert gpus.read() == []
        assert gpus.close() == []


def test_the_figures_are_live(driver: Driver) -> None:
    driver.show(Card(uuid="GPU-1", used_mb=192, load_percent=3, celsius=41, milliwatts=21_340))
    with reader(driver.environment) as gpus:
        assert gpus.read() == [
            {
                "name": "Test GPU", "uuid": "GPU-1", "vendor": "nvidia", "total_vram_mb": 8192, "used_vram_mb": 192,
                "free_vram_mb": 8000, "utilization_percent": 3, "temperature_celsius": 41, "power_watts": 21.3,
                "compute_processes": 0,
            }
        ]  # fmt: skip
        driver.show(Card(uuid="GPU-1", used_mb=4192, load_percent=97, celsius=80, milliwatts=250_000, processes=3), TWO)
        first, second = gpus.read()
        assert (first["free_vram_mb"], first["utilization_percent"], first["compute_processes"]) == (4000, 97, 3)
        assert (second["name"], second["total_vram_mb"]) == ("Large GPU", 24_576)
        assert gpus.close() == []


def test_a_lost_gpu_is_left_out_said_once_and_found_again(driver: Driver) -> None:
    lost = Card(uuid="GPU-1", status=GPU_IS_LOST)
    with reader(driver.environment) as gpus:
        for cards, uuids in (
            ((ONE, TWO), ["GPU-1", "GPU-2"]),
            ((lost, TWO), ["GPU-2"]),
            ((lost, TWO), ["GPU-2"]),
            ((ONE, TWO), ["GPU-1", "GPU-2"]),
            ((lost, TWO), ["GPU-2"]),
        ):
            driver.show(*cards)
            assert gpus.uuids() == uuids
        assert gpus.close() == ["WARNING GPU 0 is not offered: GPU is lost"] * 2


def test_a_driver_that_is_installed_later_is_seen(driver: Driver) -> None:
    driver.show(ONE, code=DRIVER_NOT_LOADED)
    with reader(driver.environment) as gpus:
        assert gpus.uuids() == []
        driver.show(ONE)
        assert gpus.uuids() == ["GPU-1"]


def test_an_old_driver_tells_what_it_can(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "-DOLD")
    driver.show(ONE)
    with reader(driver.environment) as gpus:
        (gpu,) = gpus.read()
        assert gpus.close() == []
    assert gpu["free_vram_mb"] == 8192
    assert {gpu[key] for key in ("utilization_percent", "temperature_celsius", "power_watts", "compute_processes")} == {
        None
    }


def test_a_driver_too_old_for_the_library_is_no_gpus(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "-DANCIENT")
    driver.show(ONE)
    with reader(driver.environment) as gpus:
        assert gpus.read() == []
        (line,) = gpus.close()
    assert "Function Not Found" in line or "stand-in" in line


def test_a_hung_driver_hangs_nobody_and_may_recover(driver: Driver) -> None:
    driver.show(ONE, hangs=True)
    with reader(driver.environment, patience_seconds=0.2) as gpus:
        assert gpus.read() == gpus.read() == []
        driver.show(ONE)
        while not (found := gpus.uuids()):  # the reading that was left behind comes to its end
            time.sleep(0.01)
        assert found == ["GPU-1"]
        lines = gpus.close()  # on a busy machine it may have come back, and hung, more than once
    assert set(lines) == {"WARNING the NVIDIA driver does not answer within 0.2 s"}


def test_a_driver_that_is_slow_for_a_moment_loses_no_gpu(driver: Driver) -> None:
    driver.show(ONE)
    with reader(driver.environment, patience_seconds=0.2, keep_seconds=60) as gpus:
        while not gpus.uuids():  # the library itself may take longer than this patience to load
            time.sleep(0.01)
        driver.show(TWO, hangs=True)
        assert gpus.uuids() == ["GPU-1"]
        driver.show(TWO)
        while gpus.uuids() != ["GPU-2"]:
            time.sleep(0.01)


def test_a_reading_that_came_too_late_is_used_by_the_next(driver: Driver) -> None:
    """Waking many cards may take longer than anyone waits."""
    driver.show(ONE, hangs=True)
    with reader(driver.environment, patience_seconds=0.2, keep_seconds=60) as gpus:
        assert gpus.uuids() == []
        driver.show(ONE)
        while not gpus.uuids():
            time.sleep(0.01)
        driver.show(ONE, hangs=True)
        assert gpus.uuids() == ["GPU-1"]


def test_a_driver_that_breaks_during_operation_is_opened_anew(driver: Driver) -> None:
    driver.show(ONE)
    with reader(driver.environment) as gpus:
        assert gpus.uuids() == ["GPU-1"]
        driver.show(ONE, code=999)
        assert gpus.uuids() == []
        driver.show(ONE, TWO)
        assert gpus.uuids() == ["GPU-1", "GPU-2"]
        (line,) = gpus.close()
    assert line.startswith("WARNING no NVIDIA GPU is offered")


def test_a_process_ends_although_its_driver_hangs(driver: Driver) -> None:
    driver.show(ONE, hangs=True)
    with reader(driver.environment, patience_seconds=0.2) as gpus:
        assert gpus.read() == []
        gpus.close()


def test_a_name_that_is_no_text_does_no_harm(driver: Driver) -> None:
    driver.show(TWO)
    state = Path(driver.environment["NVML_STAND_IN"])
    state.write_bytes(state.read_bytes().replace(b"Large", b"La\xffge"))
    with reader(driver.environment) as gpus:
        assert gpus.read() == []
        (line,) = gpus.close()
    assert line.startswith("WARNING GPU 0 is not offered")
