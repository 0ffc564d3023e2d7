"""The workspaces of containers where the DMS has no right to mount: volumes of the engine, made with its API alone.

Each is a tmpfs of a fixed size, and so is what an image's VOLUME lines ask for. A tmpfs volume is empty again as soon
as no running container has it, so a holder keeps it: a small container of ours that sleeps, without a network, without
any right but to read what the job may have closed to others. Programs run in it read the workspace while the job runs
and after its end, and fill it before. A restart of the engine ends the holder and empties the workspace; that is told
by a mark that the holder keeps beside it, and is as gone as the content is.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import secrets
import shlex
import threading
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from docker import APIClient
from docker.types import Mount

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.containers import Containers, execution_of
from dms.adapters.executors.engine_exec import ExecStream
from dms.adapters.executors.engine_words import NO_SPACE
from dms.adapters.executors.helper_image import HelperImage
from dms.adapters.executors.holders import HOLDER, Holders, ProgramFailed
from dms.adapters.executors.input_content import input_content
from dms.adapters.executors.pack_stream import StreamedPack
from dms.adapters.executors.profile import (
    LABEL_JOB,
    LABEL_MANAGED,
    LABEL_NODE,
    WORKSPACE,
    labels,
    workspace_mb,
)
from dms.adapters.executors.volumes import copier_config, is_below
from dms.adapters.executors.workspace_archive import ArchiveReader, Owner, opened, repack
from dms.adapters.executors.workspaces import link_or_file
from dms.adapters.executors.workspaces_host import does_not_fit
from dms.application.ports.executor import ExecutionSpec, ExecutionState, InputFile, PackedWorkspace
from dms.domain.inputs import RESERVED
from dms.domain.results import EVERYTHING, Selection
from dms.errors import ArchiveRefused, ExecutionError, ExecutorUnavailable, NotFound
from dms.long_work import stoppable

KEEPER = "keeper"  # the part that is there only while an image's content is copied
INODES = 65_536
_TRIAL = "dms-try-"
_FLAT = "/held"  # where a keeper has the volumes: none inside of another, so that each is empty before it is filled
_TRY_AGAIN_SECONDS = 60.0
_STAGE, _CONTENT, _WHOLE = RESERVED, "content", "whole"
# Marks: all is there; the archive's content, too; an input of this number.
_READY, _FILLED, _INPUT = "/state/ready", "/state/filled", "/state/input-"
# A file takes the place of a file or link; what a folder holds goes into the folder that is there, be it a volume of
# its own. It says something all the while, since who says nothing for too long is given up.
_OVER = """
over() {
  echo .
  if [ -d "$1" ] && [ -d "$2" ] && [ ! -h "$2" ]; then
    for one in "$1"/* "$1"/.[!.]* "$1"/..?*; do
      [ ! -e "$one" ] || over "$one" "$2/${one##*/}" || return 1
    done
  elif [ -d "$1" ] && { [ -e "$2" ] || [ -h "$2" ]; } || { [ -d "$2" ] && [ ! -h "$2" ]; }; then
    echo "a folder is where the other has a file or link: ${2#./}" >&2
    return 1
  else
    [ ! -h "$2" ] || rm "$2" && mv -f "$1" "$2"
  fi
}
"""


class EngineWorkspaces:
    """node_id: for names and labels. image_user: jobs run as the user that their image names."""

    def __init__(
        self,
        node_id: str,
        calls: EngineCalls,
        containers: Containers,
        holders: Holders,
        helper: HelperImage,
        *,
        image_user: bool,
    ) -> None:
        self._node_id, self._calls, self._containers = node_id, calls, containers
        self._holders, self._helper, self._image_user = holders, helper, image_user
        self._trouble: str | None = None
        self._try_at = 0.0
        self.trial = ""  # the id of the job that is one, while it is made: no sweep may take it away
        self._trying = asyncio.Lock()
        self._settled: dict[str, tuple[str, str]] = {}  # job id -> see StreamedPack; only spares work

    async def trouble(self) -> str:
        """Why there can be none here, or nothing. Tried with a small one, until it works. Raises
        ExecutorUnavailable."""
        async with self._trying:
            now = asyncio.get_running_loop().time()
            if self._trouble is None or (self._trouble and now >= self._try_at):
                self._trouble, self._try_at = await self._try(), now + _TRY_AGAIN_SECONDS
            return self._trouble

    # --- one job's ---------------------------------------------------------------------------------
    async def make(
        self,
        spec: ExecutionSpec,
        image: dict[str, Any],
        volumes: Sequence[str],
        copied: Sequence[str],
        archive: Path | None,
        max_bytes: int,
        owner: Owner,
    ) -> Sequence[Mount]:
        """Volumes that are kept, filled from the archive and with what the image holds at the paths `copied`; one that
        is ready, or that the job has used, is left as it is. Raises ArchiveRefused, ExecutionError (it does not fit),
        ExecutorUnavailable."""
        names = self._names(spec.job_id, volumes)
        mounts = _mounts(names)
        mark = _READY if archive is None else _FILLED
        if await self._has(spec.job_id, mark) or await self._was_started(spec.job_id):
            return mounts
        await self._make_volumes(spec, names)
        helper = await self._helper.ready()
        await self._containers.remove_part(spec.job_id, HOLDER)  # what it held is empty then
        # What a checkpoint brought is newer than what the image holds.
        wanted = [path for path in copied if archive is None or not is_below(path, WORKSPACE)]
        if wanted:
            await self._copy_from_image(spec, image, {path: names[path] for path in wanted}, names, helper, owner)
        await self._holders.start(spec, HOLDER, helper, mounts, ("DAC_READ_SEARCH",))  # before the keeper goes
        await self._containers.remove_part(spec.job_id, KEEPER)
        if archive is not None:
            await self._fill(spec.job_id, archive, max_bytes, owner)
        await self._holders.run(spec.job_id, f"touch {_READY} {mark}")
        return mounts

    async def is_here(self, job_id: str) -> bool:
        return bool(await self._volumes(job_id))

    async def put(self, job_id: str, given: InputFile, owner: Owner) -> None:
        mark, place = f"{_INPUT}{given.number}", given.place
        if await self._has(job_id, mark) or await self._was_started(job_id):
            return
        holder, version = await self._holders.running(job_id), await self._calls.version()
        name = PurePosixPath(place).name

        def work(stopped: threading.Event) -> None:
            with (
                self._holders.program(holder, version, _placing(place), f"{owner.uid}:{owner.gid}") as stream,
                suppress(_TakesNoMore),
            ):
                try:
                    with input_content(given.source, name, given.unpack, given.max_bytes) as content:
                        repack(content, cast("BinaryIO", _Input(stream, stopped)), f"./{_CONTENT}", f"./{_WHOLE}")
                except (ArchiveRefused, ExecutorUnavailable):
                    stream.end_input()
                    stream.finish()  # it has taken away what had come
                    raise
                stream.end_input()

        try:
            await stoppable(work)
        except ProgramFailed as error:
            raise ExecutionError(f"{place} can't be put into the workspace: {error}") from error
        await self._holders.run(job_id, f"touch {mark}")

    async def inputs_in(self, job_id: str) -> Set[int]:
        if await self._holders.find(job_id, HOLDER) is None:
            return frozenset()
        told = await self._holders.ask(job_id, f"for mark in {_INPUT}*; do echo ${{mark#{_INPUT}}}; done")
        return {int(number) for number in told.split() if number.isdecimal()}

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str, selection: Selection = EVERYTHING
    ) -> PackedWorkspace | None:
        holder = await self._holders.running(job_id)
        version = await self._calls.version()

        def work(stopped: threading.Event) -> tuple[PackedWorkspace | None, tuple[str, str] | None]:
            packing = StreamedPack(
                lambda script: self._holders.program(holder, version, script, "0:0"), stopped, self._settled.get(job_id)
            )
            return packing.pack(into, max_bytes, known_state, selection), packing.settled

        packed, settled = await stoppable(work)
        if settled is not None:
            self._settled[job_id] = settled
        return packed

    async def remove(self, job_id: str) -> None:
        """After the job's container."""
        self._settled.pop(job_id, None)
        if not (names := await self._volumes(job_id)):  # made first, removed last
            return
        for part in (KEEPER, HOLDER):
            await self._containers.remove_part(job_id, part)
        for name in names:
            with suppress(NotFound):
                await self._calls.work(f"remove volume {name}", partial(APIClient.remove_volume, name=name))

    async def jobs(self) -> Sequence[str]:
        return sorted({str(each["Labels"][LABEL_JOB]) for each in await self._listed()})

    # --- volumes -----------------------------------------------------------------------------------
    def _names(self, job_id: str, volumes: Sequence[str]) -> Mapping[str, str]:
        """Path in the container -> the volume's name, which no other node's on this engine has."""
        node = hashlib.sha256(self._node_id.encode()).hexdigest()[:12]
        paths = [WORKSPACE, *(path for path in volumes if path != WORKSPACE)]
        return {path: f"dms-{node}-{job_id}-{number}" for number, path in enumerate(paths)}

    async def _make_volumes(self, spec: ExecutionSpec, names: Mapping[str, str]) -> None:
        """Half of the job's memory is the workspace's; its VOLUMEs share the other half."""
        half = workspace_mb(spec)
        for path, name in names.items():
            size_mb = half if path == WORKSPACE else max(1, half // max(1, len(names) - 1))
            options = {
                "type": "tmpfs",
                "device": "tmpfs",
                "o": f"size={size_mb}m,nr_inodes={INODES},mode=1777,nosuid,nodev",
            }
            making = partial(
                APIClient.create_volume, name=name, driver="local", driver_opts=options, labels=labels(spec)
            )
            await self._calls.work(f"make volume {name}", making)

    async def _volumes(self, job_id: str) -> list[str]:
        return [str(each["Name"]) for each in await self._listed(f"{LABEL_JOB}={job_id}")]

    async def _listed(self, *more: str) -> list[dict[str, Any]]:
        wanted = [f"{LABEL_MANAGED}=true", f"{LABEL_NODE}={self._node_id}", *more]
        found = await self._calls.ask("list volumes", lambda api: api.volumes(filters={"label": wanted}))
        return list(found.get("Volumes") or ())

    # --- what is there -----------------------------------------------------------------------------
    async def _has(self, job_id: str, mark: str) -> bool:
        if await self._holders.find(job_id, HOLDER) is None:
            return False
        try:
            await self._holders.run(job_id, f"test -e {mark}")
        except ProgramFailed:
            return False
        return True

    async def _was_started(self, job_id: str) -> bool:
        found = await self._containers.find(job_id)
        return found is not None and execution_of(found).state in (ExecutionState.RUNNING, ExecutionState.EXITED)

    # --- filling -----------------------------------------------------------------------------------
    async def _fill(self, job_id: str, archive: Path, max_bytes: int, owner: Owner) -> None:
        holder, version = await self._holders.running(job_id), await self._calls.version()
        script = f"umask 0; cd {WORKSPACE} && tar -x -p -f -"

        def work(stopped: threading.Event) -> None:
            with (
                self._holders.program(holder, version, script, f"{owner.uid}:{owner.gid}") as stream,
                suppress(_TakesNoMore),
            ):
                with opened(archive, "checkpoint") as file:
                    repack(ArchiveReader(file, max_bytes), cast("BinaryIO", _Input(stream, stopped)))
                stream.end_input()

        try:
            await stoppable(work)
        except ProgramFailed as error:
            raise ExecutionError(f"the checkpoint can't be unpacked: {error}") from error

    async def _copy_from_image(
        self,
        spec: ExecutionSpec,
        image: dict[str, Any],
        filled: Mapping[str, str],
        names: Mapping[str, str],
        helper: str,
        owner: Owner,
    ) -> None:
        """What the image holds at these paths; the job's user owns it then, unless that is the image's choice."""
        flat = {name: f"{_FLAT}/{number}" for number, name in enumerate(filled.values())}
        keeping = [Mount(at, name, type="volume", no_copy=True) for name, at in flat.items()]
        copying = [Mount(path, name, type="volume") for path, name in filled.items()]
        others = [path for path in names if path not in filled and path != WORKSPACE]
        await self._containers.remove_part(spec.job_id, KEEPER)
        await self._holders.start(spec, KEEPER, helper, keeping, ("CHOWN", "DAC_OVERRIDE", "FOWNER"))
        try:
            await self._containers.copy(spec.job_id, lambda api: copier_config(api, spec, image["Id"], copying, others))
        except (ExecutionError, ExecutorUnavailable) as error:
            if NO_SPACE not in str(error):
                raise
            raise does_not_fit(spec, filled) from error
        await self._check_places(spec.job_id, flat.get(filled.get(WORKSPACE, ""), ""), names)
        await self._own(spec.job_id, {path: flat[name] for path, name in filled.items()}, owner)

    async def _check_places(self, job_id: str, workspace: str, paths: Iterable[str]) -> None:
        """Raises ExecutionError where the image has a link or a file in its workspace, on the way to a VOLUME."""
        inner = [path.removeprefix(f"{WORKSPACE}/") for path in paths if path.startswith(f"{WORKSPACE}/")]
        for path in inner if workspace else ():
            ways = PurePosixPath(path).parts
            for depth in range(1, len(ways) + 1):
                at = shlex.quote("/".join((workspace, *ways[:depth])))
                try:
                    await self._holders.run(job_id, f"[ ! -h {at} ] && [ ! -e {at} -o -d {at} ]", KEEPER)
                except ProgramFailed as error:
                    raise link_or_file(path) from error

    async def _own(self, job_id: str, copied: Mapping[str, str], owner: Owner) -> None:
        for path, at in copied.items():
            give = "" if self._image_user else f"chown -R -h {owner.uid}:{owner.gid} {at} && "
            mode = "1777" if path == WORKSPACE else "u+rwx"
            await self._holders.run(job_id, f"{give}chmod {mode} {at}", KEEPER)

    # --- the trial ---------------------------------------------------------------------------------
    async def _try(self) -> str:
        self.trial = f"{_TRIAL}{secrets.token_hex(4)}"
        spec = ExecutionSpec(job_id=self.trial, node_id=self._node_id, image="", arguments=(), cpu_mhz=0, memory_mb=0)
        names = self._names(self.trial, ())
        try:
            helper = await self._helper.ready()
            await self._make_volumes(spec, names)
            await self._holders.start(spec, HOLDER, helper, _mounts(names), ())
            await self._holders.run(self.trial, "true")
        except ExecutionError as error:
            return f"the container engine can't keep one: {error}"
        finally:
            await self.remove(self.trial)
            self.trial = ""
        return ""


class _TakesNoMore(Exception):
    """A program reads its input no more; why, its own words and its code tell."""


class _Input(io.RawIOBase):
    """A program's standard input."""

    def __init__(self, stream: ExecStream, stopped: threading.Event) -> None:
        self._stream, self._stopped = stream, stopped

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile writes bytes
        if self._stopped.is_set():
            raise ExecutorUnavailable("the filling of a workspace was ended")
        try:
            self._stream.send(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _TakesNoMore from error
        return len(data)


def _placing(place: str) -> str:
    """The program that takes a tar with the input, and makes it appear once all of it is there. No link is followed:
    nothing but ours runs there before the job does."""
    folders = PurePosixPath(place).parts[:-1]
    ways = [shlex.quote("/".join((".", *folders[:depth]))) for depth in range(1, len(folders) + 1)]
    at, content = shlex.quote(f"./{place}"), shlex.quote(f"{_STAGE}/{_CONTENT}/{PurePosixPath(place).name}")
    return "\n".join((
        _OVER,
        "fail() { cat > /dev/null; exit 1; }",  # its input is read to the end, or its words would be lost with it
        f"umask 022; cd {WORKSPACE} || fail",
        *(f"[ ! -h {way} ] && mkdir -p {way} || {{ echo a file or link is in its way >&2; fail; }}" for way in ways),
        f"rm -rf {_STAGE}; mkdir {_STAGE} || fail",
        f"tar -x -p -f - -C {_STAGE} && [ -e {_STAGE}/{_WHOLE} ] && over {content} {at} && rm -rf {_STAGE} && exit 0",
        f"rm -rf {_STAGE}; fail",
    ))  # fmt: skip


def _mounts(names: Mapping[str, str]) -> list[Mount]:
    return [Mount(path, name, type="volume", no_copy=True) for path, name in names.items()]
