"""Whether this provider takes a deployment. Everything here is synchronous: from the look at what is free to the
decision nothing else is decided, and the log restates what is free with the decision itself."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from dms.application.deployments.deployment_index import DeploymentIndex
from dms.application.deployments.furnishing import Furnishing
from dms.application.device.device import DeviceService
from dms.application.payments.funding import request_of
from dms.application.ports import EventLog, ExecutionSpec, Executor, Signer
from dms.domain.deployment import Deployment, Fault
from dms.domain.device import vram_to_reserve
from dms.domain.environment import unsealed_names
from dms.domain.features import needs_workspace
from dms.domain.gpus import GpuReading, GpuWish, choose
from dms.domain.network import Network
from dms.domain.payment import Payment
from dms.domain.pricing import price_text, quote
from dms.domain.request import ServiceRequest, problems_of, strangers_of
from dms.domain.resources import Gpu
from dms.domain.reward import RewardType, amount
from dms.errors import InvalidInput

MOST_CHECKED, MOST_CHECKED_OF_A_PEER = 256, 32  # payments waited for; nothing is reserved for them

Refusal = tuple[str, Fault]
"""The reason and whose fault it is; an empty reason for none."""


class Admission:
    def __init__(
        self,
        device: DeviceService,
        executor: Executor,
        signer: Signer,
        furnishing: Furnishing,
        index: DeploymentIndex,
        log: EventLog,
    ) -> None:
        self._log = log
        self._device, self._executor, self._signer = device, executor, signer
        self._furnishing, self._index = furnishing, index

    def decide(self, deployment: Deployment, payment: Payment, readings: Sequence[GpuReading]) -> None:
        """Grants or refuses it. readings: the GPUs as they were a moment ago. The caller saves deployment and payment
        before it waits for anything."""
        request = request_of(deployment)
        reason, fault = self.refusal(deployment, payment)
        wish, recorded = request.gpu_wish, self._device.state.total.gpus
        gpus: tuple[Gpu, ...] = ()
        if not reason and wish is not None:
            gpus = self._device.reservations.free_gpus(recorded, readings, wish)
            if not gpus:
                reason, fault = self._no_gpus(recorded, readings, wish), Fault.PROVIDER
        if reason:
            deployment.refuse(reason, fault)
            return
        reserved = request.resources
        if wish is not None:
            reserved = msgspec.structs.replace(reserved, vram_mb=vram_to_reserve(recorded, gpus, wish))
        payment.use(deployment.key)
        deployment.grant(
            reserved,
            tuple(gpu.uuid for gpu in gpus),
            gpus_shared=wish is not None and wish.shared,
            network=Network.INTERNET if request.network is Network.INTERNET and self._gives_internet else Network.NONE,
        )

    def _no_gpus(self, recorded: Sequence[Gpu], readings: Sequence[GpuReading], wish: GpuWish) -> str:
        """What decides and is on no record is said: a small change of what is free on a GPU is not an event."""
        reason = f"the provider does not have {wish} now"
        if not choose(self._device.reservations.left_of(recorded), wish):
            return reason
        told = ", ".join(f"{reading.free_vram_mb} MB free on {reading.uuid}" for reading in readings) or "no GPU"
        return f"{reason}: its driver tells of {told}"

    def of_channel(self, channel: str) -> Refusal:
        """channel: that the request was matched on; empty when it does not say."""
        device = self._device.state
        if device.onboarded and device.available and channel and channel != device.channel:
            return f"the provider is on channel {device.channel}, not {channel}", Fault.PROVIDER
        return "", Fault.NONE

    def refusal(self, deployment: Deployment, payment: Payment) -> Refusal:
        """Why it can't be taken, as far as that can be told at once."""
        if reason := self._of_device():
            return reason, Fault.PROVIDER
        if reason := self._of_request(deployment) or self._of_payment(deployment, payment):
            return reason, Fault.REQUESTER
        reason = (
            self._of_earlier_attempt(deployment, payment)
            or self._of_network(deployment)
            or self._of_workspace(deployment)
        )
        return reason or self._of_capacity(deployment), Fault.PROVIDER

    def _of_device(self) -> str:
        device = self._device.state
        if not device.onboarded:
            return "the provider is not onboarded"
        return device.hindrance if device.available else "the provider is offline"

    def _of_request(self, deployment: Deployment) -> str:
        """What the request itself says wrongly: nothing in it is believed because a peer's DMS sent it."""
        request = request_of(deployment)
        problems = problems_of(request)
        if problems:
            return "; ".join(text for _, text in problems)
        if readable := list(unsealed_names(request.params.secret_env)):
            return f"secret_env {', '.join(readable)}: the values are not sealed under the job's key"
        if objection := self._executor.objection(spec_of(deployment, self._signer.peer_id)):
            return objection
        return (
            self._furnishing.refusal(deployment)
            or self._of_parties(request, deployment.service_provider)
            or self._of_price(request, deployment.price)
        )

    def _of_parties(self, request: ServiceRequest, peer: str) -> str:
        key_of, own = self._signer.public_key, self._signer.peer_id
        strangers = strangers_of(request.params, (own, key_of(own)), (peer, key_of(peer)))
        return f"the request is for others: {'; '.join(strangers)}" if strangers else ""

    def _of_price(self, request: ServiceRequest, quoted: str) -> str:
        try:
            price, asked = amount(quoted), quote(request.constraints, self._device.state.ntx_price)
        except InvalidInput as error:
            return str(error)
        if price < asked:
            return f"the price of {price_text(price)} NTX is below the {price_text(asked)} NTX that the job costs here"
        if price > limit_of(request):
            return f"the price of {price_text(price)} NTX is above the request's own max_ntx, {request.max_ntx:g}"
        return ""

    def _of_payment(self, deployment: Deployment, payment: Payment) -> str:
        if not payment.key:
            return "the request names no transaction that pays for it"
        if refusal := payment.refusal(deployment.key):
            return refusal
        before = self._earlier_attempt(deployment, payment)
        if before is None or before.reward is None:
            return ""
        if before.service_provider != deployment.service_provider:
            return f"this transaction pays for job {before.key} of another peer"
        if before.reward.reward_type is not RewardType.REFUND:
            return f"an earlier attempt of the job, {before.key}, has earned of this transaction"
        return ""

    def _earlier_attempt(self, deployment: Deployment, payment: Payment) -> Deployment | None:
        """Of the same job, which the payment paid for here."""
        known = payment.job_id not in ("", deployment.key)
        return self._log.load(Deployment, payment.job_id) if known else None

    def _of_earlier_attempt(self, deployment: Deployment, payment: Payment) -> str:
        before = self._earlier_attempt(deployment, payment)
        if before is None or before.ended:
            return ""
        return f"an earlier attempt of the job, {before.key}, has not ended here yet"

    def _of_network(self, deployment: Deployment) -> str:
        """Only where the request says what it needs: an older DMS does not, and asks whom it knows nothing of."""
        needed = request_of(deployment).constraints.network
        if needed == Network.INTERNET and not self._gives_internet:
            return "the provider gives jobs no internet, which this one needs"
        return ""

    def _of_workspace(self, deployment: Deployment) -> str:
        if (trouble := self._device.workspace_trouble) and needs_workspace(request_of(deployment)):
            return f"the provider can't read or fill a job's workspace, which this one needs: {trouble}"
        return ""

    @property
    def _gives_internet(self) -> bool:
        return self._device.state.network == Network.INTERNET

    def _of_capacity(self, deployment: Deployment) -> str:
        # Memory of GPUs counts card by card, not as a sum.
        wanted = msgspec.structs.replace(request_of(deployment).resources, vram_mb=0)
        if short := self._device.free().shortfalls(wanted):
            return f"the provider has no capacity left: {'; '.join(short)}"
        in_all, of_peer = self._index.payments_checked(deployment.service_provider, but=deployment.key)
        if not deployment.funded and (in_all >= MOST_CHECKED or of_peer >= MOST_CHECKED_OF_A_PEER):
            return "the provider checks too many payments already; try again later"
        return ""


def spec_of(deployment: Deployment, node_id: str) -> ExecutionSpec:
    """node_id: the peer id of this compute provider."""
    request = request_of(deployment)
    return ExecutionSpec(
        job_id=deployment.key,
        node_id=node_id,
        image=request.params.image_id,
        arguments=request.arguments,
        arguments_given=request.params.arguments is not None,
        cpu_mhz=request.constraints.cpu,
        memory_mb=request.constraints.ram,
        gpu_uuids=deployment.gpu_uuids,
        environment=tuple(request.params.env.items()),
        network=deployment.network,
    )


def limit_of(request: ServiceRequest) -> Decimal:
    """max_ntx as it was written: the shortest decimal text of the number."""
    return Decimal(str(request.max_ntx))
