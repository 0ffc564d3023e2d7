"""What the application needs from outside, as Protocols; `dms/adapters/` implements them.

All of them are asyncio: an adapter hides its threads, its processes and its trio.
Every call is bounded in time by the adapter and raises a DmsError, never a library's own error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec import Struct

from dms.application.growing_lines import GrowingLine, GrowingLines
from dms.domain.aggregate import Aggregate
from dms.domain.chain import SignedRecord
from dms.domain.check import Check
from dms.domain.device import Capacity
from dms.domain.engine_facts import EngineFacts
from dms.domain.event import Event, Recorded
from dms.domain.gpus import GpuReading
from dms.domain.heads import Heads
from dms.domain.machine_checks import MachineFacts
from dms.domain.network import Network
from dms.domain.results import EVERYTHING, Selection
from dms.domain.run_end import EndedBy
from dms.errors import Unavailable

A = TypeVar("A", bound=Aggregate)


# --- the event log -----------------------------------------------------------------------------
class EventLog(Protocol):
    """The one durable truth. A saved event has a position and is on disk before anyone hears of it."""

    @property
    def head(self) -> int:
        """The newest committed position; 0 for an empty log."""

    @property
    def first(self) -> int:
        """The first position that is still in the log; those before it are archived. 1 for an empty log."""

    def load(self, aggregate_type: type[A], key: str) -> A | None:
        """The one live object of that aggregate, decided but uncommitted events included."""

    async def save(self, *aggregates: Aggregate) -> int:
        """Appends the pending events of all of them in one transaction; answers the head after it.
        When it raises (LogUnavailable), nothing was appended and the objects must be loaded anew."""

    async def written(self) -> bool:
        """Returns once all that is decided now is on the disk: True; or was not written, and so never was: False."""

    async def read(self, after: int, limit: int, *, topics: Sequence[str] = (), stream: str = "") -> Sequence[Recorded]:
        """At most `limit` events behind position `after`, in order."""

    async def position_at(self, time: int) -> int:
        """The newest position whose event is not younger than that time (Unix µs); 0 for none."""

    def time_at(self, position: int) -> int:
        """When the event at that position was recorded (Unix µs); of an archived one, at most a block's length before.
        Blocking, for one row."""

    def subscribe(
        self, after: int, *, topics: Sequence[str] = (), stream: str = ""
    ) -> AsyncGenerator[Sequence[Recorded], None]:
        """Batches of events behind `after`, for ever: catch up first, then live."""

    def previous_hash(self, position: int) -> bytes:
        """The link of the hash chain before the event at `position`."""

    def open_record(self, record: SignedRecord) -> Event:
        """What a peer's record of a job that we share says, its personal fields open. Raises PeerMisbehaved when it
        can't be read, or keeps what tells of a person otherwise than under the job's key: it could not be erased."""

    # --- keys of personal data: see domain/sealing.py ---
    def seal_key(self, scope: str) -> bytes:
        """The 32 bytes under which that scope's personal fields are sealed; made when there are none yet."""

    def adopt_seal_key(self, scope: str, secret: bytes) -> None:
        """Takes a key from the peer that shares the scope, unless there is one already. Raises InvalidInput for a key
        that another scope has or had."""

    def seal(self, scope: str, text: str, purpose: str) -> str:
        """A token in place of what no view, stream or export may show, not even to who may read the scope's personal
        fields. It is opened for the same purpose only."""

    def unseal(self, scope: str, token: str, purpose: str) -> str | None:
        """None: it was not sealed under that scope's key for that purpose, or the key is destroyed."""

    async def destroy_seal_keys(self, scopes: Sequence[str]) -> int:
        """Makes what was sealed under them unreadable for ever, on disk and in memory; answers how many there were.
        Safe to repeat. Raises LogUnavailable."""

    def pseudonym(self, text: str) -> str:
        """32 hex characters: always the same for the same text on this node, and of no use anywhere else."""

    @property
    def trouble(self) -> str:
        """Why nothing can be recorded just now; empty when it can, as far as is known."""

    def on_trouble(self, react: Callable[[], None]) -> None:
        """Calls `react` on the loop when `trouble` changed."""

    def index(self, kind: type[A], restate: Callable[[str, A | None], None]) -> None:
        """Keeps an index in memory of the aggregates of that kind: `restate(key, aggregate)` is called as soon as
        events of one were decided, before they are on the disk, so that no two decisions are made on the same state.
        When they could not be written it is called again with what the log has, None for nothing. So what an index
        says of an aggregate must follow from that aggregate alone."""


