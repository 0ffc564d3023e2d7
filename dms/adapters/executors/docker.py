"""The executor `docker`: one hardened container per job, found again by its name and labels.

Everything may be repeated, also by the next process after a crash: the name `dms-<job id>` is taken once,
and Docker starts an exited container again if asked, so `start` only ever starts a `created` one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.auth import get_config_header
from msgspec import Struct

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.engine import DEFAULT_BASE_URL, Engine, engine_address, payloads
from dms.adapters.executors.images import ImagePolicy, inner_registry, parse_reference
from dms.adapters.executors.output import (
    CursorTracker,
    FrameReader,
    LineAssembler,
    Record,
    Seeker,
    batches,
    log_allowance,
)
from dms.adapters.executors.pack import pack
from dms.adapters.executors.profile import (
    LABEL_JOB,
    LABEL_MANAGED,
    LABEL_NODE,
    UNPRIVILEGED,
    WORKSPACE,
    ContainerLimits,
    container_config,
    stop_signal,
    too_little,
    workspace_mb,
)
from dms.adapters.executors.pulls import Pull, steps
from dms.adapters.executors.threads import stoppable
from dms.adapters.executors.volumes import Room, copied_paths, copier_config, is_below, volume_paths
from dms.adapters.executors.workspace_archive import Owner
from dms.adapters.executors.workspaces import Workspaces
from dms.application.ports import (
    Execution,
    ExecutionSpec,
    ExecutionState,
    OutputCursor,
    OutputLine,
    PackedWorkspace,
    PreparedImage,
    PullProgress,
)
from dms.domain.image import ImageReference, host_of, is_inner_address
from dms.errors import (
    ExecutionError,
    ExecutorUnavailable,
    GpuUnavailable,
    ImageUnavailable,
    InvalidInput,
    NoRoomForImage,
    NotFound,
    RegistryUnavailable,
)

logger = logging.getLogger(__name__)

__all__ = ["DEFAULT_BASE_URL", "DockerExecutor", "DockerSettings"]

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_STATES = {
    "created": ExecutionState.CREATED,
    "running": ExecutionState.RUNNING,
    "paused": ExecutionState.RUNNING,
    "restarting": ExecutionState.RUNNING,
    "exited": ExecutionState.EXITED,
    "dead": ExecutionState.EXITED,
    "removing": ExecutionState.EXITED,
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname's words, as images say it
_GPU_TROUBLE = ("could not select device driver", "nvidia-container", "unresolvable cdi devices", "unknown device")
_UNTIL_KILLED_SECONDS = 10.0
_PULL_NEWS_SECONDS = 0.5
_PULL_PAUSES = (0.5, 10.0)  # seconds between two tries: the first, and the longest
_LOOKUP_SECONDS = 5.0
_MOST_PULLS = 32  # each is a connection; the engine itself bounds what it downloads at once
_START_POLL_SECONDS = 0.1
_REREAD_SECONDS = 0.2
OUTPUT_LOST = "[dms] output is missing here: the container engine no longer has all lines that the job printed"


class DockerSettings(Struct, frozen=True, kw_only=True):
    """workspaces: a folder of this host for them, None: each is inside of its container, without checkpoints.
    base_url empty: DOCKER_HOST, else the system's socket. With `sign_in` pulls use this user's registry
    credentials, which lets any job run every image that they can reach: set an allow list with it."""

    limits: ContainerLimits
    policy: ImagePolicy = ImagePolicy()
    workspaces: Path | None = None
    base_url: str = ""
    sign_in: bool = False
    max_image_mb: int = 20_480
    pull_seconds: float = 1_800.0  # for a whole pull, with all its tries
    patience_seconds: float = 30.0  # how long a registry's passing trouble is borne
    silent_seconds: float = 300.0  # a pull that tells nothing for so long is stuck; unpacking may be silent
    call_seconds: float = 10.0
    work_seconds: float = 60.0
    quiet_seconds: float = 30.0  # a log this long without a line is checked for being stuck


class DockerExecutor:
    """node_id: only containers with this label are ours. Close it when done."""

    name = "docker"

    def __init__(self, node_id: str, settings: DockerSettings) -> None:
        self._node_id = node_id
        self._settings = settings
        self._address = engine_address(settings.base_url)
        self._calls = EngineCalls(self._address, settings.call_seconds, settings.work_seconds)
        self._engine = Engine(self._address, settings.call_seconds)
        self._locks: dict[str, asyncio.Lock] = {}
        self._pulling = asyncio.Semaphore(_MOST_PULLS)
        self._workspaces = Workspaces(settings.workspaces, self._address.path) if settings.workspaces else None
        self._told_trouble = False

    def objection(self, spec: ExecutionSpec) -> str:
        try:
            self._settings.policy.check(parse_reference(spec.image))
        except ImageUnavailable as error:
            return str(error)
        return too_little(spec, self._settings.limits)

    async def check(self) -> None:
        """Raises ExecutorUnavailable, naming the socket, when the daemon does not answer."""
        await self._calls.ask("answer a ping", APIClient.ping)

    async def prepare(self, spec: ExecutionSpec) -> PreparedImage:
        reference = parse_reference(spec.image)
        self._settings.policy.check(reference)
        image = await self._find_image(reference)
        if image is not None:
            await self._check_image(reference, image)
            return _prepared(reference, image, fetched=False)
        await self._pull(reference, Pull())
        if (image := await self._find_image(reference)) is None:
            raise ImageUnavailable(f"image {reference} was pulled, but the engine does not have it")
        try:
            await self._check_image(reference, image)
        except ImageUnavailable:
            await self._drop_image(reference)
            raise
        return _prepared(reference, image, fetched=True)

    async def fill(self, spec: ExecutionSpec, archive: Path | None, max_bytes: int) -> None:
        _container_name(spec.job_id)
        image = await self._find_image(parse_reference(spec.image))
        if image is None:
            raise ImageUnavailable(f"image {spec.image} is not on this machine: prepare it first")
        async with self._lock(spec.job_id):
            if await self._workspace(spec, image, archive, max_bytes) is None and archive is not None:
                raise ExecutionError("this provider can't start a job from a checkpoint")

    async def pack(self, job_id: str, into: Path, max_bytes: int, known_state: str = "") -> PackedWorkspace | None:
        _container_name(job_id)
        found = self._workspaces.find(job_id) if self._workspaces else None
        if found is None:
            return None
        return await stoppable(lambda stopped: pack(found, into, max_bytes, known_state, stopped))

    async def has(self, image: str) -> bool:
        return await self._find_image(parse_reference(image)) is not None

    async def pull(self, image: str) -> AsyncGenerator[PullProgress, None]:
        """Fetches an image ahead of any job, under the same policy."""
        reference = parse_reference(image)
        self._settings.policy.check(reference)
        if await self.has(image):
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

    async def create(self, spec: ExecutionSpec) -> str:
        """Runs the very image that is checked here, whatever its tag means a moment later."""
        name = _container_name(spec.job_id)
        reference = parse_reference(spec.image)
        async with self._lock(spec.job_id):
            if (found := await self._find(spec.job_id)) is not None:
                return str(found["Id"])
            image = await self._find_image(reference)
            if image is None:
                raise ImageUnavailable(f"image {reference} is not on this machine: prepare it first")
            await self._check_image(reference, image)
            volumes = _volumes(reference, image)
            room = await self._workspace(spec, image)
            limits, signal = self._settings.limits, stop_signal(image["Config"])
            created = await self._calls.work(
                f"create {name}",
                lambda api: api.create_container_from_config(  # type: ignore[no-untyped-call]  # of types-docker
                    container_config(api, spec, limits, image["Id"], signal, volumes, room.binds if room else {}), name
                ),
            )
            return str(created["Id"])

    async def start(self, job_id: str) -> None:
        async with self._lock(job_id):
            if (found := await self._find(job_id)) is None:
                return
            execution = _execution(found)
            wants_gpu = bool(found["HostConfig"].get("DeviceRequests"))
            if execution.error and not execution.started_at:
                raise _refused(f"job {job_id} can't start: {execution.error}", wants_gpu=wants_gpu)
            if execution.state is ExecutionState.CREATED:
                try:
                    await self._calls.work(f"start job {job_id}", lambda api: api.start(found["Id"]))
                except ExecutionError as error:
                    raise _refused(str(error), wants_gpu=wants_gpu) from error

    async def inspect(self, job_id: str) -> Execution:
        found = await self._find(job_id)
        return Execution(state=ExecutionState.ABSENT) if found is None else _execution(found)

    async def follow(self, job_id: str, after: OutputCursor | None) -> AsyncGenerator[Sequence[OutputLine], None]:
        """Raises ExecutorUnavailable when the engine goes away.

        The log is read from its beginning and skipped up to the cursor: the engine's own `since` compares
        times, which are not in the log's order. A connection that ends before the job does is made anew.
        What the engine may have lost is not passed over in silence: a line stands in its place.
        """
        if (container := await self._until_started(job_id)) is None:
            return
        tracker = CursorTracker(after)
        while True:
            was_over = (await self.inspect(job_id)).state is not ExecutionState.RUNNING
            reading = _Reading()
            try:
                async with aclosing(self._read_log(container, tracker.cursor, reading)) as lines:
                    async for some in lines:
                        tracker.advance(some)
                        for batch in batches(some):
                            yield batch
                if reading.cut:
                    while (await self.inspect(job_id)).state is ExecutionState.RUNNING:
                        await self._exits_within(container, self._settings.quiet_seconds)
                    return
                if reading.finished and (was_over or await self._is_complete(job_id, container, reading)):
                    if reading.lost:
                        yield [_lost_before(time.time_ns())]
                    if reading.rest:
                        yield reading.rest
                    return
            except NotFound:
                return  # removed meanwhile: there is nothing more to read
            await asyncio.sleep(_REREAD_SECONDS)
            logger.info("reading the output of job %s again: the engine's stream ended early", job_id)

    async def stop(self, job_id: str, grace_seconds: float) -> None:
        found = await self._find(job_id)
        if found is None or _execution(found).state is not ExecutionState.RUNNING:
            return
        container = str(found["Id"])
        await self._signal(container, stop_signal(found["Config"]))
        if await self._exits_within(container, grace_seconds):
            return
        await self._signal(container, "SIGKILL")
        if not await self._exits_within(container, _UNTIL_KILLED_SECONDS):
            raise ExecutorUnavailable(f"job {job_id} still runs {_UNTIL_KILLED_SECONDS:g} s after SIGKILL")

    async def remove(self, job_id: str) -> None:
        """Kills it if it runs. Its log, scratch and anonymous volumes go with it."""
        async with self._lock(job_id):
            if self._workspaces is not None:
                await self._remove_copier(job_id)
            found = await self._find(job_id)
            if found is not None:
                try:
                    await self._calls.work(
                        f"remove job {job_id}",
                        lambda api: api.remove_container(found["Id"], v=True, force=True),
                    )
                except NotFound:
                    logger.debug("job %s was removed by someone else", job_id)
                except ExecutionError:  # someone else is just removing it?
                    if not await self._comes_to(str(found["Id"]), "removed", _UNTIL_KILLED_SECONDS):
                        raise
            if self._workspaces is not None:
                await asyncio.to_thread(self._workspaces.remove, job_id)
        self._locks.pop(job_id, None)

    async def remove_superseded(self, image: str, image_ids: Sequence[str]) -> Sequence[str]:
        """Without force: the engine itself refuses to remove an image that a container has."""
        current = await self._find_image(parse_reference(image))
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

    async def list_jobs(self) -> Sequence[str]:
        wanted = [f"{LABEL_MANAGED}=true", f"{LABEL_NODE}={self._node_id}"]
        found = await self._calls.ask(
            "list containers", lambda api: api.containers(all=True, filters={"label": wanted})
        )
        kept = await asyncio.to_thread(self._workspaces.jobs) if self._workspaces else ()
        return sorted({*(container["Labels"][LABEL_JOB] for container in found), *kept})

    async def close(self) -> None:
        self._calls.close()

    # --- containers ---

    def _lock(self, job_id: str) -> asyncio.Lock:
        return self._locks.setdefault(job_id, asyncio.Lock())

    async def _find(self, job_id: str) -> dict[str, Any] | None:
        """What the engine says of this job's container. Raises ExecutionError for a stranger's of that name."""
        name = _container_name(job_id)
        try:
            found: dict[str, Any] = await self._calls.ask(f"inspect {name}", lambda api: api.inspect_container(name))
        except NotFound:
            return None
        labels = found["Config"].get("Labels") or {}
        if labels.get(LABEL_JOB) != job_id or labels.get(LABEL_NODE) != self._node_id:
            raise ExecutionError(f"container {name} exists, but does not belong to this node: remove it first")
        return found

    async def _signal(self, container: str, signal: str) -> None:
        try:
            await self._calls.ask(f"send {signal}", lambda api: api.kill(container, signal))
        except (ExecutionError, NotFound) as error:
            logger.debug("%s came too late for %s: %s", signal, container, error)  # it has exited

    async def _exits_within(self, container: str, seconds: float) -> bool:
        return await self._comes_to(container, "not-running", seconds)

    async def _comes_to(self, container: str, condition: str, seconds: float) -> bool:
        """condition: one of the engine's. A container that is gone has come to all of them."""
        path, query = f"/containers/{container}/wait", {"condition": condition}
        try:
            async with asyncio.timeout(seconds):
                async with self._engine.open(await self._calls.version(), "POST", path, query) as answer:
                    await answer.read()
                    return True
        except NotFound:
            return True
        except TimeoutError:
            return False

    # --- workspaces ---

    async def _workspace(
        self, spec: ExecutionSpec, image: dict[str, Any], archive: Path | None = None, max_bytes: int = 0
    ) -> Room | None:
        """The host's folders for it and for the image's volumes, or None where there can't be any."""
        workspaces = self._workspaces
        if workspaces is None:
            return None
        if trouble := await asyncio.to_thread(workspaces.trouble):
            if not self._told_trouble:
                logger.warning("jobs have no checkpoints, and find nothing below an image's VOLUMEs: %s", trouble)
            self._told_trouble = True
            return None
        config, size_mb = image["Config"], workspace_mb(spec)
        volumes = _volumes(parse_reference(spec.image), image)
        owner = _owner(str(config.get("User") or "") if self._settings.limits.image_user else UNPRIVILEGED)
        made = await asyncio.to_thread(workspaces.make, spec.job_id, size_mb, archive, max_bytes, owner)
        copied = copied_paths(volumes, str(config.get("WorkingDir") or ""))
        if copied and (begun := await asyncio.to_thread(workspaces.begin_volumes, spec.job_id, copied)) is not None:
            # What a checkpoint brought is newer than what the image holds.
            filled = {path: at for path, at in begun.items() if archive is None or not is_below(path, WORKSPACE)}
            await self._copy_from_image(spec, image["Id"], filled, [path for path in volumes if path not in filled])
            giving_to = None if self._settings.limits.image_user else owner
            await asyncio.to_thread(workspaces.settle_volumes, spec.job_id, filled, volumes, giving_to)
        return Room(made, workspaces.volumes(spec.job_id, copied))

    async def _copy_from_image(
        self, spec: ExecutionSpec, image_id: str, folders: Mapping[str, Path], others: Sequence[str]
    ) -> None:
        if not folders or self._workspaces is None:
            return
        name = _copier_name(spec.job_id)
        await self._remove_copier(spec.job_id)
        try:
            await self._calls.work(
                f"copy from image {spec.image}",
                lambda api: api.create_container_from_config(  # type: ignore[no-untyped-call]  # of types-docker
                    copier_config(api, spec, image_id, folders, others), name
                ),
            )
        except (ExecutionError, ExecutorUnavailable) as error:
            if await asyncio.to_thread(self._workspaces.is_full, spec.job_id):
                raise ExecutionError(
                    f"what image {spec.image} holds below {', '.join(folders)} does not fit into {workspace_mb(spec)} "
                    "MiB, half of the job's memory: ask for more of it"
                ) from error
            raise
        finally:
            await self._remove_copier(spec.job_id)

    async def _remove_copier(self, job_id: str) -> None:
        name = _copier_name(job_id)
        try:
            await self._calls.work(f"remove {name}", lambda api: api.remove_container(name, v=True, force=True))
        except NotFound:
            return
        except ExecutionError:
            if not await self._comes_to(name, "removed", _UNTIL_KILLED_SECONDS):
                raise

    # --- output ---

    async def _until_started(self, job_id: str) -> str | None:
        """The container's id once it was started, None when it is gone before; the engine would end the log of a
        created one at once."""
        while (found := await self._find(job_id)) is not None:
            if _execution(found).state is not ExecutionState.CREATED:
                return str(found["Id"])
            await asyncio.sleep(_START_POLL_SECONDS)
        return None

    async def _read_log(
        self, container: str, after: OutputCursor | None, reading: _Reading
    ) -> AsyncGenerator[list[OutputLine], None]:
        """Lines after the cursor until the engine ends the stream, or it turns out to be stuck."""
        reading.lost = not await (
            self._is_from_the_start(container) if after is None else self._holds(container, after)
        )
        seeker = Seeker(None if reading.lost else after)
        async with aclosing(self._whole_lines(container, reading, {"follow": "1"})) as found:
            async for some in found:
                lines = seeker.pass_on(some)
                if lines and reading.lost:
                    lines.insert(0, _lost_before(lines[0].time_ns))
                    reading.lost = False
                if lines:
                    yield lines
        reading.rest = seeker.pass_on(reading.rest)

    async def _holds(self, container: str, cursor: OutputCursor) -> bool:
        seeker, reading = Seeker(cursor), _Reading()
        async with aclosing(self._whole_lines(container, reading, {})) as whole:
            async for some in whole:
                seeker.pass_on(some)
                if seeker.found:
                    return True
        seeker.pass_on(reading.rest)
        return seeker.found

    async def _is_from_the_start(self, container: str) -> bool:
        """Whether the log surely has what the job printed first. Not when it printed a whole file and more before now,
        and may have printed others before that."""
        found = await self._calls.ask("inspect", lambda api: api.inspect_container(container))
        started_ns = _microseconds(found["State"].get("StartedAt")) * 1_000
        allowance = log_allowance(found["HostConfig"].get("LogConfig") or {})
        async with aclosing(self._records(container, _Reading(), {})) as records:
            async for some in records:
                if allowance.is_fresh(some[0].time_ns - started_ns):
                    return True
                allowance.pass_on(some, LineAssembler())
                if allowance.used_up:
                    return False
        return True

    async def _whole_lines(
        self, container: str, reading: _Reading, query: dict[str, str]
    ) -> AsyncGenerator[list[OutputLine], None]:
        """As far as they are sure to be without a gap."""
        found = await self._calls.ask("inspect", lambda api: api.inspect_container(container))
        allowance, assembler = log_allowance(found["HostConfig"].get("LogConfig") or {}), LineAssembler()
        async with aclosing(self._records(container, reading, query)) as records:
            async for some in records:
                yield allowance.pass_on(some, assembler)
                if allowance.used_up:
                    reading.cut = True
                    return
        reading.rest = assembler.flush()

    async def _records(
        self, container: str, reading: _Reading, query: dict[str, str]
    ) -> AsyncGenerator[list[Record], None]:
        options = {"stdout": "1", "stderr": "1", "timestamps": "1", **query}
        frames = FrameReader()
        async with self._engine.open(
            await self._calls.version(), "GET", f"/containers/{container}/logs", options
        ) as answer:
            async with aclosing(payloads(answer, self._settings.quiet_seconds)) as chunks:
                async for data in chunks:
                    if not data and await self._is_stuck(container, reading):
                        return
                    if records := frames.feed(data):
                        reading.last = records[-1]
                        yield records
            reading.finished = answer.finished

    async def _is_stuck(self, container: str, reading: _Reading) -> bool:
        """Whether the log has more than the silent stream gave: the engine's followers can miss a wake-up."""
        running = await self._calls.ask("inspect", lambda api: api.inspect_container(container))
        return not running["State"]["Running"] or await self._last_record(container) != reading.last

    async def _is_complete(self, job_id: str, container: str, reading: _Reading) -> bool:
        """Whether the job is over and its log ends where the stream did: the engine's followers can
        miss the last lines of a container that exits."""
        await self._exits_within(container, 2.0)
        over = (await self.inspect(job_id)).state is not ExecutionState.RUNNING
        return over and await self._last_record(container) == reading.last

    async def _last_record(self, container: str) -> Record | None:
        tail = _Reading()
        async with aclosing(self._records(container, tail, {"tail": "1"})) as records:
            async for _ in records:
                pass
        return tail.last

    # --- images ---

    async def _find_image(self, reference: ImageReference) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._calls.ask(
                f"inspect image {reference}",
                lambda api: api.inspect_image(str(reference)),  # type: ignore[no-untyped-call]  # of types-docker
            )
        except NotFound:
            return None
        return found

    async def _check_image(self, reference: ImageReference, image: dict[str, Any]) -> None:
        self._settings.policy.check(reference, _digests(image))
        _volumes(reference, image)
        size_mb = int(image.get("Size") or 0) // (1024 * 1024)
        if size_mb > self._settings.max_image_mb:
            raise ImageUnavailable(
                f"image {reference} has {size_mb} MiB, this provider takes {self._settings.max_image_mb}"
            )
        await self._check_architecture(reference, str(image.get("Architecture") or ""))

    async def _check_architecture(self, reference: ImageReference, built_for: str) -> None:
        answer = await self._calls.ask(
            "tell its architecture",
            lambda api: api.version(),
        )
        ours = _ARCHITECTURES.get(answer["Arch"], answer["Arch"])
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
        await self._check_registry(reference)
        clock = asyncio.get_running_loop().time
        limit, pause = self._settings.pull_seconds, _PULL_PAUSES[0]
        troubled_since, done = None, 0
        try:
            async with asyncio.timeout(limit):
                while True:
                    begun = clock()
                    try:
                        async with self._pulling:
                            return await self._pull_once(reference, state)
                    except (RegistryUnavailable, NoRoomForImage) as error:
                        if troubled_since is None or state.bytes_done() > done:
                            troubled_since, pause, done = begun, _PULL_PAUSES[0], state.bytes_done()
                        if clock() - troubled_since + pause > self._settings.patience_seconds:
                            raise
                        # Whose image it is stays out of the log.
                        logger.info("a pull failed (%s); it is tried again in %g s", type(error).__name__, pause)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _PULL_PAUSES[1])
        except TimeoutError as error:
            raise RegistryUnavailable(f"image {reference} can't be pulled within {limit:g} s") from error

    async def _check_registry(self, reference: ImageReference) -> None:
        """Raises ImageUnavailable for a public name that leads into an inner network. The engine looks it up again: a
        name that changes in between, or a registry that sends it elsewhere, is for the operator's firewall."""
        if reference.registry == "docker.io" or self._settings.policy.names_registry(reference):
            return
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host_of(reference.registry), None, type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError):  # TimeoutError is one: whether the engine can look it up, it will tell
            return
        if any(is_inner_address(str(address[0])) for *_, address in found):
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
            raise RegistryUnavailable(f"image {reference} can't be pulled: nothing came for {silent:g} s") from error

    async def _credentials(self, reference: ImageReference) -> dict[str, str]:
        if not self._settings.sign_in:
            return {}
        registry = reference.repository.partition("/")[0]
        header = await self._calls.ask("read its credentials", lambda api: get_config_header(api, registry))
        return {"X-Registry-Auth": header.decode()} if header else {}


