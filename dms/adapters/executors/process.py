"""The executor `process`: a child process with resource limits, for trying DMS without Docker.

It is not a sandbox: a job runs as the DMS's own user and sees its files and network. A supervisor process
(`process_child`) owns each job and outlives the DMS; the job's folder holds all that a later DMS needs.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from dms.adapters.executors.driver_errors import our_errors_only
from dms.adapters.executors.growing import EVERY_SECONDS, LONGEST
from dms.adapters.executors.input_content import place_input, placed_inputs
from dms.adapters.executors.job_ids import check_job_id, is_job_id
from dms.adapters.executors.output import BATCH_LINES, Seeker
from dms.adapters.executors.pack import pack
from dms.adapters.executors.process_child import ProcessSpec, ProcessState
from dms.adapters.executors.process_watch import shown_in, usage_below
from dms.adapters.executors.trees import remove_tree
from dms.adapters.executors.workspace_archive import unpack
from dms.application.growing_lines import GrowingLine
from dms.application.ports.executor import (
    NO_SECRETS,
    Execution,
    ExecutionSpec,
    ExecutionState,
    InputFile,
    NetworkGiven,
    NetworkUse,
    PackedWorkspace,
    SandboxTrial,
    Secrets,
)
from dms.application.ports.images import ImageFound, PreparedImage, at_will
from dms.application.ports.machine import Usage
from dms.application.ports.outputs import OutputCursor, OutputLine
from dms.clock import machine_clock
from dms.disk import make_folder, write_file
from dms.domain.decoding import UNREADABLE
from dms.domain.engine_facts import EngineFacts
from dms.domain.network import Network
from dms.domain.results import EVERYTHING, Selection
from dms.domain.run_end import EndedBy
from dms.errors import ExecutionError, ExecutorUnavailable
from dms.long_work import long_work, stoppable

logger = logging.getLogger(__name__)

_READ_BYTES = 65_536
_POLL_SECONDS = 0.02  # how late a line may be; the standard library can't wait for a growing file
_START_SECONDS = 10.0
_UNTIL_KILLED_SECONDS = 10.0
_LOST = 137  # as after SIGKILL
_STOP_ORDER = "stop-ordered"


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Per job. Sizes in MiB."""

    open_files: int = 4_096
    file_mb: int = 1_024
    output_mb: int = 128


