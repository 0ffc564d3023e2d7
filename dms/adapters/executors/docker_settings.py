"""How the executor `docker` is set up."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from dms.adapters.executors.gateways import GatewaySettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import ContainerLimits
from dms.adapters.executors.runtimes import Wanted


class DockerSettings(Struct, frozen=True, kw_only=True):
    """workspaces: a folder of this host for them. workspace_volumes: they may be volumes of the engine, where they
    can't be on this host. With neither each is inside of its container, without checkpoints and results.
    base_url empty: DOCKER_HOST, else the system's socket. With `sign_in` pulls use this user's registry
    credentials, which lets any job run every image that they can reach: set an allow list with it."""

    limits: ContainerLimits
    policy: ImagePolicy = ImagePolicy()
    workspaces: Path | None = None
    workspace_volumes: bool = False
    base_url: str = ""
    runtime: Wanted = "auto"  # of jobs without a network and a GPU
    network: Literal["auto", "internet", "none"] = "auto"  # whether jobs are given the internet
    sandbox_accept: tuple[str, ...] = ()  # names of a sandbox test's rows that may fail
    gateways: GatewaySettings = GatewaySettings()
    sign_in: bool = False
    max_image_mb: int = 20_480
    pull_seconds: float = 1_800.0  # for a whole pull, with all its tries
    patience_seconds: float = 30.0  # how long a registry's passing trouble is borne
    silent_seconds: float = 300.0  # a pull that tells nothing for so long is stuck; unpacking may be silent
    call_seconds: float = 10.0
    work_seconds: float = 60.0
    quiet_seconds: float = 30.0  # a log this long without a line is checked for being stuck
