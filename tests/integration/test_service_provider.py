"""The service provider's side on a real log: what is decided has its effect, a provider that never comes to an end
keeps no job open, and what it must be told outlives a restart. The provider is a script that tests write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.adapters.p2p.identity import Identity
from dms.application.jobs import follow_deployments, tell_providers
from dms.application.jobs.fund_jobs import CheckFunding, ExpireUnfunded
from dms.application.loops import Loops
from dms.application.network.messages import (
    CONTROL,
    DEPLOYMENT_REQUEST,
    FEED,
    DeploymentAnswer,
    FeedItem,
    Terminate,
    TerminateAnswer,
    encode,
)
from dms.application.payments import funding
from dms.application.payments.funding import PatientCheck
from dms.application.ports.funding import FundingState, FundingVerdict, PaymentClaim, Repayment
from dms.application.reactors import MOST_FAULTS, News, Reactors
from dms.application.tasks import cancelled
from dms.bootstrap import build
from dms.clock import machine_clock
from dms.config import General, P2p, Rest, Settings
from dms.config import Job as JobSettings
from dms.daemon import Daemon
from dms.domain import overdue
from dms.domain.deployment import Deployment
from dms.domain.event import Event
from dms.domain.job import FundStatus, Job, JobState
from dms.domain.reward import Fault
from dms.domain.run_time import Instant
from dms.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    PeerFailed,
    PeerMisbehaved,
    PeerUnreachable,
    Unavailable,
)
from dms.wiring.overrides import Overrides
from projections.job_columns import UNTOLD
from projections.jobs import Jobs
from tests.fixtures.histories import new_job, submitted_job
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import LonelyNetwork, Node, now_us, running_node
from tests.unit.domain.test_attempts import RUN, broken, started
from tests.unit.domain.test_attempts import report as told

QUICK = (0.001, 0.01)
HOUR_US = 3600 * 1_000_000


class ScriptedPeer(LonelyNetwork):
    """A provider that takes every job and sends heartbeats alone. trouble: its answer instead, by protocol. greets:
    whether it says that it is there before it."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self.trouble: dict[str, Exception] = {}
        self.greets = False
        self.asked: list[str] = []
        self.told: list[Terminate] = []
        self._cuts = 0

    async def request(self, peer_id: str, protocol: str, body: bytes, timeout_seconds: float) -> bytes:
        self.asked.append(protocol)
        if protocol in self.trouble:
            raise self.trouble[protocol]
        if protocol == CONTROL:
            self.told.append(msgspec.json.decode(body, type=Terminate))
            return encode(TerminateAnswer(stopping=True))
        return encode(DeploymentAnswer(accepted=True))

    async def stream(self, peer_id: str, protocol: str, body: bytes) -> AsyncGenerator[bytes, None]:
        self.asked.append(protocol)
        if self.greets:
            yield encode(FeedItem())
        if protocol in self.trouble:
            raise self.trouble[protocol]
        cuts = self._cuts
        while cuts == self._cuts:
            yield encode(FeedItem())
            await asyncio.sleep(0.001)
        raise self.trouble[protocol]

    def cut(self) -> None:
        """Streams that are open end with the trouble of their protocol."""
        self._cuts += 1


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(tell_providers, "RETRY_SECONDS", QUICK)
    monkeypatch.setattr(follow_deployments, "RETRY_SECONDS", QUICK)
    monkeypatch.setattr(overdue, "CATCH_UP_SECONDS", 0.05)
    async with running_node(tmp_path, make_network=ScriptedPeer) as running:
        yield running


def peer(node: Node) -> ScriptedPeer:
    network = node.services.network
    assert isinstance(network, ScriptedPeer)
    return network


def job_of(node: Node, job_id: str) -> Job:
    found = node.log.load(Job, job_id)
    assert found is not None
    return found