@our_errors_only
class ProcessExecutor:
    """data_dir: a folder of its own, one folder per job in it. The image of a job is not looked at: model_url and
    packages, joined by blanks, are a command for /bin/sh; arguments of the user's are a program and its arguments.
    gives_internet: whether jobs that need it are taken; each process has this machine's network all the same."""

    name = "process"

    def __init__(
        self, node_id: str, data_dir: Path, limits: ProcessLimits | None = None, *, gives_internet: bool = True
    ) -> None:
        self._node_id = node_id
        self._data_dir = data_dir
        self._gives_internet = gives_internet
        self._limits = limits or ProcessLimits()
        self._decoder = msgspec.json.Decoder(tuple[str, int, str])

    def objection(self, spec: ExecutionSpec) -> str:
        """There is no image, and there are no bounds."""
        return ""

    async def try_network(self) -> NetworkGiven:
        """There is nothing to be tried."""
        if self._gives_internet:
            return NetworkGiven(network=Network.INTERNET)
        return NetworkGiven(network=Network.NONE, reason="job.network is none")

    async def try_sandbox(self) -> SandboxTrial:
        """There is none."""
        return SandboxTrial()

    async def engine_facts(self) -> EngineFacts | None:
        return None

    async def network_use(self, job_id: str) -> NetworkUse | None:
        """A process's is the machine's, where nobody counts it."""
        return None

    async def check(self) -> None:
        """Raises ExecutorUnavailable when the folder can't be written."""
        with _storage(self._data_dir):
            make_folder(self._data_dir)
            if not os.access(self._data_dir, os.W_OK | os.X_OK):
                raise ExecutorUnavailable(f"the folder of jobs, {self._data_dir}, can't be written")

    async def find_image(
        self, image: str, *, for_stranger: bool = False, may_ask: Callable[[], bool] = at_will
    ) -> ImageFound:
        """There is no image."""
        return ImageFound(present=True, digest="process")

    async def prepare(self, spec: ExecutionSpec) -> PreparedImage:
        """There is no image."""
        self._folder(spec.job_id)
        return PreparedImage(digest="process")

    async def remove_superseded(self, image: str, image_ids: Sequence[str]) -> Sequence[str]:
        return ()

    async def fill(self, spec: ExecutionSpec, archive: Path | None, max_bytes: int) -> None:
        """Once the job was created its folder is its own."""
        folder = self._folder(spec.job_id)
        with _storage(folder):
            if archive is not None and not _was_created(folder):
                await long_work(_fill, folder, archive, max_bytes)

    def workspace_bytes(self, spec: ExecutionSpec) -> int | None:
        return None

    async def put(self, spec: ExecutionSpec, given: InputFile) -> None:
        folder = self._folder(spec.job_id)
        work, stage, marks = folder / "work", folder / "incoming", folder / "inputs"
        with _storage(folder):
            if not _was_created(folder):
                make_folder(work)
                await stoppable(lambda stopped: place_input(work, stage, marks, given, None, stopped))

    async def inputs_in(self, job_id: str) -> Set[int]:
        folder = self._folder(job_id)
        with _storage(folder):
            return await asyncio.to_thread(placed_inputs, folder / "inputs")

    async def workspace_trouble(self) -> str:
        """Each job's folder is one."""
        return ""

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str = "", selection: Selection = EVERYTHING
    ) -> PackedWorkspace | None:
        work = self._folder(job_id) / "work"
        if not work.exists():
            return None
        return await stoppable(lambda stopped: pack(work, into, max_bytes, known_state, stopped, selection))

    async def create(self, spec: ExecutionSpec) -> str:
        folder = self._folder(spec.job_id)
        wanted = ProcessSpec(
            job_id=spec.job_id,
            node_id=spec.node_id,
            command=(shlex.join if spec.arguments_given else " ".join)(spec.arguments),
            environment={**dict(spec.environment), "CUDA_VISIBLE_DEVICES": ",".join(spec.gpu_uuids)},
            memory_mb=spec.memory_mb,
            open_files=self._limits.open_files,
            file_mb=self._limits.file_mb,
            output_mb=self._limits.output_mb,
        )
        with _storage(folder):
            make_folder(folder)
            if not _was_created(folder):
                write_file(folder / "spec.json", msgspec.json.encode(wanted))
        return spec.job_id

    async def start(self, job_id: str, secrets: Secrets = NO_SECRETS) -> None:
        """Returns once the job runs (or has run): never before it could be found again. The secrets go over a pipe."""
        folder = self._folder(job_id)
        if (await self.inspect(job_id)).state is not ExecutionState.CREATED:
            return
        try:
            with _storage(folder):
                await asyncio.to_thread(_spawn_supervisor, folder, secrets)
        except subprocess.TimeoutExpired as error:
            raise ExecutionError(f"job {job_id} did not start within {_START_SECONDS:g} s") from error
        execution = await self.inspect(job_id)
        if execution.state is ExecutionState.CREATED or (execution.error and execution.exit_code == 126):
            raise ExecutionError(f"job {job_id} can't start: {execution.error or 'its supervisor ended'}")

    async def inspect(self, job_id: str) -> Execution:
        folder = self._folder(job_id)
        with _storage(folder):
            alive = _is_locked(folder)  # before the state: it is stored before the lock is let go
            if not _was_created(folder):
                return Execution(state=ExecutionState.ABSENT, ended_by=EndedBy.OPERATOR)
            return _execution(_stored_state(folder), alive, ours=(folder / _STOP_ORDER).exists())

    async def follow(self, job_id: str, after: OutputCursor | None) -> AsyncGenerator[Sequence[OutputLine], None]:
        folder = self._folder(job_id)
        seeker, position, size = Seeker(after), 0, _READ_BYTES
        while True:
            over = (await self.inspect(job_id)).state in {ExecutionState.EXITED, ExecutionState.ABSENT}
            while data := _read(folder / "output.ndjson", position, size):
                await asyncio.sleep(0)  # a long log must not keep the loop to itself
                whole = data.rfind(b"\n") + 1
                if not whole and len(data) < size:
                    break  # a line that is just being written, or is taken back where the disk is full
                size = _READ_BYTES if whole else 2 * size
                if not whole:
                    continue
                position += whole
                records = data[: whole - 1].split(b"\n")
                lines = seeker.pass_on([self._line(record) for record in records])
                for start in range(0, len(lines), BATCH_LINES):
                    yield lines[start : start + BATCH_LINES]
            if over:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _line(self, record: bytes) -> OutputLine:
        try:
            return OutputLine(*self._decoder.decode(record))
        except UNREADABLE:
            return OutputLine("stderr", 0, "[dms] a line of the output is damaged and can't be shown")

    async def usage(self, job_id: str) -> Usage | None:
        folder = self._folder(job_id)
        if (await self.inspect(job_id)).state is not ExecutionState.RUNNING:
            return None
        state = _stored_state(folder)
        return None if state is None else await asyncio.to_thread(usage_below, state.supervisor_pid)

    async def growing(self, job_id: str) -> AsyncGenerator[GrowingLine, None]:
        folder, told = self._folder(job_id), dict[str, str]()
        while (await self.inspect(job_id)).state in {ExecutionState.CREATED, ExecutionState.RUNNING}:
            shown = await asyncio.to_thread(shown_in, folder / "growing.json")
            for stream, text in shown.items():
                if told.get(stream, "") != text:
                    told[stream] = text
                    yield GrowingLine(stream, text[-LONGEST:])
            await asyncio.sleep(EVERY_SECONDS)

    async def stop(self, job_id: str, grace_seconds: float) -> None:
        folder = self._folder(job_id)
        if (await self.inspect(job_id)).state is not ExecutionState.RUNNING:
            return
        with _storage(folder):
            if _stored_state(folder) is not None:  # else it has no supervisor yet, or is just being removed
                (folder / _STOP_ORDER).touch()  # before the signal: an end without it was another's doing
        if _signal_supervisor(folder, signal.SIGTERM) and not await self._ends_within(job_id, grace_seconds):
            _signal_supervisor(folder, signal.SIGUSR1)
        if not await self._ends_within(job_id, _UNTIL_KILLED_SECONDS):
            raise ExecutorUnavailable(f"job {job_id} still runs {_UNTIL_KILLED_SECONDS:g} s after SIGKILL")

    async def remove(self, job_id: str) -> None:
        await self.stop(job_id, 0.0)
        folder = self._folder(job_id)
        with _storage(folder):
            await long_work(remove_tree, folder)

    async def list_jobs(self) -> Sequence[str]:
        """Also a folder that came no further than to be filled, or whose description is damaged: it is of this node,
        like the folder around it, and to be removed like others."""
        with _storage(self._data_dir):
            return await asyncio.to_thread(self._jobs)

    def _jobs(self) -> list[str]:
        folders = [path for path in self._data_dir.glob("*/") if is_job_id(path.name)]
        specs = {folder.name: _stored_spec(folder) for folder in folders}
        return sorted(name for name, spec in specs.items() if spec is None or spec.node_id == self._node_id)

    async def close(self) -> None:
        """Jobs go on running."""

    def _folder(self, job_id: str) -> Path:
        check_job_id(job_id)
        return self._data_dir / job_id

    async def _ends_within(self, job_id: str, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (await self.inspect(job_id)).state is ExecutionState.RUNNING:  # noqa: ASYNC110  # other process
                    await asyncio.sleep(_POLL_SECONDS)
                return True
        return (await self.inspect(job_id)).state is not ExecutionState.RUNNING


def _fill(folder: Path, archive: Path, max_bytes: int) -> None:
    """Anew each time, until the job was created."""
    work = folder / "work"
    for old in (folder / "inputs", work):  # the marks first: they tell what is in the other
        if old.exists():
            shutil.rmtree(old)
    make_folder(work)
    unpack(archive, work, max_bytes)


def _spawn_supervisor(folder: Path, secrets: Secrets) -> None:
    """Returns once it closed its standard output: the job was started, or never will be."""
    subprocess.run(
        [sys.executable, "-m", "dms.adapters.executors.process_child", str(folder)],
        input=msgspec.json.encode(dict(secrets.values)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,  # what a terminal sends to the DMS is not for its jobs
        timeout=_START_SECONDS,
        check=False,
    )


def _execution(state: ProcessState | None, alive: bool, *, ours: bool) -> Execution:
    """ours: we told it to stop."""
    if state is None:
        return Execution(state=ExecutionState.RUNNING if alive else ExecutionState.CREATED)
    if state.exit_code is None:
        return _running(state) if alive else _lost(state, ours=ours)
    return Execution(
        state=ExecutionState.EXITED,
        exit_code=state.exit_code,
        error=state.error,
        started_at=state.started_at,
        finished_at=state.finished_at,
        ended_by=(EndedBy.DMS if ours else EndedBy.OPERATOR) if state.told_to_stop else EndedBy.JOB,
        ran_seconds=state.ran_seconds,
    )


def _running(state: ProcessState) -> Execution:
    return Execution(state=ExecutionState.RUNNING, started_at=state.started_at, started_boot_us=state.started_boot_us)


def _lost(state: ProcessState, *, ours: bool) -> Execution:
    """A supervisor that did not write its job's end down was killed, or its machine went down."""
    rebooted = bool(state.boot_id) and state.boot_id != machine_clock().boot_id
    return Execution(
        state=ExecutionState.EXITED,
        exit_code=_LOST,
        error="the process that supervised the job is gone, and the job with it",
        started_at=state.started_at,
        ended_by=EndedBy.ENGINE if rebooted else EndedBy.DMS if ours else EndedBy.OPERATOR,
    )


def _was_created(folder: Path) -> bool:
    return _stored_spec(folder) is not None or (folder / "state.json").exists()


def _stored_spec(folder: Path) -> ProcessSpec | None:
    """None also for one that is damaged: such a job counts as not created, unless it has run."""
    path = folder / "spec.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProcessSpec)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        logger.warning("%s is damaged and not used: %s", path, error)
        return None


def _stored_state(folder: Path) -> ProcessState | None:
    """One that is damaged says that the job was started, and no more."""
    path = folder / "state.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProcessState)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        logger.warning("%s is damaged and not used: %s", path, error)
        return ProcessState(supervisor_pid=0, started_at=0)


def _is_locked(folder: Path) -> bool:
    """Whether a supervisor lives: the kernel lets its lock go however it dies."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _signal_supervisor(folder: Path, number: signal.Signals) -> bool:
    """Whether there was one. The pidfd is taken first, so a reused number is never hit."""
    state = _stored_state(folder)
    if state is None or state.supervisor_pid <= 0:
        return False
    try:
        handle = os.pidfd_open(state.supervisor_pid)
    except ProcessLookupError:
        return False
    try:
        if not _is_locked(folder):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _read(path: Path, position: int, size: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(position)
            return file.read(size)
    except FileNotFoundError:
        return b""


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *UNREADABLE) as error:
        raise ExecutorUnavailable(f"the jobs' files at {path} can't be used: {error}") from error
