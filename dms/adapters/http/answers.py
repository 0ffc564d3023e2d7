"""What a 200 holds, as types: the shapes that clients of the original rely on, and our own resources.

A handler builds one of these, or the same shape as a dict; tests hold real answers against their schemas.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from dms.adapters.http.problems import Finding
from dms.application.network.messages import UUID_PATTERN
from dms.domain.resources import Gpu, Resources
from projections.capacity import NetworkCapacity

JobId = Annotated[str, Meta(pattern=UUID_PATTERN, description="UUIDv7")]
Time = Annotated[str, Meta(description="ISO 8601, UTC", examples=["2026-01-31T12:00:00.000000+00:00"])]
Megahertz = Annotated[int, Meta(ge=0, description="MHz")]
Megabytes = Annotated[int, Meta(ge=0, description="MB (MiB, as the original counts)")]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="SHA-256, hex")]


class Message(Struct, frozen=True, kw_only=True):
    message: str


# --- this machine ----------------------------------------------------------------------------------
class Hardware(Struct, frozen=True, kw_only=True):
    memory_max: Megabytes
    total_core: int
    cpu_max: Megahertz


class Amount(Struct, frozen=True, kw_only=True):
    cpu: Annotated[int, Meta(description="MHz")]
    memory: Annotated[int, Meta(description="MB")]


class GpuInfo(Struct, frozen=True, kw_only=True):
    name: str
    tot_vram: Megabytes
    free_vram: Megabytes


class Metadata(Struct, frozen=True, kw_only=True):
    """What is onboarded, as in the original's metadata file; empty values are left out.
    update_timestamp: Unix seconds. public_key: the payment address."""

    resource: Hardware
    available: Amount
    reserved: Amount
    allow_cardano: bool
    ntx_price: float
    name: str | UnsetType = UNSET
    update_timestamp: int | UnsetType = UNSET
    network: str | UnsetType = UNSET
    public_key: str | UnsetType = UNSET
    node_id: str | UnsetType = UNSET
    gpu_info: list[GpuInfo] | UnsetType = UNSET
    plugins: list[str] | UnsetType = UNSET


class OfferLimits(Struct, frozen=True, kw_only=True):
    """Of CPU in MHz, or of memory in MB. Less than `reserved` can't be offered either, until those jobs have ended."""

    least: Annotated[int, Meta(description="a tenth of all, the least that may be offered")]
    most: Annotated[int, Meta(description="nine tenths of all, the most that may be offered")]
    offered: Annotated[int, Meta(description="what is offered now; 0 when the machine is not onboarded")]
    reserved: Annotated[int, Meta(description="what running jobs hold of it")]


class DetectedGpu(Struct, frozen=True, kw_only=True):
    """A GPU as the driver has it now. All of it is offered."""

    name: Annotated[str, Meta(description="its maker's name for it")]
    uuid: Annotated[str, Meta(description="the driver's id of it")]
    total_vram_mb: Megabytes
    free_vram_mb: Megabytes


class Provisioned(Struct, frozen=True, kw_only=True):
    """cpu in MHz over all cores, memory in MB: what there is, and the rules that an offer of it must keep."""

    cpu: float
    memory: int
    total_cores: int
    cpu_limits: Annotated[OfferLimits, Meta(description="MHz")]
    memory_limits: Annotated[OfferLimits, Meta(description="MB")]
    gpus: Annotated[list[DetectedGpu], Meta(description="those that the driver has now")]
    cardano_needs: Annotated[Amount, Meta(description="what must be offered at least for a Cardano node")]
    channels: Annotated[list[str], Meta(description="those that may be joined")]
    most_ntx_price: Annotated[float, Meta(description="the highest price a minute, NTX")]


class OnboardStatus(Struct, frozen=True, kw_only=True):
    """The paths are empty while there is no such file. metadata_path: of the file that shows other programs what
    is onboarded; it is written for them and never read."""

    onboarded: bool
    error: str | None  # always null; generators of clients know no type that is only that
    machine_uuid: str
    metadata_path: str
    database_path: str


class Offboarded(Struct, frozen=True, kw_only=True):
    message: str
    forced: bool


class ClosedFor(Struct, frozen=True, kw_only=True):
    """Why no job is taken just now."""

    kind: Annotated[str, Meta(description="what it is about: provider, payment, capacity, busy")]
    reason: Annotated[str, Meta(description="what a peer is told that asks")]


class DeviceStatus(Struct, frozen=True, kw_only=True):
    """online: as its owner set it. hindrance: why peers are told that it is offline all the same. network: the most
    that jobs are given; network_trouble: why it is no more."""

    online: bool
    accepting: Annotated[bool, Meta(description="whether a job is taken now, if only a small one")]
    reasons: Annotated[list[ClosedFor], Meta(description="why none is taken, in the order of the checks")]
    hindrance: str | UnsetType = UNSET
    network: str | UnsetType = UNSET
    network_trouble: str | UnsetType = UNSET


