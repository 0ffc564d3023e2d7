"""The engine's images: found, pulled with patience, checked against the operator's policy, removed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from docker.auth import get_config_header
from msgspec.structs import replace

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.docker_settings import DockerSettings
from dms.adapters.executors.engine import Engine
from dms.adapters.executors.engine_disk import while_there_is_room
from dms.adapters.executors.host_network import own_addresses
from dms.adapters.executors.images import inner_registry, parse_reference
from dms.adapters.executors.pulls import Pull, not_given, steps
from dms.adapters.executors.registries import ARCHITECTURES, NotAsked, Registries
from dms.adapters.executors.volumes import volume_paths
from dms.application.ports.images import ImageFound, PreparedImage, PullProgress, at_will
from dms.backoff import Backoff
from dms.domain.image import ImageReference, host_of
from dms.domain.inner_addresses import is_inner_address
from dms.errors import ExecutionError, ImageUnavailable, NoRoomForImage, NotFound, RegistryUnavailable
from dms.lookups import LookUps
from dms.recent import Recent

logger = logging.getLogger(__name__)

_PULL_NEWS_SECONDS = 0.5
_PULL_PAUSES = (0.5, 10.0)  # seconds between two tries: the first, and the longest
_ENGINES_WORDS = frozenset({"exitCode", "signal"})
_MOST_PUBLIC = 4_096
_MOST_PULLS = 32  # each is a connection; the engine itself bounds what it downloads at once


class EngineImages:
    """The policy holds for each image that is asked for, whether it is here or pulled."""

    def __init__(self, settings: DockerSettings, calls: EngineCalls, engine: Engine) -> None:
        self._settings, self._calls, self._engine = settings, calls, engine
        self._registries = Registries(calls, sign_in=settings.sign_in)
        self._lookups = LookUps()
        self._public = Recent[str, None](_MOST_PUBLIC)  # ids of images that anybody can have
        self._pulling = asyncio.Semaphore(_MOST_PULLS)

    async def find(self, reference: ImageReference) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._calls.ask(
                f"inspect image {reference}",
                lambda api: api.inspect_image(str(reference)),  # type: ignore[no-untyped-call]  # of types-docker
            )
        except NotFound:
            return None
        return found

    async def present(self, reference: ImageReference) -> dict[str, Any]:
        """Raises ImageUnavailable when it was not prepared."""
        if (image := await self.find(reference)) is None:
            raise ImageUnavailable(f"image {reference} is not on this machine: prepare it first")
        return image

    async def prepare(self, reference: ImageReference, *, for_stranger: bool = False) -> PreparedImage:
        self._settings.policy.check(reference)
        image = await self.find(reference)
        if image is not None:
            await self.check(reference, image)
            if for_stranger:
                await self._check_public(reference, image)
            return _prepared(reference, image, fetched=False)
        await self._pull(reference, Pull())
        if (image := await self.find(reference)) is None:
            raise ImageUnavailable(f"image {reference} was pulled, but the engine does not have it")
        try:
            await self.check(reference, image)
        except ImageUnavailable:
            await self._drop_image(reference)
            raise
        self._public[str(image["Id"])] = None
        return _prepared(reference, image, fetched=True)

    async def find_anywhere(
        self, reference: ImageReference, *, for_stranger: bool = False, may_ask: Callable[[], bool] = at_will
    ) -> ImageFound:
        """Here, or at its registry. Raises ImageUnavailable."""
        self._settings.policy.check(reference)
        image = await self.find(reference)
        try:
            if image is None:
                return await self._find_at_registry(reference, may_ask)
            await self.check(reference, image)
            if for_stranger:
                await self._check_public(reference, image, may_ask)
        except NotAsked:  # whether it is here is not told either
            return ImageFound(present=False)
        return ImageFound(present=True, digest=_digest(reference, image))

    async def _find_at_registry(self, reference: ImageReference, may_ask: Callable[[], bool]) -> ImageFound:
        await self._check_registry(reference)
        found = await self._registries.find(reference, may_ask)
        self._settings.policy.check(reference, [found.digest])
        return found

    async def pull(self, reference: ImageReference, image: str) -> AsyncGenerator[PullProgress, None]:
        """Tells how far it came. image: the name in what is told."""
        self._settings.policy.check(reference)
        if await self.find(reference) is not None:
            yield PullProgress(image=image, status="present")
            return
        state = Pull()
        pulling = asyncio.create_task(self._pull(reference, state), name=f"pull {reference}")
        try:
            told = (0, 0)
            while not (await asyncio.wait({pulling}, timeout=_PULL_NEWS_SECONDS))[0]:
                if (now := state.megabytes()) != told:
                    told = now
                    yield PullProgress(image=image, status="pulling", done_mb=now[0], total_mb=now[1])
            pulling.result()
        finally:
            pulling.cancel()
        done, total = state.megabytes()
        yield PullProgress(image=image, status="pulled", done_mb=done, total_mb=total)

    async def check(self, reference: ImageReference, image: dict[str, Any]) -> None:
        self._settings.policy.check(reference, _digests(image))
        image_volumes(reference, image)
        _check_labels(reference, image["Config"].get("Labels") or {})
        size_mb = int(image.get("Size") or 0) // (1024 * 1024)
        if size_mb > self._settings.max_image_mb:
            raise ImageUnavailable(
                f"image {reference} has {size_mb} MiB, this provider takes {self._settings.max_image_mb}"
            )
        await self._check_architecture(reference, str(image.get("Architecture") or ""))

    async def _check_public(
        self, reference: ImageReference, image: dict[str, Any], may_ask: Callable[[], bool] = at_will
    ) -> None:
        """What its owner built here, or pulled with a password, is nobody else's, and nobody is told that it is here.
        Raises ImageUnavailable, as for one that is not; NotAsked."""
        image_id, digests = str(image["Id"]), _digests(image)
        if image_id in self._public or self._settings.policy.names(reference, digests):
            return
        if not await self._gives(reference, digests[1:], may_ask):
            logger.info(
                "a local image was not given to a stranger: no registry gives it, and job.image_allow is silent"
            )
            raise not_given(reference)
        self._public[image_id] = None

    async def _gives(self, reference: ImageReference, digests: Sequence[str], may_ask: Callable[[], bool]) -> bool:
        """Whether the registry still has one of them, under whatever tag. Raises RegistryUnavailable, NotAsked."""
        for digest in filter(None, digests):
            await self._check_registry(reference)
            try:
                await self._registries.find(replace(reference, tag="", digest=digest), may_ask)
            except RegistryUnavailable:
                raise
            except ImageUnavailable:
                continue
            return True
        return False

    async def remove_superseded(self, image: str, image_ids: Sequence[str]) -> Sequence[str]:
        """Without force: the engine itself refuses to remove an image that a container has."""
        current = await self.find(parse_reference(image))
        if current is None:
            return ()
        replaced = [image_id for image_id in image_ids if image_id != current["Id"]]
        return [image_id for image_id in replaced if await self._remove_nameless(image_id)]

    async def _remove_nameless(self, image_id: str) -> bool:
        """Whether it was there and is gone now. One that somebody gave a name is somebody's."""
        try:
            found = await self._calls.ask(
                f"inspect image {image_id}",
                lambda api: api.inspect_image(image_id),  # type: ignore[no-untyped-call]  # of types-docker
            )
            if found.get("RepoTags"):
                return False
            await self._calls.work(f"remove image {image_id}", lambda api: api.remove_image(image_id, noprune=False))
        except NotFound:
            return False
        except ExecutionError as error:
            logger.info("the replaced image %s stays: %s", image_id, error)
            return False
        return True

    async def _check_architecture(self, reference: ImageReference, built_for: str) -> None:
        answer = await self._calls.ask(
            "tell its architecture",
            lambda api: api.version(),
        )
        ours = ARCHITECTURES.get(answer["Arch"], answer["Arch"])
        if built_for and built_for != ours:
            raise ImageUnavailable(f"image {reference} is built for {built_for}, this machine is {ours}")

    async def _drop_image(self, reference: ImageReference) -> None:
        """What was pulled only to be refused must not stay on the disk."""
        try:
            await self._calls.work(
                f"remove image {reference}",
                lambda api: api.remove_image(str(reference)),
            )
        except (ExecutionError, NotFound) as error:
            logger.info("the refused image %s stays: %s", reference, error)

    async def _pull(self, reference: ImageReference, state: Pull) -> None:
        """Tries again what may pass, with growing pauses, until nothing has come for the patience's time.
        Cancelling it ends the pull in the engine."""
        clock = asyncio.get_running_loop().time
        limit, backoff = self._settings.pull_seconds, Backoff(*_PULL_PAUSES)
        troubled_since, done = None, 0
        try:
            async with asyncio.timeout(limit):
                while True:
                    begun = clock()
                    try:
                        await self._check_registry(reference)
                        async with self._pulling:
                            once = self._pull_once(reference, state)
                            return await while_there_is_room(self._calls, reference, once)
                    except (RegistryUnavailable, NoRoomForImage) as error:
                        if troubled_since is None or state.bytes_done() > done:
                            troubled_since, done = begun, state.bytes_done()
                            backoff.reset()
                        if clock() - troubled_since + backoff.upcoming > self._settings.patience_seconds:
                            raise
                        # Whose image it is stays out of the log.
                        logger.info(
                            "a pull failed (%s); it is tried again in %g s", type(error).__name__, backoff.upcoming
                        )
                    await asyncio.sleep(backoff.next())
        except TimeoutError as error:
            raise RegistryUnavailable(f"image {reference} can't be pulled within {limit:g} s") from error

    async def _check_registry(self, reference: ImageReference) -> None:
        """Raises ImageUnavailable for a public name that leads into an inner network or to this machine,
        RegistryUnavailable for one that can't be looked up. The engine looks it up again: of a name that changes in
        between, and of a registry that sends the engine elsewhere, nothing is passed on (pulls.py), but it is asked."""
        if reference.registry == "docker.io" or self._settings.policy.names_registry(reference):
            return
        try:
            addresses = await self._lookups.addresses(host_of(reference.registry))
        except (OSError, UnicodeError) as error:
            raise RegistryUnavailable(f"image {reference}: {reference.registry} can't be looked up") from error
        own = own_addresses()
        if any(address in own or is_inner_address(address) for address in addresses):
            raise inner_registry(reference)

    async def _pull_once(self, reference: ImageReference, state: Pull) -> None:
        query = {"fromImage": reference.repository, "tag": reference.digest or reference.tag}
        version, silent = await self._calls.version(), self._settings.silent_seconds
        headers = await self._credentials(reference)
        clock = asyncio.get_running_loop().time
        try:
            async with (
                asyncio.timeout(silent) as limit,
                self._engine.ask(version, "POST", "/images/create", query, headers=headers) as answer,
                aclosing(steps(answer, reference, self._settings.max_image_mb, state)) as told,
            ):
                async for _ in told:
                    limit.reschedule(clock() + silent)
        except TimeoutError as error:
            await self._calls.ask("see whether it still answers", lambda api: api.ping())  # else it is not the registry
            raise RegistryUnavailable(f"image {reference} can't be pulled: nothing came for {silent:g} s") from error

    async def _credentials(self, reference: ImageReference) -> dict[str, str]:
        if not self._settings.sign_in:
            return {}
        registry = reference.repository.partition("/")[0]
        header = await self._calls.ask("read its credentials", lambda api: get_config_header(api, registry))
        return {"X-Registry-Auth": header.decode()} if header else {}


def image_volumes(reference: ImageReference, image: dict[str, Any]) -> tuple[str, ...]:
    return volume_paths(reference, image["Config"].get("Volumes") or ())


def _check_labels(reference: ImageReference, labels: Mapping[str, str]) -> None:
    """In what the engine tells of a container's end, its labels stand in place of the engine's own words."""
    if told := sorted(_ENGINES_WORDS.intersection(labels)):
        raise ImageUnavailable(
            f"image {reference} has the label {told[0]!r}, which hides how its container ends: build it without"
        )


def _digests(image: dict[str, Any]) -> list[str]:
    return [image["Id"], *(known.partition("@")[2] for known in image.get("RepoDigests") or ())]


def _prepared(reference: ImageReference, image: dict[str, Any], *, fetched: bool) -> PreparedImage:
    digest = _digest(reference, image)
    return PreparedImage(digest=digest, image=str(reference), image_id=str(image["Id"]), fetched=fetched)


def _digest(reference: ImageReference, image: dict[str, Any]) -> str:
    """The registry's digest, so that others can pull the same image; the local id if it was never pushed."""
    return reference.digest or next((d for d in _digests(image)[1:] if d), str(image["Id"]))
