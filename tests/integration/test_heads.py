"""Two real hosts with real logs show each other their heads, and what hostile or older peers get."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.heads.file import HeadFile, read_heads
from dms.adapters.p2p.identity import Identity, verify_signature
from dms.adapters.p2p.network import Libp2pNetwork
from dms.application.network.control import serve_control
from dms.application.network.messages import CONTROL, HeadShown, HeadWitnessed, Terminate, decode_request, encode
from dms.application.ports.peers import RequestHandler
from dms.application.records import heads as module
from dms.application.records.heads import HeadExchange
from dms.domain.deployment import Deployment
from dms.domain.event import new_id
from dms.domain.heads import Heads, SignedHead, countersign, is_genuine, sign_head
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.errors import Conflict, DmsError, Forbidden, InvalidInput, NotFound, PeerMisbehaved, Unavailable
from tests.fixtures.histories import START, Author, new_job, request, submitted_job
from tests.fixtures.local_peers import LOCAL
from tests.fixtures.waiting import wait_for

JOB = "01990000-0000-7000-8000-000000000001"
RESERVED = Resources(cpu_mhz=500, memory_mb=64)
NOBODYS = SignedHead(peer_id="1", position=1, hash="0" * 64, time=0, signature="0" * 128)


def now_us() -> int:
    return time.time_ns() // 1000


async def no_terminate(_peer_id: str, body: bytes) -> bytes:
    decode_request(body, Terminate)
    raise NotFound("no deployment of that job here")


class Side:
    """A DMS as far as its log and its heads go."""

    def __init__(self, folder: Path, interval_seconds: float = 600) -> None:
        self.folder, self.identity = folder, Identity.load_or_create(folder / "node.key")
        self.network = Libp2pNetwork(self.identity, LOCAL)
        self.log = SQLiteEventLog(folder / "events.db", now_us)
        store = HeadFile(folder, self.identity.peer_id)
        self.heads = HeadExchange(self.log, self.network, self.identity, store, now_us, interval_seconds)
        serve_control(self.network, no_terminate, self.heads.on_head)

    @property
    def peer_id(self) -> str:
        return self.identity.peer_id

    @property
    def kept(self) -> Heads:
        try:
            return read_heads(self.folder / "heads.json")
        except NotFound:
            return Heads(peer_id=self.peer_id)

    def witnessed(self) -> int:
        """The highest position of ours that a peer signed."""
        return max((found.head.position for found in self.kept.own), default=0)

    def up_to_date(self) -> bool:
        """Whether a peer has signed our newest head."""
        return self.witnessed() == self.log.head

    def has_seen(self, other: Side) -> bool:
        return other.kept.own != () and self.kept.seen[-1:] == other.kept.own[-1:]

    def head(self, position: int, link: bytes = bytes(32)) -> SignedHead:
        return sign_head(self.peer_id, position, link, now_us(), self.identity.sign)

    async def ask(self, other: Side, head: SignedHead, job_id: str = JOB) -> HeadWitnessed:
        """As a peer does that signs what it likes."""
        body = encode(HeadShown(head=head, shared_job=job_id))
        return msgspec.json.decode(await self.network.request(other.peer_id, CONTROL, body, 10), type=HeadWitnessed)


@asynccontextmanager
async def side(folder: Path, interval_seconds: float = 600) -> AsyncIterator[Side]:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240  a temporary folder
    async with AsyncExitStack() as closing:
        found = Side(folder, interval_seconds)
        await found.log.start()
        closing.push_async_callback(found.log.close)
        await found.network.start()
        closing.push_async_callback(found.network.close)
        await found.heads.start([])
        closing.push_async_callback(found.heads.close)
        yield found


@pytest.fixture
async def sp(tmp_path: Path) -> AsyncIterator[Side]:
    async with side(tmp_path / "sp") as found:
        yield found


@pytest.fixture
async def cp(sp: Side, tmp_path: Path) -> AsyncIterator[Side]:
    async with side(tmp_path / "cp") as found:
        sp.network.add_addresses(found.peer_id, found.network.listen_addresses)
        await sp.network.ping(found.peer_id, 30)
        yield found


def taken_job(provider: Identity, job_id: str = JOB) -> Job:
    """A job that its provider has reported on."""
    author = Author()
    author.identity = provider
    job = submitted_job(job_id, provider=provider.peer_id)
    job.trigger(Job.ProviderReported(record=author.record(job_id, Deployment.ImagePulled(digest=""))))
    return job


async def begin(sp: Side, cp: Side, job_id: str = JOB) -> tuple[Job, Deployment]:
    """A job that runs, on both sides."""
    deployment = Deployment(job_id)
    deployment.accept(sp.peer_id, request(), "0.1", RESERVED, ())
    deployment.container_created("c" * 64, "docker")
    deployment.container_started(START)
    await cp.log.save(deployment)
    job = taken_job(cp.identity, job_id)
    job.trigger(Job.DeploymentResponded(success=True, content=""))
    await sp.log.save(job)
    return job, deployment


async def run_job(sp: Side, cp: Side, job_id: str = JOB) -> None:
    job, deployment = await begin(sp, cp, job_id)
    deployment.exited(0, oom_killed=False, duration_seconds=1.0)
    await cp.log.save(deployment)
    job.trigger(Job.Completed(duration_seconds=1.0))
    await sp.log.save(job)


# --- among honest peers --------------------------------------------------------------------------------
async def test_at_the_end_of_a_job_each_side_has_the_others_signature_under_its_head(sp: Side, cp: Side) -> None:
    await run_job(sp, cp)
    for own, other in ((sp, cp), (cp, sp)):
        await wait_for(own.up_to_date)
        (found,) = own.kept.own
        assert (found.head.peer_id, found.witness) == (own.peer_id, other.peer_id)
        assert found.head.hash == own.log.previous_hash(own.log.head + 1).hex()
        assert is_genuine(found, verify_signature)
        await wait_for(partial(other.has_seen, own))
        assert (own.folder / "heads.json").stat().st_mode & 0o077 == 0


async def test_jobs_that_end_together_share_a_head(sp: Side, cp: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 1.05)
    begun = time.monotonic()
    for _ in range(20):
        await run_job(sp, cp, new_id())
    for own in (sp, cp):
        await wait_for(own.up_to_date)
        assert len(own.kept.own) <= 2 + (time.monotonic() - begun) / 1.05  # 3, unless the machine is busy


async def test_while_a_job_runs_heads_are_shown_now_and_then(tmp_path: Path) -> None:
    async with side(tmp_path / "sp") as sp, side(tmp_path / "cp", interval_seconds=0.05) as cp:
        sp.network.add_addresses(cp.peer_id, cp.network.listen_addresses)
        await sp.network.ping(cp.peer_id, 30)
        await begin(sp, cp)
        await wait_for(cp.up_to_date)


async def test_a_job_that_ran_over_a_restart_is_taken_up(sp: Side, cp: Side) -> None:
    _, deployment = await begin(sp, cp)
    await cp.heads.close()
    cp.heads = HeadExchange(
        cp.log, cp.network, cp.identity, HeadFile(cp.folder, cp.peer_id), now_us, interval_seconds=0.05
    )
    await cp.heads.start([JOB])
    await wait_for(cp.up_to_date)
    deployment.exited(0, oom_killed=False, duration_seconds=1.0)
    await cp.log.save(deployment)
    await wait_for(cp.up_to_date)


async def test_a_peer_that_is_away_sees_the_head_once_it_is_back(
    sp: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.1,) * 100)
    async with side(tmp_path / "cp") as cp:
        pass
    job = taken_job(cp.identity)
    job.trigger(Job.DeploymentResponded(success=True, content=""))
    job.trigger(Job.Completed(duration_seconds=1.0))
    await sp.log.save(job)
    async with side(tmp_path / "cp") as cp:
        deployment = Deployment(JOB)
        deployment.accept(sp.peer_id, request(), "0.1", RESERVED, ())
        await cp.log.save(deployment)
        sp.network.add_addresses(cp.peer_id, cp.network.listen_addresses)
        await wait_for(sp.up_to_date)


async def test_whom_a_restart_kept_from_seeing_the_head_sees_it_after_the_restart(
    sp: Side, cp: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: who has signed it is not shown it again."""
    monkeypatch.setattr(module, "RETRY_SECONDS", ())
    await cp.heads.close()
    await run_job(sp, cp)
    assert not cp.kept.own
    shown: list[str] = []
    plain = HeadExchange.show

    async def show(self: HeadExchange, peer_id: str, job_id: str) -> None:
        shown.append(job_id)
        await plain(self, peer_id, job_id)

    monkeypatch.setattr(HeadExchange, "show", show)
    cp.heads = HeadExchange(
        cp.log, cp.network, cp.identity, HeadFile(cp.folder, cp.peer_id), now_us
    )  # fmt: skip
    await cp.heads.start([])
    await wait_for(cp.up_to_date)
    await cp.heads.close()
    cp.heads = HeadExchange(
        cp.log, cp.network, cp.identity, HeadFile(cp.folder, cp.peer_id), now_us
    )  # fmt: skip
    await cp.heads.start([])
    await wait_for(lambda: cp.heads._position == cp.log.head)
    await cp.heads.close()
    assert shown == [JOB]


