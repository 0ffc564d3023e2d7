"""The disk of the engine's images, while one is pulled: a layer of a few megabytes can unpack to any size, of which the
engine tells nothing beforehand."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from typing import Any

from docker import APIClient

from dms.adapters.executors.calls import EngineCalls
from dms.application.tasks import cancelled, either
from dms.domain.image import ImageReference
from dms.errors import NoRoomForImage

LEAST_FREE_BYTES = 512 * 1024 * 1024
LOOK_SECONDS = 0.2


async def while_there_is_room(
    calls: EngineCalls, reference: ImageReference, pulling: Coroutine[Any, Any, None]
) -> None:
    """Cancels the pull, whereupon the engine removes what it has of it, when too little is left. Raises
    NoRoomForImage, and what the pull raises."""
    pull = asyncio.create_task(pulling, name=f"pull {reference}")
    try:
        await either(pull, _until_full(calls))
        if not pull.done():
            raise NoRoomForImage(f"image {reference} can't be pulled: it would fill the provider's disk")
        pull.result()
    finally:
        await cancelled(pull)


async def _until_full(calls: EngineCalls) -> None:
    """For ever where the disk can't be seen from here."""
    root = str((await calls.ask("tell where its images are", APIClient.info)).get("DockerRootDir") or "")
    while (free := await asyncio.to_thread(_free_bytes, root)) is None or free >= LEAST_FREE_BYTES:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(LOOK_SECONDS)


def _free_bytes(path: str) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None
