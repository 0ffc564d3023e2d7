"""What is asked of the network, one after the other without chance, so that each effect of both roles comes by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from dms.application.device.gpus import SETTLE_SECONDS
from dms.application.files.user_files import Reach
from dms.application.services import Services
from dms.domain.job import FundStatus, Job, JobState
from dms.domain.request import ServiceRequest
from dms.domain.retry import Retry
from dms.domain.transfer import Direction, Transfer, TransferState
from dms.errors import NotFound, Unavailable
from tests.fixtures.histories import request
from tests.simulation.matrix.story import left_to_do
from tests.simulation.matrix.world import MatrixWorld
from tests.simulation.run import until
from tests.simulation.world import ADDRESS, REQUESTER


class Scenario(NamedTuple):
    """play: returns once all that was asked for is answered. providers: how many there are. cut_short: how
    much of the job is done depends on when it is stopped."""

    name: str
    play: Callable[[MatrixWorld], Awaitable[None]]
    providers: int = 1
    has_gpu: bool = False
    cut_short: bool = False


async def completes(world: MatrixWorld) -> None:
    await _pay(world, await _quote(world, "20 0"))


async def fails(world: MatrixWorld) -> None:
    await _pay(world, await _quote(world, "5 3"))


async def has_a_gpu(world: MatrixWorld) -> None:
    job_id = await _quote(world, "5 0", machine_type="gpu")
    await _pay(world, job_id)
    await until(lambda: _is_over(world, job_id))
    await asyncio.sleep(3 * SETTLE_SECONDS)  # what is seen then is recorded nowhere


async def is_terminated(world: MatrixWorld) -> None:
    job_id = await _quote(world, "60 0")
    await _pay(world, job_id)
    await terminated_after(world, job_id, 3.0, "no longer wanted")


async def is_not_paid(world: MatrixWorld) -> None:
    job_id = await _quote(world, "20 0")
    await until(lambda: _is_over(world, job_id))


async def is_refused(world: MatrixWorld) -> None:
    """For want of a payment that the chain has."""
    await _pay(world, await _quote(world, "20 0"), seen_after=10_000.0)


async def goes_on_elsewhere(world: MatrixWorld) -> None:
    """From its checkpoint, while its first provider is down for longer than its grace."""
    job_id = await _quote(world, "150 0", attempts=2, minutes=4)  # it would still run when its provider is back
    await _pay(world, job_id)
    await until(lambda: (job := job_of(world, job_id)) is not None and job.checkpoint_received is not None)
    first = job_of(world, job_id)
    assert first is not None
    lost = world.names[first.provider]
    world.switched_off.add(lost)
    world.nodes[lost].kill()
    await until(lambda: (job := job_of(world, job_id)) is not None and job.attempt.number == 2)
    world.switched_off.discard(lost)
    world.nodes[lost].start()


async def a_file_is_sent(world: MatrixWorld) -> None:
    for giver, taker in ((REQUESTER, world.providers[0]), (world.providers[0], REQUESTER)):
        sent = await world.client.told(giver, partial(_offered, world, giver, taker))
        assert sent is not None
        world.client.asked.append(sent.key)
        world.client.heard(giver, f"{Transfer.KIND}-{sent.key}", Transfer.Offered.TOPIC)
        await world.client.told(taker, partial(_accepted, sent.key))
        world.client.heard(taker, f"{Transfer.KIND}-{sent.key}", Transfer.Accepted.TOPIC)
        await until(lambda: not left_to_do(world))


async def _offered(world: MatrixWorld, giver: str, taker: str, services: Services) -> Transfer:
    """One that was not answered may go on all the same: so the client looks at what it has under way first."""
    for key in world.keys_of(giver, Transfer.KIND):
        known = services.transfers.get(key)
        if known.direction is Direction.OUT and known.state is not TransferState.FAILED:
            return known
    letter = world.letters_of(world.nodes[giver]) / "letter.txt"
    letter.write_text(f"from {giver}")
    return await services.transfers.offer(world.nodes[taker].peer_id, letter, Reach.DAEMONS)


async def _accepted(key: str, services: Services) -> None:
    """Raises Unavailable as long as it is not offered here, which another try finds."""
    try:
        known = services.transfers.get(key)
    except NotFound as error:
        raise Unavailable(str(error)) from error
    if known.waits:
        await services.transfers.accept(key)


async def is_erased(world: MatrixWorld) -> None:
    job_id = await _quote(world, "5 0")
    await _pay(world, job_id)
    for node in (REQUESTER, world.providers[0]):
        await until(lambda: _is_over(world, job_id) and not left_to_do(world))
        await world.client.told(node, partial(_erased, job_id))


async def _erased(job_id: str, services: Services) -> None:
    await services.erasures.erase(job_id, skip_open=True)


SCENARIOS = (
    Scenario("a job that completes", completes),
    Scenario("a job that fails", fails),
    Scenario("a job that is terminated", is_terminated, cut_short=True),
    Scenario("a job that is not paid", is_not_paid),
    Scenario("a job whose payment is refused", is_refused),
    Scenario("a job that goes on elsewhere", goes_on_elsewhere, providers=2),
    Scenario("a job with a GPU", has_a_gpu, has_gpu=True),
    Scenario("files that are given", a_file_is_sent),
    Scenario("a job that is erased", is_erased),
)


# --- what clients do -------------------------------------------------------------------------------------
async def ask_and_pay(world: MatrixWorld, script: str, minutes: int) -> str:
    """The job's id."""
    job_id = await _quote(world, script, minutes=minutes)
    await _pay(world, job_id)
    return job_id