class FreeResources(Struct, frozen=True, kw_only=True):
    """tot_cpu_hz is in MHz, ram in MB; prices of single resources were never set. ntx_price: a minute."""

    id: int
    tot_cpu_hz: int
    price_cpu: int
    ram: int
    price_ram: int
    vcpu: int
    disk: int
    price_disk: int
    ntx_price: float


class Wallet(Struct, frozen=True, kw_only=True):
    """Cardano: address, mnemonic and network; Ethereum: address and private_key."""

    address: str
    mnemonic: str | UnsetType = UNSET
    private_key: str | UnsetType = UNSET
    network: str | UnsetType = UNSET


# --- peers -------------------------------------------------------------------------------------------
class Peer(Struct, frozen=True, kw_only=True):
    """Keys in both spellings that the original has had. Of this node itself there is no more than those."""

    upper_id: str = field(name="ID")
    upper_addrs: list[str] = field(name="Addrs")
    id: str
    addrs: list[str]
    provider: Annotated[bool | UnsetType, Meta(description="whether it is known as a compute provider")] = UNSET
    rtt_ms: Annotated[
        float | UnsetType | None, Meta(description="milliseconds to it and back, as measured last; null: not yet")
    ] = UNSET
    since: Annotated[
        str | UnsetType | None, Meta(description="since when it is connected, ISO 8601; null: not known")
    ] = UNSET


class PeerData(Struct, frozen=True, kw_only=True):
    """What one compute provider says of itself. services is always empty: the original told everybody
    which jobs, wallets and logs a provider had. timestamp: Unix seconds."""

    peer_id: str
    is_available: bool
    has_gpu: bool
    allow_cardano: bool
    gpu_info: list[GpuInfo] | None
    tokenomics_addrs: str
    tokenomics_blockchain: str
    available_resources: FreeResources
    services: list[dict[str, Any]]
    timestamp: int


class Ping(Struct, frozen=True, kw_only=True):
    """RTT in nanoseconds. peer_in_dht: whether it is known as a compute provider."""

    message: str
    peer_in_dht: bool
    rtt: int = field(name="RTT")


# --- jobs --------------------------------------------------------------------------------------------
class QuoteAnswer(Struct, frozen=True, kw_only=True):
    """With the fields of both generations of the original: signature and oracle_message, and the hashes.
    estimated_price: NTX. signature: Ed25519 over oracle_message by this node's key, hex. warnings: keys of the request
    that nobody reads, and what else may be a mistake; the job can be paid and run all the same."""

    job_id: JobId
    compute_provider_addr: Annotated[str, Meta(description="where to pay: the provider's wallet")]
    compute_provider_id: Annotated[str, Meta(description="peer id")]
    estimated_price: float
    attempts: Annotated[int, Meta(description="how many times the job is tried on the one payment, at most")]
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    oracle_message: str
    metadata_hash: Hash
    withdraw_hash: Hash
    refund_hash: Hash
    distribute_50_hash: Hash
    distribute_75_hash: Hash
    held_until: Annotated[
        str | None, Meta(description="so long the provider keeps a place for the job; null: not at all")
    ]
    warnings: list[Finding]


class CandidateAnswer(Struct, frozen=True, kw_only=True):
    """A provider that can take a job."""

    peer_id: Annotated[str, Meta(description="its peer id")]
    price: Annotated[float, Meta(description="NTX for the whole time")]
    chosen: Annotated[bool, Meta(description="whether it would get the job: the cheapest that is there")]
    round_trip_ms: Annotated[float | None, Meta(description="milliseconds to it and back; null for one that is away")]
    trouble: Annotated[str, Meta(description="what is wrong with one that is away")]


class RefusalAnswer(Struct, frozen=True, kw_only=True):
    """A provider that can't take a job."""

    peer_id: Annotated[str, Meta(description="its peer id")]
    reason: Annotated[str, Meta(description="why not, as in `is offline`")]


class DryRun(Struct, frozen=True, kw_only=True):
    """What a service request would be answered with."""

    compute_provider_addr: Annotated[str, Meta(description="where to pay: the provider's wallet")]
    compute_provider_id: Annotated[str, Meta(description="peer id of who would get the job")]
    estimated_price: Annotated[float, Meta(description="NTX for the whole time")]
    candidates: Annotated[list[CandidateAnswer], Meta(description="the cheapest that can take it, cheapest first")]
    refused: Annotated[list[RefusalAnswer], Meta(description="some of those that can't")]
    refused_count: Annotated[int, Meta(description="how many can't")]
    unseen_count: Annotated[int, Meta(description="how many were not looked at: enough others cost no more")]
    warnings: Annotated[list[Finding], Meta(description="what may be a mistake in the request")]


