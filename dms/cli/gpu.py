"""The GPUs of this machine: `nunet gpu status`, `capacity`, `onboard`, and `nunet onboard-ml`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import Failure, say
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.output import Column

REDRAW_SECONDS = 2.0
CHECK_SECONDS = 180.0  # longer than the daemon gives it
NO_GPU = "no NVIDIA GPU is detected on this machine; see: nunet gpu onboard"
NO_ROCM = "AMD GPUs (ROCm, HIP) are not used by this version of the DMS: it detects and offers NVIDIA GPUs"
NO_XPU = "Intel GPUs (XPU) are not used by this version of the DMS: it detects and offers NVIDIA GPUs"
OS_RELEASE, KERNEL = Path("/etc/os-release"), Path("/proc/version")
DRIVER, PCI = Path("/proc/driver/nvidia/version"), Path("/sys/bus/pci/devices")
TOOLKIT_PAGE = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
TOOLKIT_PROGRAMS = ("nvidia-container-cli", "nvidia-container-runtime-hook", "nvidia-ctk")
MINING = ("Hive", "Rave", "PiMP", "Minerstat", "SimpleMining", "NH", "Miner", "SM", "MMP")  # as in the original


def add_to(cli: Group) -> None:
    group = Group("gpu", help="The GPUs of this machine.", example="nunet gpu status")
    cli.add_command(group)
    _add_status(group)
    _add_capacity(group)
    _add_onboard(group, "onboard", "nunet gpu onboard")
    _add_onboard(cli, "onboard-gpu", "nunet onboard-gpu").hidden = True  # the older name
    _add_images(cli)


def _add_status(group: Group) -> None:
    @command(group, "status", "nunet gpu status --once")
    @click.option("--once", is_flag=True, help="Print once and exit, also on a terminal.")
    @pass_state
    def status(state: State, once: bool) -> None:
        """Show how the GPUs are used, and by which jobs. On a terminal, refresh every 2 s until Ctrl-C."""
        api = state.api()
        live = not once and state.output.for_people and sys.stdout.isatty()
        try:
            while True:
                gpus = api.get("/gpu/status")
                if live:
                    click.echo("\x1b[H\x1b[2J", nl=False)
                    click.echo("NuNet GPU Status    (CTRL+C to exit)\n")
                state.output.rows(gpus, STATUS, empty=NO_GPU)
                if not live:
                    return
                time.sleep(REDRAW_SECONDS)
        except KeyboardInterrupt:  # at whatever moment: it is how one leaves
            if not live:
                raise


def _unit(key: str, unit: str) -> Any:
    return lambda row: "-" if row[key] is None else f"{row[key]} {unit}"


STATUS: Sequence[Column] = (
    ("GPU", lambda row: row["name"] if row["present"] else f"{row['name']} (lost)"),
    ("GPU UTILIZATION", _unit("utilization_percent", "%")),
    ("MEMORY CAPACITY", _unit("memory_total_mb", "MB")),
    ("MEMORY USED", _unit("memory_used_mb", "MB")),
    ("MEMORY FREE", _unit("memory_free_mb", "MB")),
    ("TEMPERATURE", _unit("temperature_celsius", "°C")),
    ("POWER USAGE", _unit("power_watts", "W")),
    ("JOBS", lambda row: ", ".join(row["jobs"]) or "-"),
    ("UUID", "uuid"),
)
OFFERED: Sequence[Column] = (
    ("GPU", "name"),
    ("MEMORY (MB)", "total_vram_mb"),
    ("FREE (MB)", "free_vram_mb"),
    ("OFFERED", lambda row: "in use" if row["taken"] else "to jobs that share" if row["shared"] else "yes"),
    ("UUID", "uuid"),
)


def _add_capacity(group: Group) -> None:
    @command(group, "capacity", "nunet gpu capacity")
    @click.option("-c", "--cuda-tensor", is_flag=True, help="Test CUDA and tensor cores in a container.")
    @click.option("-r", "--rocm-hip", is_flag=True, help="The same for AMD; not supported in this version.")
    @click.option("-i", "--intel-xpu", is_flag=True, help="The same for Intel; not supported in this version.")
    @pass_state
    def capacity(state: State, *, cuda_tensor: bool, rocm_hip: bool, intel_xpu: bool) -> None:
        """Show the GPUs detected and offered.

        With --cuda-tensor a container tests CUDA on idle GPUs. Its image must be present: nunet onboard-ml.
        """
        if rocm_hip or intel_xpu:
            raise Failure(NO_ROCM if rocm_hip else NO_XPU)
        api = state.api()
        if cuda_tensor:
            _check_cuda(state, api)
            return
        found = api.get("/gpu/capacity")
        if not state.output.for_people:
            state.output.record(found)
            return
        state.output.rows(found["offered"], OFFERED, empty="" if found["detected"] else NO_GPU)
        if found["hindrance"]:
            say(f"{found['detected']} GPU(s) detected, but not offered: {found['hindrance']}")


def _check_cuda(state: State, api: Api) -> None:
    """Ends with the container's exit code."""
    say("trying CUDA in a container...")
    found = api.post("/gpu/check", timeout_seconds=CHECK_SECONDS)
    if state.output.for_people:
        from dms.cli.text import printable

        for line in found["output"]:
            click.echo(printable(line))
    else:
        state.output.record(found)
    if found["exit_code"]:
        raise Failure(f"the check in {found['image']} ended with exit code {found['exit_code']}")


