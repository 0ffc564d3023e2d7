"""The compute provider's side: takes deployment requests, runs their containers, feeds their history.

Each effect is driven from the deployment's state: what the log does not say happened is done, or
found done (the container is named after the job), and recorded. So a crash is a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from dms.application.cause import caused_by
from dms.application.checkpoint_keeper import CheckpointKeeper
from dms.application.device import DeviceService
from dms.application.engine import EngineWatch
from dms.application.export import signed_record
from dms.application.funding import PatientCheck, claim_of
from dms.application.gpus import GpuWatch
from dms.application.loops import Loops
from dms.application.messages import (
    DEPLOYMENT_REQUEST,
    FEED,
    DeploymentAnswer,
    DeploymentRequest,
    FeedItem,
    FeedRequest,
    Terminate,
    TerminateAnswer,
    decode_request,
    encode,
)
from dms.application.ml_images import CHECK_PREFIX
from dms.application.payments import payment_of
from dms.application.ports import (
    EventLog,
    Execution,
    ExecutionSpec,
    ExecutionState,
    Executor,
    FundingState,
    LogLine,
    OutputStore,
    PeerNetwork,
    Signer,
)
from dms.application.tasks import JobTasks, cancelled
from dms.domain.chain import SignedRecord
from dms.domain.deployment import Deployment, DeploymentState, Fault
from dms.domain.device import vram_to_reserve
from dms.domain.event import Recorded, new_id
from dms.domain.gpus import GpuReading
from dms.domain.payment import Payment
from dms.domain.pricing import price_text, quote
from dms.domain.request import ServiceRequest, problems_of, strangers_of
from dms.domain.resources import Gpu
from dms.domain.reward import amount
from dms.errors import (
    Conflict,
    ExecutionError,
    ExecutorUnavailable,
    Forbidden,
    GpuUnavailable,
    InvalidInput,
    NoRoomForImage,
    NotFound,
    RegistryUnavailable,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

UNCONFINED = "the provider has no container engine to confine a peer's job"
STOP_GRACE_SECONDS = 5.0
ENGINE_GRACE_SECONDS = 60.0  # how long a deployment waits for a container engine that went away
MOST_CHECKED, MOST_CHECKED_OF_A_PEER = 256, 32  # payments waited for; nothing is reserved for them
LINES_A_READ = 512
FRAME_BYTES = 48 * 1024  # of output in one frame, well below the frame limit even when escaped
TERMINAL_TOPICS = {
    Deployment.Rejected.TOPIC,
    Deployment.ContainerExited.TOPIC,
    Deployment.Failed.TOPIC,
    Deployment.Stopped.TOPIC,
}


class ComputeProvider:
    def __init__(
        self,
        log: EventLog,
        device: DeviceService,
        executor: Executor,
        outputs: OutputStore,
        signer: Signer,
        checkpoints: CheckpointKeeper,
        now: Callable[[], int],
        *,
        confined: bool,
        run_unconfined_for_peers: bool = False,
        funding: PatientCheck | None = None,
        loops: Loops | None = None,
    ) -> None:
        """confined: whether the executor isolates a stranger's job; one that does not runs jobs of
        peers only when the operator says so. now: Unix time in microseconds. funding: our own look at
        each payment, since the service provider's word for it is not enough; None: it is."""
        self._log, self._device, self._executor, self._outputs = log, device, executor, outputs
        self._signer, self._checkpoints, self._now = signer, checkpoints, now
        unfit = "" if confined or run_unconfined_for_peers else UNCONFINED
        loops = loops or Loops()
        self._engine = EngineWatch(executor, device, self.remove_leftovers, loops, unfit)
        self._gpus = GpuWatch(device, loops)
        self._tasks = JobTasks("deployment", self._drive)
        self._funding = funding
        self._open: set[str] = set()
        self._checking: dict[str, str] = {}  # job id -> the peer whose payment is looked up
        log.on_rollback(self._recount)

    def serve(self, network: PeerNetwork) -> None:
        network.serve_request(DEPLOYMENT_REQUEST, self._on_request)
        network.serve_stream(FEED, self._on_feed)
        self._checkpoints.serve(network)

    async def start(self, open_jobs: Iterable[str]) -> None:
        """open_jobs: the deployments that had not ended when the log was last written."""
        self._open.update(open_jobs)
        self._recount()
        await self._engine.start()
        self._gpus.start()
        for job_id in self._open:
            self._tasks.start(job_id)
        try:
            if await self.remove_leftovers(checks=True):
                self._engine.owe_sweep()
        except ExecutorUnavailable as error:
            self._engine.owe_sweep()
            log.warning("leftover containers could not be looked for: %s", error)
        self._checkpoints.start()

    async def close(self) -> None:
        """Containers go on running; the next start takes them up again."""
        await self._engine.close()
        await self._gpus.close()
        await self._checkpoints.close()
        await self._tasks.close()

    # --- deciding ----------------------------------------------------------------------------------
    async def request(self, peer_id: str, message: DeploymentRequest) -> DeploymentAnswer:
        """Raises Forbidden when the job id is another peer's. A repeat gets the same answer."""
        hindrance = ""
        readings: Sequence[GpuReading] = ()
        if self._log.load(Deployment, message.job_id) is None:
            hindrance, readings = await self._look(message.request)
        deployment = self._log.load(Deployment, message.job_id)  # a repeat may have come meanwhile
        if deployment is not None:
            if deployment.service_provider != peer_id:
                raise Forbidden(f"deployment {message.job_id} belongs to another peer")
            await self._log.save(deployment)
            return _answer(deployment)
        self._log.adopt_seal_key(message.job_id, bytes.fromhex(message.seal_key))
        deployment = Deployment(message.job_id)
        deployment.ask(peer_id, message.request, message.price, self._device.state.payment_address, message.resume)
        payment = self._payment(deployment)
        reason, fault = self._elsewhere(message)
        if self._funding and not reason:
            reason, fault = self._refusal(deployment, payment, hindrance)
        if reason:
            deployment.refuse(reason, fault)
        elif self._funding:
            self._checking[message.job_id] = peer_id
        else:
            self._decide(deployment, payment, hindrance, readings)
        await self._log.save(deployment, payment)
        if not deployment.ended:
            self._open.add(message.job_id)
            self._tasks.start(message.job_id)
        return _answer(deployment)

    async def _look(self, request: ServiceRequest) -> tuple[str, Sequence[GpuReading]]:
        """What hinders this machine now, and its GPUs where the job wants one."""
        if not request.wants_gpu:
            return await self._engine.ping(), ()
        hindrance, readings = await asyncio.gather(self._engine.ping(), self._device.see_gpus())
        return hindrance, readings

    def _payment(self, deployment: Deployment) -> Payment:
        return payment_of(self._log, deployment.tx_hash)

    def _elsewhere(self, message: DeploymentRequest) -> tuple[str, Fault]:
        device = self._device.state
        if device.onboarded and device.available and message.channel and message.channel != device.channel:
            return f"the provider is on channel {device.channel}, not {message.channel}", Fault.PROVIDER
        return "", Fault.NONE

    def _decide(self, deployment: Deployment, payment: Payment, hindrance: str, readings: Sequence[GpuReading]) -> None:
        """Synchronous from the look at the free capacity to its reservation, so that no two requests
        can be given the same. readings: the GPUs as they were a moment ago."""
        request = _request(deployment)
        reason, fault = self._refusal(deployment, payment, hindrance)
        wish, recorded = request.gpu_wish, self._device.state.total.gpus
        gpus: tuple[Gpu, ...] = ()
        if not reason and wish is not None:
            gpus = self._device.reservations.free_gpus(recorded, readings, wish)
            if not gpus:
                reason, fault = f"the provider does not have {wish} now", Fault.PROVIDER
        if reason:
            deployment.refuse(reason, fault)
            return
        reserved, shared = request.resources, wish is not None and wish.shared
        if wish is not None:
            reserved = msgspec.structs.replace(reserved, vram_mb=vram_to_reserve(recorded, gpus, wish))
        uuids = tuple(gpu.uuid for gpu in gpus)
        payment.use(deployment.key)
        deployment.grant(reserved, uuids, gpus_shared=shared)
        self._device.reservations.hold(deployment.key, reserved, uuids, shared=shared)

    def _refusal(self, deployment: Deployment, payment: Payment, hindrance: str) -> tuple[str, Fault]:
        """Why it can't be taken, as far as that can be told at once."""
        device, request = self._device.state, _request(deployment)
        if not device.onboarded:
            return "the provider is not onboarded", Fault.PROVIDER
        if not device.available:
            return "the provider is offline", Fault.PROVIDER
        if hindrance:
            return hindrance, Fault.PROVIDER
        wrong = self._wrong(deployment, request)
        if wrong:
            return wrong, Fault.REQUESTER
        if not payment.key:
            return "the request names no transaction that pays for it", Fault.REQUESTER
        used = payment.refusal(deployment.key)
        if used:
            return used, Fault.REQUESTER
        # Memory of GPUs counts card by card, not as a sum.
        short = self._device.free().shortfalls(msgspec.structs.replace(request.resources, vram_mb=0))
        if short:
            return f"the provider has no capacity left: {'; '.join(short)}", Fault.PROVIDER
        if not deployment.funded and self._checks_too_many(deployment):
            return "the provider checks too many payments already; try again later", Fault.PROVIDER
        return "", Fault.NONE

    def _wrong(self, deployment: Deployment, request: ServiceRequest) -> str:
        """What the request itself says wrongly: nothing in it is believed because a peer's DMS sent it."""
        problems = problems_of(request)
        if problems:
            return "; ".join(text for _, text in problems)
        if objection := self._executor.objection(self._spec(deployment)):
            return objection
        resume_job = request.params.resume_job
        refused = self._checkpoints.refusal(deployment.resume, wanted=resume_job is not None and resume_job.resume)
        if refused:
            return refused
        key_of, own, peer = self._signer.public_key, self._signer.peer_id, deployment.service_provider
        strangers = strangers_of(request.params, (own, key_of(own)), (peer, key_of(peer)))
        if strangers:
            return f"the request is for others: {'; '.join(strangers)}"
        try:
            price, asked = amount(deployment.price), quote(request.constraints, self._device.state.ntx_price)
        except InvalidInput as error:
            return str(error)
        if price < asked:
            return f"the price of {price_text(price)} NTX is below the {price_text(asked)} NTX that the job costs here"
        if price > limit_of(request):
            return f"the price of {price_text(price)} NTX is above the request's own max_ntx, {request.max_ntx:g}"
        return ""

    def _checks_too_many(self, deployment: Deployment) -> bool:
        others = [peer for job_id, peer in self._checking.items() if job_id != deployment.key]
        return len(others) >= MOST_CHECKED or others.count(deployment.service_provider) >= MOST_CHECKED_OF_A_PEER

    async def _check_payment(self, deployment: Deployment) -> None:
        """One look at the chain; then the decision, or a pause until the next look."""
        job_id, request = deployment.key, _request(deployment)
        hindrance, readings = await self._look(request)
        if self._funding is None:  # switched off meanwhile
            await self._conclude_check(self._load(job_id), hindrance, readings)
            return
        claim = claim_of(
            job_id, request, deployment.tx_hash, deployment.price, deployment.payee, self._signer.peer_id,
            deployment.service_provider,
        )  # fmt: skip
        decision = await self._funding.decide(claim, deployment.funding_until)
        verdict = decision.verdict
        deployment = self._load(job_id)
        if deployment.state is not DeploymentState.CHECKING:
            return
        if verdict.state is FundingState.PENDING:
            deployment.wait_for_funding(verdict.reason, decision.until)
            await self._log.save(deployment)
            await self._tasks.changed(job_id, decision.pause_seconds)
        elif verdict.state is FundingState.REFUSED:
            deployment.refuse(verdict.reason, decision.fault)
            await self._log.save(deployment)
        else:
            if self._payment(deployment).job_id in ("", job_id):
                deployment.accept_funding(self._funding.name, verdict.payer, verdict.units, verdict.block)
            await self._conclude_check(deployment, hindrance, readings)

    async def _conclude_check(self, deployment: Deployment, hindrance: str, readings: Sequence[GpuReading]) -> None:
        """The payment is good. It is this job's even when the job can't be taken any more: then it is owed back."""
        if deployment.state is not DeploymentState.CHECKING:
            return
        payment = self._payment(deployment)
        if deployment.funded and not payment.job_id:
            payment.use(deployment.key)
        self._decide(deployment, payment, hindrance, readings)
        await self._log.save(deployment, payment)
        self._device.changed()

    async def stop(self, job_id: str, by: str, reason: str, fault: Fault, peer_id: str = "") -> bool:
        """Whether this was the first request to stop it. Raises NotFound; Forbidden when a peer
        asks for a deployment that is not its own."""
        deployment = self._log.load(Deployment, job_id)
        if deployment is None:
            raise NotFound(f"no deployment of job {job_id} here")
        if peer_id and deployment.service_provider != peer_id:
            raise Forbidden(f"deployment {job_id} belongs to another peer")
        first = deployment.request_stop(by, reason, fault)
        await self._log.save(deployment)
        self._tasks.wake(job_id)
        return first

    # --- what peers ask ------------------------------------------------------------------------------
    async def _on_request(self, peer_id: str, body: bytes) -> bytes:
        message = decode_request(body, DeploymentRequest)
        with caused_by(new_id(), message.traceparent):
            return encode(await self.request(peer_id, message))

    async def on_terminate(self, peer_id: str, body: bytes) -> bytes:
        """A message of the control protocol."""
        message = decode_request(body, Terminate)
        with caused_by(new_id()):
            first = await self.stop(
                message.job_id, "service provider", message.reason, Fault.REQUESTER, peer_id=peer_id
            )
        return encode(TerminateAnswer(stopping=first))

    async def _on_feed(self, peer_id: str, body: bytes) -> AsyncGenerator[bytes, None]:
        message = decode_request(body, FeedRequest)
        deployment = self._log.load(Deployment, message.job_id)
        if deployment is None:
            raise NotFound(f"no deployment of job {message.job_id} here")
        if deployment.service_provider != peer_id:
            raise Forbidden(f"deployment {message.job_id} belongs to another peer")
        async with contextlib.aclosing(self.feed(message)) as items:
            async for item in items:
                yield encode(item)

    async def feed(self, message: FeedRequest) -> AsyncGenerator[FeedItem, None]:
        """The deployment's signed events and its output, live until the end. Every line counted by
        LogSealed comes before it."""
        lines_sent = message.log_after
        yield FeedItem()  # says that we are here, before there is anything to tell
        batches = self._log.subscribe(0, stream=f"{Deployment.KIND}-{message.job_id}")
        async with contextlib.aclosing(batches):
            while True:
                more = asyncio.ensure_future(anext(batches))
                try:
                    while not more.done():
                        async for item in self._lines(message.job_id, lines_sent):
                            lines_sent = item.lines[-1].seq
                            yield item
                        await self._either(more, message.job_id, lines_sent)
                finally:
                    await cancelled(more)
                for event in more.result():
                    if isinstance(event.event, Deployment.LogSealed):
                        async for item in self._lines(message.job_id, lines_sent):
                            lines_sent = item.lines[-1].seq
                            yield item
                    if event.originator_version > message.after:
                        yield FeedItem(records=(self._sign(event),))
                    if event.topic in TERMINAL_TOPICS:
                        return

    async def _either(self, more: asyncio.Future[Sequence[Recorded]], job_id: str, after: int) -> None:
        """Waits for an event or for a line."""
        line: asyncio.Future[None] = asyncio.ensure_future(self._outputs.wait(job_id, after))
        try:
            both: set[asyncio.Future[Any]] = {more, line}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if line.done():
                line.result()
        finally:
            line.cancel()

    async def _lines(self, job_id: str, after: int) -> AsyncGenerator[FeedItem, None]:
        """What is stored behind line `after`, in frames of a bounded size."""
        while lines := await self._outputs.read(job_id, after, LINES_A_READ):
            for frame in frames(lines):
                yield FeedItem(lines=frame)
            after = lines[-1].seq

    def _sign(self, recorded: Recorded) -> SignedRecord:
        return signed_record(recorded, self._log.previous_hash(recorded.position), self._signer)

    # --- running ---------------------------------------------------------------------------------------
    async def _drive(self, job_id: str) -> None:
        deployment = self._load(job_id)
        engine_away_since: float | None = None
        while not deployment.ended:
            try:
                with caused_by(new_id()):
                    await self._step(deployment)
                engine_away_since = None
            except GpuUnavailable as error:
                self._device.distrust_gpus(str(error))
                await self._fail(job_id, str(error), Fault.PROVIDER)
            except ExecutionError as error:
                await self._fail(job_id, str(error), _fault_of(error))
            except ExecutorUnavailable as error:
                now = asyncio.get_running_loop().time()
                engine_away_since = engine_away_since or now
                if now - engine_away_since > ENGINE_GRACE_SECONDS:
                    await self._fail(job_id, f"the provider's container engine is away: {error}", Fault.PROVIDER)
                else:
                    await self._tasks.changed(job_id, timeout_seconds=1.0)
            deployment = self._load(job_id)
        self._open.discard(job_id)
        self._checking.pop(job_id, None)
        await self._remove(job_id)

    async def _fail(self, job_id: str, reason: str, fault: Fault) -> None:
        deployment = self._load(job_id)
        await self._end(deployment, lambda: deployment.fail(reason, fault))

    async def _step(self, deployment: Deployment) -> None:
        job_id = deployment.key
        if deployment.state is not DeploymentState.CHECKING:
            self._checking.pop(job_id, None)
        if deployment.state is DeploymentState.CHECKING:
            await self._check_payment(deployment)
        elif deployment.state is DeploymentState.ACCEPTED:
            await self._create(deployment)
        elif deployment.state is DeploymentState.CREATED:
            await self._checkpoints.restore(deployment, self._spec(deployment))  # a reboot empties workspaces
            await self._executor.start(job_id)
            execution = await self._executor.inspect(job_id)
            deployment = self._load(job_id)
            if deployment.state is DeploymentState.CREATED:
                deployment.container_started(execution.started_at or self._now())
                await self._log.save(deployment)
        elif deployment.state is DeploymentState.STOPPING:
            await self._executor.stop(job_id, STOP_GRACE_SECONDS)
            execution = await self._executor.inspect(job_id)
            if execution.state in (ExecutionState.ABSENT, ExecutionState.CREATED):
                await self._end(deployment, deployment.stopped)
            else:
                await self._supervise(deployment)
        else:
            await self._supervise(deployment)

    async def _create(self, deployment: Deployment) -> None:
        spec = self._spec(deployment)
        image = await self._unless_stopped(deployment.key, self._executor.prepare(spec))
        if image is None:
            return
        deployment = self._load(deployment.key)
        deployment.image_pulled(image.digest, image.image, image.image_id, fetched=image.fetched)
        await self._log.save(deployment)
        await self._unless_stopped(deployment.key, self._checkpoints.restore(deployment, spec))
        if self._load(deployment.key).state is not DeploymentState.ACCEPTED:
            return
        container_id = await self._executor.create(spec)
        deployment = self._load(deployment.key)
        if deployment.state is DeploymentState.ACCEPTED:
            deployment.container_created(container_id, self._executor.name)
            await self._log.save(deployment)

    async def _unless_stopped(self, job_id: str, work: Coroutine[Any, Any, T]) -> T | None:
        """The work's result; None when the job was told to stop meanwhile, which ends the work."""
        working = asyncio.create_task(work, name=f"preparing {job_id}")
        try:
            while not working.done() and self._load(job_id).state is DeploymentState.ACCEPTED:
                waiting = asyncio.create_task(self._tasks.changed(job_id))
                both: set[asyncio.Future[Any]] = {working, waiting}
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
            return working.result() if working.done() else None
        finally:
            await cancelled(working)

    async def _supervise(self, deployment: Deployment) -> None:
        """Follows the container until it has ended; stops it when told to, or at its time limit."""
        job_id = deployment.key
        following = asyncio.create_task(self._follow(job_id), name=f"output of {job_id}")
        saving = asyncio.create_task(self._checkpoints.watch(job_id), name=f"checkpoints of {job_id}")
        try:
            while not following.done():
                await self._stop_if_due(job_id)
                waiting = asyncio.create_task(self._tasks.changed(job_id, self._until_limit(job_id)))
                both: set[asyncio.Future[Any]] = {following, waiting}
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
            following.result()
        finally:
            await cancelled(following)
            await cancelled(saving)
        await self._conclude(job_id, await self._executor.inspect(job_id))

    async def _follow(self, job_id: str) -> None:
        cursor = await self._outputs.cursor(job_id)
        async with contextlib.aclosing(self._executor.follow(job_id, cursor)) as batches:
            async for lines in batches:
                await self._outputs.append(job_id, lines)

    def _until_limit(self, job_id: str) -> float | None:
        deployment = self._load(job_id)
        if deployment.state is not DeploymentState.RUNNING:
            return None
        return max(0.0, (deployment.stops_at - self._now()) / 1_000_000)

    async def _stop_if_due(self, job_id: str) -> None:
        deployment = self._load(job_id)
        if deployment.state is DeploymentState.RUNNING and self._now() >= deployment.stops_at:
            minutes = deployment.request.constraints.time if deployment.request else 0
            deployment.request_stop("time limit", f"time limit of {minutes} min reached", Fault.REQUESTER)
            await self._log.save(deployment)
        if deployment.state is DeploymentState.STOPPING:
            await self._executor.stop(job_id, STOP_GRACE_SECONDS)

    async def _conclude(self, job_id: str, execution: Execution) -> None:
        deployment = self._load(job_id)
        if execution.state is ExecutionState.EXITED:
            duration = max(0, execution.finished_at - execution.started_at) / 1_000_000
            code = -1 if execution.exit_code is None else execution.exit_code
            await self._end(deployment, lambda: deployment.exited(code, execution.oom_killed, duration))
        elif execution.state is ExecutionState.ABSENT:
            reason = f"the container is gone: {execution.error or 'it was removed from outside'}"
            await self._end(deployment, lambda: deployment.fail(reason, Fault.PROVIDER))

    async def _end(self, deployment: Deployment, decide: Callable[[], None]) -> None:
        """Saves the workspace, seals the output, then records the end; the capacity is free with it."""
        if deployment.stops_at:  # it was started
            await self._checkpoints.save_last(deployment.key)
        sealed = await self._outputs.seal(deployment.key)
        if deployment.ended:
            return
        deployment.seal_log(sealed.lines, sealed.sha256, sealed.truncated)
        decide()
        if self._device.reservations.release(deployment.key):
            self._gpus.look_soon()
        await self._log.save(deployment)
        self._device.changed()

    async def _remove(self, job_id: str) -> None:
        try:
            await self._executor.remove(job_id)
            self._checkpoints.forget(job_id)
        except (ExecutorUnavailable, ExecutionError) as error:
            self._engine.owe_sweep()
            log.warning("container of job %s is left behind for now: %s", job_id, error, extra={"job_id": job_id})

    def preparing(self) -> bool:
        """Whether a deployment has no container yet."""
        found = (self._log.load(Deployment, job_id) for job_id in self._open)
        return any(one is not None and one.state is DeploymentState.ACCEPTED for one in found)

    async def remove_leftovers(self, *, checks: bool = False) -> Sequence[str]:
        """Containers of deployments that have ended (we died between the record and the removal, or the engine was
        away), of checks that hold no GPU any more, and those that do not run and that our log no longer knows, or what
        is left of their making. checks: all of checks, which nobody waits for when we have only just started. Tells
        what can't be removed. Raises ExecutorUnavailable."""
        left: list[str] = []
        for job_id in await self._executor.list_jobs():
            if job_id.startswith(CHECK_PREFIX):
                over = checks or job_id not in self._device.reservations
            elif (deployment := self._log.load(Deployment, job_id)) is not None:
                over = deployment.ended
            else:
                state = (await self._executor.inspect(job_id)).state
                over = state in (ExecutionState.EXITED, ExecutionState.ABSENT)
            if over:
                try:
                    await self._executor.remove(job_id)
                except ExecutionError as error:
                    log.warning("container of job %s can't be removed: %s", job_id, error, extra={"job_id": job_id})
                    left.append(job_id)
                else:
                    self._checkpoints.forget(job_id)
        return left

    def _spec(self, deployment: Deployment) -> ExecutionSpec:
        request = deployment.request
        if request is None:
            raise Conflict(f"deployment {deployment.key} has no request")
        return ExecutionSpec(
            job_id=deployment.key,
            node_id=self._signer.peer_id,
            image=request.params.image_id,
            arguments=request.arguments,
            cpu_mhz=request.constraints.cpu,
            memory_mb=request.constraints.ram,
            gpu_uuids=deployment.gpu_uuids,
        )

    def _load(self, job_id: str) -> Deployment:
        deployment = self._log.load(Deployment, job_id)
        if deployment is None:
            raise NotFound(f"no deployment of job {job_id} here")
        return deployment

    def _recount(self) -> None:
        """Rebuilds what is reserved from the deployments themselves."""
        self._device.reservations.clear()
        for job_id in list(self._open):
            deployment = self._log.load(Deployment, job_id)
            self._checking.pop(job_id, None)
            if deployment is None or deployment.ended:
                self._open.discard(job_id)
            elif deployment.state is DeploymentState.CHECKING:
                self._checking[job_id] = deployment.service_provider
            else:
                self._device.reservations.hold(
                    job_id, deployment.reserved, deployment.gpu_uuids, shared=deployment.gpus_shared
                )
        self._device.changed()