class TimelineStep(Struct, frozen=True, kw_only=True):
    """One event of the job. note: the reason, where there is one."""

    event: str
    position: int
    time: Time
    note: str | UnsetType = UNSET


class FailedAttemptAnswer(Struct, frozen=True, kw_only=True):
    """An attempt of a job that was tried again."""

    attempt: Annotated[int, Meta(description="from 1")]
    peer: Annotated[str, Meta(description="the provider's peer id")]
    failed_at: Time
    reason: str
    fault: Annotated[str, Meta(description="whose fault it was: provider, network, or empty for nobody's")]
    exit_code: int | None
    duration_seconds: float


class JobSummary(Struct, frozen=True, kw_only=True):
    """price: NTX, decimal text. peer: the other side. fault: whose fault a bad end was. minutes: asked for.
    refund: it was paid for and never ran, so all of the price is owed back, and its payment can pay for another job.
    log_lines, log_sha256: of the sealed output; the digest is that of the newest attempt's. position: of the newest
    event counted in. attempt: which one it is, of so many attempts at most. lines_before: of output, by the attempts
    before this one. resumed_from: SHA-256 of the checkpoint that this attempt went on from. checkpoints: how many the
    service provider has, or this compute provider saved. cost: NTX that the compute provider gets, decimal text; empty
    until a job that was paid for is over. claimed: the reward was asked for; settled: it was paid out. client:
    whose job it is, by the name of a token; empty: the operator's of this node. gpus: ids of the cards that it has, on
    the compute provider."""

    job_id: JobId
    role: Literal["service provider", "compute provider"]
    status: str
    peer: str
    price: str
    service_type: str
    image: str
    cpu_mhz: Megahertz
    memory_mb: Megabytes
    vram_mb: Megabytes
    minutes: int
    requested_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    unreachable: bool
    exit_code: int | None
    reason: str
    fault: str
    duration_seconds: float
    refund: bool
    log_lines: int | None
    log_sha256: str
    log_truncated: bool
    attempt: int
    attempts: int
    failed_attempts: list[FailedAttemptAnswer]
    lines_before: int
    resumed_from: str
    checkpoints: int
    paid: bool
    cost: str
    claimed: bool
    settled: bool
    client: str
    gpus: list[str]
    position: int
    log_url: str


class JobDetail(JobSummary, frozen=True, kw_only=True):
    timeline: list[TimelineStep]


class JobPage(Struct, frozen=True, kw_only=True):
    """next_token goes into `after`; it is empty at the end."""

    items: list[JobSummary]
    next_token: str


class JobsSummary(Struct, frozen=True, kw_only=True):
    """Amounts: NTX, decimal text; all but `open_ntx` are of jobs that are over."""

    position: Annotated[int, Meta(description="the position of the log that it shows")]
    total: Annotated[int, Meta(description="how many jobs")]
    by_status: Annotated[dict[str, int], Meta(description="how many in each state; left out where there are none")]
    failed_in_24_hours: Annotated[int, Meta(description="how many failed in the 24 hours before")]
    spent_ntx: Annotated[str, Meta(description="NTX that compute providers get for jobs of this node")]
    earned_ntx: Annotated[str, Meta(description="NTX that this node gets for jobs of others")]
    to_claim_ntx: Annotated[str, Meta(description="NTX of that which were not asked for yet")]
    open_ntx: Annotated[str, Meta(description="NTX that jobs of this node which are not over cost at most")]


class StopOutcome(Struct, frozen=True, kw_only=True):
    """What became of one job that was to be stopped."""

    job_id: JobId
    status: Annotated[str, Meta(description="of the job now; empty for an unknown one")] = ""
    outcome: Annotated[
        Literal["stopping", "would_stop", "stopping_already", "over", "unknown", "failed"],
        Meta(
            description="stopping: it is told to stop; would_stop: it would be (dry_run); stopping_already: it was "
            "told before; over: nothing is left to stop; unknown: no such job here; failed: see the message"
        ),
    ]
    message: Annotated[str, Meta(description="the same in words")]


class StopOutcomes(Struct, frozen=True, kw_only=True):
    """One for each job that was named, in that order."""

    jobs: list[StopOutcome]


class JobEvent(Struct, frozen=True, kw_only=True):
    """One event as the log has it. hash: its link of the chain."""

    position: int
    time: Time
    topic: str
    schema_version: int
    aggregate_id: str
    aggregate_version: int
    event_id: str
    causation_id: str
    correlation_id: str
    traceparent: str
    hash: Hash
    data: dict[str, Any]


