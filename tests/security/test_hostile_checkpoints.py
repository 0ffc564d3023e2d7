"""A service provider against a compute provider that lies about its checkpoints: two real hosts, a real log.
Whatever it announces and sends, nothing is listed but what is whole, harmless and ours."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import tarfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.executors.workspace_archive import check_archive
from dms.adapters.p2p.identity import Identity
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.checkpoints import checkpoint_receiver
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver, FetchCheckpoints
from dms.application.files.file_exchange import FileExchange, FileRef
from dms.application.files.file_parts import open_regular
from dms.application.loops import Loops
from dms.application.network.messages import CHECKPOINT, CheckpointNote, CheckpointNoted, decode_request, encode
from dms.application.reactors import Reactors
from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.errors import DmsError, InvalidInput, NotFound, PeerMisbehaved
from tests.fixtures.histories import paid, request
from tests.fixtures.live_folders import below
from tests.fixtures.local_peers import LOCAL
from tests.fixtures.waiting import wait_for

MIB = 1024 * 1024


def now_us() -> int:
    return time.time_ns() // 1000


def archive(info: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """The same bytes whenever it is made: gzip would put the time into its header."""
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def harmless(content: bytes = b"41") -> bytes:
    info = tarfile.TarInfo("workspace/state")
    info.size = len(content)
    return archive(info, content)


def with_link() -> bytes:
    info = tarfile.TarInfo("workspace/out")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc"
    return archive(info)


def saved(content: bytes, number: int = 1, **other: Any) -> Deployment.CheckpointSaved:
    honest = Deployment.CheckpointSaved(
        number=number,
        name="x.tar.gz",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        saved_at=now_us(),
    )
    return msgspec.structs.replace(honest, **other)


class Sides:
    """The service provider's receiver and the lying provider that it follows."""

    def __init__(self, folder: Path, log: SQLiteEventLog, ours: Libp2pNetwork, theirs: Libp2pNetwork) -> None:
        folder = folder.resolve()
        self.log, self.ours, self.theirs, self.folder = log, ours, theirs, folder
        self.sent = folder / "sent.tar.gz"
        self.notes: list[CheckpointNote] = []
        self.files = CheckpointFiles(folder / "sp")
        self.files.make()
        exchange = FileExchange(ours)
        exchange.start()
        self.receiver = self.new_receiver(exchange)
        self.reactors: Reactors | None = None
        self.exchange = exchange
        lying = FileExchange(theirs)
        lying.serve("checkpoint", lambda _peer_id, _job_id: True, self._give)
        lying.start()
        theirs.serve_request(CHECKPOINT, self._noted)

    def new_receiver(self, exchange: FileExchange, grace_seconds: float = 30) -> CheckpointReceiver:
        receiver = CheckpointReceiver(
            self.log, self.ours, self.files, exchange, checked, now_us, grace_seconds=grace_seconds, max_bytes=MIB
        )
        receiver.serve()
        return receiver

    async def _give(self, _peer_id: str, _job_id: str) -> int | None:
        return open_regular(self.sent)

    async def _noted(self, _peer_id: str, body: bytes) -> bytes:
        self.notes.append(decode_request(body, CheckpointNote))
        return encode(CheckpointNoted(newest=True))

    async def job(self, resume: ResumeFrom | None = None, job_id: str = "") -> Job:
        job = Job(job_id or new_id())
        job.request_service(request(), self.theirs.peer_id, "0.02728", now_us() + 600_000_000, (), 0, resume=resume)
        job.report_fund_status(paid())
        job.accept_funding("trust")
        job.trigger(Job.DeploymentResponded(success=True, content=""))
        await self.log.save(job)
        return job

    def send(self, content: bytes) -> None:
        self.sent.write_bytes(content)

    async def offer(self, job: Job, content: bytes, event: Deployment.CheckpointSaved) -> None:
        self.send(content)
        self.receiver.offer(job, event)
        await self.log.save(job)
        await self.fetch(job)

    async def fetch(self, job: Job) -> None:
        if self.reactors is None:
            self.reactors = Reactors(self.log, Loops())
            await self.reactors.start([FetchCheckpoints(self.receiver)], lambda _: [job.key])

    async def settled(self, job: Job) -> str:
        """Why it was lost; empty when it is here. Once that is in the log."""
        await wait_for(lambda: job.checkpoint_wanted is None)
        number = job.checkpoint_settled
        async with asyncio.timeout(120), aclosing(self.log.subscribe(0, stream=f"job-{job.key}")) as batches:
            async for batch in batches:
                for event in (recorded.event for recorded in batch):
                    if isinstance(event, Job.CheckpointLost) and event.number == number:
                        return event.reason
                    if isinstance(event, Job.CheckpointReceived) and event.number == number:
                        return ""
        raise AssertionError("the log ended")

    def names(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.folder / "sp")) for path in below(self.folder / "sp") if ".gz" in path.name
        )


async def checked(archive: Path, max_bytes: int) -> None:
    await asyncio.to_thread(check_archive, archive, max_bytes)


@pytest.fixture
async def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sides]:
    monkeypatch.setattr(checkpoint_receiver, "RETRY_SECONDS", 0.1)
    log = SQLiteEventLog(tmp_path / "events.db", now_us)
    await log.start()
    ours, theirs = (Libp2pNetwork(Identity.generate(), LOCAL) for _ in range(2))
    sides = Sides(tmp_path, log, ours, theirs)
    await ours.start()
    await theirs.start()
    ours.add_addresses(theirs.peer_id, theirs.listen_addresses)
    theirs.add_addresses(ours.peer_id, ours.listen_addresses)
    yield sides
    if sides.reactors is not None:
        await sides.reactors.close()
    await ours.close()
    await theirs.close()
    await log.close()