async def terminated_after(world: MatrixWorld, job_id: str, seconds: float, reason: str) -> None:
    """Of its run."""
    await until(lambda: (job := job_of(world, job_id)) is not None and job.state is JobState.RUNNING)
    await asyncio.sleep(seconds)
    await world.client.told(REQUESTER, lambda one: one.service_provider.terminate(job_id, reason))
    world.client.heard(REQUESTER, f"{Job.KIND}-{job_id}", Job.TerminationRequested.TOPIC)


async def _quote(
    world: MatrixWorld, script: str, attempts: int = 1, machine_type: str = "cpu", minutes: int = 1
) -> str:
    wanted = request(script, cpu=2500, ram=500, time=minutes, address_user=ADDRESS, machine_type=machine_type)
    wanted = replace(wanted, retry=Retry(max_attempts=attempts))
    job_id = await world.client.told(REQUESTER, partial(_quoted, world, wanted))
    assert job_id is not None
    world.client.asked.append(job_id)
    world.client.heard(REQUESTER, f"{Job.KIND}-{job_id}", Job.ServiceRequested.TOPIC)
    return job_id


async def _quoted(world: MatrixWorld, wanted: ServiceRequest, services: Services) -> str:
    """One that was not answered is there all the same: so the client looks at its jobs first."""
    for key in world.keys_of(REQUESTER, Job.KIND):
        return key
    return (await services.service_provider.request_service(wanted)).job_id


async def _pay(world: MatrixWorld, job_id: str, seen_after: float = 0.0) -> None:
    tx_hash = world.durable.payments[job_id] = f"0x{1:064x}"
    world.chain.pay(tx_hash, seen_after)
    status = FundStatus(transaction_type="fund", transaction_status="success", tx_hash=tx_hash)
    await world.client.told(REQUESTER, lambda one: one.service_provider.report_fund_status(status, job_id))
    world.client.heard(REQUESTER, f"{Job.KIND}-{job_id}", Job.FundStatusReported.TOPIC)


def job_of(world: MatrixWorld, job_id: str) -> Job | None:
    daemon = world.requester.daemon
    return None if daemon is None else daemon.services.log.load(Job, job_id)


def _is_over(world: MatrixWorld, job_id: str) -> bool:
    job = job_of(world, job_id)
    return job is not None and not job.open
