"""What is told to who asks whether its job can be run here, before it pays: yes or why not, by the same checks that
decide about the paid job, and whether its place is kept."""

from __future__ import annotations

from collections.abc import Sequence

from dms.application.cause import caused_by
from dms.application.deployments.admission import Admission, fault_of
from dms.application.deployments.holds import Holds
from dms.application.deployments.ownership import check_free_for, has_kept_place
from dms.application.deployments.strangers import Refusal
from dms.application.device.device import DeviceService
from dms.application.device.engine import EngineWatch
from dms.application.device.refusals import LONGEST_REASON, Refusals
from dms.application.network.budgets import IMAGE_LOOK_UPS, QUESTIONS, Budgets
from dms.application.network.messages import (
    PREFLIGHT,
    PreflightAnswer,
    PreflightRequest,
    decode_request,
    encode,
)
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Executor
from dms.application.ports.images import ImageFound
from dms.application.ports.peers import PeerNetwork
from dms.domain.deployment import Deployment, Fault
from dms.domain.event import new_id
from dms.domain.gpus import GpuReading
from dms.domain.hold import Hold
from dms.domain.reservations import Held
from dms.errors import Conflict, ExecutorUnavailable, ImageUnavailable
from dms.recent import Recent

MOST_TOLD = 4096  # of those that were told yes; who is forgotten may ask again


class Preflights:
    def __init__(
        self,
        log: EventLog,
        device: DeviceService,
        executor: Executor,
        engine: EngineWatch,
        admission: Admission,
        holds: Holds,
        refusals: Refusals,
        budgets: Budgets,
    ) -> None:
        self._log, self._device, self._executor, self._engine = log, device, executor, engine
        self._admission, self._holds = admission, holds
        self._refusals = refusals
        self._budgets = budgets
        self._told_yes = Recent[tuple[str, str], None](MOST_TOLD)  # (job id, who asked), of late

    def serve(self, network: PeerNetwork) -> None:
        network.serve_request(PREFLIGHT, self._on_request)

    def has_yes(self, job_id: str, peer_id: str) -> bool:
        """Whether that peer was told that its job is possible."""
        return (job_id, peer_id) in self._told_yes or has_kept_place(self._log, job_id, peer_id)

    def forget_yes(self, job_id: str, peer_id: str) -> None:
        """Its job is on record, and so is whose it is."""
        self._told_yes.pop((job_id, peer_id), None)

    async def _on_request(self, peer_id: str, body: bytes) -> bytes:
        message = decode_request(body, PreflightRequest)
        self._budgets.check(QUESTIONS, peer_id)
        with caused_by(new_id(), message.traceparent):
            return encode(await self.answer(peer_id, message))

    async def answer(self, peer_id: str, message: PreflightRequest) -> PreflightAnswer:
        """Again is harmless: a place that is kept stays as it is. Raises Forbidden when the job id is another peer's,
        Conflict when the job was asked for already."""
        self._check_new(peer_id, message.job_id)
        readings = await self._engine.look(gpus=message.request.wants_gpu)
        asked = self._as_deployment(peer_id, message)
        if (refusal := self._refusal(asked, message, readings)) is not None:
            return self._no(peer_id, message, refusal)
        image = await self._image(asked)
        if isinstance(image, Refusal):
            return self._no(peer_id, message, image)
        # Asked for by now, or free no more: from here to the decision nothing is waited for.
        self._check_new(peer_id, message.job_id)
        found = self._admission.of_image(message.request.params.image_id, image.digest)
        if (refusal := found or self._refusal(asked, message, readings)) is not None:
            return self._no(peer_id, message, refusal)
        return await self._yes(peer_id, message, readings, image)

    def _check_new(self, peer_id: str, job_id: str) -> None:
        if self._log.load(Deployment, job_id) is not None:
            raise Conflict(f"job {job_id} was asked for here already")
        check_free_for(self._log, job_id, peer_id)

    def _as_deployment(self, peer_id: str, message: PreflightRequest) -> Deployment:
        """It is held against the rules of paid ones, and never saved."""
        asked = Deployment(message.job_id)
        asked.ask(peer_id, message.request, message.price, self._device.state.payment_address, message.resume)
        return asked

    def _refusal(self, asked: Deployment, message: PreflightRequest, readings: Sequence[GpuReading]) -> Refusal | None:
        admission = self._admission
        if refusal := admission.of_channel(message.channel) or admission.refusal(asked, None) or admission.of_log():
            return refusal
        place = self._admission.place_for(message.request, readings, self._device.reservations)
        return place if isinstance(place, Refusal) else None

    async def _image(self, asked: Deployment) -> ImageFound | Refusal:
        try:
            peer_id = asked.service_provider
            return await self._executor.find_image(
                self._admission.spec_of(asked).image,
                for_stranger=self._admission.is_stranger(peer_id),
                may_ask=lambda: self._budgets.allows(IMAGE_LOOK_UPS, peer_id),
            )
        except ImageUnavailable as error:
            return Refusal(str(error), fault_of(error), "image", "/params/image_id")
        except ExecutorUnavailable as error:
            return Refusal(f"the provider's container engine does not answer: {error}", Fault.PROVIDER, "provider")

    async def _yes(
        self, peer_id: str, message: PreflightRequest, readings: Sequence[GpuReading], image: ImageFound
    ) -> PreflightAnswer:
        """With the place that is kept, or why none is."""
        hold, reason = self._hold(peer_id, message, readings)
        self._told_yes[message.job_id, peer_id] = None
        if hold is not None:
            await self._log.save(hold)
        return PreflightAnswer(
            possible=True,
            reason=reason,
            kind="held" if reason else "",
            hold_seconds=self._holds.seconds_left(hold) if hold is not None else 0,
            image_present=image.present,
            image_digest=image.digest,
        )

    def _hold(self, peer_id: str, message: PreflightRequest, readings: Sequence[GpuReading]) -> tuple[Hold | None, str]:
        if (hold := self._holds.of(message.job_id, peer_id)) is not None:
            return hold, ""
        if not message.hold_seconds:
            return None, ""
        place = self._admission.place_beside_holds(message.request, readings)
        if not isinstance(place, Held):
            return None, "it keeps what is free for another who has not paid yet; who pays first gets it"
        if reason := self._holds.objection(peer_id):
            return None, f"{reason}; who pays first gets it"
        return self._holds.place(message.job_id, peer_id, place, message.hold_seconds), ""

    def _no(self, peer_id: str, message: PreflightRequest, refusal: Refusal) -> PreflightAnswer:
        self._refusals.note(peer_id, refusal.kind, refusal.reason, message.job_id)
        return PreflightAnswer(
            possible=False,
            reason=refusal.reason[:LONGEST_REASON],
            kind=refusal.kind,
            fault=refusal.fault.value,
            field=refusal.field[:128],
        )
