"""One for each command: in which world it is given, what a client does, and when all that follows from it is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from dms.application.network.messages import (
    CHECKPOINT,
    CONTROL,
    FILE_END,
    FILE_OFFER,
    PREFLIGHT,
    RESULTS,
    CheckpointNote,
    FileEnd,
    FileOffer,
    PreflightRequest,
    ResultsNote,
    Terminate,
)
from dms.domain.api_token import ApiToken, Role
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.device_policy import DevicePolicy, Lists
from dms.domain.erasure import Erasure
from dms.domain.gpus import GpuReading
from dms.domain.job import JobState
from dms.domain.resources import Resources
from dms.domain.transfer import Transfer, TransferState
from tests.fixtures.commands import Method
from tests.fixtures.histories import request
from tests.fixtures.waiting import wait_for
from tests.integration.cancellation.world import ENDLESS, OFFER, World

SHA = "ab" * 32
GPU = GpuReading(
    name="NVIDIA T4", uuid="GPU-1", vendor="nvidia", total_vram_mb=16_000, used_vram_mb=0, free_vram_mb=16_000
)


class Scenario(NamedTuple):
    """before: what the world is like. give: the command, as its client gives it and gives it again. done: whether all
    has come of it that will. window_seconds: in which jobs must be paid."""

    before: Callable[[World], Awaitable[Any]]
    give: Callable[[World], Coroutine[Any, Any, Any]]
    done: Callable[[World], bool]
    window_seconds: float = 600.0


async def nothing(_: World) -> None: ...


# --- worlds -------------------------------------------------------------------------------------------
async def quoted(world: World) -> None:
    await world.quote()


async def running(world: World) -> None:
    await world.run(ENDLESS, JobState.RUNNING)


async def completed(world: World) -> None:
    await world.run("true", JobState.COMPLETED)


async def running_for_a_peer(world: World) -> None:
    """Whose DMS follows nothing."""
    assert (await world.ask(world.deployment_request(ENDLESS))).accepted
    await wait_for(lambda: world.deployment_state() is DeploymentState.RUNNING)


async def over_with_a_checkpoint(world: World) -> None:
    deployment = Deployment(world.key)
    deployment.accept(world.requester_id, request(), "1", Resources(cpu_mhz=1, memory_mb=1), ())
    deployment.container_created("c", "process")
    deployment.container_started(world.provider.now())
    checkpoint_of(world).write_bytes(b"archive")
    deployment.save_checkpoint(checkpoint_of(world).name, 7, SHA, world.provider.now())
    deployment.exited(0, False, 1.0)
    await world.provider.log.save(deployment)
    await wait_for(lambda: not world.provider.device.reservations)


async def over_with_results(world: World) -> None:
    deployment = Deployment(world.key)
    deployment.accept(world.requester_id, request(), "1", Resources(cpu_mhz=1, memory_mb=1), ())
    deployment.container_created("c", "process")
    deployment.container_started(world.provider.now())
    results_of(world).write_bytes(b"archive")
    deployment.save_results(results_of(world).name, 7, SHA, world.provider.now())
    deployment.exited(0, False, 1.0)
    await world.provider.log.save(deployment)
    await wait_for(lambda: not world.provider.device.reservations)


def results_of(world: World) -> Any:
    return world.folder / "provider" / "created_results" / f"{world.key}.tar.gz"


def checkpoint_of(world: World) -> Any:
    return world.folder / "provider" / "created_checkpoints" / f"{world.key}.tar.gz"


async def with_a_file_offered(world: World) -> None:
    await world.offer_file()


async def with_a_token(world: World) -> None:
    world.key = (await world.requester.tokens.create("team-a", Role.SPD)).token_id


async def with_a_default(world: World) -> None:
    await world.requester.service_provider.set_default_provider(world.provider_id)


async def with_a_gpu_added(world: World) -> None:
    world.hardware.gpus = (GPU,)


async def with_a_weak_sandbox(world: World) -> None:
    world.weaken_sandbox()


# --- what is to come of it -------------------------------------------------------------------------------
def no_job_left(world: World) -> bool:
    jobs = world.jobs()
    return bool(jobs) and all(not job.open for job in jobs) and is_free(world)


def is_free(world: World) -> bool:
    return not world.provider.device.reservations and not world.containers_left() and world.is_told()


def has_ended(world: World) -> bool:
    return world.deployment_state() is DeploymentState.ENDED and is_free(world)


def both_have_ended(world: World) -> bool:
    return has_ended(world) and world.job_state() in (JobState.COMPLETED, JobState.FAILED)


def transfer_states(world: World) -> list[TransferState]:
    found = [side.log.load(Transfer, world.key) for side in (world.requester, world.provider)]
    return [TransferState.OFFERED if one is None else one.state for one in found]


def file_is_there(world: World) -> bool:
    return transfer_states(world) == [TransferState.COMPLETED] * 2


def offer_is_refused(world: World) -> bool:
    return transfer_states(world) == [TransferState.CANCELLED] * 2 and not world.provider.transfers.waiting()


def erased(world: World) -> bool:
    return Erasure.Completed.TOPIC in world.topics("requester")


def settled(world: World) -> bool:
    return any(topic.endswith("reward_settled") for topic in world.topics("requester"))


# --- commands ----------------------------------------------------------------------------------------------
async def give_onboard(world: World) -> None:
    await world.requester.device.onboard(OFFER)


async def give_resources(world: World) -> None:
    await world.provider.device.change_resources(5000, 10_000)


async def give_policy(world: World) -> None:
    policy = DevicePolicy(images=Lists(allow=("busybox",)), peers=Lists(deny=(world.requester_id,)))
    await world.provider.device.change_policy(policy)


async def give_offer_of_peer(world: World) -> Any:
    return await world.send(FILE_OFFER, FileOffer(transfer_id=world.key, name="a.txt", size_bytes=1, sha256=SHA))


async def give_end_of_peer(world: World) -> Any:
    return await world.send(FILE_END, FileEnd(transfer_id=world.key, state=TransferState.CANCELLED, reason="no more"))


async def give_fetch(world: World) -> None:
    await world.requester.transfers._resolve(world.provider_id, world.key)


async def give_erasure(world: World) -> None:
    await world.requester.erasures.erase(world.key, skip_open=False)


async def give_new_token(world: World) -> None:
    """Its secret is another each time."""
    await world.requester.tokens.create("team-a", Role.SPD)


async def give_preflight(world: World) -> Any:
    wanted = request(cpu=500, ram=64)
    return await world.send(PREFLIGHT, PreflightRequest(job_id=world.key, request=wanted, price="1", hold_seconds=600))


async def give_note(world: World) -> Any:
    return await world.send(CHECKPOINT, CheckpointNote(job_id=world.key, sha256=SHA))


async def give_results_note(world: World) -> Any:
    return await world.send(RESULTS, ResultsNote(job_id=world.key, sha256=SHA))


async def give_examination(world: World) -> Any:
    return (await world.provider.doctor.examine()).sandbox


SP, CP, DEVICE, FILES, MONEY = (
    "ServiceProvider", "ComputeProvider", "DeviceService", "Transfers", "Transactions",
)  # fmt: skip
SCENARIOS: dict[Method, Scenario] = {
    Method(SP, "request_service"): Scenario(
        nothing,
        lambda w: w.requester.service_provider.request_service(request(cpu=500, ram=64)),
        no_job_left,
        window_seconds=1.0,
    ),
    Method(SP, "report_fund_status"): Scenario(quoted, World.pay, both_have_ended),
    Method(SP, "terminate"): Scenario(
        running, lambda w: w.requester.service_provider.terminate(w.key, "enough"), both_have_ended
    ),
    Method(SP, "set_default_provider"): Scenario(
        nothing,
        lambda w: w.requester.service_provider.set_default_provider(w.provider_id),
        lambda w: w.requester.device.state.default_provider == w.provider_id,
    ),
    Method(SP, "clear_default_provider"): Scenario(
        with_a_default,
        lambda w: w.requester.service_provider.clear_default_provider(),
        lambda w: not w.requester.device.state.default_provider,
    ),
    Method(CP, "_on_request"): Scenario(nothing, lambda w: w.ask(w.deployment_request()), has_ended),
    Method(CP, "on_terminate"): Scenario(
        running_for_a_peer, lambda w: w.send(CONTROL, Terminate(job_id=w.key, reason="enough")), has_ended
    ),
    Method(CP, "stop"): Scenario(
        running,
        lambda w: w.provider.compute_provider.stop(w.key, "compute provider", "enough", Fault.PROVIDER),
        both_have_ended,
    ),
    Method("Preflights", "_on_request"): Scenario(
        nothing, give_preflight, lambda w: w.key in w.provider.device.holds and is_free(w)
    ),
    Method(DEVICE, "onboard"): Scenario(
        nothing, give_onboard, lambda w: w.requester.device.state.onboarded and w.is_told("requester")
    ),
    Method(DEVICE, "change_resources"): Scenario(
        nothing, give_resources, lambda w: w.provider.device.state.offered.cpu_mhz == 5000 and w.is_told()
    ),
    Method(DEVICE, "set_available"): Scenario(
        nothing,
        lambda w: w.provider.device.set_available(False),
        lambda w: not w.provider.device.state.available and w.is_told(),
    ),
    Method(DEVICE, "change_policy"): Scenario(nothing, give_policy, lambda w: w.provider.device.denies(w.requester_id)),
    Method(DEVICE, "offboard"): Scenario(
        nothing,
        lambda w: w.provider.device.offboard(forced=False),
        lambda w: not w.provider.device.state.onboarded and not w.is_known(),
    ),
    Method(DEVICE, "see_gpus"): Scenario(
        with_a_gpu_added,
        lambda w: w.provider.device.see_gpus(),
        lambda w: len(w.provider.device.gpus_left()) == 1 and w.is_told(),
    ),
    Method("Doctor", "examine"): Scenario(
        with_a_weak_sandbox,
        give_examination,
        lambda w: bool(w.provider.device.state.sandbox_trouble) and w.is_told(),
    ),
    Method("Directory", "forget"): Scenario(
        nothing, lambda w: w.requester.directory.forget(w.provider_id), lambda w: w.told() is None
    ),
    Method("CheckpointKeeper", "_on_note"): Scenario(
        over_with_a_checkpoint, give_note, lambda w: not checkpoint_of(w).exists()
    ),
    Method("ResultsKeeper", "_on_note"): Scenario(
        over_with_results, give_results_note, lambda w: not results_of(w).exists()
    ),
    Method("Erasures", "erase"): Scenario(completed, give_erasure, erased),
    Method("Tokens", "create"): Scenario(
        nothing, give_new_token, lambda w: ApiToken.Created.TOPIC in w.topics("requester")
    ),
    Method("Tokens", "revoke"): Scenario(
        with_a_token,
        lambda w: w.requester.tokens.revoke(w.key),
        lambda w: ApiToken.Revoked.TOPIC in w.topics("requester"),
    ),
    Method(MONEY, "request_reward"): Scenario(
        completed,
        lambda w: w.requester.transactions.request_reward(w.tx_hash),
        lambda w: any(topic.endswith("reward_claimed") for topic in w.topics("requester")),
    ),
    Method(MONEY, "report"): Scenario(
        completed, lambda w: w.requester.transactions.report(w.tx_hash, "", "success"), settled
    ),
    Method(MONEY, "sync"): Scenario(completed, lambda w: w.requester.transactions.sync([w.tx_hash]), settled),
    Method(MONEY, "hide"): Scenario(
        completed,
        lambda w: w.requester.transactions.hide([(w.tx_hash, w.key)]),
        lambda w: "payment.hidden" in w.topics("requester"),
    ),
    Method(FILES, "offer"): Scenario(nothing, World.offer_anew, lambda w: bool(w.provider.transfers.waiting())),
    Method(FILES, "accept"): Scenario(with_a_file_offered, lambda w: w.provider.transfers.accept(w.key), file_is_there),
    Method(FILES, "cancel"): Scenario(
        with_a_file_offered, lambda w: w.requester.transfers.cancel(w.key), offer_is_refused
    ),
    Method(FILES, "clear"): Scenario(with_a_file_offered, lambda w: w.provider.transfers.clear(), offer_is_refused),
    Method(FILES, "_on_offer"): Scenario(
        nothing, give_offer_of_peer, lambda w: len(w.provider.transfers.waiting()) == 1
    ),
    Method(FILES, "_on_end"): Scenario(with_a_file_offered, give_end_of_peer, offer_is_refused),
    Method(FILES, "_resolve"): Scenario(
        with_a_file_offered, give_fetch, lambda w: transfer_states(w)[0] is TransferState.ACCEPTED
    ),
}
GPUS_SEEN_ON_THE_WAY = {Method("MlImages", name) for name in ("check_cuda", "fetch", "listed")}
"""They look at the engine's images and record nothing but what `DeviceService.see_gpus` sees."""