class EventPage(Struct, frozen=True, kw_only=True):
    items: list[JobEvent]
    next_token: str


class OutputLineAnswer(Struct, frozen=True, kw_only=True):
    """seq: from 1, one count over both streams. goes_on: the line was longer than 64 KiB, the stream's next one is more
    of it. damaged: of this node's own last line, when the output is not what was sealed; it says how."""

    seq: int
    stream: Literal["stdout", "stderr"]
    time: Time
    text: str
    goes_on: bool = False
    damaged: bool = False


class Terminating(Struct, frozen=True, kw_only=True):
    message: str
    job_id: JobId
    reason: str


# --- payments and rewards -----------------------------------------------------------------------------
class Transaction(Struct, frozen=True, kw_only=True):
    """One paid job. transaction_type: refund (ours, not over yet) or running (runs here), then the reward's type,
    then done, withdrawn, refunded or distributed. date_time: as the original wrote it, paid_at: the same in ISO
    8601. Amounts: NTX, decimal text, empty while the job runs. units: what arrived on the chain, whole smallest
    units; empty when that was not looked at. settled_by: hash of the transaction that paid it out, where known."""

    tx_hash: str
    transaction_type: str
    date_time: str
    paid_at: Time | None
    ended_at: Time | None
    job_id: JobId
    role: Literal["service provider", "compute provider"]
    price: str
    minutes: int
    payee: str
    payer: str
    units: str
    reward_type: str
    to_provider: str
    to_requester: str
    claimed: bool
    settled_by: str


class Reward(Struct, frozen=True, kw_only=True):
    """With the fields of all generations of the original. Signatures: Ed25519 by this node's key over the text
    beside them; the message hashes are its sha256. oracle_message and signature repeat the datum's."""

    service_provider_addr: str
    compute_provider_addr: str
    reward_type: Literal["withdraw", "refund", "distribute-50", "distribute-75"]
    signature_datum: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    message_hash_datum: Hash
    datum: str
    signature_action: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    message_hash_action: Hash
    action: str
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    oracle_message: str
    job_id: JobId
    price: str
    to_provider: str
    to_requester: str


class Synchronized(Struct, frozen=True, kw_only=True):
    """updated: how many transactions were found paid out. failed: how many could not be looked up now."""

    message: str
    updated: int
    failed: int
    trouble: str


# --- for operators -----------------------------------------------------------------------------------
class Live(Struct, frozen=True, kw_only=True):
    status: Literal["ok"]


class Ready(Struct, frozen=True, kw_only=True):
    """head: the newest position of the log. degraded: what does not work just now, and is not needed for serving."""

    status: Literal["ready"]
    peer_id: str
    head: int
    degraded: list[str]


class ProviderCapacity(Struct, frozen=True, kw_only=True):
    """own: this node. available: as its owner set it (own node only); hindrance: why it can take no jobs just now all
    the same; online: takes jobs. total: the hardware; onboarded: offered; reserved: held by jobs; on_hold: kept for
    jobs that are not paid yet (own node only). gpus: with what jobs leave of them. ntx_price: a minute. network: the
    most that its jobs are given, "none" or "internet"; empty where its DMS does not say. network_trouble: why it is no
    more, of this node only."""

    provider: str
    own: bool
    available: bool
    hindrance: str
    online: bool
    channel: str
    total: Resources
    onboarded: Resources
    reserved: Resources
    on_hold: Resources
    free: Resources
    gpus: list[Gpu]
    ntx_price: str
    network: str
    network_trouble: str
    position: int


class CapacityAnswer(Struct, frozen=True, kw_only=True):
    """network: the sum of those online."""

    providers: list[ProviderCapacity]
    network: NetworkCapacity


class ProviderPage(Struct, frozen=True, kw_only=True):
    items: list[ProviderCapacity]
    next_token: str


class Change(Struct, frozen=True, kw_only=True):
    """A row of a view at two moments; None: it was not there."""

    key: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class DiffAnswer(Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """from, to: positions of the log. events: how many lie between. A row each that is not the same."""

    start: int
    end: int
    events: int
    jobs: list[Change]
    capacity: list[Change]


class LeftOutEvents(Struct, frozen=True, kw_only=True):
    """position, topic: of the first; error: what kind of error it met; events: how many there are."""

    position: int
    topic: str
    error: str
    events: int


class ViewState(Struct, frozen=True, kw_only=True):
    """position: of the log, reached; head: the log's newest; behind: events in between. left_out: events that the view
    could not take in, by a fault of it; null: none."""

    name: str
    position: int
    head: int
    behind: int
    left_out: LeftOutEvents | None


class ViewList(Struct, frozen=True, kw_only=True):
    items: list[ViewState]


class Rebuilt(Struct, frozen=True, kw_only=True):
    name: str
    position: int