@asynccontextmanager
async def requesting(node: Node, *open_jobs: str) -> AsyncIterator[Reactors]:
    """What follows from the jobs is done meanwhile, as in a daemon that takes part."""
    reactors = Reactors(node.log, node.services.loops, QUICK)
    node.services.service_provider.take_up(open_jobs)
    await reactors.start(node.services.service_provider.reactors, lambda _: open_jobs)
    try:
        yield reactors
    finally:
        await reactors.close()


async def submitted(node: Node) -> str:
    job_id = await node.job()
    await node.submit(job_id)
    return job_id


async def first(node: Node, job_id: str, *kinds: type[Event]) -> Event:
    """Of the job's recorded events, once there is one."""
    async with asyncio.timeout(120), aclosing(node.log.subscribe(0, stream=f"{Job.KIND}-{job_id}")) as batches:
        async for batch in batches:
            for recorded in batch:
                if isinstance(recorded.event, kinds):
                    return recorded.event
    raise AssertionError


async def end_of(node: Node, job_id: str) -> tuple[Fault, str]:
    """Whose fault it was that the job failed, and why."""
    failed = await first(node, job_id, Job.Failed)
    assert isinstance(failed, Job.Failed)
    return failed.fault, failed.reason


async def settled(node: Node, job_id: str) -> Event:
    """What became of telling the provider."""
    return await first(node, job_id, Job.ProviderTold, Job.TellingGivenUp)


# --- a provider that answers and never comes to an end ----------------------------------------------
async def test_one_that_only_sends_heartbeats_must_begin_in_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "BEGIN_SECONDS", 0.05)
    monkeypatch.setattr(follow_deployments, "MOST_LOOK_SECONDS", 0.1)
    async with requesting(node):
        job_id = await submitted(node)
        fault, reason = await end_of(node, job_id)
        await settled(node, job_id)
    assert fault is Fault.PROVIDER
    assert reason.startswith("the provider did not start it within")
    assert [(told.job_id, told.reason) for told in peer(node).told] == [(job_id, reason)]


