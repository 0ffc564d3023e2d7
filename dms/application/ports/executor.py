"""Running containers: what is asked of an engine, and what it says of one execution."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence, Set
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from dms.application.growing_lines import GrowingLine
from dms.application.ports.images import ImageFound, PreparedImage, at_will
from dms.application.ports.machine import Usage
from dms.application.ports.outputs import OutputCursor, OutputLine
from dms.domain.check import Check
from dms.domain.engine_facts import EngineFacts
from dms.domain.network import Network
from dms.domain.results import EVERYTHING, Selection
from dms.domain.run_end import EndedBy

LARGEST_PACKET = 65_536  # bytes, as the kernel joins them


class Secrets(Struct, frozen=True):
    """Environment variables whose values nobody but the job may see: they are in no text made of this."""

    values: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<{len(self.values)} secrets>"


NO_SECRETS = Secrets()


class ExecutionSpec(Struct, frozen=True, kw_only=True):
    """One container to run. The job id is its name and its idempotency key."""

    job_id: str
    node_id: str  # peer id of this compute provider, for the label
    image: str
    arguments: tuple[str, ...]
    cpu_mhz: int
    memory_mb: int
    arguments_given: bool = False  # one by one by the user; else they are the original's pair
    gpu_uuids: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    secrets: Secrets = NO_SECRETS
    network: Network = Network.NONE
    for_stranger: bool = False  # who gets only an image that anybody can have, unless the operator has named it


class NetworkGiven(Struct, frozen=True, kw_only=True):
    """The most that a job can be given here, and why it is no more."""

    network: Network
    reason: str = ""


class SandboxTrial(Struct, frozen=True, kw_only=True):
    """What a test container found of what jobs are kept in. engine: its name and version. rows: none where it can't be
    tried, or where nothing confines jobs."""

    engine: str = ""
    rows: tuple[Check, ...] = ()


class NetworkUse(Struct, frozen=True, kw_only=True):
    """Of a job that has a network. most_bytes: that it may send and receive together; what is above is not passed on,
    and so not counted. trouble: why it no longer has its network as it was given."""

    received_bytes: int
    sent_bytes: int
    most_bytes: int
    trouble: str = ""

    @property
    def spent(self) -> bool:
        """A packet that no longer fits is the last one."""
        return self.received_bytes + self.sent_bytes > self.most_bytes - LARGEST_PACKET


class ExecutionState(StrEnum):
    ABSENT = "absent"  # never created, or removed
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class Execution(Struct, frozen=True, kw_only=True):
    """What the engine says of one execution. Times: Unix time in microseconds, 0 when unknown; another started_at than
    before says that it was started again by somebody else."""

    state: ExecutionState
    exit_code: int | None = None  # when exited, and of an absent one where it is still known
    oom_killed: bool = False
    error: str = ""  # why it could not start or was lost: a sentence of ours, not the engine's words
    started_at: int = 0
    finished_at: int = 0
    ended_by: EndedBy = EndedBy.JOB  # of one that is over; an absent one was removed by somebody, or never was
    started_boot_us: int = 0  # on the boot clock of this machine, where its process runs here; 0 when unknown
    ran_seconds: float | None = None  # as the executor itself measured it on a clock that is not stepped


class PackedWorkspace(Struct, frozen=True, kw_only=True):
    """An archive of a workspace (tar.gz, everything under `workspace/`). sha256: hex, of its bytes.
    skipped: links, devices and the like, which are left out. state: changes when the content does."""

    size_bytes: int
    sha256: str
    files: int
    skipped: int
    state: str


class ArchivedFile(Struct, frozen=True, kw_only=True, gc=False):
    """A file of an archive, whose content lies at `offset` of the opened one. path: below the workspace. mtime: Unix
    seconds. sha256: hex, of its content."""

    path: str
    mode: int
    mtime: int
    offset: int
    size_bytes: int
    sha256: str


class InputFile(Struct, frozen=True, kw_only=True):
    """An input that is to be put into a workspace. number: among the job's, from 1. source: where it lies here. place:
    relative, of the file; or of a folder with what is in the archive. unpack: "tar", "tar.gz", "zip"; empty for a file
    as it is. max_bytes: of content."""

    number: int
    source: Path
    place: str
    unpack: str
    max_bytes: int


class Executor(Protocol):
    """Every method is safe to repeat. Raises ExecutorUnavailable when the engine is away; ExecutorBroken, which is one,
    when the driver meets what nobody thought of."""

    name: str  # "docker" | "process"

    async def check(self) -> None:
        """Returns when the engine answers a ping. Raises ExecutorUnavailable."""

    def objection(self, spec: ExecutionSpec) -> str:
        """Why this can never be run here, as far as the request itself tells; empty when it may be."""

    async def try_network(self) -> NetworkGiven:
        """What jobs can be given just now, tried out as a job would find it. Takes seconds.
        Raises ExecutorUnavailable."""

    async def try_sandbox(self) -> SandboxTrial:
        """What keeps a job in just now, tried from inside. Takes seconds. Raises ExecutorUnavailable."""

    async def engine_facts(self) -> EngineFacts | None:
        """What the engine tells of itself; None where there is none. Raises ExecutorUnavailable."""

    async def find_image(
        self, image: str, *, for_stranger: bool = False, may_ask: Callable[[], bool] = at_will
    ) -> ImageFound:
        """Whether the image is here or can be had, and may run here; nothing is fetched. Its registry is asked within a
        few seconds, and not again at once. for_stranger: as of a spec. may_ask: whether it may be asked now; where not,
        the image passes for one that can be had. Raises ImageUnavailable; RegistryUnavailable when that can't be
        told."""

    async def network_use(self, job_id: str) -> NetworkUse | None:
        """Of a job that was given a network, until `remove`; None of another, and where it is not counted.
        Raises ExecutorUnavailable."""

    async def prepare(self, spec: ExecutionSpec) -> PreparedImage:
        """Makes the image available and checks that it may run. Waits out a registry's passing trouble for a while;
        cancelling it ends the pull. Raises ImageUnavailable."""

    async def fill(self, spec: ExecutionSpec, archive: Path | None, max_bytes: int) -> None:
        """Makes the job's workspace, before `create`: /workspace in a container, the working folder of a
        process. Filled once from the archive if there is one, and then the job's user's. max_bytes: of
        content. Raises ArchiveRefused, ExecutionError (it does not fit, or this engine has none)."""

    def workspace_bytes(self, spec: ExecutionSpec) -> int | None:
        """The most that the job's workspace can hold; None for no such bound."""

    async def put(self, spec: ExecutionSpec, given: InputFile) -> None:
        """Puts an input into the workspace that `fill` made, before the start: it appears whole, and the job's user
        owns it. Once for each workspace: what an earlier call put there is the job's. What an image or a checkpoint
        has at that place gives way to it: a file to the file; a folder keeps what the archive does not have. Raises
        ArchiveRefused, ExecutionError (it does not fit; a folder is where it has a file, or the other way round),
        NoPlaceForInput (this engine has no workspace)."""

    async def inputs_in(self, job_id: str) -> Set[int]:
        """The numbers of those that `put` has put into the job's workspace as it is now: one that was lost has
        none."""

    async def workspace_trouble(self) -> str:
        """Why jobs have no workspace here that can be read; empty when they have one. Raises ExecutorUnavailable when
        that can't be told now."""

    async def pack(
        self, job_id: str, into: Path, max_bytes: int, known_state: str = "", selection: Selection = EVERYTHING
    ) -> PackedWorkspace | None:
        """Archives what is selected of the job's workspace, while it runs (it is not paused) or afterwards, until
        `remove`. None: there is nothing of it, or nothing new since `known_state`. `into` is replaced at once and
        whole. Raises ArchiveRefused when it is too large; ExecutorUnavailable, also for a job that writes
        all the time, and for a workspace that is gone."""

    async def create(self, spec: ExecutionSpec) -> str:
        """Creates but does not start; answers the engine's id. Raises ExecutionError."""

    async def start(self, job_id: str, secrets: Secrets = NO_SECRETS) -> None:
        """Starts a created execution; one that is running, has exited or is absent is left alone. secrets: of its
        spec, again: who has no engine to keep them between the two writes them nowhere.
        Raises ExecutionError when the engine refuses (for example: command not found)."""

    async def inspect(self, job_id: str) -> Execution: ...

    def follow(self, job_id: str, after: OutputCursor | None) -> AsyncGenerator[Sequence[OutputLine], None]:
        """Batches of lines in the engine's order, as they come; ends once the execution has
        ended and everything was read, and at once when it is absent or was started again by somebody else."""

    async def usage(self, job_id: str) -> Usage | None:
        """None of one that does not run."""

    def growing(self, job_id: str) -> AsyncGenerator[GrowingLine, None]:
        """What the job shows of lines that have no end yet, a few times a second at most; what it misses comes with
        the lines. Ends with the execution, at once when it is absent."""

    async def stop(self, job_id: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL after the grace; returns when it no longer runs."""

    async def remove(self, job_id: str) -> None: ...

    async def remove_superseded(self, image: str, image_ids: Sequence[str]) -> Sequence[str]:
        """image_ids: of images once fetched under that name. Those that the name no longer means are removed,
        but for images that have another name or a container; answers the ids of those removed."""

    async def list_jobs(self) -> Sequence[str]:
        """Job ids of all executions this node ever created and has not removed."""

    async def close(self) -> None: ...