def _refused(words: str, *, wants_gpu: bool) -> ExecutionError:
    """The engine's refusal to start: a GPU that it can't give is not the job's fault."""
    if wants_gpu and any(sign in words.lower() for sign in _GPU_TROUBLE):
        return GpuUnavailable(
            "this provider's container engine can't give the job its GPU: is the NVIDIA Container Toolkit installed "
            f"and known to Docker there? ({words})"
        )
    return ExecutionError(words)


class _Reading:
    """How far one stream got. finished: the engine itself ended it. cut: more of it can't be trusted to have no gap.
    lost: what stood before it is gone from the engine's log, and nobody was told yet. rest: of a line that goes on;
    it counts only when the log is complete, for the engine's followers can miss the last records."""

    def __init__(self) -> None:
        self.last: Record | None = None
        self.rest: list[OutputLine] = []
        self.finished = self.cut = self.lost = False


def _lost_before(time_ns: int) -> OutputLine:
    """A little earlier than the line behind it, so that a cursor on that line counts it alone."""
    return OutputLine("stderr", time_ns - 1, OUTPUT_LOST)


def _container_name(job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidInput(f"{job_id[:80]!r} is not a job id: letters, digits, '_', '.', '-', at most 120")
    return f"dms-{job_id}"


def _copier_name(job_id: str) -> str:
    return f"{_container_name(job_id)}-image"


def _volumes(reference: ImageReference, image: dict[str, Any]) -> tuple[str, ...]:
    return volume_paths(reference, image["Config"].get("Volumes") or ())


def _owner(user: str) -> Owner:
    """Of an image's USER; a name can't be looked up without running the image, so it counts as root."""
    uid, _, gid = user.partition(":")
    return Owner(int(uid) if uid.isdecimal() else 0, int(gid) if gid.isdecimal() else 0)


def _execution(found: dict[str, Any]) -> Execution:
    """A container that could not start stays `created` with the reason and an exit code: for us it is over.

    OOMKilled is also true when only a child died and the job then ended well: that is no failure."""
    state = found["State"]
    error, code = str(state.get("Error") or ""), int(state.get("ExitCode") or 0)
    ours = _STATES.get(state["Status"], ExecutionState.RUNNING)
    if ours is ExecutionState.CREATED and error:
        ours = ExecutionState.EXITED
    over = ours is ExecutionState.EXITED
    started_at = _microseconds(state.get("StartedAt"))
    return Execution(
        state=ours,
        exit_code=code if over else None,
        oom_killed=over and bool(state.get("OOMKilled")) and code != 0,
        error=error,
        started_at=started_at,
        # The engine stamps a very short container's end before its start.
        finished_at=max(_microseconds(state.get("FinishedAt")), started_at) if over else 0,
    )


def _microseconds(stamp: str | None) -> int:
    """RFC 3339 with up to nine digits of a second; the engine's zero time is the year 1."""
    if not stamp or stamp.startswith("0001-"):
        return 0
    moment = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", stamp))
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _digests(image: dict[str, Any]) -> list[str]:
    return [image["Id"], *(known.partition("@")[2] for known in image.get("RepoDigests") or ())]


def _prepared(reference: ImageReference, image: dict[str, Any], *, fetched: bool) -> PreparedImage:
    digest = _digest(reference, image)
    return PreparedImage(digest=digest, image=str(reference), image_id=str(image["Id"]), fetched=fetched)


def _digest(reference: ImageReference, image: dict[str, Any]) -> str:
    """The registry's digest, so that others can pull the same image; the local id if it was never pushed."""
    return reference.digest or next((d for d in _digests(image)[1:] if d), str(image["Id"]))