class ViewStore(Protocol):
    """The read models on the disk."""

    async def renew(self) -> None:
        """Makes every one anew from the log; nothing of the old rows stays in the file or in memory. Raises
        LogUnavailable when not all of that could be done."""


class ArchivedSegment(Struct, frozen=True, kw_only=True):
    """A file of the archive. newest: the greatest time of its events, Unix µs. hash: the chain's link at `last`, hex.
    sha256: of the file's bytes when it was written, hex. state: "ok", "missing" or "damaged" (of another size)."""

    file: str
    first: int
    last: int
    newest: int
    size_bytes: int
    sha256: str
    hash: str
    state: str


class ArchiveStep(Struct, frozen=True, kw_only=True):
    """segment: what was written; None for nothing. rows_removed: of events that are in the archive alone now.
    more: another step may find something to do."""

    segment: ArchivedSegment | None
    rows_removed: int
    more: bool


class EventArchive(Protocol):
    """The oldest part of the event log, in files. What reads the log reads them too."""

    async def step(self, before: int, at_least: int) -> ArchiveStep:
        """Archives the oldest events, when there are so many, none younger than that time (Unix µs): one file at most.
        May be repeated after a cut at any point. Raises LogUnavailable."""

    async def segments(self, after: int, limit: int) -> Sequence[ArchivedSegment]:
        """At most `limit` of those that begin behind position `after`, in order."""


# --- the jobs' output ----------------------------------------------------------------------------
OUTPUT_TRUNCATED = "[dms] output truncated: the limit of {limit} MB is reached, later lines are dropped"
OUTPUT_DAMAGED = "[dms] this output is damaged: "
LEAST_PIECE = 65_533  # bytes of text: a line so long is a piece, and the rest follows


class LogLine(Struct, frozen=True, array_like=True, gc=False):
    """One line of a job's output. seq: from 1, one count over both streams. time_ns: Unix, the
    engine's stamp. Stored and sent as a JSON array, so both sides hold the same bytes."""

    seq: int
    stream: str  # "stdout" | "stderr"
    time_ns: int
    text: str

    @property
    def goes_on(self) -> bool:
        """Whether the next line of the stream is more of the same line, with no newline between."""
        return 4 * len(self.text) >= LEAST_PIECE and len(self.text.encode()) >= LEAST_PIECE


class SealedLog(Struct, frozen=True):
    """lines: how many there are. sha256: hex, of the file's bytes. truncated: the size limit was met."""

    lines: int
    sha256: str
    truncated: bool


class OutputGap(Struct, frozen=True):
    """Lines that were there and are not here. reason: a part of a sentence."""

    first: int
    last: int
    reason: str


class StoredOutput(Struct, frozen=True, kw_only=True):
    """lines: how many there are, those in gaps included. size_bytes: as stored. truncated: the size limit was met.
    damage: see OutputStore.damage."""

    lines: int
    size_bytes: int
    truncated: bool = False
    damage: str = ""
    gaps: tuple[OutputGap, ...] = ()


