"""The probe on this machine, and against a driver library of our own making."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dms.adapters.hardware.probe import HardwareProbe, cpuinfo_frequencies

STAND_IN = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned f) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int e) { return "stand-in"; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(unsigned long)(i + 1); return 0; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { strncpy(s, "Test GPU", n); return 0; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) { strncpy(s, h == (void *)1 ? "GPU-1" : "GPU-2", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) {
  m->total = 8ULL << 30; m->free = 5ULL << 30; m->used = 3ULL << 30; return 0;
}
"""
READ = (
    "import msgspec; from dms.adapters.hardware.probe import HardwareProbe;"
    "print(msgspec.json.encode(HardwareProbe().read()).decode())"
)


def read_with(library_path: Path) -> dict[str, object]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library_path)}
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_offers_what_the_machine_has() -> None:
    hardware = HardwareProbe().read()
    assert hardware.cores == psutil.cpu_count()
    assert hardware.memory_mb == psutil.virtual_memory().total // 1024**2
    assert hardware.cpu_mhz >= hardware.cores * 100
    assert hardware.core_mhz == hardware.cpu_mhz // hardware.cores


def test_the_cpu_figure_does_not_wander() -> None:
    probe = HardwareProbe()
    assert len({probe.read().cpu_mhz for _ in range(5)}) == 1


def test_no_driver_is_no_gpus_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probe = HardwareProbe()
    with caplog.at_level(logging.INFO):
        assert probe.read().gpus == probe.read().gpus == ()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert read_with(tmp_path)["gpus"] == []


def test_reads_gpus_through_the_driver_library(tmp_path: Path) -> None:
    source = tmp_path / "nvml.c"
    source.write_text(STAND_IN)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    card = {"name": "Test GPU", "total_vram_mb": 8_192, "free_vram_mb": 5_120, "vendor": "nvidia"}
    assert read_with(tmp_path)["gpus"] == [{**card, "uuid": "GPU-1"}, {**card, "uuid": "GPU-2"}]


def test_a_driver_that_fails_is_no_gpus(tmp_path: Path) -> None:
    source = tmp_path / "nvml.c"
    broken = STAND_IN.replace(
        "int nvmlInitWithFlags(unsigned f) { return 0; }", "int nvmlInitWithFlags(unsigned f) { return 9; }"
    )
    source.write_text(broken.replace("int nvmlInit_v2(void) { return 0; }", "int nvmlInit_v2(void) { return 9; }"))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "libnvidia-ml.so.1", source], check=True, timeout=60)
    assert read_with(tmp_path)["gpus"] == []


def test_reads_frequencies_of_cpuinfo() -> None:
    assert cpuinfo_frequencies("cpu MHz\t\t: 2445.404\nx\ncpu MHz : 1000.6\n") == [2445, 1001]
    assert cpuinfo_frequencies("BogoMIPS : 50.00\n") == []