@pytest.mark.slow
async def test_an_honest_one_is_received_listed_and_confirmed(sides: Sides) -> None:
    job, content = await sides.job(), harmless()
    await sides.offer(job, content, saved(content, name="../../evil.tar.gz"))
    assert await sides.settled(job) == ""
    listed = await sides.receiver.listed()
    assert [(one.name, one.size_bytes) for one in listed] == [(f"{job.key}.tar.gz", len(content))]
    assert sides.names() == [f"received_checkpoints/{job.key}.tar.gz"]  # never under the provider's name
    await wait_for(lambda: sides.notes)
    assert sides.notes[0].sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("sent", "announced", "reason"),
    [
        (with_link(), saved(with_link()), "symbolic link"),
        (b"no archive", saved(b"no archive"), "not a gzip"),
        (harmless(bytes(2 * MIB)), saved(harmless(bytes(2 * MIB))), "larger than 1 MiB"),
        (harmless(), saved(harmless(), sha256="0" * 64), "another content"),
        (harmless(), saved(harmless(), size_bytes=2**50), "checkpoint_max_mb"),
    ],
    ids=["link", "no archive", "too much content", "wrong digest", "announced as huge"],
)
async def test_a_hostile_one_is_lost_with_the_reason_and_leaves_nothing(
    sides: Sides, sent: bytes, announced: Deployment.CheckpointSaved, reason: str
) -> None:
    job = await sides.job()
    await sides.offer(job, sent, announced)
    assert reason in await sides.settled(job)
    assert await sides.receiver.listed() == []
    assert sides.names() == []
    assert sides.notes == []


@pytest.mark.parametrize(
    "wrong",
    [{"sha256": "../../x"}, {"sha256": ""}, {"size_bytes": -1}, {"size_bytes": 0}, {"number": 0}, {"number": -5}],
    ids=str,
)
async def test_an_announcement_without_sense_breaks_the_protocol(sides: Sides, wrong: dict[str, Any]) -> None:
    job = await sides.job()
    with pytest.raises(PeerMisbehaved, match="checkpoint"):
        sides.receiver.offer(job, saved(harmless(), **wrong))
    assert job.checkpoint_wanted is None


async def test_a_hostile_one_does_not_replace_the_good_one_before_it(sides: Sides) -> None:
    job, good = await sides.job(), harmless(b"good")
    await sides.offer(job, good, saved(good))
    assert await sides.settled(job) == ""
    await sides.offer(job, with_link(), saved(with_link(), number=2))
    assert "symbolic link" in await sides.settled(job)
    assert sides.files.received(job.key).read_bytes() == good


async def test_one_that_never_comes_is_given_up_after_the_grace(sides: Sides) -> None:
    sides.receiver = sides.new_receiver(sides.exchange, grace_seconds=1)
    job, content = await sides.job(), harmless()
    await sides.theirs.close()
    await sides.offer(job, content, saved(content))
    assert "within 1 s" in await sides.settled(job)


async def test_what_was_wanted_when_we_died_is_fetched_when_we_are_back(sides: Sides) -> None:
    job, content = await sides.job(), harmless()
    sides.sent.write_bytes(content)
    sides.receiver.offer(job, saved(content))
    await sides.log.save(job)  # and here the process ends
    await sides.fetch(job)
    assert await sides.settled(job) == ""
    assert sides.files.received(job.key).read_bytes() == content


async def test_only_the_chosen_provider_gets_what_a_job_goes_on_from_and_only_while_it_is_open(sides: Sides) -> None:
    content = harmless()
    source = sides.files.received("old")
    source.write_bytes(content)
    job_id = new_id()
    resume = await sides.receiver.keep(source, job_id)
    source.unlink()  # replaced by a newer one, or deleted: the job keeps what it was promised
    job = await sides.job(resume, job_id)
    ref = FileRef(kind="resume", id=job_id, name="x", size_bytes=resume.size_bytes, sha256=resume.sha256)
    stranger = Libp2pNetwork(Identity.generate(), LOCAL)
    await stranger.start()
    try:
        stranger.add_addresses(sides.ours.peer_id, sides.ours.listen_addresses)
        with pytest.raises(NotFound):
            await FileExchange(stranger).fetch(sides.ours.peer_id, ref, sides.folder / "stolen")
        theirs = FileExchange(sides.theirs)
        await theirs.fetch(sides.ours.peer_id, ref, sides.folder / "got")
        assert (sides.folder / "got").read_bytes() == content
        for other in (f"../received_checkpoints/{job_id}", "old", "", "."):
            with pytest.raises(DmsError):
                await theirs.fetch(
                    sides.ours.peer_id, msgspec.structs.replace(ref, id=other), sides.folder / "got-other"
                )
        job.fail("no longer wanted", Fault.REQUESTER)
        await sides.log.save(job)
        with pytest.raises(NotFound):
            await theirs.fetch(sides.ours.peer_id, ref, sides.folder / "late")
    finally:
        await stranger.close()


async def test_a_received_one_that_was_damaged_since_is_named_before_anything_is_paid(sides: Sides) -> None:
    job, content = await sides.job(), harmless()
    await sides.offer(job, content, saved(content))
    assert await sides.settled(job) == ""
    path, other = sides.files.received(job.key), new_id()
    assert (await sides.receiver.keep(path, other)).sha256 == hashlib.sha256(content).hexdigest()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InvalidInput, match=f"{job.key}.tar.gz is damaged: it was received with SHA-256"):
        await sides.receiver.keep(path, other)
    assert not sides.files.resume_out(other).exists()
