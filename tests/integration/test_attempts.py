"""A job whose provider fails it goes on at another: whole daemons over a network in memory, jobs as child processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.adapters.funding.trust import TrustCheck
from dms.adapters.outputs.files import FileOutputStore
from dms.adapters.p2p.identity import Identity
from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver
from dms.application.deployments import deployment_feed
from dms.application.deployments.deployment_feed import DeploymentFeed
from dms.application.files.receipts import Receipt
from dms.application.jobs import follow_deployments, followed_output, retry_jobs, tell_providers
from dms.application.network.messages import DEPLOYMENT_REQUEST, FEED, FeedItem, encode
from dms.application.payments.payments import payment_of
from dms.application.ports.peers import RequestHandler
from dms.bootstrap import build
from dms.config import General, P2p, Rest, Settings
from dms.config import Job as JobSettings
from dms.daemon import Daemon
from dms.domain.checkpoint import ResumeFrom
from dms.domain.deployment import Deployment, Fault
from dms.domain.device import Offer
from dms.domain.event import Event
from dms.domain.job import FundStatus, Job, JobState
from dms.domain.retry import Retry, deployment_id
from dms.domain.reward import RewardType
from dms.errors import OutputUnavailable, Unavailable
from dms.wiring.overrides import Overrides
from tests.fixtures.histories import request
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import ADDRESS, FixedHardware

pytestmark = pytest.mark.slow

QUICK = (0.01, 0.1)
OFFER = Offer(
    cpu_mhz=6000, memory_mb=12_000, channel="nunet-test", payment_address=ADDRESS, blockchain="Cardano",
    ntx_price=Decimal("0.0001"), hostname="provider",
)  # fmt: skip
HOLD = "until [ -e {flag} ]; do sleep 0.02; done"


class PaidToAnAddress(TrustCheck):
    carries = False


class Trio:
    """A requester and two providers; each can be stopped and started again."""

    def __init__(self, folder: Path, funding: TrustCheck) -> None:
        self.folder, self._funding, self._line = folder, funding, MemoryLine()
        self._identities: dict[str, str] = {}
        self.daemons: dict[str, Daemon] = {}

    async def start(self, name: str) -> Daemon:
        folder = self.folder / name
        settings = Settings(
            general=General(data_dir=folder, work_dir=folder),
            rest=Rest(port=0),
            p2p=P2p(mdns=False),
            job=JobSettings(executor="process", allow_process_for_peers=True, provider_grace=1),
        )

        def network(identity: Identity) -> MemoryNetwork:
            return MemoryNetwork(self._line, identity.peer_id)

        daemon = await build(settings, Overrides(hardware=FixedHardware(), network=network, funding=self._funding))
        await daemon.start()
        self.daemons[name] = daemon
        return daemon

    async def stop(self, name: str) -> None:
        await self.daemons.pop(name).close()

    async def begin(self) -> None:
        for name in ("one", "two", "requester"):
            await self.start(name)
        for name in ("one", "two"):
            await self.meet(name)
            await self.daemons[name].services.device.onboard(OFFER)
        await wait_for(lambda: len(self._known()) == 2)

    async def meet(self, name: str) -> None:
        await self.requester.parts.host.ping(self.id_of(name), 60)

    def _known(self) -> list[str]:
        ads = self.requester.services.directory.advertisements()
        return [ad.peer_id for ad in ads if ad.offering.onboarded and ad.offering.online]

    @property
    def requester(self) -> Daemon:
        return self.daemons["requester"]

    def id_of(self, name: str) -> str:
        if name in self.daemons:
            self._identities[name] = self.daemons[name].services.signer.peer_id
        return self._identities[name]

    def name_of(self, peer_id: str) -> str:
        return next(name for name in ("one", "two") if self.id_of(name) == peer_id)

    async def close(self) -> None:
        """Jobs of those that were stopped still run."""
        for name in [name for name in ("one", "two") if name not in self.daemons]:
            await self.start(name)
        for daemon in list(self.daemons.values()):
            for job_id in await daemon.parts.executor.list_jobs():
                await daemon.parts.executor.remove(job_id)
            await daemon.close()

    # --- a job ----------------------------------------------------------------------------------------
    async def ask(self, script: str, attempts: int = 3, **more: Any) -> tuple[str, int]:
        """(the job's id, how many attempts it has)."""
        wanted = request(script, cpu=500, ram=64, **more)
        wanted = msgspec.structs.replace(wanted, retry=Retry(max_attempts=attempts))
        quote = await self.requester.services.service_provider.request_service(wanted)
        paid = FundStatus(transaction_type="fund", transaction_status="success", tx_hash=f"0x{quote.job_id}")
        await self.requester.services.service_provider.report_fund_status(paid, quote.job_id)
        return quote.job_id, quote.attempts

    def job(self, job_id: str) -> Job:
        found = self.requester.services.log.load(Job, job_id)
        assert found is not None
        return found

    def deployment(self, name: str, deployment: str) -> Deployment | None:
        return self.daemons[name].services.log.load(Deployment, deployment)

    async def until(self, job_id: str, state: JobState) -> Job:
        await wait_for(lambda: self.job(job_id).state is state)
        return self.job(job_id)

    async def events(self, job_id: str) -> list[Event]:
        found = await self.requester.services.log.read(0, 10_000, stream=f"job-{job_id}")
        return [one.event for one in found]

    async def output(self, job_id: str) -> list[tuple[int, str]]:
        return [(line.seq, line.text) for line in await self._all_lines(job_id)]

    async def _all_lines(self, job_id: str) -> list[Any]:
        found: list[Any] = []
        while lines := await self.requester.services.outputs.read(job_id, len(found), 1):
            found += lines
        return found


@pytest.fixture
def funding() -> TrustCheck:
    return TrustCheck()


@pytest.fixture
async def trio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funding: TrustCheck) -> AsyncIterator[Trio]:
    for module in (follow_deployments, tell_providers):
        monkeypatch.setattr(module, "RETRY_SECONDS", QUICK, raising=False)
    monkeypatch.setattr(retry_jobs, "LOOK_SECONDS", QUICK)
    made = Trio(tmp_path, funding)
    try:
        await made.begin()
        yield made
    finally:
        await made.close()


