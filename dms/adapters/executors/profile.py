"""The one profile that every stranger's container gets, as the Docker SDK wants it.

Nothing of the profile can be chosen by the job: what a job may ask for is image, arguments, CPU, memory,
GPUs and environment. Each option was tried on Docker 20.10 with cgroup v1; the tests read them back.
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from typing import Any

from docker import APIClient
from docker.types import DeviceRequest, Healthcheck, HostConfig, LogConfig, Mount, Ulimit
from msgspec import Struct

from dms.application.ports.executor import ExecutionSpec
from dms.domain.resources import LEAST_CORES, LEAST_MEMORY_MB, least_cpu_mhz

LABEL_JOB = "io.nunet.dms.job_id"
LABEL_NODE = "io.nunet.dms.node_id"
LABEL_MANAGED = "io.nunet.dms.managed"
LABEL_IMAGE = "io.nunet.dms.image"
LABEL_NETWORK = "io.nunet.dms.network"  # its value is the mark of the gateway that the job is in
LABEL_PART = "io.nunet.dms.part"  # of a container that is only a tool for a job's
LABEL_GATEWAY = "io.nunet.dms.gateway"  # of a gateway and its network; its value is the job's id
LABEL_GATEWAY_NODE = "io.nunet.dms.gateway_node"

UNPRIVILEGED = "65532:65532"  # "nonroot" of the distroless images; owns nothing on a usual host
WORKSPACE = "/workspace"  # where the original's images keep their work
MIB = 1024 * 1024
_SEARCHED = ("LD_LIBRARY_PATH", "XDG_CONFIG_HOME")  # lists of folders
_MOVING = ("proc", "dev")
_REAL_TIME = re.compile(r"RT(MIN(\+([1-9]|1[0-5]))?|MAX(-([1-9]|1[0-4]))?)")


class ContainerLimits(Struct, frozen=True, kw_only=True):
    """What the operator sets for all jobs. Sizes in MiB.

    The default user and the read-only root let most images work: home, /tmp and /workspace are writable
    and programs in them may run. An image that insists on root needs `image_user`, one that writes
    elsewhere `writable_root`; both give strangers more of the host (its disk has no quota here).
    """

    core_mhz: int  # of one of this host's cores: cpu_mhz / core_mhz is the number of cores
    cores: int
    image_user: bool = False
    writable_root: bool = False
    pids: int = 512
    open_files: int = 8_192
    shm_mb: int = 64
    volume_mb: int = 64  # for each VOLUME line of an image, where workspaces are not on the host
    log_mb: int = 64  # of output that the engine surely keeps in one piece; its two files take a little over twice that


def container_config(
    api: APIClient,
    spec: ExecutionSpec,
    limits: ContainerLimits,
    image: Mapping[str, Any],
    volumes: tuple[str, ...],
    mounts: Sequence[Mount],
    gateway: str = "",
    runtime: str = "",
    part: str = "",
) -> dict[str, Any]:
    """The body of `create`. image: as the engine describes it. volumes: paths of the image's VOLUME lines. mounts: of
    the workspace, and of volumes. Those that have none are the container's own and end with it. gateway: the mark of
    the one that the job is in, which begins with its container's id; the job's host name is that one's. runtime: empty
    for the engine's own. part: of a container that is only a tool."""
    return dict(
        api.create_container_config(
            image=image["Id"],
            command=list(spec.arguments),
            hostname=None if gateway else "job",
            user="" if limits.image_user else UNPRIVILEGED,
            environment=_environment(spec, image["Config"].get("Env") or ()),
            labels=labels(spec, part=part, network=gateway),
            healthcheck=Healthcheck(test=["NONE"]),
            stop_signal=stop_signal(image["Config"]),
            host_config=_host_config(api, spec, limits, volumes, mounts, gateway, runtime),
        )
    )


def labels(spec: ExecutionSpec, *, part: str = "", network: str = "") -> dict[str, str]:
    """All that we have, empty ones too: an image's LABEL lines count for each that its container is not given."""
    return {
        LABEL_JOB: spec.job_id,
        LABEL_NODE: spec.node_id,
        LABEL_MANAGED: "true",
        LABEL_IMAGE: spec.image,
        LABEL_PART: part,
        LABEL_NETWORK: network,
        LABEL_GATEWAY: "",
        LABEL_GATEWAY_NODE: "",
    }


def cpu_count(cpu_mhz: int, limits: ContainerLimits) -> float:
    """Cores for cpu_mhz: never more than the host has, never less than Docker can give."""
    return min(max(cpu_mhz / max(limits.core_mhz, 1), LEAST_CORES), float(max(limits.cores, 1)))


def too_little(spec: ExecutionSpec, limits: ContainerLimits) -> str:
    """What the engine could only give more of than was asked for, and paid."""
    if spec.memory_mb < LEAST_MEMORY_MB:
        return f"{spec.memory_mb} MB of RAM asked, a container has at least {LEAST_MEMORY_MB}"
    least = least_cpu_mhz(limits.core_mhz)
    return f"{spec.cpu_mhz} MHz CPU asked, a container has at least {least} here" if spec.cpu_mhz < least else ""