def _add_onboard(group: Group, name: str, example: str) -> click.Command:
    @command(group, name, example)
    @pass_state
    def onboard(state: State) -> None:
        """Show what must be installed so that jobs can use the GPUs. Changes nothing.

        Install drivers yourself: the wrong one can leave a machine without a display, or without its kernel modules.
        """
        steps = advice(this_system())
        if not state.output.for_people:
            state.output.rows(steps, [])
            return
        for step in steps:
            click.echo(step["what"])
            for line in step["commands"]:
                click.echo(f"    {line}")

    return onboard


def _add_images(cli: Group) -> None:
    @command(cli, "onboard-ml", "nunet onboard-ml --list")
    @click.option("-l", "--list", "only_list", is_flag=True, help="Only list which are present.")
    @pass_state
    def onboard_ml(state: State, only_list: bool) -> None:
        """Fetch the known machine-learning images in advance, so that the first job need not wait for them."""
        api = state.api()
        wanted = api.get("/ml-images")
        if only_list:
            state.output.rows(wanted, [("IMAGE", "image"), ("PRESENT", "present")])
            return
        if len(wanted) == 1:
            say("No NVIDIA/AMD GPU(s) detected... so only the image of CPU jobs is fetched")
        last: dict[str, Any] = {}
        failed: list[str] = []
        for step in api.lines("/ml-images/fetch", method="POST"):
            if step["status"] == "pulling":
                say(f"{step['image']}: {step['done_mb']} of {step['total_mb']} MB")
                continue
            last[step["image"]] = step
            if step["status"] == "present":
                say(f"Image already pulled: {step['image']}")
            elif step["status"] == "failed":
                failed.append(step["error"])
        state.output.rows(
            list(last.values()), [("IMAGE", "image"), ("STATUS", "status"), ("MB", lambda row: row["total_mb"] or "")]
        )
        if failed:
            raise Failure(
                f"{len(failed)} of {len(last)} images were not fetched: {failed[0]}",
                Exit.FAILURE,
                "they come from the registry in their name: this machine must reach it, by name and over https",
            )


# --- what to install ---------------------------------------------------------------------------------


def this_system() -> dict[str, Any]:
    """name, ids (of os-release, the closest first), wsl, card, driver, toolkit."""
    release = _os_release(OS_RELEASE.read_text("utf-8", "replace") if OS_RELEASE.exists() else "")
    kernel = KERNEL.read_text("utf-8", "replace").lower() if KERNEL.exists() else ""
    wsl = "microsoft" in kernel
    return {
        "name": release.get("PRETTY_NAME") or release.get("NAME", "this system"),
        "ids": [release.get("ID", ""), *release.get("ID_LIKE", "").split()],
        "wsl": wsl,
        "card": _has_card(),
        "driver": DRIVER.exists() or (wsl and Path("/usr/lib/wsl/lib/libnvidia-ml.so.1").exists()),
        "toolkit": any(shutil.which(program) for program in TOOLKIT_PROGRAMS),
    }