async def running_at(trio: Trio, script: str, **more: Any) -> tuple[str, str, str]:
    """(the job's id, the provider that runs it, the other one)."""
    job_id, _ = await trio.ask(script, **more)
    await trio.until(job_id, JobState.RUNNING)
    name = trio.name_of(trio.job(job_id).provider)
    return job_id, name, "two" if name == "one" else "one"


async def test_a_lost_provider_is_replaced_and_told_to_stop_when_it_comes_back(trio: Trio, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    job_id, first, second = await running_at(trio, f"echo begun; {HOLD.format(flag=flag)}; echo done")
    await wait_for((tmp_path / "requester" / "logs" / f"{job_id}.ndjson").exists)
    await trio.stop(first)
    await wait_for(lambda: trio.job(job_id).attempt.number == 2)
    await trio.until(job_id, JobState.RUNNING)
    assert trio.job(job_id).provider == trio.id_of(second)

    await trio.start(first)
    await trio.meet(first)
    await wait_for(lambda: (there := trio.deployment(first, job_id)) is not None and there.ended)
    there = trio.deployment(first, job_id)
    assert there is not None
    assert there.stop is not None
    assert there.stop.fault is Fault.NETWORK
    assert there.reward is not None
    assert (there.reward.reward_type, there.reward.to_provider) == (RewardType.REFUND, "0")
    await wait_for(lambda: trio.job(job_id).attempts_to_tell == [])
    assert await trio.daemons[first].parts.executor.list_jobs() in ([], [job_id])  # its removal follows

    flag.touch()
    job = await trio.until(job_id, JobState.COMPLETED)
    assert job.reward is not None
    assert (job.reward.reward_type, job.reward.price) == (RewardType.WITHDRAW, job.price)
    assert await trio.output(job_id) == [(1, "begun"), (2, "begun"), (3, "done")]
    assert await trio.requester.services.outputs.last(job_id) == 3


async def test_both_sides_of_the_last_attempt_sign_the_same_bill_and_the_first_signs_a_refund(
    trio: Trio, tmp_path: Path
) -> None:
    flag = tmp_path / "go"
    job_id, first, second = await running_at(trio, HOLD.format(flag=flag))
    deployment = trio.deployment(first, job_id)
    assert deployment is not None
    compute = trio.daemons[first].services.compute_provider
    await compute.stop(job_id, "compute provider", "its machine is needed", Fault.PROVIDER)
    await wait_for(lambda: trio.job(job_id).attempt.number == 2)
    flag.touch()
    job = await trio.until(job_id, JobState.COMPLETED)
    await wait_for(lambda: (t := trio.deployment(second, job.deployment_id)) is not None and t.ended)
    ours, theirs, firsts = [
        await trio.daemons[name].services.transactions.request_reward(job.tx_hash)
        for name in ("requester", second, first)
    ]
    assert (ours.datum, ours.action) == (theirs.datum, theirs.action)
    assert (ours.reward_type, ours.to_provider) == ("withdraw", job.price)
    assert (firsts.reward_type, firsts.to_provider) == ("refund", "0")
    payment = payment_of(trio.requester.services.log, job.tx_hash)
    assert (payment.job_id, payment.version) == (job_id, 1)
    told = [type(event).__name__ for event in await trio.events(job_id)]
    assert [told.count(name) for name in ("Submitted", "FundingAccepted", "Completed", "Failed")] == [1, 1, 1, 0]


async def test_the_policy_and_the_first_attempts_time_do_not_travel(trio: Trio, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    job_id, first, _ = await running_at(trio, HOLD.format(flag=flag), time=7)
    deployment = trio.deployment(first, job_id)
    assert deployment is not None
    assert deployment.request is not None
    assert (deployment.request.retry, deployment.request.constraints.time) == (None, 7)
    flag.touch()
    await trio.until(job_id, JobState.COMPLETED)


async def test_a_providers_clock_that_goes_an_hour_ahead_takes_no_time_from_the_next_attempt(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "go"
    job_id, first, _ = await running_at(trio, f"echo so far > state; {HOLD.format(flag=flag)}", time=60)
    keeper = trio.daemons[first].services.compute_provider._checkpoints
    monkeypatch.setattr(keeper, "_now", lambda: time.time_ns() // 1000 + 3_600_000_000)
    compute = trio.daemons[first].services.compute_provider
    await compute.stop(job_id, "compute provider", "its machine is needed", Fault.PROVIDER)
    await wait_for(lambda: trio.job(job_id).attempt.number == 2)
    flag.touch()
    job = await trio.until(job_id, JobState.COMPLETED)
    assert job.attempt.resume is not None
    assert job.minutes > 50, "a test takes a few minutes at most, on a busy machine"


async def test_a_checkpoint_that_is_being_recorded_as_its_provider_is_lost_is_what_the_next_attempt_goes_on_from(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    giving, give, kept = asyncio.Event(), Receipt.give, CheckpointReceiver.keep_for_next_attempt

    async def give_late(self: Receipt) -> None:
        await giving.wait()
        await give(self)

    async def keep(self: CheckpointReceiver, job: Job) -> ResumeFrom | None:
        try:
            return await kept(self, job)
        finally:
            giving.set()

    monkeypatch.setattr(Receipt, "give", give_late)
    monkeypatch.setattr(CheckpointReceiver, "keep_for_next_attempt", keep)
    flag = tmp_path / "go"
    job_id, first, _ = await running_at(trio, f"echo so far > state; {HOLD.format(flag=flag)}")
    await trio.daemons[first].services.compute_provider._checkpoints._save(job_id, last=False)
    received = CheckpointFiles(tmp_path / "requester").received(job_id)
    await wait_for(received.exists)
    await trio.stop(first)
    await wait_for(lambda: trio.job(job_id).attempt.number == 2)
    flag.touch()
    job = await trio.until(job_id, JobState.COMPLETED)
    assert job.attempt.resume is not None


async def test_its_own_fault_ends_the_job_at_once(trio: Trio) -> None:
    job_id, _ = await trio.ask("exit 3")
    job = await trio.until(job_id, JobState.FAILED)
    assert (len(job.attempts), job.failure) == (1, "finished with errors: exit code 3")


async def test_a_stop_between_two_attempts_is_the_end(trio: Trio, tmp_path: Path) -> None:
    job_id, first, second = await running_at(trio, "sleep 600")
    await trio.stop(second)
    await trio.stop(first)
    await trio.until(job_id, JobState.RETRYING)
    await trio.requester.services.service_provider.terminate(job_id, "enough")
    job = await trio.until(job_id, JobState.FAILED)
    assert job.failure == "enough"
    await trio.start(first)
    await trio.meet(first)
    await wait_for(lambda: (there := trio.deployment(first, job_id)) is not None and there.ended)
    await trio.start(second)
    await trio.meet(second)
    assert len(trio.job(job_id).attempts) == 1


async def test_a_requester_that_is_restarted_between_two_attempts_goes_on(trio: Trio, tmp_path: Path) -> None:
    job_id, first, second = await running_at(trio, "[ -e " + str(tmp_path / "go") + " ] || sleep 600")
    await trio.stop(second)
    await trio.stop(first)
    await trio.until(job_id, JobState.RETRYING)
    await trio.stop("requester")
    (tmp_path / "go").touch()
    await trio.start("requester")
    assert trio.job(job_id).state is JobState.RETRYING
    await trio.start(second)
    await trio.meet(second)
    job = await trio.until(job_id, JobState.COMPLETED)
    assert (job.provider, len(job.attempts)) == (trio.id_of(second), 2)


async def test_the_same_provider_gets_it_again_when_no_other_can(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its payment was used there already: it pays for the next attempt, since the first one earned nothing."""
    monkeypatch.setattr(retry_jobs, "AGAIN_SECONDS", QUICK)
    job_id, first, second = await running_at(trio, "[ -e " + str(tmp_path / "go") + " ] || sleep 600")
    await trio.stop(second)
    (tmp_path / "go").touch()
    compute = trio.daemons[first].services.compute_provider
    await compute.stop(job_id, "compute provider", "a moment, please", Fault.PROVIDER)
    job = await trio.until(job_id, JobState.COMPLETED)
    assert [attempt.provider for attempt in job.attempts] == [trio.id_of(first)] * 2
    assert payment_of(trio.daemons[first].services.log, job.tx_hash).job_id == deployment_id(job_id, 2)


async def test_no_attempt_is_used_up_while_the_one_before_is_still_being_stopped(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only provider comes back, and is told to stop a container that takes its time."""
    monkeypatch.setattr(retry_jobs, "AGAIN_SECONDS", QUICK)
    ran = tmp_path / "ran"
    script = f"[ -e {ran} ] && exit 0; touch {ran}; trap '' TERM; while :; do sleep 0.05; done"
    job_id, first, second = await running_at(trio, script, attempts=2)
    await trio.stop(second)
    await trio.stop(first)
    await trio.until(job_id, JobState.RETRYING)
    await trio.start(first)
    await trio.meet(first)
    job = await trio.until(job_id, JobState.COMPLETED)
    assert [attempt.provider for attempt in job.attempts] == [trio.id_of(first)] * 2


async def test_after_the_last_attempt_it_fails_with_the_last_reason(trio: Trio) -> None:
    for name in ("one", "two"):
        served(trio, name, refusing(trio, name))
    job_id, _ = await trio.ask("true", attempts=2)
    job = await trio.until(job_id, JobState.FAILED)
    assert (len(job.attempts), job.failure) == (2, "the provider is offline")
    assert job.reward is not None
    assert job.reward.to_provider == "0"


async def test_a_provider_that_refuses_is_not_the_jobs_end(trio: Trio) -> None:
    """It is full, or has changed its mind: the client hears of no failure."""
    chosen = trio.name_of((await quote_of(trio)).compute_provider_id)
    other = "two" if chosen == "one" else "one"
    served(trio, chosen, refusing(trio, chosen))
    job_id, _ = await trio.ask("echo hello")
    job = await trio.until(job_id, JobState.COMPLETED)
    assert trio.name_of(job.provider) == other
    kinds = [event.TOPIC for event in await trio.events(job_id)]
    assert kinds.count("job.deployment_responded") == 1
    assert await trio.output(job_id) == [(1, "hello")]


async def quote_of(trio: Trio) -> Any:
    return await trio.requester.services.service_provider.request_service(request(cpu=500, ram=64))


def refusing(trio: Trio, name: str) -> Callable[[str, bytes], Awaitable[bytes]]:
    """What answers for a provider that went offline just before."""
    compute, device = trio.daemons[name].services.compute_provider, trio.daemons[name].services.device

    async def answer(peer: str, body: bytes) -> bytes:
        await device.set_available(False)
        return await compute._on_request(peer, body)

    return answer


def served(trio: Trio, name: str, handler: RequestHandler) -> None:
    host = trio.daemons[name].parts.host
    assert isinstance(host, MemoryNetwork)
    host.serve_request(DEPLOYMENT_REQUEST, handler)


async def test_a_provider_that_ends_each_feed_at_once_is_asked_again_with_growing_pauses(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "go"
    monkeypatch.setattr(follow_deployments, "RETRY_SECONDS", (0.01, 60.0))
    asked, feed = list[bytes](), DeploymentFeed._on_feed

    async def nothing_to_tell(self: DeploymentFeed, peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        if flag.exists():
            async for item in feed(self, peer_id, body):
                yield item
            return
        asked.append(body)
        yield encode(FeedItem())

    for name in ("one", "two"):
        host = trio.daemons[name].parts.host
        assert isinstance(host, MemoryNetwork)
        feed_of = trio.daemons[name].services.compute_provider._feed
        host.serve_stream(FEED, partial(nothing_to_tell, feed_of))
    job_id, _ = await trio.ask("echo hello")
    await wait_for(lambda: len(asked) >= 6)  # the pause behind it is longer than all before: others would come now
    assert len(asked) < 10
    flag.touch()
    await trio.until(job_id, JobState.COMPLETED)


async def test_a_provider_that_is_busy_telling_of_other_jobs_is_asked_again_and_not_lost(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_feed, "FEEDS_OF_A_PEER", 1)
    monkeypatch.setattr(follow_deployments, "UNREACHABLE_AFTER_SECONDS", 0.5)
    following = next(
        r for r in trio.requester.services.service_provider.reactors if r.name == "following of deployments"
    )
    assert isinstance(following, follow_deployments.FollowDeployments)
    following._grace_seconds = 0.5
    flag, busy, plain = tmp_path / "go", list[float](), DeploymentFeed._is_full

    def is_full(self: DeploymentFeed, peer_id: str) -> bool:
        if full := plain(self, peer_id):
            busy.append(time.monotonic())
        return full

    monkeypatch.setattr(DeploymentFeed, "_is_full", is_full)
    await trio.stop("two")
    jobs = [(await trio.ask(HOLD.format(flag=flag), attempts=1))[0] for _ in range(2)]
    await wait_for(lambda: busy and busy[-1] - busy[0] > 1.0)
    flag.touch()
    for job_id in jobs:
        await trio.until(job_id, JobState.COMPLETED)
        assert Job.ProviderUnreachable not in map(type, await trio.events(job_id))


async def test_nobody_who_could_go_on_is_the_end_after_a_while(trio: Trio) -> None:
    retrying = next(r for r in trio.requester.services.service_provider.reactors if r.name == "further attempts")
    assert isinstance(retrying, retry_jobs.RetryJobs)
    retrying._patience_seconds = 0.2
    job_id, first, second = await running_at(trio, "sleep 600")
    await trio.stop(second)
    await trio.stop(first)
    job = await trio.until(job_id, JobState.FAILED)
    assert "provider lost" in job.failure
    assert "no provider could go on" in job.failure
    assert job.reward is not None
    assert job.reward.to_provider == "0"


@pytest.mark.parametrize("funding", [PaidToAnAddress()], ids=["ledger"])
async def test_a_payment_to_an_address_is_good_for_one_attempt_and_the_quote_says_so(trio: Trio) -> None:
    job_id, attempts = await trio.ask("sleep 600")
    assert attempts == 1
    await trio.until(job_id, JobState.RUNNING)
    name = trio.name_of(trio.job(job_id).provider)
    compute = trio.daemons[name].services.compute_provider
    await compute.stop(job_id, "compute provider", "its machine is needed", Fault.PROVIDER)
    job = await trio.until(job_id, JobState.FAILED)
    assert len(job.attempts) == 1


async def test_an_erasure_of_the_job_takes_what_all_its_attempts_left(trio: Trio, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    job_id, first, _ = await running_at(trio, f"echo begun; {HOLD.format(flag=flag)}")
    again = deployment_id(job_id, 2)
    logs = tmp_path / "requester" / "logs"
    await wait_for((logs / f"{job_id}.ndjson").exists)
    compute = trio.daemons[first].services.compute_provider
    await compute.stop(job_id, "compute provider", "its machine is needed", Fault.PROVIDER)
    flag.touch()
    await trio.until(job_id, JobState.COMPLETED)
    assert (logs / f"{again}.ndjson").exists()
    outcome = await trio.requester.services.erasures.erase(job_id, skip_open=False)
    assert set(outcome.scopes) == {job_id, again}
    assert outcome.keys == 2
    assert list(logs.glob("*.ndjson")) == []


async def test_each_attempt_is_sealed_under_a_key_of_its_own(trio: Trio, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    job_id, first, second = await running_at(trio, HOLD.format(flag=flag))
    compute = trio.daemons[first].services.compute_provider
    await compute.stop(job_id, "compute provider", "its machine is needed", Fault.PROVIDER)
    await wait_for(lambda: trio.job(job_id).attempt.number == 2)
    flag.touch()
    await trio.until(job_id, JobState.COMPLETED)
    again = deployment_id(job_id, 2)
    log = trio.requester.services.log
    assert log.seal_key(job_id) != log.seal_key(again)
    assert log.seal_key(again) == trio.daemons[second].services.log.seal_key(again)


# --- what this machine's own disk does not give ---------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TROUBLE_SECONDS", "AGAIN_SECONDS"):
        monkeypatch.setattr(followed_output, name, 0.2)
    monkeypatch.setattr(retry_jobs, "TROUBLE_SECONDS", 0.2)


async def running_without_output(trio: Trio, tmp_path: Path, script: str) -> tuple[str, Path]:
    """A job's id, and the folder that stands where its output should be."""
    service = trio.requester.services.service_provider
    quote = await service.request_service(request(script, cpu=500, ram=64))
    in_the_way = tmp_path / "requester" / "logs" / f"{quote.job_id}.ndjson"
    in_the_way.mkdir()
    paid = FundStatus(transaction_type="fund", transaction_status="success", tx_hash=f"0x{quote.job_id}")
    await service.report_fund_status(paid, quote.job_id)
    await trio.until(quote.job_id, JobState.RUNNING)
    return quote.job_id, in_the_way


@pytest.mark.usefixtures("impatient")
async def test_a_job_whose_output_can_not_be_kept_here_is_followed_without(trio: Trio, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    job_id, _ = await running_without_output(trio, tmp_path, f"echo begun; {HOLD.format(flag=flag)}; echo done")
    flag.touch()
    job = await trio.until(job_id, JobState.COMPLETED)
    assert job.misbehaviours == 0
    with pytest.raises(OutputUnavailable):
        await trio.output(job_id)


@pytest.mark.usefixtures("impatient")
async def test_a_job_whose_output_can_not_be_kept_here_is_stopped_as_it_was_ordered(trio: Trio, tmp_path: Path) -> None:
    job_id, _ = await running_without_output(trio, tmp_path, "sleep 600")
    await trio.requester.services.service_provider.terminate(job_id, "enough")
    assert (await trio.until(job_id, JobState.FAILED)).failure == "enough"


@pytest.mark.usefixtures("impatient")
async def test_output_that_can_be_kept_again_is_had_from_its_first_line(trio: Trio, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    script = f"echo begun; {HOLD.format(flag=flag)}; echo done"
    job_id, in_the_way = await running_without_output(trio, tmp_path, script)
    in_the_way.rmdir()
    flag.touch()
    await trio.until(job_id, JobState.COMPLETED)
    assert await trio.output(job_id) == [(1, "begun"), (2, "done")]


@pytest.mark.usefixtures("impatient")
async def test_a_checkpoint_and_output_that_can_not_be_read_keep_no_job_from_its_next_attempt(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "go"
    job_id, first, _ = await running_at(trio, f"[ -e {flag} ] || sleep 600")
    flag.touch()
    last = FileOutputStore.last

    async def unreadable(self: FileOutputStore, output: str) -> int:
        if output == job_id and trio.job(job_id).state is JobState.RETRYING:
            raise OutputUnavailable("output can't be read: Input/output error")
        return await last(self, output)

    async def unusable(*_: object) -> None:
        raise Unavailable("checkpoint x can't be kept for the job: Input/output error")

    monkeypatch.setattr(FileOutputStore, "last", unreadable)
    monkeypatch.setattr(CheckpointReceiver, "keep_for_next_attempt", unusable)
    compute = trio.daemons[first].services.compute_provider
    await compute.stop(job_id, "compute provider", "its machine is needed", Fault.PROVIDER)
    job = await trio.until(job_id, JobState.COMPLETED)
    assert len(job.attempts) == 2
    assert job.attempt.resume is None