async def test_an_older_peer_that_knows_no_heads_is_no_error_and_stops_no_job(
    sp: Side, cp: Side, caplog: pytest.LogCaptureFixture
) -> None:
    stopped: list[Terminate] = []

    async def older(_peer_id: str, body: bytes) -> bytes:
        stopped.append(decode_request(body, Terminate))
        return b"{}"

    cp.network.serve_request(CONTROL, older)
    await cp.network.ping(sp.peer_id, 30)
    with caplog.at_level(logging.INFO, module.__name__):
        await run_job(sp, cp)
        await wait_for(lambda: "does not sign heads" in caplog.text)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert stopped == []
    await wait_for(cp.up_to_date)  # its own are signed all the same


# --- peers that lie --------------------------------------------------------------------------------------
def absurd(sp: Side, cp: Side, stranger: Identity) -> Mapping[str, tuple[type[DmsError], bytes]]:
    """What the compute provider sends -> what it gets."""

    def body(head: SignedHead, job_id: str = JOB, **change: Any) -> bytes:
        fields = msgspec.to_builtins(head) | change
        return msgspec.json.encode({"head": fields, "shared_job": job_id})

    theirs = sign_head(stranger.peer_id, 5, bytes(32), now_us(), stranger.sign)
    return {
        "someone else's head": (Forbidden, body(theirs)),
        "our own head": (Forbidden, body(sp.head(5))),
        "a wrong signature": (InvalidInput, body(cp.head(5), signature="00" * 64)),
        "another position than signed": (InvalidInput, body(cp.head(5), position=6)),
        "another's signature": (InvalidInput, body(sign_head(cp.peer_id, 5, bytes(32), 1, stranger.sign))),
        "a huge position": (InvalidInput, body(cp.head(5), position=2**63)),
        "position 0": (InvalidInput, body(cp.head(5), position=0)),
        "a text as position": (InvalidInput, body(cp.head(5), position="5")),
        "a job that is not shared": (Forbidden, body(cp.head(5), new_id())),
        "no job id": (InvalidInput, body(cp.head(5), "../etc")),
        "nothing": (InvalidInput, b'{"head": null}'),
        "a list": (InvalidInput, b'[{"head": 1}]'),
        "no JSON": (InvalidInput, b"\xff\xfe"),
    }


