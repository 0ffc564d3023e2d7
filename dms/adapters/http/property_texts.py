"""What each property of the API's bodies and answers means, for those whose type doesn't say it by itself, and what
else than its type may be said of a few. A test asks for a text for every property that is described.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dms.domain.pricing import RATES
from dms.domain.request import MACHINE_TYPES, SERVICE_TYPES
from dms.domain.reward import Fault
from projections.jobs import STATUSES

CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("ServiceRequest", "service_type"): SERVICE_TYPES,
    ("Params", "machine_type"): MACHINE_TYPES,
    ("Constraints", "complexity"): tuple(name.title() for name in RATES),
    ("Constraints", "network"): ("", "none", "internet"),
    ("JobSummary", "status"): STATUSES,
    ("JobDetail", "status"): STATUSES,
    ("JobSummary", "fault"): tuple(Fault),
    ("JobDetail", "fault"): tuple(Fault),
}
"""(component, property) -> the only texts that it may be. In events they stay open: an older log may have others."""

_SHARED: Mapping[str, str] = {
    "address": "a wallet's address",
    "allow_cardano": "whether it runs Cardano nodes",
    "behind": "events between the two",
    "blockchain": "the chain that it is paid on, Cardano or Ethereum",
    "causation_id": "the id of the event or request that caused it; empty for none",
    "channel": "the name of the network of providers",
    "cleared": "how many there were",
    "compute_provider_addr": "where the compute provider is paid",
    "correlation_id": "the id of what it belongs to, such as the job",
    "cpu": "MHz over all cores",
    "degraded": "what does not work just now, and is not needed for serving",
    "detail": "what is wrong, in words",
    "disk": "not offered: 0",
    "dry_run": "whether it only tells what would be done",
    "duration_seconds": "how long the container ran",
    "ended_at": "when it ended; null while it runs",
    "error": "what went wrong, in words; empty for nothing",
    "event_id": "UUIDv7 of the event",
    "exit_code": "the container's; null while there is none",
    "fault": "whose fault a bad end was; empty for nobody's",
    "files": "how many files",
    "filesystem_path": "of the virtual machine's root file system",
    "first_position": "the first position that is not archived",
    "forced": "whether running jobs were ended by it",
    "free": "what can still be had",
    "from_peer": "peer id of who asks",
    "gpu_info": "its GPUs; null or left out for none",
    "has_gpu": "whether it has a GPU",
    "hash": "the event's link of the hash chain, hex",
    "head": "the log's newest position",
    "hindrance": "why nothing can be had although it is offered; empty for no hindrance",
    "id": "its id",
    "image": "the container image's name",
    "is_available": "whether it takes jobs",
    "items": "the rows",
    "job_id": "the job's id, a UUIDv7",
    "kernel_image_path": "of the virtual machine's kernel",
    "keys": "how many keys were destroyed",
    "machine_type": "what it needs: cpu or gpu",
    "memory": "MB",
    "message": "what was done, in words",
    "minutes": "minutes that were asked for",
    "more": "whether there is more to do",
    "name": "its name",
    "next_token": "goes into `after` for the next page; empty at the end",
    "node_id": "a peer id",
    "ntx_price": "NTX a minute",
    "offered": "what is offered",
    "onboarded": "what is offered to the network",
    "online": "whether it takes jobs",
    "open": "what has not ended",
    "oracle_message": "the terms that the signature is over",
    "own": "whether it is this node",
    "peer_id": "a peer id",
    "plugins": "names of plug-ins",
    "pointer": "JSON pointer, or ?name for a query parameter",
    "position": "a position in the log",
    "price": "NTX for the whole time, decimal text",
    "public_key": "a public key, hex",
    "reason": "why, in words; empty where there is nothing to say",
    "on_hold": "what is kept for jobs that are quoted and not paid yet, on this node only",
    "refund": "whether it was paid for and never ran: all is owed back, and the payment can pay for another job",
    "reserved": "what running jobs hold",
    "reward_type": "how the payment is shared out: withdraw, refund, distribute-50 or distribute-75; empty until known",
    "role": "which side of the job this node is",
    "schema_version": "the version of its schema",
    "service_type": "what kind of service it is",
    "signature": "Ed25519, hex",
    "size_bytes": "bytes",
    "state": "where it stands",
    "status": "where it stands",
    "stream_id": "its place among those that wait; null for others",
    "subject": "what it is about",
    "subscribe": "what is subscribed to",
    "time": "when it happened",
    "topic": "the event's type, such as job.submitted",
    "to_provider": "NTX that go to the provider, decimal text; empty while the job runs",
    "to_requester": "NTX that go back, decimal text; empty while the job runs",
    "total": "what the hardware has",
    "total_core": "how many cores",
    "traceparent": "W3C trace context; empty for none",
    "transaction_status": "success, pending or another for failed",
    "transaction_type": "fund, withdraw, refund or distribute-50, distribute-75",
    "tx_hash": "hash of the transaction that pays it",
    "update_timestamp": "when it was changed, Unix seconds",
    "uuid": "the driver's id of it",
    "vcpu": "cores",
}
"""Property -> text, wherever it stands."""

_OWN: Mapping[str, Mapping[str, str]] = {
    "AcceptBody": {"streamid": "the place in the list of offers that wait, from 0, or a transfer's id"},
    "ArchiveAnswer": {"after_days": "age at which events are archived, in days; 0 for never"},
    "ArchiveBody": {"older_than_days": "archive what is older, in days"},
    "ArchiveRun": {"rows_removed": "events that are in the archive alone now", "segment": "what was written, if any"},
    "CapacityAnswer": {"network": "the sum of the providers that are online", "providers": "each provider"},
    "Change": {
        "key": "of the row",
        "before": "the row then; null for one that was not there",
        "after": "the row afterwards; null for one that is gone",
    },
    "CheckpointAnswer": {"checkpoint_dir": "the folder that it is in, on the machine of the DMS"},
    "CloudEvent": {
        "data": "the event's body",
        "datacontenttype": "of data",
        "dataschema": "names the schema of data",
        "specversion": "of CloudEvents",
        "streamversion": "the number of the event in its stream",
        "id": "UUIDv7 of the event",
    },
    "Constraints": {
        "complexity": "how hard the work is; it decides on the price a minute",
        "gpus": "how many GPUs; 0 for one where the machine type is gpu",
        "network": "what the job can reach: nothing, or public addresses; empty: internet only where it fetches its "
        "own model and packages",
        "power": "W that it may draw, which the price counts",
        "ram": "MB of memory",
        "share_gpu": "whether its GPUs may be given to other such jobs as well",
        "time": "minutes, after which it is stopped",
        "vram": "MB of each GPU",
    },
    "DefaultProviderBody": {"peerid": "peer id of the provider that gets requests which name none"},
    "DeviceStatus": {
        "hindrance": "why peers are told that it is offline although its owner set it online",
        "network": "the most that jobs are given, none or internet",
        "network_trouble": "why it is no more",
        "online": "as its owner set it",
    },
    "DiffAnswer": {
        "from": "the earlier position",
        "to": "the later position",
        "events": "how many lie between",
        "jobs": "rows of the jobs that changed",
        "capacity": "rows of the providers that changed",
    },
    "EraseBody": {"skip_open": "leave what has not ended, erase the rest"},
    "ErasureItem": {"scopes": "how many jobs and streams", "completed_at": "when it was done; null until then"},
    "TokenBody": {"days": "that it is in force; 0: until it is revoked"},
    "TokenItem": {"expires_at": "null for one that does not expire", "revoked_at": "null while it is not revoked"},
    "FreeResources": {
        "ram": "MB of memory",
        "tot_cpu_hz": "MHz over all cores, whatever the name says",
        "price_cpu": "never set: 0",
        "price_disk": "never set: 0",
        "price_ram": "never set: 0",
    },
    "Footer": {
        "content": "SHA-256 of all lines before, hex",
        "events": "how many records there are",
        "line": "which kind of line it is",
    },
    "Gpu": {
        "free_vram_mb": "MB that can be had",
        "shared": "whether only a job that shares can have what is free",
        "taken": "whether nothing is left",
        "total_vram_mb": "MB that it has",
    },
    "GpuCapacity": {"detected": "how many the driver has now", "offered": "those that are onboarded"},
    "GpuCheck": {
        "gpu_uuids": "the GPUs that the container saw",
        "output": "what the container printed",
    },
    "GpuOffer": {"shared": "whether only a job that shares can have what is free", "taken": "whether nothing is left"},
    "GpuStatus": {
        "jobs": "the jobs that hold it",
        "memory_used_mb": "MB in use; null where the card does not tell",
        "power_watts": "W; null where the card does not tell",
        "present": "false for a card that the driver lost while a job holds it",
        "temperature_celsius": "°C; null where the card does not tell",
        "utilization_percent": "%; null where the card does not tell",
        "vendor": "who made it",
    },
    "Header": {
        "first": "the first position in it",
        "format": "the version of the format",
        "kind": "log: every event from `first` on; job: those of one job",
        "line": "which kind of line it is",
        "previous": "the hash before the first event of a log",
    },
    "ImageState": {"present": "whether it is on this machine"},
    "Input": {
        "url": "http, https, or file: for one on the requester's machine",
        "sha256": "SHA-256 of its bytes, hex; empty: they are taken as they come",
        "path": "where it goes below /workspace; empty: named after the last part of the URL",
        "unpack": "tar, tar.gz or zip: what is in it becomes a folder; empty: it stays as it is",
        "size_bytes": "of a file of the requester's, filled in by its DMS",
    },
    "JobDetail": {"timeline": "its events, oldest first"},
    "JobEvent": {
        "aggregate_id": "the stream: job- or deployment-, and the job's id",
        "aggregate_version": "its number in that stream, from 1",
        "data": "its body, with personal fields open",
    },
    "JobSummary": {
        "log_lines": "lines of its output once it is sealed; null until then",
        "log_sha256": "SHA-256 of the sealed output, hex; empty until then",
        "log_truncated": "whether output beyond the limit was left out",
        "attempt": "which attempt it is, from 1",
        "attempts": "how many attempts there may be on the one payment",
        "failed_attempts": "the attempts before this one",
        "lines_before": "lines of output by the attempts before this one",
        "resumed_from": "SHA-256 of the checkpoint that this attempt went on from; empty for none",
        "checkpoints": "how many the service provider has, or this compute provider saved",
        "paid": "whether it was paid for",
        "cost": "NTX that the compute provider gets, decimal text; empty until a job that was paid for is over",
        "claimed": "whether the reward was asked for",
        "settled": "whether the reward was paid out",
        "client": "whose job it is: the name of a token; empty: the operator's",
        "gpus": "ids of the GPUs that it has here; empty on the service provider",
        "log_url": "its output, with the token that is the right to read it",
        "peer": "peer id of the other side",
        "position": "of the newest event that is counted in",
        "reason": "why it failed, or what an open job waits for",
        "requested_at": "when it was asked for",
        "started_at": "when its container started; null until then",
        "unreachable": "whether its provider is away just now",
    },
    "LeftOutEvents": {
        "error": "what kind of error it met",
        "events": "how many there are",
        "position": "of the first",
        "topic": "of the first",
    },
    "Metadata": {
        "available": "what the hardware has beyond what is offered",
        "name": "the host's name",
        "network": "the channel",
        "node_id": "this node's peer id",
        "public_key": "the address that it is paid at",
        "reserved": "what is offered to the network",
        "resource": "the hardware",
    },
    "NetworkCapacity": {"online": "how many are online", "providers": "how many there are"},
    "OffboardBody": {"force": "also while jobs run: they are ended"},
    "OnboardBody": {
        "cardano": "whether Cardano nodes may run here",
        "cpu": "MHz to offer",
        "memory": "MB to offer",
        "payment_addr": "the address to be paid at",
        "server_mode": "kept for old clients; it changes nothing",
    },
    "OnboardStatus": {
        "database_path": "of the event log",
        "error": "always null",
        "machine_uuid": "this node's peer id",
        "metadata_path": "of the file that shows other programs what is onboarded; empty while there is none",
        "onboarded": "whether this machine is",
    },
    "Open": {"scope": "a job's id, or a stream"},
    "OutputLineAnswer": {
        "damaged": "true of a last line that says how the output differs from what was sealed",
        "goes_on": "whether the stream's next line is more of this one, which is very long",
        "seq": "its number, from 1, over both streams",
        "stream": "which one it was printed to",
        "text": "without its newline",
    },
    "Params": {
        "arguments": "the container's arguments, one by one, in place of model_url and packages",
        "env": "environment variables of the container",
        "image_id": "the container image's name",
        "inputs": "what is fetched into /workspace before the container starts",
        "local_node_id": "this node's peer id, or empty",
        "local_public_key": "this node's public key, or empty",
        "model_url": "the container's first argument, as in the original",
        "node_id": "peer id of the only provider that may run it; empty for any",
        "packages": "joined by spaces the container's second argument, as in the original",
        "public_key": "of the provider that is named, or empty",
        "resume_job": "the checkpoint to go on from",
        "results": "patterns of the files below /workspace that come back",
        "secret_env": "environment variables whose values only the container may know",
    },
    "Peer": {"Addrs": "as addrs", "ID": "as id", "addrs": "multiaddresses", "id": "the peer id"},
    "PeerData": {
        "available_resources": "what can be had of it",
        "services": "always empty",
        "timestamp": "when it said so, Unix seconds",
        "tokenomics_addrs": "where it is paid",
        "tokenomics_blockchain": "on which chain it is paid",
    },
    "Problem": {
        "error": "what went wrong, in words",
        "errors": "each fault, with its place",
        "first_position": "with 410: the first position that is there",
        "refused": "with 404 of a service request: peer id -> why it can't take the job",
        "status": "the HTTP status",
        "title": "the status in words",
    },
    "Progress": {
        "percentage": "how much of it is there, with a % sign",
        "remaining_time": "with its unit",
        "size": "with its unit",
    },
    "ProviderCapacity": {
        "available": "as its owner set it; of this node only",
        "gpus": "with what jobs leave of them",
        "network": "the most that its jobs are given, none or internet; empty where it does not say",
        "network_trouble": "why it is no more; of this node only",
        "provider": "its peer id",
    },
    "Provisioned": {"total_cores": "how many cores"},
    "PullProgress": {
        "done_mb": "MB that are here",
        "status": "present (it was here), pulling, pulled or failed",
        "total_mb": "MB of the layers that were announced so far",
    },
    "QuoteAnswer": {
        "estimated_price": "NTX for the whole time",
        "warnings": "what may be a mistake in the request",
    },
    "ResourceBody": {"cpu": "MHz to offer", "memory": "MB to offer"},
    "Resources": {"cpu_mhz": "MHz over all cores", "memory_mb": "MB", "vram_mb": "MB over all GPUs"},
    "ResumeJob": {"progress_file": "name of the checkpoint", "resume": "whether to go on from it"},
    "Retry": {"max_attempts": "how many providers are tried, one after the other"},
    "Reward": {
        "action": "the second text that is signed",
        "datum": "the first text that is signed",
        "service_provider_addr": "where the requester's part goes back to",
        "signature_action": "Ed25519 over action, hex",
        "signature_datum": "Ed25519 over datum, hex",
    },
    "RewardBody": {"compute_provider_address": "where to be paid"},
    "SegmentAnswer": {
        "file": "its name in the archive's folder",
        "first": "the first position in it",
        "last": "the last position in it",
    },
    "SendBody": {"filepath": "absolute, on the machine of the DMS", "peerid": "who gets it"},
    "ServiceRequest": {
        "address_user": "the requester's wallet, where a refund goes",
        "constraints": "what it needs",
        "max_ntx": "the most NTX that it may cost",
        "params": "what is to be run",
        "retry": "how often it is tried again at another provider",
    },
    "SignedRecord": {
        "data": "the event's body as it is stored, exactly",
        "previous": "the link of the hash chain before it, hex",
        "signature": "Ed25519 by its author over the bytes of hash, hex",
        "stream": "the stream that it belongs to",
        "version": "its number in that stream, from 1",
        "time": "Unix microseconds",
    },
    "StartCustomBody": {
        "mem_size_mib": "MiB of memory",
        "tap_device": "the host's network device for it",
        "vcpu_count": "how many cores",
    },
    "StatusBody": {"is_available": "whether to take jobs"},
    "SyncBody": {"address": "the wallet whose transactions are looked up"},
    "Synchronized": {
        "updated": "how many transactions were found paid out",
        "failed": "how many transactions could not be looked up now",
        "trouble": "why the first of those could not be looked up; empty for none",
    },
    "StopBody": {
        "job_ids": "the jobs to stop; no others are",
        "reason": "recorded, and told the other sides",
    },
    "StopOutcomes": {"jobs": "one for each job that was named, in that order"},
    "TerminateBody": {"reason": "recorded, and told the other side"},
    "TimelineStep": {"event": "the event's type", "note": "its reason, where it has one"},
    "Transaction": {
        "claimed": "whether the reward was asked for",
        "date_time": "as the original wrote times",
        "paid_at": "when the payment was accepted; null until then",
        "payee": "who is paid",
        "payer": "who pays",
        "settled_by": "hash of the transaction that paid it out, where known",
        "units": "what arrived on the chain, in whole smallest units; empty when nobody looked",
    },
    "TransferAnswer": {
        "changed_at": "when its state changed last",
        "direction": "whether it comes in or goes out",
        "done_bytes": "bytes that are there",
        "name": "the file's name",
        "offered_at": "when it was offered",
        "saved_as": "path at the receiver, once it is whole and checked",
    },
    "ViewState": {"left_out": "events that the view could not take in, by a fault of it; null for none"},
    "WaitingChat": {"time_opened": "Unix seconds"},
    "Wallet": {
        "mnemonic": "the words that the wallet is made from; keep them secret",
        "network": "mainnet or a test network",
        "private_key": "hex; keep it secret",
    },
}
"""Component -> property -> text, where the shared one does not fit, or there is none."""
_LIKE = {"JobDetail": "JobSummary", "StartDefaultBody": "StartCustomBody"}  # has the other's properties as well


def described(component_name: str, component: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with a description on each property that has one here and none of its own."""
    if "properties" not in component:
        return dict(component)
    properties = {name: _described(component_name, name, one) for name, one in component["properties"].items()}
    return {**component, "properties": properties}


def narrowed(component_name: str, component: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its texts that are one of a few."""
    chosen = {name: words for (owner, name), words in CHOICES.items() if owner == component_name}
    if not chosen or "properties" not in component:
        return dict(component)
    properties = {
        name: ({"type": "string", "enum": [str(word) for word in chosen[name]]} | _default(one))
        if name in chosen
        else one
        for name, one in component["properties"].items()
    }
    return {**component, "properties": properties}


def _default(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: schema[key] for key in ("default",) if key in schema}


def _described(component: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if "description" in schema:
        return dict(schema)
    own = _OWN.get(component, {}).get(name) or _OWN.get(_LIKE.get(component, ""), {}).get(name)
    text = own or _SHARED.get(name)
    return {**schema, "description": text} if text else dict(schema)
