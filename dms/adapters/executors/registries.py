"""Whether a registry has an image, asked through the engine before anything is fetched or paid.

The engine tells the manifest's digest and the platforms, not how many bytes the layers have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from docker import APIClient
from docker.errors import APIError
from msgspec import Struct

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.engine_words import words_of
from dms.adapters.executors.pulls import failure
from dms.application.ports.images import ImageFound, at_will
from dms.domain.image import ImageReference, host_of
from dms.errors import ExecutorUnavailable, ImageUnavailable, NotFound, RegistryUnavailable
from dms.lookups import InTrouble, Turns
from dms.recent import Recent

TURN_SECONDS, ASK_SECONDS = 2.0, 5.0  # the longest wait for a turn, and for an answer
KNOWN_SECONDS, TROUBLE_SECONDS = 60.0, 5.0  # how long an answer holds; and that a registry is in trouble
MOST_KNOWN, MOST_ASKED = 512, 4  # answers kept; questions at once
HUB = "docker.io"
MOST_TOLD = 16  # architectures
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname's words, as images say it
_ARCHITECTURE = re.compile("[a-z0-9]{1,16}")  # what a registry says is no text for others

Answer = ImageFound | ImageUnavailable


class NotAsked(Exception):
    """The answer is not known, and the registry may not be asked now."""


class _Platform(Struct):
    architecture: str | None = None


class _Descriptor(Struct):
    digest: str | None = None


class _Manifest(Struct):
    """What the engine tells of an image at a registry. Source: Docker Engine API 1.41, "Get image information from the
    registry"."""

    descriptor: _Descriptor | None = msgspec.field(name="Descriptor", default=None)
    platforms: list[_Platform] | None = msgspec.field(name="Platforms", default=None)


class Registries:
    def __init__(self, calls: EngineCalls, *, sign_in: bool) -> None:
        """sign_in: with the credentials of this machine's user."""
        self._calls, self._sign_in = calls, sign_in
        self._known = Recent[str, tuple[float, Answer]](MOST_KNOWN)  # and until when, by the loop's clock
        self._turns, self._hubs_turns = Turns(MOST_ASKED), Turns(MOST_ASKED, MOST_ASKED)

    async def find(self, reference: ImageReference, may_ask: Callable[[], bool] = at_will) -> ImageFound:
        """may_ask: looked at only where the answer is not known. Raises ImageUnavailable, RegistryUnavailable,
        NotAsked."""
        clock, name = asyncio.get_running_loop().time, str(reference)
        until, answer = self._known.get(name, (0.0, ImageFound(present=False)))
        if until <= clock():
            if not may_ask():
                raise NotAsked
            answer = await self._ask(reference)
            holds = TROUBLE_SECONDS if isinstance(answer, RegistryUnavailable) else KNOWN_SECONDS
            self._known[name] = clock() + holds, answer
        if isinstance(answer, ImageUnavailable):
            raise answer
        return answer

    async def _ask(self, reference: ImageReference) -> Answer:
        credentials: dict[str, Any] | None = None if self._sign_in else {}

        def ask(api: APIClient) -> Answer:
            try:
                answer = api.inspect_distribution(str(reference), credentials)  # type: ignore[no-untyped-call]
                return _read(reference, answer, api.version())
            except APIError as error:
                return failure(reference, words_of(error), error.status_code or 0)

        try:
            async with self._turn(reference.registry), asyncio.timeout(ASK_SECONDS):
                return await self._calls.within(ASK_SECONDS, f"ask for image {reference}", ask)
        except NotFound as error:
            return ImageUnavailable(str(error))
        except (TimeoutError, InTrouble, ExecutorUnavailable):
            return RegistryUnavailable(
                f"image {reference}: its registry {reference.registry} did not answer within {ASK_SECONDS:g} s"
            )

    @asynccontextmanager
    async def _turn(self, registry: str) -> AsyncIterator[None]:
        """Anybody may name a registry of his own that never answers: it holds up no other's. Raises InTrouble,
        TimeoutError."""
        turns, host = self._hubs_turns if registry == HUB else self._turns, host_of(registry)
        async with asyncio.timeout(TURN_SECONDS):
            await turns.begin(host)
        try:
            yield
        except TimeoutError:
            if registry != HUB:
                turns.hung(host)
            raise
        finally:
            turns.end(host)


def _read(reference: ImageReference, answer: dict[str, Any], engine: dict[str, Any]) -> Answer:
    """Raises ExecutorUnavailable."""
    try:
        manifest = msgspec.convert(answer, _Manifest)
    except msgspec.ValidationError as error:
        raise ExecutorUnavailable(f"Docker tells of image {reference} in a way that can't be read: {error}") from error
    said = {platform.architecture or "" for platform in manifest.platforms or ()}
    built_for = {
        architecture if _ARCHITECTURE.fullmatch(architecture) else "unknown" for architecture in said if architecture
    }
    ours = ARCHITECTURES.get(engine["Arch"], engine["Arch"])
    if built_for - {"unknown"} and ours not in built_for:
        told = ", ".join(sorted(built_for - {"unknown"})[:MOST_TOLD])
        return ImageUnavailable(f"image {reference} is built for {told}, this machine is {ours}")
    return ImageFound(present=False, digest=(manifest.descriptor or _Descriptor()).digest or "")