class OutputStore(Protocol):
    """The output of jobs, on disk, apart from the event log. growing: of lines that have no end yet, in memory."""

    growing: GrowingLines

    async def append(self, job_id: str, lines: Sequence[OutputLine]) -> None:
        """Of an execution on this node: numbers the lines. Those behind the size limit are dropped
        and a last line says so."""

    async def extend(self, job_id: str, lines: Sequence[LogLine]) -> None:
        """Of a peer's execution: lines known already are skipped. Raises PeerMisbehaved on a gap."""

    async def read(self, job_id: str, after: int, limit: int) -> Sequence[LogLine]:
        """At most `limit` lines behind line `after`, fewer where they are long, none only at the end. Where a sealed
        output is damaged, lines of ours say so."""

    async def about(self, job_id: str) -> StoredOutput:
        """What there is of it, without reading the lines."""

    async def damage(self, job_id: str) -> str:
        """How the output differs from what was sealed; empty when it does not, or was erased."""

    async def last(self, job_id: str) -> int:
        """The newest line's number, 0 for none."""

    async def cursor(self, job_id: str) -> OutputCursor | None:
        """Where an execution's output goes on behind what is stored."""

    async def seal(self, job_id: str) -> SealedLog:
        """Makes what is stored durable and answers its digest."""

    async def drop(self, job_id: str) -> bool:
        """Forgets all lines of the job; whether there were any."""

    async def wait(self, job_id: str, after: int) -> None:
        """Returns once there is a line behind line `after`."""

    async def close(self) -> None: ...


# --- running containers ------------------------------------------------------------------------
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


class PreparedImage(Struct, frozen=True, kw_only=True):
    """digest: the registry's, so that others can pull the same. image: the whole name. image_id: the engine's
    own. fetched: it was not here before."""

    digest: str
    image: str = ""
    image_id: str = ""
    fetched: bool = False


class ImageFound(Struct, frozen=True, kw_only=True):
    """present: it is on this machine; if not, its registry has it for a machine like this one. digest: of its manifest,
    as the registry has it."""

    present: bool
    digest: str = ""


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


class OutputLine(Struct, frozen=True):
    """One line of a container's output, without its newline."""

    stream: str  # "stdout" | "stderr"
    time_ns: int  # Unix time, nanoseconds, strictly as the engine stamped it
    text: str


class OutputCursor(Struct, frozen=True):
    """Where reading goes on: after the `count`-th line stamped `time_ns` (count >= 1) of the whole log."""

    time_ns: int
    count: int


class PackedWorkspace(Struct, frozen=True, kw_only=True):
    """An archive of a workspace (tar.gz, everything under `workspace/`). sha256: hex, of its bytes.
    skipped: links, devices and the like, which are left out. state: changes when the content does."""

    size_bytes: int
    sha256: str
    files: int
    skipped: int
    state: str


class Usage(Struct, frozen=True, gc=False):
    """Of a running execution. cpu_seconds: since its start, over all cores. memory_mb: MiB, without what the kernel
    keeps of files and would give back. measured_at_seconds: of a clock that is not stepped."""

    cpu_seconds: float
    memory_mb: int
    measured_at_seconds: float


class ArchivedFile(Struct, frozen=True, kw_only=True, gc=False):
    """A file of an archive, whose content lies at `offset` of the opened one. path: below the workspace. mtime: Unix
    seconds. sha256: hex, of its content."""

    path: str
    mode: int
    mtime: int
    offset: int
    size_bytes: int
    sha256: str


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

    async def find_image(self, image: str) -> ImageFound:
        """Whether the image is here or can be had, and may run here; nothing is fetched. Its registry is asked within a
        few seconds, and not again at once. Raises ImageUnavailable; RegistryUnavailable when that can't be told."""

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

    async def put(self, spec: ExecutionSpec, source: Path, place: str, unpack: str, max_bytes: int) -> None:
        """Puts an input into the workspace that `fill` made, before the start: it appears whole, and the job's user
        owns it. What is at that place already stays: an earlier call put it there, or a checkpoint brought it. place:
        relative, of the file; or of a folder with what is in the archive. unpack: "tar", "tar.gz", "zip"; empty for a
        file as it is. max_bytes: of content. Raises ArchiveRefused, ExecutionError (it does not fit), NoPlaceForInput
        (this engine has no workspace)."""

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


# --- files of the web --------------------------------------------------------------------------
class WebFile(Protocol):
    """An answer whose body is still to be read. after: the byte of the file that it begins with. total_bytes: of the
    whole file; None when the server does not say. validator: names this version of the file, to go on with it later;
    empty when nothing does."""

    after: int
    total_bytes: int | None
    validator: str

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Ends with the file's end. Raises WebTrouble when it was cut."""


