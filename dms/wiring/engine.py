"""The executor that runs jobs, from the settings."""

from __future__ import annotations

import logging
import os
import shutil
from ipaddress import IPv4Address
from pathlib import Path

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.gateways import GatewaySettings, job_range
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.process import ProcessExecutor, ProcessLimits
from dms.adapters.executors.profile import ContainerLimits
from dms.application.ports.executor import Executor
from dms.config import Job, Settings
from dms.domain import sandbox
from dms.domain.device import Capacity
from dms.errors import ConfigError

log = logging.getLogger("dms")

DOCKER_SOCKET = Path("/var/run/docker.sock")


def build_executor(settings: Settings, node_id: str, capacity: Capacity) -> Executor:
    kind = settings.job.executor
    if kind == "auto":
        kind = "docker" if _has_docker() else "process"
        if kind == "process":
            log.warning("no Docker engine is installed: jobs of other peers are refused (see job.executor)")
    if kind == "docker":
        return _build_docker_executor(settings, node_id, capacity)
    limits = ProcessLimits(output_mb=settings.job.log_max_mb + 1)  # the mark of the output store comes first
    folder, gives_internet = settings.general.data_dir / "processes", settings.job.network != "none"
    return ProcessExecutor(node_id, folder, limits, gives_internet=gives_internet)


def _build_docker_executor(settings: Settings, node_id: str, capacity: Capacity) -> DockerExecutor:
    job = settings.job
    limits = ContainerLimits(
        core_mhz=max(1, capacity.cpu_mhz // max(1, capacity.cores)),
        cores=capacity.cores,
        image_user=job.run_as_image_user,
        log_mb=job.log_max_mb,
    )
    wanted = DockerSettings(
        limits=limits,
        policy=ImagePolicy(job.image_allow, job.image_deny),
        workspaces=settings.general.data_dir.resolve() / "workspaces",
        workspace_volumes=True,
        patience_seconds=job.answer_timeout,
        runtime=job.runtime,
        network=job.network,
        gateways=gateway_settings(job),
        sandbox_accept=sandbox_accept(job),
    )
    return DockerExecutor(node_id, wanted)


def sandbox_accept(job: Job) -> tuple[str, ...]:
    """Raises ConfigError."""
    if wrong := [name for name in job.sandbox_accept if name not in sandbox.ALL_NAMES]:
        raise ConfigError(
            f"job.sandbox_accept: {wrong[0]!r} is no row of the sandbox's test: {', '.join(sandbox.NAMES)}, "
            f"each also with {sandbox.GVISOR}- before it"
        )
    return job.sandbox_accept


def gateway_settings(job: Job) -> GatewaySettings:
    """Raises ConfigError."""
    try:
        resolver = IPv4Address(job.resolver) if job.resolver else None
        if resolver is not None and (resolver.is_loopback or resolver.is_unspecified):
            raise ValueError(f"{resolver} is each machine's own, and no other's")
    except ValueError as error:
        raise ConfigError(f"job.resolver: expected the IPv4 address of a name server: {error}") from error
    try:
        return GatewaySettings(range=job_range(job.network_range), resolver=resolver, max_mb=job.network_max_mb)
    except ValueError as error:
        raise ConfigError(f"job.network_range: expected a private network, /8 to /29: {error}") from error


def _has_docker() -> bool:
    """Installed, not: answering now. An engine that starts after us must not change what we are."""
    return "DOCKER_HOST" in os.environ or DOCKER_SOCKET.exists() or shutil.which("dockerd") is not None