def _os_release(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.split("\n") if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def _has_card() -> bool:
    """An NVIDIA device (vendor 10de) that shows or computes (class 03xx)."""
    for device in PCI.iterdir() if PCI.exists() else ():
        vendor, kind = device / "vendor", device / "class"
        if vendor.exists() and vendor.read_text().strip() == "0x10de" and kind.read_text().startswith("0x03"):
            return True
    return False


def advice(system: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Steps in order: what, and the commands that do it."""
    steps: list[dict[str, Any]] = []
    if not (system["card"] or system["wsl"] or system["driver"]):
        what = f"No NVIDIA GPU is seen on the PCI bus of {system['name']}: nothing below helps without one."
        steps.append({"what": what, "commands": []})
    if not system["driver"]:
        steps.append(_driver(system))
    if not system["toolkit"]:
        steps.append(_toolkit(system))
    if steps:
        what = "Then see that it works, and offer the GPUs:"
        return [*steps, {"what": what, "commands": ["nvidia-smi", "nunet gpu status", "nunet onboard --help"]}]
    what = "Driver and container toolkit are installed. If jobs get no GPU, tell Docker of the toolkit:"
    return [{"what": what, "commands": [*_TELL_DOCKER, "nunet gpu status"]}]


_TELL_DOCKER = ["sudo nvidia-ctk runtime configure --runtime=docker", "sudo systemctl restart docker"]
_APT_KEY = "/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg"
_REPOSITORY = "https://nvidia.github.io/libnvidia-container"
_DRIVERS = {
    "ubuntu": ["sudo ubuntu-drivers install", "sudo reboot"],
    "debian": ["sudo apt-get install nvidia-driver firmware-misc-nonfree   # from contrib and non-free", "sudo reboot"],
    "fedora": ["sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda   # from RPM Fusion nonfree", "sudo reboot"],
    "arch": ["sudo pacman -S nvidia", "sudo reboot"],
}
_TOOLKITS = {
    "debian": [
        f"curl -fsSL {_REPOSITORY}/gpgkey | sudo gpg --dearmor -o {_APT_KEY}",
        (
            f"curl -fsSL {_REPOSITORY}/stable/deb/nvidia-container-toolkit.list | "
            f"sed 's#deb https://#deb [signed-by={_APT_KEY}] https://#g' | "
            "sudo tee /etc/apt/sources.list.d/nvidia-container-toolkit.list"
        ),
        "sudo apt-get update && sudo apt-get install nvidia-container-toolkit",
    ],
    "fedora": [
        (
            f"curl -fsSL {_REPOSITORY}/stable/rpm/nvidia-container-toolkit.repo | "
            "sudo tee /etc/yum.repos.d/nvidia-container-toolkit.repo"
        ),
        "sudo dnf install nvidia-container-toolkit",
    ],
    "arch": ["sudo pacman -S nvidia-container-toolkit"],
}


def _driver(system: Mapping[str, Any]) -> dict[str, Any]:
    if system["wsl"]:
        what = "Install NVIDIA's driver in Windows, not here: WSL gets it from there."
        return {"what": what, "commands": ["https://www.nvidia.com/drivers"]}
    if any(word in system["name"].split() or word.lower() == system["ids"][0] for word in MINING):
        what = f"{system['name']} brings its own NVIDIA driver: update it with the system's tool, install no other."
        return {"what": what, "commands": []}
    known = next((i for i in system["ids"] if i in _DRIVERS), "")
    commands = _DRIVERS.get(known, ["https://www.nvidia.com/drivers"])
    return {"what": f"Install NVIDIA's driver, as {system['name']} does it:", "commands": commands}


def _toolkit(system: Mapping[str, Any]) -> dict[str, Any]:
    known = next((i for i in system["ids"] if i in _TOOLKITS), "")
    what = "Install the NVIDIA Container Toolkit, 1.17.8 or newer (older ones let a container take over the host):"
    return {"what": what, "commands": [*_TOOLKITS.get(known, [TOOLKIT_PAGE]), *_TELL_DOCKER]}