class WebTrouble(Unavailable):
    """It may pass. retry_after_seconds: as the server asks for; 0 when it does not."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Web(Protocol):
    """Fetches files of the internet, and of nowhere else but networks that the operator names."""

    def objection(self, url: str) -> str:
        """Why it is never fetched, as far as the URL itself tells; empty when it may be."""

    def open(self, url: str, after: int = 0, validator: str = "") -> AbstractAsyncContextManager[WebFile]:
        """From byte `after` on, when the file is still the one of the validator; else, and where a server can't do
        that, from its beginning. Raises InputRefused (not there, not allowed), WebTrouble. Texts hold no more of a URL
        than its path."""

    async def close(self) -> None: ...


# --- the peer-to-peer network ------------------------------------------------------------------
class PeerInfo(Struct, frozen=True):
    """A connected peer. addresses: multiaddrs that end in /p2p/<peer id>. since: Unix time in seconds from which on it
    is connected; 0 when unknown."""

    peer_id: str
    addresses: tuple[str, ...]
    since: int = 0


class Heard(Struct, frozen=True):
    """What a kept connection tells of its peer. silent_seconds: since anything came from it, its answers to
    heartbeats included; a peer that is there is never silent for longer than a heartbeat and its answer take.
    rtt_seconds: the newest measured round trip."""

    silent_seconds: float
    rtt_seconds: float


RequestHandler = Callable[[str, bytes], Awaitable[bytes]]
"""(peer id of the secured connection, body) -> answer. A DmsError becomes an error answer."""

StreamHandler = Callable[[str, bytes], AsyncGenerator[bytes, None]]
"""(peer id, opening body) -> the frames to send; its end is sent as an explicit final frame."""

GossipHandler = Callable[[str, bytes], None]
"""(peer id of the message's signer, body) -> None. Called on the asyncio loop."""


class PeerNetwork(Protocol):
    """The node's libp2p host. Bodies are JSON bytes; who a peer is, the secured connection says."""

    peer_id: str

    @property
    def listen_addresses(self) -> Sequence[str]:
        """Multiaddrs that end in /p2p/<own peer id>, concrete addresses only."""

    def serve_request(self, protocol: str, handler: RequestHandler) -> None: ...

    def serve_stream(self, protocol: str, handler: StreamHandler, *, raw: bool = False) -> None:
        """raw: the frames are any bytes, not JSON; at most 200,000 each."""

    def serve_gossip(self, topic: str, handler: GossipHandler) -> None: ...

    async def publish(self, topic: str, body: bytes) -> None: ...

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        """Raises PeerUnreachable (dial, timeout, cut), or the DmsError the peer answered with
        (Forbidden, NotFound, Conflict, InvalidInput, Unavailable; anything else arrives as PeerMisbehaved).
        PeerUnreachable is an Unavailable too: where the difference matters, catch it first."""

    def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The frames of the peer's StreamHandler; ends normally only on its explicit final frame.
        Raises as `request` does; a stream without a frame or heartbeat for 25 s is cut."""

    async def ping(self, peer_id: str, timeout_seconds: float) -> float:
        """Round trip in seconds, of a stream that is there. The time counts from the connection on: dialling has
        its own. Raises PeerUnreachable; PeerSlow when it is connected and does not answer in time."""

    def heard(self, peer_id: str) -> Heard | None:
        """None when it is not connected, or nothing has come from it yet."""

    def refused_connections(self) -> int:
        """How many of others were refused before their handshakes, for their number."""

    def is_local(self, peer_id: str) -> bool:
        """Whether it is connected from this very machine, or was when it was last connected in this run."""

    def add_addresses(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Remembers where a peer can be dialled (from an advertisement)."""

    def on_peer(self, callback: Callable[[str, bool], None]) -> None:
        """Calls back on the asyncio loop with (peer id, connected) when that changes."""

    def peers(self) -> Sequence[PeerInfo]:
        """Connected peers, by peer id."""


class Host(PeerNetwork, Protocol):
    """A PeerNetwork of our own, which starts and ends with the daemon."""

    async def start(self) -> None:
        """Raises Unavailable naming an address that can't be listened on."""

    async def close(self) -> None:
        """Safe to repeat."""


class Signer(Protocol):
    """The node's Ed25519 key."""

    peer_id: str

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""

    def verify(self, peer_id: str, message: bytes, signature: bytes) -> bool:
        """Whether the holder of that peer id's key signed the message."""

    def public_key(self, peer_id: str) -> str:
        """The key in a peer id, 64 hex characters; empty when it holds none that we can read."""


class HeadStore(Protocol):
    """What is kept of heads of logs (our own that peers signed, and theirs), outside the event log."""

    def load(self) -> Heads:
        """Once, before the first save. Empty when there is none."""

    async def save(self, heads: Heads) -> None:
        """All or nothing, and durable. Raises Unavailable."""


# --- the relay to a message broker ---------------------------------------------------------------
class RelayStatus(Struct, frozen=True, kw_only=True):
    """state: "connecting" (events wait), "connected", "refused" (an operator must act; error says
    how). position: of the newest event that the broker has confirmed."""

    state: str
    position: int
    error: str = ""


class Relay(Protocol):
    """Feeds the log to a broker, each event once and in order."""

    @property
    def status(self) -> RelayStatus: ...


# --- figures for operators ------------------------------------------------------------------------
class Metrics(Protocol):
    async def render(self, accept: str, readers: Mapping[str, int], clients: Mapping[str, int]) -> tuple[bytes, str]:
        """(body, content type) for that Accept header. readers: subscriber of the log -> position reached;
        clients: kind of connection -> how many are open."""


# --- hardware, money, secrets ---------------------------------------------------------------------
class Hardware(Protocol):
    """What this machine has. Figures of the total are stable between calls."""

    def capacity(self) -> Capacity:
        """CPU and memory; its GPUs are asked for with `read_gpus`."""

    def usage(self) -> Usage:
        """Of all that runs on it, ours or not. cpu_seconds: since its boot."""

    async def read_gpus(self) -> tuple[GpuReading, ...]:
        """Now, in bounded time. No driver, a hung or a broken one: no GPUs, never an error."""


class MachineReader(Protocol):
    async def facts(self, engine_root: str = "") -> MachineFacts:
        """As they are now. engine_root: the engine's folder, empty where this machine can't see it."""


class PaymentClaim(Struct, frozen=True, kw_only=True):
    """What a payment must have done to be good. price: NTX, decimal text. payee: the compute provider's
    payment address. payer: the address that the requester says is its own; empty, or one of another
    blockchain, for any. terms_hash: sha256 (hex) that binds a payment which carries it to this job alone."""

    job_id: str
    tx_hash: str
    price: str
    payee: str
    blockchain: str = ""  # as the request names it; empty for any
    payer: str = ""
    terms_hash: str = ""


class FundingState(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"  # for good: it will never pay for this job
    PENDING = "pending"  # can't be told yet: not seen, or not deep enough in the chain


class FundingVerdict(Struct, frozen=True, kw_only=True):
    """reason: why it was not accepted. payer, units, block: what the chain has of an accepted one."""

    state: FundingState
    reason: str = ""
    payer: str = ""
    units: str = ""
    block: int = 0


class FundingCheck(Protocol):
    """Whether a reported payment is good. Raises Unavailable when that can't be told now. Texts of
    verdicts and errors hold no secrets. carries: whether a payment that it accepts can go to another provider than the
    one that was quoted; not where it was paid to that one's own address."""

    name: str
    carries: bool

    async def check(self, claim: PaymentClaim) -> FundingVerdict: ...

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[str]:
        """Hashes of transactions by which the payee gave the payer at least that much (NTX, decimal text)
        in one sum, oldest first; for 0, the payment's own hash when it still stands."""

    async def close(self) -> None: ...
