"""Container images: what is on this machine, what a registry has, and pulls."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from msgspec import Struct


class PreparedImage(Struct, frozen=True, kw_only=True):
    """digest: the registry's, so that others can pull the same. image: the whole name. image_id: the engine's
    own. fetched: it was not here before."""

    digest: str
    image: str = ""
    image_id: str = ""
    fetched: bool = False


def at_will() -> bool:
    """A registry may be asked at any time."""
    return True


class ImageFound(Struct, frozen=True, kw_only=True):
    """present: it is on this machine; if not, its registry has it for a machine like this one. digest: of its manifest,
    as the registry has it; empty when it was not asked."""

    present: bool
    digest: str = ""


class PullProgress(Struct, frozen=True, kw_only=True):
    """status: "present" (it was here), "pulling", "pulled" or "failed". Of the layers announced so far."""

    image: str
    status: str
    done_mb: int = 0
    total_mb: int = 0
    error: str = ""


class ImageStore(Protocol):
    """The images on this machine. Raises ExecutorUnavailable when the engine is away."""

    async def has(self, image: str) -> bool: ...

    def pull(self, image: str) -> AsyncGenerator[PullProgress, None]:
        """Ends with "present" or "pulled". Raises ImageUnavailable. Closing it ends the pull."""
