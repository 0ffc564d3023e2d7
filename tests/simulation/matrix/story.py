"""What has become of all that was asked for, on both sides, without what a fault may change: times, ids, how often a
provider was looked for."""

from __future__ import annotations

import gzip
import re
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dms.domain.deployment import Deployment
from dms.domain.erasure import Erasure
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.retry import job_of
from dms.domain.transfer import Transfer
from tests.simulation.matrix.world import MatrixWorld
from tests.simulation.run import unfinished

Story = dict[str, Any]
KINDS: Mapping[str, type[Any]] = {kind.KIND: kind for kind in (Job, Deployment, Transfer, Hold, Erasure)}
# What is there while something is away; and what a provider says of a job that was over already, when it is heard.
PASSING = re.compile(r"^job\.provider_(unreachable|returned)$|funding_pending$|^reported: .*_(delivered|deleted)$")
BESIDE = re.compile(r"^[a-z]+\.(checkpoint|results)_|^reported: .*(checkpoint|results)_saved$|^job\.provider_told$")
MEASURES = frozenset(("sealed", "size_bytes", "duration_seconds", "saved_at"))
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LONG_HEX = re.compile(r"[0-9a-f]{32,}")
_LARGEST_COUNT = 10**9  # larger whole numbers are times in microseconds


async def story_of(world: MatrixWorld, *, cut_short: bool) -> Story:
    """Of what clients asked for. cut_short: how much of it was done is no part of that."""
    asked = world.client.asked
    counts = world.durable.starts
    found: Story = {"engine starts": sorted(count for (_, key), count in counts.items() if job_of(key) in asked)}
    for name, stream in sorted(world.durable.streams):
        kind, _, key = stream.partition("-")
        if kind in (Job.KIND, Deployment.KIND, Transfer.KIND) and job_of(key) in asked:
            bare = cut_short or (kind == Deployment.KIND and _is_abandoned(world, key))
            found[f"{name}: {kind} {asked.index(job_of(key))}"] = _events(world, name, stream, bare=bare)
    for name in world.nodes if not cut_short else ():
        for number, key in enumerate(asked):
            if name != world.requester.name and _is_abandoned(world, key):
                continue
            async for what, value in _left_by(world, name, key):
                found[f"{name}: {what} {number}"] = value
    return found


def _is_abandoned(world: MatrixWorld, deployment: str) -> bool:
    """Its job has gone on elsewhere: how far it came depends on when it heard of that."""
    daemon = world.requester.daemon
    assert daemon is not None
    job = daemon.services.log.load(Job, job_of(deployment))
    return job is not None and job.deployment_id != deployment


def left_to_do(world: MatrixWorld) -> str:
    """Empty for nothing."""
    if left := unfinished(world):
        return left
    for name, stream in list(world.durable.streams):
        daemon = world.nodes[name].daemon
        assert daemon is not None
        kind, _, key = stream.partition("-")
        found = daemon.services.log.load(KINDS[kind], key) if kind in KINDS else None
        if found is not None and (left := _left_of(world, found)):
            return f"{name}: {left} {key}"
    return ""


def _left_of(world: MatrixWorld, found: object) -> str:
    match found:
        case Job() if found.checkpoint_wanted is not None or found.results_wanted is not None:
            return "fetches archives of job"
        case Deployment() if _keeps_archives(world, found):
            return "keeps archives of job"
        case Transfer() if not found.ended:
            return "has the open transfer"
        case Hold() if found.held:
            return "holds a place for job"
        case Erasure() if not found.completed:
            return "has not done erasure"
    return ""


def _keeps_archives(world: MatrixWorld, deployment: Deployment) -> bool:
    """Though its owner has them."""
    requester = world.requester.daemon
    assert requester is not None
    job = requester.services.log.load(Job, job_of(deployment.key))
    if job is None or job.deployment_id != deployment.key:
        return False
    kept = (deployment.checkpoint_here, job.checkpoint_received), (deployment.results_here, job.results_received)
    return any(here and received is not None for here, received in kept)


def _events(world: MatrixWorld, node: str, stream: str, *, bare: bool) -> Story:
    """What decides, in its order; beside that, in any order and as often as may be, what becomes of archives and of
    who is told. bare: without what the events say."""
    decided: list[Any] = []
    beside: set[str] = set()
    for draft in world.durable.streams[node, stream]:
        body = _plain(msgspec.json.decode(draft.state))
        topic = draft.topic if draft.topic != Job.ProviderReported.TOPIC else f"reported: {body['record']}"
        if BESIDE.search(topic):
            beside.add(topic)
        elif not PASSING.search(topic):
            decided.append((topic, {} if bare else body))
    return {"decided": decided, "beside": sorted(beside)}


async def _left_by(world: MatrixWorld, name: str, job_id: str) -> AsyncIterator[tuple[str, Any]]:
    """Its output, and its archives."""
    node = world.nodes[name]
    daemon = node.daemon
    assert daemon is not None
    lines = await daemon.services.outputs.read(job_id, 0, 1000) if daemon.services.outputs.is_known(job_id) else ()
    yield "output", [(line.seq, line.stream, line.text) for line in lines]
    for folder in ("received_checkpoints", "received_results", "created_checkpoints", "created_results"):
        archive = node.folder / folder / f"{job_id}.tar.gz"
        yield folder, list(_content(archive)) if archive.exists() else []
    received = node.folder / "received_files"
    yield "files", sorted((path.name, path.read_text()) for path in received.glob("*.txt"))


def _content(archive: Path) -> Iterator[tuple[str, bytes]]:
    with gzip.open(archive) as plain, tarfile.open(fileobj=plain) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:
                yield member.name, file.read()


def _plain(value: Any) -> Any:
    """Without ids, times and measures."""
    if isinstance(value, dict):
        if value.keys() >= {"signature", "topic", "data"}:  # a provider's record: what it says is in its own log
            return value["topic"]
        return {key: _plain(one) for key, one in value.items() if key not in MEASURES and not key.endswith("_us")}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) or (isinstance(value, int) and value > _LARGEST_COUNT):
        return "<measure>"
    return _LONG_HEX.sub("<hex>", _ID.sub("<id>", value)) if isinstance(value, str) else value
