"""`nunet gpu` and `nunet onboard-ml` against a tiny daemon, and what is said of each kind of system."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dms.cli.gpu import REDRAW_SECONDS, advice
from tests.unit.cli.nunet import nunet
from tests.unit.cli.test_terminal import nunet_at
from tests.unit.cli.tiny_dms import TinyDms

GPU: dict[str, Any] = {
    "name": "Test GPU", "uuid": "GPU-1", "vendor": "nvidia", "present": True, "utilization_percent": 71,
    "memory_total_mb": 8000, "memory_used_mb": 3000, "memory_free_mb": 5000, "temperature_celsius": 64,
    "power_watts": 118.4, "jobs": ["job-1"],
}  # fmt: skip
LOST = GPU | {"uuid": "GPU-2", "present": False, "utilization_percent": None, "memory_used_mb": None, "jobs": []}
OFFER = {"name": "Test GPU", "total_vram_mb": 8000, "free_vram_mb": 8000, "taken": False, "shared": False}
CAPACITY: dict[str, Any] = {
    "detected": 3, "total_vram_mb": 24_000, "onboarded_vram_mb": 24_000, "free_vram_mb": 9000, "hindrance": "",
    "offered": [
        OFFER | {"uuid": "GPU-1"},
        OFFER | {"uuid": "GPU-2", "taken": True, "free_vram_mb": 0},
        OFFER | {"uuid": "GPU-3", "shared": True, "free_vram_mb": 1000},
    ],
}  # fmt: skip
IMAGE = "registry.example/ml/pytorch"


# --- status ----------------------------------------------------------------------------------------------
def test_status_shows_each_gpu_once_without_a_terminal(tiny: TinyDms) -> None:
    tiny.answers["GET /gpu/status"] = (200, [GPU, LOST])
    heading, first, second = nunet("gpu", "status", tiny=tiny).stdout.splitlines()
    for word in ("GPU UTILIZATION", "MEMORY CAPACITY", "MEMORY USED", "MEMORY FREE", "TEMPERATURE", "POWER USAGE"):
        assert word in heading
    for word in ("Test GPU", "71 %", "8000 MB", "3000 MB", "5000 MB", "64 °C", "118.4 W", "job-1", "GPU-1"):
        assert word in first
    assert "Test GPU (lost)" in second
    assert len(tiny.asked) == 1


def test_status_for_programs(tiny: TinyDms) -> None:
    tiny.answers["GET /gpu/status"] = (200, [GPU, LOST])
    assert json.loads(nunet("gpu", "status", "-o", "json", tiny=tiny).stdout) == [GPU, LOST]
    lines = nunet("gpu", "status", "-o", "jsonl", tiny=tiny).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [GPU, LOST]


def test_no_gpu_is_said_and_is_no_failure(tiny: TinyDms) -> None:
    tiny.answers["GET /gpu/status"] = (200, [])
    done = nunet("gpu", "status", tiny=tiny)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no NVIDIA GPU is detected" in done.stderr


def test_status_is_drawn_again_on_a_terminal_until_ctrl_c(tiny: TinyDms) -> None:
    tiny.answers["GET /gpu/status"] = (200, [GPU])
    with nunet_at(tiny, "gpu", "status", columns=200) as shell:
        shell.expect("71 %")
        tiny.answers["GET /gpu/status"] = (200, [GPU | {"utilization_percent": 5}])
        shell.expect(" 5 %")
        shell.interrupt()
        assert shell.end() == 0
        assert len(re.findall("NuNet GPU Status", shell.shown)) >= 2
    assert REDRAW_SECONDS == 2


# --- capacity --------------------------------------------------------------------------------------------
def test_capacity_shows_what_is_offered(tiny: TinyDms) -> None:
    tiny.answers["GET /gpu/capacity"] = (200, CAPACITY)
    _, *rows = nunet("gpu", "capacity", tiny=tiny).stdout.splitlines()
    assert [word in row for word, row in zip(("yes", "in use", "to jobs that share"), rows, strict=True)] == [True] * 3
    assert json.loads(nunet("gpu", "capacity", "-o", "json", tiny=tiny).stdout) == CAPACITY


def test_capacity_says_why_nothing_is_offered(tiny: TinyDms) -> None:
    found = CAPACITY | {"offered": [], "hindrance": "the machine is not onboarded"}
    tiny.answers["GET /gpu/capacity"] = (200, found)
    assert (
        "3 GPU(s) detected, but not offered: the machine is not onboarded" in nunet("gpu", "capacity", tiny=tiny).stderr
    )


@pytest.mark.parametrize(("exit_code", "ends"), [(0, 0), (1, 1)])
def test_the_cuda_check_prints_its_output_and_passes_on_whether_it_failed(
    tiny: TinyDms, exit_code: int, ends: int
) -> None:
    answer = {"image": IMAGE, "gpu_uuids": ["GPU-1"], "exit_code": exit_code, "output": ["CUDA: yes", "\x1b[2Jhidden"]}
    tiny.answers["POST /gpu/check"] = (200, answer)
    done = nunet("gpu", "capacity", "--cuda-tensor", tiny=tiny)
    assert (done.exit_code, done.stdout) == (ends, "CUDA: yes\n\\x1b[2Jhidden\n")


def test_the_cuda_check_says_what_is_missing(tiny: TinyDms) -> None:
    tiny.answers["POST /gpu/check"] = (404, {"error": "the image is not on this machine; fetch it: nunet onboard-ml"})
    done = nunet("gpu", "capacity", "-c", tiny=tiny)
    assert (done.exit_code, "nunet onboard-ml" in done.stderr) == (3, True)


@pytest.mark.parametrize("flag", ["-r", "--rocm-hip", "-i", "--intel-xpu"])
def test_other_makers_are_said_to_be_left_out(tiny: TinyDms, flag: str) -> None:
    done = nunet("gpu", "capacity", flag, tiny=tiny)
    assert (done.exit_code, tiny.asked) == (1, [])
    assert "not used by this version" in done.stderr


# --- images ----------------------------------------------------------------------------------------------
def test_images_are_fetched_with_progress(tiny: TinyDms) -> None:
    step = {"image": IMAGE, "status": "pulling", "done_mb": 5, "total_mb": 10, "error": ""}
    tiny.answers["GET /ml-images"] = (200, [{"image": IMAGE, "present": False}])
    tiny.answers["POST /ml-images/fetch"] = (
        200,
        (step, step | {"status": "pulled", "done_mb": 10}, step | {"image": "other", "status": "present"}),
    )
    done = nunet("onboard-ml", tiny=tiny)
    assert done.exit_code == 0
    assert f"{IMAGE}: 5 of 10 MB" in done.stderr
    assert "Image already pulled: other" in done.stderr
    assert "No NVIDIA/AMD GPU(s) detected" in done.stderr
    assert [row.split()[:2] for row in done.stdout.splitlines()[1:]] == [[IMAGE, "pulled"], ["other", "present"]]


def test_a_registry_that_is_away_is_a_failure_that_says_what_to_look_at(tiny: TinyDms) -> None:
    tiny.answers["GET /ml-images"] = (200, [{"image": IMAGE, "present": False}] * 3)
    failed = {"image": IMAGE, "status": "failed", "done_mb": 0, "total_mb": 0, "error": "no such host"}
    tiny.answers["POST /ml-images/fetch"] = (200, (failed,))
    done = nunet("onboard-ml", tiny=tiny)
    assert done.exit_code == 1
    assert "1 of 1 images were not fetched: no such host" in done.stderr
    assert "this machine must reach it" in done.stderr


def test_listing_the_images_fetches_nothing(tiny: TinyDms) -> None:
    tiny.answers["GET /ml-images"] = (200, [{"image": IMAGE, "present": False}])
    assert nunet("onboard-ml", "--list", tiny=tiny).stdout.split() == ["IMAGE", "PRESENT", IMAGE, "no"]
    assert [asked for asked, _, _ in tiny.asked] == ["GET /ml-images"]


# --- what to install -------------------------------------------------------------------------------------
def system(**changes: Any) -> dict[str, Any]:
    plain = {"name": "Ubuntu 24.04 LTS", "ids": ["ubuntu", "debian"], "wsl": False}
    return plain | {"card": True, "driver": False, "toolkit": False} | changes


def commands(found: dict[str, Any]) -> str:
    return "\n".join(line for step in advice(found) for line in (step["what"], *step["commands"]))


@pytest.mark.parametrize(
    ("name", "ids", "driver", "toolkit"),
    [
        (
            "Ubuntu 24.04 LTS",
            ["ubuntu", "debian"],
            "ubuntu-drivers install",
            "apt-get install nvidia-container-toolkit",
        ),
        (
            "Debian GNU/Linux 12",
            ["debian"],
            "apt-get install nvidia-driver",
            "apt-get install nvidia-container-toolkit",
        ),
        ("Linux Mint 22", ["linuxmint", "ubuntu", "debian"], "ubuntu-drivers", "apt-get install nvidia-container"),
        ("Fedora Linux 42", ["fedora"], "akmod-nvidia", "dnf install nvidia-container-toolkit"),
        ("Arch Linux", ["arch"], "pacman -S nvidia\n", "pacman -S nvidia-container-toolkit"),
        ("Something", [""], "https://www.nvidia.com/drivers", "https://docs.nvidia.com/"),
    ],
)
def test_driver_and_toolkit_are_named_as_the_system_has_them(
    name: str, ids: list[str], driver: str, toolkit: str
) -> None:
    text = commands(system(name=name, ids=ids))
    assert driver in text
    assert toolkit in text
    assert "nvidia-ctk runtime configure --runtime=docker" in text


def test_what_is_there_is_not_asked_for() -> None:
    assert "nvidia-driver" not in commands(system(driver=True))
    assert "apt-get install nvidia-container-toolkit" not in commands(system(toolkit=True))
    assert commands(system(driver=True, toolkit=True)).startswith("Driver and container toolkit are installed")


def test_windows_and_mining_systems_have_their_own_driver() -> None:
    assert "in Windows" in commands(system(wsl=True, card=False))
    assert "install no other" in commands(system(name="Hive OS", ids=["hiveos"]))
    assert "sudo" not in advice(system(name="Hive OS", ids=["hiveos"]))[0]["commands"]


def test_a_machine_without_a_card_is_told_so() -> None:
    assert "No NVIDIA GPU is seen on the PCI bus" in commands(system(card=False))


def test_it_prints_the_advice_for_this_machine_and_needs_no_daemon() -> None:
    done = nunet("gpu", "onboard")
    assert done.exit_code == 0
    assert "nunet gpu status" in done.stdout
    assert nunet("onboard-gpu").stdout == done.stdout  # the older name
    assert json.loads(nunet("gpu", "onboard", "-o", "json").stdout)[-1]["commands"]