async def test_one_that_only_sends_heartbeats_must_keep_the_time_limit(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(node)
    await node.respond(job_id)
    assert job_of(node, job_id).state is JobState.RUNNING
    monkeypatch.setattr(overdue, "SAVED_BYTES_A_SECOND", float("inf"))
    monkeypatch.setattr(overdue, "MARGIN_SECONDS", 0.05 - 60 * job_of(node, job_id).minutes)
    monkeypatch.setattr(follow_deployments, "MOST_LOOK_SECONDS", 0.1)
    async with requesting(node, job_id):
        fault, reason = await end_of(node, job_id)
    assert (fault, "did not end it at its time limit of 5 min" in reason) == (Fault.PROVIDER, True)


@pytest.mark.parametrize("trouble", [None, PeerUnreachable("it is away"), Conflict("no"), Unavailable("disk full")])
async def test_a_termination_ends_the_job_here_whatever_the_provider_does(
    node: Node, monkeypatch: pytest.MonkeyPatch, trouble: Exception | None
) -> None:
    monkeypatch.setattr(overdue, "STOP_SECONDS", 0.05)
    async with requesting(node):
        job_id = await submitted(node)
        await wait_for(lambda: FEED in peer(node).asked)
        if trouble is not None:
            peer(node).trouble[CONTROL] = trouble
        await node.services.service_provider.terminate(job_id, "not wanted any more")
        assert await end_of(node, job_id) == (Fault.REQUESTER, "not wanted any more")
        peer(node).trouble.clear()
        await settled(node, job_id)


@pytest.mark.parametrize("kind", [Unavailable, PeerFailed])
async def test_one_that_can_not_answer_is_as_good_as_away(
    node: Node, monkeypatch: pytest.MonkeyPatch, kind: type[Unavailable]
) -> None:
    """By its own word. It is waited for; it is not an error of ours, and the job does not stay open for it for ever."""
    monkeypatch.setattr(follow_deployments, "UNREACHABLE_AFTER_SECONDS", 0.0)
    peer(node).trouble[FEED] = kind("the disk is full")
    async with requesting(node):
        job_id = await submitted(node)
        await wait_for(lambda: job_of(node, job_id).unreachable)
        peer(node).trouble.clear()
        await wait_for(lambda: not job_of(node, job_id).unreachable)
        away = await first(node, job_id, Job.ProviderUnreachable)
    assert isinstance(away, Job.ProviderUnreachable)
    assert "can't answer now: the disk is full" in away.reason
    assert job_of(node, job_id).open


async def test_one_that_is_there_and_can_never_answer_is_given_up_after_the_grace(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    [following] = [r for r in node.services.service_provider.reactors if r.name == "following of deployments"]
    monkeypatch.setattr(following, "_grace_seconds", 0.2)
    peer(node).greets, peer(node).trouble[FEED] = True, PeerFailed("The stream failed at this peer; its log says why.")
    async with requesting(node):
        fault, reason = await end_of(node, await submitted(node))
    assert (fault, reason.startswith("provider lost: not able to answer for 0.2 s")) == (Fault.PROVIDER, True)


async def test_one_that_refuses_to_be_followed_fails_the_job_as_its_own_fault(node: Node) -> None:
    peer(node).trouble[FEED] = Conflict("not now")
    async with requesting(node):
        fault, reason = await end_of(node, await submitted(node))
    assert (fault, "refuses to be followed: not now" in reason) == (Fault.PROVIDER, True)


async def test_an_error_of_ours_ends_the_job_as_our_fault_after_a_few_tries(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    async def broken(job_id: str) -> int:
        tries.append(job_id)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(node.outputs, "last", broken)
    async with requesting(node):
        job_id = await submitted(node)
        fault, reason = await end_of(node, job_id)
        await settled(node, job_id)  # it may run there
    assert (fault, "a bug" in reason, tries) == (Fault.REQUESTER, True, [job_id] * MOST_FAULTS)


# --- what a provider must be told --------------------------------------------------------------------
async def test_a_restart_goes_on_telling_that_a_job_is_over(node: Node) -> None:
    peer(node).trouble = {DEPLOYMENT_REQUEST: Conflict("no room"), CONTROL: PeerUnreachable("it is away")}
    async with requesting(node):
        job_id = await submitted(node)
        _, reason = await end_of(node, job_id)
        await wait_for(lambda: CONTROL in peer(node).asked)
    assert job_of(node, job_id).attempts_to_tell
    peer(node).trouble.clear()
    async with requesting(node, job_id):
        assert isinstance(await settled(node, job_id), Job.ProviderTold)
    assert [(told.job_id, told.reason) for told in peer(node).told] == [(job_id, reason)]


@pytest.mark.parametrize(
    "trouble",
    [
        Unavailable("its disk is full"),
        Conflict("another writer was first"),
        PeerFailed("The request failed at this peer; its log says why."),
        PeerMisbehaved("nonsense"),
        InvalidInput("what is that?"),
    ],
)
async def test_one_that_did_not_take_it_may_still_run_the_job_and_is_told_again(node: Node, trouble: Exception) -> None:
    peer(node).trouble = {DEPLOYMENT_REQUEST: Conflict("no room"), CONTROL: trouble}
    async with requesting(node):
        job_id = await submitted(node)
        await wait_for(lambda: peer(node).asked.count(CONTROL) > 2)
        assert job_of(node, job_id).attempts_to_tell
        peer(node).trouble.clear()
        await settled(node, job_id)
    assert len(peer(node).told) == 1


@pytest.mark.parametrize("trouble", [PeerUnreachable("it is away"), NotFound("no such deployment here")])
@pytest.mark.parametrize("terminated", [False, True])
async def test_a_job_that_was_to_be_terminated_ends_as_that_though_its_provider_is_lost(
    node: Node, monkeypatch: pytest.MonkeyPatch, trouble: Exception, terminated: bool
) -> None:
    [following] = [r for r in node.services.service_provider.reactors if r.name == "following of deployments"]
    async with requesting(node):
        job_id = await submitted(node)
        await wait_for(lambda: FEED in peer(node).asked)
        if terminated:
            await node.services.service_provider.terminate(job_id, "enough")
        monkeypatch.setattr(following, "_grace_seconds", 0.0)
        peer(node).trouble[FEED] = trouble
        peer(node).cut()
        fault, reason = await end_of(node, job_id)
    if terminated:
        assert (fault, reason) == (Fault.REQUESTER, "enough")
    else:
        assert fault is Fault.PROVIDER
        assert reason.startswith(("provider lost", "the provider no longer knows"))


@pytest.mark.parametrize("answer", [NotFound("no deployment of it here"), Forbidden("it is another peer's")])
async def test_one_that_does_not_have_the_job_needs_no_telling(node: Node, answer: Exception) -> None:
    peer(node).trouble = {DEPLOYMENT_REQUEST: Conflict("no room"), CONTROL: answer}
    async with requesting(node):
        assert isinstance(await settled(node, await submitted(node)), Job.ProviderTold)


async def test_who_is_told_that_the_whole_job_is_over_hears_so_though_the_job_was_read_anew_meanwhile(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of an aggregate last no longer than the log's cache holds it."""
    job = submitted_job(attempts=2)
    job.fail_attempt("it does not answer", Fault.PROVIDER)
    job.start_attempt("12D3KooWOther", "", None, 0)
    job.fail("enough", Fault.REQUESTER)
    await node.log.save(job)
    request, log = ScriptedPeer.request, node.log
    assert isinstance(log, DurableEventLog)

    async def then_read_anew(self: ScriptedPeer, *asked: Any) -> bytes:
        answer = await request(self, *asked)
        log._aggregates.evict([job.id])
        return answer

    monkeypatch.setattr(ScriptedPeer, "request", then_read_anew)
    async with requesting(node, job.key):
        await wait_for(lambda: not job_of(node, job.key).attempts_to_tell)
    assert [told.revoked for told in peer(node).told] == [True, False]


async def test_one_that_stays_away_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tell_providers, "patience", lambda _: 0.05)
    peer(node).trouble = {DEPLOYMENT_REQUEST: Conflict("no room"), CONTROL: PeerUnreachable("it is away")}
    async with requesting(node):
        job_id = await submitted(node)
        given_up = await settled(node, job_id)
    assert isinstance(given_up, Job.TellingGivenUp)
    assert given_up.reason.endswith("it is away")


async def test_a_later_attempt_has_its_own_patience(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what is left of it behind an earlier one, whose provider is still looked for."""
    monkeypatch.setattr(tell_providers, "patience", lambda attempt: 3600.0 if attempt.number == 1 else 1.0)
    peer(node).trouble = {CONTROL: PeerUnreachable("it is away")}
    telling = next(r for r in node.services.service_provider.reactors if r.name == "revocations")
    job = submitted_job(attempts=2)
    job.fail_attempt("it does not answer", Fault.PROVIDER)
    await node.log.save(job)
    clock = asyncio.get_running_loop().time
    reacting = asyncio.create_task(telling.react(job, News()))
    await asyncio.sleep(1.1)
    job.start_attempt("12D3KooWOther", "", None, 0)
    job.fail("enough", Fault.REQUESTER)
    await node.log.save(job)
    ended = clock()
    await wait_for(lambda: [attempt.number for attempt in job_of(node, job.key).attempts_to_tell] == [1])
    assert clock() - ended > 0.9
    await cancelled(reacting)


async def test_a_restart_days_later_settles_who_was_never_told_and_frees_the_payment(tmp_path: Path) -> None:
    """That its patience is over is told at once, not after a patience of each run."""
    line, times = MemoryLine(), [now_us()]

    async def daemon() -> Daemon:
        settings = Settings(
            general=General(data_dir=tmp_path, work_dir=tmp_path),
            rest=Rest(port=0),
            p2p=P2p(mdns=False),
            job=JobSettings(executor="process"),
        )

        def network(identity: Identity) -> MemoryNetwork:
            return MemoryNetwork(line, identity.peer_id)

        made = await build(settings, Overrides(network=network, now=lambda: times[0]))
        await made.start()
        return made

    before = await daemon()
    jobs = [submitted_job(), submitted_job(attempts=2)]
    for job in jobs:
        job.fail_attempt("provider did not answer", Fault.PROVIDER)
    jobs[1].not_repeated("no provider could go on")
    await before.services.log.save(*jobs)
    await before.close()
    times[0] += 72 * HOUR_US
    after = await daemon()

    def settled() -> bool:
        found = [after.services.log.load(Job, job.key) for job in jobs]
        return all(job is not None and job.payment_is_free for job in found)

    await wait_for(settled)
    await after.close()


async def test_whom_a_restart_has_to_tell_is_in_the_view_of_jobs(node: Node) -> None:
    """As the jobs themselves know it, after each of their ends."""

    def ended(*events: Event) -> Job:
        job = started(submitted_job())
        told(job, *events)
        return job

    sealed = Deployment.LogSealed(lines=0, sha256="0" * 64)
    lost, refused = started(submitted_job()), submitted_job()
    lost.fail("provider lost", Fault.PROVIDER)
    told(refused, RUN[0], Deployment.Rejected(reason="no room", fault=Fault.PROVIDER))
    silent = ended(sealed)
    silent.provider_unreachable("it is away")
    silent.fail("provider lost", Fault.PROVIDER)
    never, twice = new_job(), started(submitted_job(attempts=2))
    never.request_termination("enough")
    twice.fail_attempt("provider lost", Fault.PROVIDER)
    twice.start_attempt("12D3KooWOther", "", None, 0)
    started(twice)
    told(twice, sealed, Deployment.ContainerExited(exit_code=0, oom_killed=False, duration_seconds=1.0))
    exited = Deployment.ContainerExited(exit_code=3, oom_killed=False, duration_seconds=1.0)
    jobs = [lost, refused, silent, never, twice, ended(sealed, exited), ended(sealed, broken(Fault.PROVIDER))]
    expected = {job.key for job in jobs if job.attempts_to_tell}
    assert expected == {lost.key, silent.key, twice.key}
    await node.log.save(*jobs)
    await node.views.wait(node.log.head)
    assert await untold(node) == expected
    for job in jobs:
        for number in range(1, len(job.attempts) + 1):
            job.provider_told(number)
        await node.log.save(job)
    await node.views.wait(node.log.head)
    assert await untold(node) == set()


async def untold(node: Node) -> set[str]:
    return {row.job_id for row in (await node.views.page(Jobs(), limit=100, where={"untold": (UNTOLD,)})).rows}


# --- clocks --------------------------------------------------------------------------------------------
class Waiting:
    """A check of payments that never sees them."""

    name, carries, blockchain = "waiting", True, ""

    def __init__(self) -> None:
        self.looked: list[str] = []

    async def check(self, claim: PaymentClaim) -> FundingVerdict:
        self.looked.append(claim.job_id)
        return FundingVerdict(state=FundingState.PENDING, reason="not seen yet")

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[Repayment]:
        return []

    async def close(self) -> None: ...


async def report(node: Node, job_id: str, status: str) -> None:
    job = job_of(node, job_id)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status=status, tx_hash=f"ab{job_id}"))
    await node.log.save(job)


class SteppingClock:
    """Unix time in microseconds, as far as it was stepped; `read` counts."""

    def __init__(self) -> None:
        self.time, self.read = now_us(), 0

    def __call__(self) -> int:
        self.read += 1
        return self.time


def ago(hours: float) -> Instant:
    now = machine_clock()
    return Instant(now.boot_id, now.boot_us - int(hours * HOUR_US), now.wall_us - int(hours * HOUR_US))


async def submitted_ago(node: Node, hours: float) -> str:
    """As an earlier run of the DMS recorded it."""
    job_id = await node.job()
    job = job_of(node, job_id)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab01"))
    job.accept_funding("trust", at=ago(hours))
    await node.log.save(job)
    return job_id


async def test_a_restart_gives_a_provider_that_never_begins_no_time_anew(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_deployments, "MOST_LOOK_SECONDS", 0.1)
    job_id = await submitted_ago(node, 3)
    async with requesting(node, job_id):
        assert await end_of(node, job_id) == (Fault.PROVIDER, "the provider did not start it within 2 h")


async def test_a_restart_gives_a_termination_no_time_anew(node: Node) -> None:
    job_id = await submitted_ago(node, 1)
    job = job_of(node, job_id)
    job.request_termination("enough", ago(0.5))
    await node.log.save(job)
    async with requesting(node, job_id):
        assert await end_of(node, job_id) == (Fault.REQUESTER, "enough")


async def test_a_restart_gives_a_provider_that_is_away_no_grace_anew_but_looks_for_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_deployments, "UNREACHABLE_AFTER_SECONDS", 0.05)
    lost, young = await submitted_ago(node, 1.9), await submitted_ago(node, 1.9)
    for job_id, hours in ((lost, 1.5), (young, 0.5)):
        job = job_of(node, job_id)
        job.provider_unreachable("no answer", ago(hours))
        await node.log.save(job)
    peer(node).trouble[FEED] = PeerUnreachable("still no answer")
    async with requesting(node, lost, young):
        assert await end_of(node, lost) == (Fault.PROVIDER, "provider lost: not reachable for 3600 s")
        assert job_of(node, young).open


@pytest.mark.parametrize("step", [HOUR_US, -HOUR_US, 120 * HOUR_US, -120 * HOUR_US])
async def test_a_step_of_the_clock_ends_no_funding_window(node: Node, step: int) -> None:
    clock, reactors = SteppingClock(), Reactors(node.log, Loops(), QUICK)
    await reactors.start([ExpireUnfunded(node.log, clock, 600)], lambda _: [])
    try:
        job_id = await node.job()
        await wait_for(lambda: clock.read > 0)
        clock.time += step
        await report(node, job_id, "pending")  # it looks again, before it looks at the next
        late = new_job()  # of a window that was over long ago
        await node.log.save(late)
        await first(node, late.key, Job.Expired)
        assert job_of(node, job_id).state is JobState.AWAITING
        assert job_id in reactors.keys("funding windows")
    finally:
        await reactors.close()


async def test_a_window_that_can_not_be_held_ends_the_job_as_ours(node: Node) -> None:
    def broken() -> int:
        raise ZeroDivisionError

    reactors = Reactors(node.log, Loops(), QUICK)
    await reactors.start([ExpireUnfunded(node.log, broken, 600)], lambda _: [])
    try:
        job_id = await node.job()
        ended = Fault.REQUESTER, "its funding window could not be held here: ZeroDivisionError"
        assert await end_of(node, job_id) == ended
    finally:
        await reactors.close()


async def test_a_payment_that_is_waited_for_is_looked_up_once_a_pause(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event of the wait is no reason to look again, and a step of the clock no reason to give up."""
    monkeypatch.setattr(funding, "POLL_SECONDS", (600.0, 600.0))
    clock, check = SteppingClock(), Waiting()
    patient = PatientCheck(check, 6000, clock)
    reactors = Reactors(node.log, Loops(), QUICK)
    await reactors.start([CheckFunding(node.log, node.services.signer, patient, machine_clock)], lambda _: [])
    try:
        job_id = await node.job()
        await report(node, job_id, "success")
        await wait_for(lambda: job_of(node, job_id).funding_until > 0)
        clock.time += 120 * HOUR_US
        other = await node.job()
        await report(node, other, "success")
        await wait_for(lambda: len(check.looked) == 2)
        assert check.looked == [job_id, other]
        assert job_of(node, job_id).state is JobState.FUNDING
    finally:
        await reactors.close()
