"""What a container engine tells of itself."""

from __future__ import annotations

from msgspec import Struct


class EngineFacts(Struct, frozen=True, kw_only=True):
    """name: with its version, as in "Docker 20.10.24, runc 1.1.5, gVisor", of which the last is there where
    jobs can be given it. architecture, kernel: of the machine it runs on.
    runc: its version, empty where it is not told. security: options, by name. root: its folder there. warnings: its
    own."""

    name: str
    version: str = ""
    architecture: str = ""
    kernel: str = ""
    runc: str = ""
    cgroups: str = ""
    security: tuple[str, ...] = ()
    root: str = ""
    warnings: tuple[str, ...] = ()