def _fault_of(error: ExecutionError) -> Fault:
    if isinstance(error, RegistryUnavailable):
        return Fault.NETWORK
    return Fault.PROVIDER if isinstance(error, NoRoomForImage) else Fault.REQUESTER


def frames(lines: Sequence[LogLine]) -> list[tuple[LogLine, ...]]:
    """Cut into frames of at most about FRAME_BYTES of text; a longer line has a frame of its own."""
    found: list[tuple[LogLine, ...]] = []
    frame: list[LogLine] = []
    size = 0
    for line in lines:
        length = 2 * len(line.text.encode()) + 48
        if frame and size + length > FRAME_BYTES:
            found.append(tuple(frame))
            frame, size = [], 0
        frame.append(line)
        size += length
    return [*found, tuple(frame)] if frame else found


def _answer(deployment: Deployment) -> DeploymentAnswer:
    if deployment.state is DeploymentState.CHECKING:
        return DeploymentAnswer(accepted=False, pending=True, reason="the payment is being checked")
    return DeploymentAnswer(accepted=not deployment.rejection, reason=deployment.rejection)


def _request(deployment: Deployment) -> ServiceRequest:
    if deployment.request is None:
        raise Conflict(f"deployment {deployment.key} has no request")
    return deployment.request


def limit_of(request: ServiceRequest) -> Decimal:
    """max_ntx as it was written: the shortest decimal text of the number."""
    return Decimal(str(request.max_ntx))