async def test_absurd_heads_are_refused_and_nothing_is_kept(sp: Side, cp: Side) -> None:
    await begin(sp, cp)
    for name, (error, body) in absurd(sp, cp, Identity.generate()).items():
        with pytest.raises(error):
            await cp.network.request(sp.peer_id, CONTROL, body, 10)
        assert sp.kept.seen == (), name
    assert (await cp.ask(sp, cp.head(2**62))).countersignature.witness == sp.peer_id  # its own lie, and it signed it


@pytest.mark.slow
async def test_a_stranger_and_one_whose_job_was_refused_get_no_signature(sp: Side, cp: Side) -> None:
    with pytest.raises(Forbidden, match="not shared"):
        await sp.ask(cp, sp.head(1))
    deployment = Deployment(JOB)
    deployment.reject(sp.peer_id, request(), "0.1", "no capacity left")
    await cp.log.save(deployment)
    with pytest.raises(Forbidden, match="not shared"):
        await sp.ask(cp, sp.head(1))


async def test_a_peer_that_takes_its_history_back_is_told_and_the_evidence_stays(
    sp: Side, cp: Side, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITNESS_SECONDS", 0.0)
    await begin(sp, cp)
    first = (await cp.ask(sp, cp.head(50))).countersignature
    for later in (cp.head(30), cp.head(30), cp.head(50, b"x" * 32)):
        with pytest.raises(Conflict, match="is kept"):
            await cp.ask(sp, later)
    await cp.ask(sp, cp.head(60))
    assert [found.head.position for found in sp.kept.seen] == [50, 60]
    (kept,) = sp.kept.contradictions
    assert (kept.witnessed, kept.later.position) == (first, 30)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len([record for record in warnings if "shows another history" in record.getMessage()]) == 1


async def test_a_peer_gets_one_signature_in_a_while(sp: Side, cp: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WITNESS_SECONDS", 60.0)
    await begin(sp, cp)
    await cp.ask(sp, cp.head(1))
    with pytest.raises(Unavailable, match="once a second"):
        await cp.ask(sp, cp.head(2))


Answer = Callable[[Side, SignedHead], HeadWitnessed]


def with_a_forged_signature(cp: Side, head: SignedHead) -> HeadWitnessed:
    found = countersign(head, cp.peer_id, now_us(), Identity.generate().sign)
    return HeadWitnessed(countersignature=found)


def of_another_head(cp: Side, _head: SignedHead) -> HeadWitnessed:
    return HeadWitnessed(countersignature=countersign(NOBODYS, cp.peer_id, now_us(), cp.identity.sign))


def of_another_witness(_cp: Side, head: SignedHead) -> HeadWitnessed:
    other = Identity.generate()
    return HeadWitnessed(countersignature=countersign(head, other.peer_id, now_us(), other.sign))


@pytest.mark.parametrize("lie", [with_a_forged_signature, of_another_head, of_another_witness])
async def test_a_countersignature_that_is_none_is_not_kept(sp: Side, cp: Side, lie: Answer) -> None:
    async def lying(_peer_id: str, body: bytes) -> bytes:
        return encode(lie(cp, decode_request(body, HeadShown).head))

    handler: RequestHandler = lying
    cp.network.serve_request(CONTROL, handler)
    await sp.log.save(new_job(JOB, provider=cp.peer_id))
    await cp.network.ping(sp.peer_id, 30)
    with pytest.raises(PeerMisbehaved, match="not of the head"):
        await sp.heads.show(cp.peer_id, JOB)
    assert sp.kept.own == ()


# --- the file --------------------------------------------------------------------------------------------
async def test_a_log_that_was_cut_is_told_at_the_next_start(
    sp: Side, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with side(tmp_path / "cp") as cp:
        sp.network.add_addresses(cp.peer_id, cp.network.listen_addresses)
        await sp.network.ping(cp.peer_id, 30)
        await run_job(sp, cp)
        await wait_for(cp.up_to_date)
        head = cp.log.head
    async with side(tmp_path / "cp"):
        assert "is not what it was" not in caplog.text
    with closing(sqlite3.connect(tmp_path / "cp" / "events.db")) as database, database:
        database.execute("DELETE FROM event WHERE position > ?", (head - 2,))
    async with side(tmp_path / "cp"):
        assert f"peer {sp.peer_id} witnessed position {head}" in caplog.text
        assert f"the log ends at {head - 2}" in caplog.text


@pytest.mark.parametrize("body", [b"", b"{", b'{"peer_id": "1", "own": [1]}', b"\xff" * 100, b"[]", b"x" * 5_000_000])
def test_a_damaged_file_is_moved_aside_and_not_overwritten(
    tmp_path: Path, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "heads.json").write_bytes(body)
    assert HeadFile(tmp_path, "12D3KooWOwn").load() == Heads(peer_id="12D3KooWOwn")
    assert (tmp_path / "heads.json.damaged").read_bytes() == body
    assert "is moved to heads.json.damaged" in caplog.text


def test_what_was_moved_aside_before_is_not_overwritten(tmp_path: Path) -> None:
    for body in (b"one", b"two", b"three"):
        (tmp_path / "heads.json").write_bytes(body)
        HeadFile(tmp_path, "12D3KooWOwn").load()
    kept = [(tmp_path / f"heads.json.damaged{number}").read_bytes() for number in ("", "-2", "-3")]
    assert kept == [b"one", b"two", b"three"]


async def test_the_file_of_another_identity_is_moved_aside(tmp_path: Path) -> None:
    await HeadFile(tmp_path, "12D3KooWOld").save(Heads(peer_id="12D3KooWOld"))
    assert HeadFile(tmp_path, "12D3KooWNew").load().peer_id == "12D3KooWNew"
    assert read_heads(tmp_path / "heads.json.12D3KooWOld").peer_id == "12D3KooWOld"