def workspace_mb(spec: ExecutionSpec) -> int:
    """A tmpfs counts against the job's memory, so half of it is a bound that can't hurt the host."""
    return max(max(spec.memory_mb, LEAST_MEMORY_MB) // 2, 1)


def _host_config(
    api: APIClient,
    spec: ExecutionSpec,
    limits: ContainerLimits,
    volumes: tuple[str, ...],
    mounts: Sequence[Mount],
    gateway: str,
    runtime: str,
) -> HostConfig:
    memory = max(spec.memory_mb, LEAST_MEMORY_MB) * MIB
    return api.create_host_config(
        privileged=False,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true", f"seccomp={seccomp_profile()}"],
        pids_limit=limits.pids,
        mem_limit=memory,
        memswap_limit=memory,  # equal: no swap
        oom_score_adj=500,
        nano_cpus=int(cpu_count(spec.cpu_mhz, limits) * 1e9),
        cpu_shares=128,
        read_only=not limits.writable_root,
        tmpfs=_scratch(workspace_mb(spec), limits, volumes, {str(mount["Target"]) for mount in mounts}),
        mounts=list(mounts),
        network_mode=f"container:{gateway.partition(' ')[0]}" if gateway else "none",
        ipc_mode="private",
        shm_size=limits.shm_mb * MIB,
        cgroupns="private",
        ulimits=_ulimits(limits),
        log_config=_log_config(limits),
        init=True,
        restart_policy={"Name": "no"},
        auto_remove=False,
        runtime=runtime or None,
        device_requests=_gpus(spec.gpu_uuids),
    )


def _log_config(limits: ContainerLimits) -> LogConfig:
    """`local` keeps every byte, where `json-file` damages characters at its cuts of long lines. "non-blocking" would
    drop lines of a busy job. One file holds all that is kept of the output, so none is lost to a reader who comes
    late; a percent and a MiB are for what the driver adds to parts of long lines."""
    size = limits.log_mb * MIB * 101 // 100 + MIB
    config = {"max-size": str(size), "max-file": "2", "compress": "false", "mode": "blocking"}
    return LogConfig(type="local", config=config)


def _scratch(half: int, limits: ContainerLimits, volumes: tuple[str, ...], mounted: Collection[str]) -> dict[str, str]:
    """half: of the job's memory, in MiB. mounted: paths that have a mount. Programs in it may run, as in the image's
    own file system."""
    options = "mode=1777,nosuid,nodev,exec"
    wanted = dict.fromkeys(volumes, f"size={limits.volume_mb}m,{options},nr_inodes=8192")
    wanted |= dict.fromkeys(("/tmp", WORKSPACE), f"size={half}m,{options},nr_inodes=65536")  # noqa: S108  # its own
    return {path: how for path, how in wanted.items() if path not in mounted}


def stop_signal(config: Mapping[str, Any]) -> str:
    """The image's STOPSIGNAL, a name or a number, if it is one; else SIGTERM."""
    named = str(config.get("StopSignal") or "").upper()
    if named.isascii() and named.isdecimal():
        return named if 0 < int(named) <= signal.SIGRTMAX else "SIGTERM"
    short = named.removeprefix("SIG")
    known = _REAL_TIME.fullmatch(short) or f"SIG{short}" in signal.Signals.__members__
    return f"SIG{short}" if known else "SIGTERM"


def _ulimits(limits: ContainerLimits) -> list[Ulimit]:
    """No nproc: it counts per user on the whole host, and all jobs share theirs."""
    values = {"nofile": limits.open_files, "core": 0, "memlock": 65_536, "msgqueue": 0}
    return [Ulimit(name=name, soft=value, hard=value) for name, value in values.items()]


def _gpus(uuids: tuple[str, ...]) -> list[DeviceRequest] | None:
    if not uuids:
        return None
    return [DeviceRequest(driver="nvidia", device_ids=list(uuids), capabilities=[["gpu", "compute", "utility"]])]


def _environment(spec: ExecutionSpec, images: Sequence[str]) -> list[str]:
    """Ours come last and win: a GPU hook on the host may run with all of it, in the image's root folder. It would load
    what LD_PRELOAD and LD_AUDIT name (CVE-2025-23266), look for its libraries and its configuration there, and an
    NVIDIA_VISIBLE_DEVICES would take GPUs that were not granted. images: its own, as NAME=value."""
    asked = {"HOME": WORKSPACE, **dict(spec.environment), **dict(spec.secrets.values)}
    all_of_it = dict(item.partition("=")[::2] for item in images) | asked
    environment = {
        **asked,
        **{name: _fixed_folders(all_of_it[name]) for name in _SEARCHED if name in all_of_it},
        "LD_PRELOAD": "",
        "LD_AUDIT": "",
        "NVIDIA_VISIBLE_DEVICES": ",".join(spec.gpu_uuids) or "void",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility" if spec.gpu_uuids else "",
    }
    return [f"{name}={value}" for name, value in environment.items()]


def _fixed_folders(searched: str) -> str:
    """Without those that are elsewhere for each program: below its working folder, /proc and /dev/fd."""
    return ":".join(folder for folder in searched.split(":") if folder.startswith("/") and _top(folder) not in _MOVING)


def _top(path: str) -> str:
    return posixpath.normpath(path).lstrip("/").partition("/")[0]


def seccomp_profile() -> str:
    """Our allow-list of system calls, as JSON: unlike Docker 20.10's own it closes io_uring, vsock,
    ptrace and user namespaces."""
    return files("dms.adapters.executors").joinpath("seccomp.json").read_text("utf-8")
