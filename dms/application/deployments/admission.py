"""Whether this provider takes a deployment. Everything here is synchronous: from the look at what is free to the
decision nothing else is decided, and the log restates what is free with the decision itself."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from dms.application.deployments.deployment_feed import FEEDS_OF_A_PEER
from dms.application.deployments.deployment_index import DeploymentIndex
from dms.application.deployments.furnishing import Furnishing
from dms.application.deployments.holds import Holds
from dms.application.deployments.strangers import Refusal, Strangers
from dms.application.device.device import DeviceService
from dms.application.device.refusals import Refusals
from dms.application.payments.funding import request_of
from dms.application.payments.payments import Paying, still_runs
from dms.application.ports.executor import ExecutionSpec, Executor
from dms.application.ports.signing import Signer
from dms.domain.deployment import Deployment, Fault
from dms.domain.device import no_capacity, why_closed
from dms.domain.environment import unsealed_names
from dms.domain.features import needs_workspace
from dms.domain.gpus import GpuReading, GpuWish, choose
from dms.domain.hold import Hold
from dms.domain.network import Network
from dms.domain.pricing import price_text, quote
from dms.domain.request import ServiceRequest, problems_of, strangers_of
from dms.domain.reservations import Held, Reservations, vram_to_reserve
from dms.domain.resources import Gpu, Resources
from dms.domain.reward import amount
from dms.domain.wallet import other_blockchain, other_payee
from dms.errors import (
    ExecutionError,
    InputUnavailable,
    InvalidInput,
    NoPlaceForInput,
    NoRoomForImage,
    RegistryUnavailable,
)

MOST_CHECKED, MOST_CHECKED_OF_A_PEER = 256, 32  # payments waited for; nothing is reserved for them


class Admission:
    def __init__(
        self,
        device: DeviceService,
        executor: Executor,
        signer: Signer,
        furnishing: Furnishing,
        index: DeploymentIndex,
        holds: Holds,
        refusals: Refusals,
        strangers: Strangers,
        paid_on: str = "",
    ) -> None:
        """paid_on: the only blockchain on which payments are looked up; empty where none is."""
        self._device, self._executor, self._signer = device, executor, signer
        self._furnishing, self._index, self._holds, self._refusals = furnishing, index, holds, refusals
        self._strangers, self._paid_on = strangers, paid_on

    def decide(self, deployment: Deployment, paying: Paying, readings: Sequence[GpuReading]) -> Sequence[Hold]:
        """Grants or refuses it. readings: the GPUs as they were a moment ago. Answers the holds that end with it. The
        caller saves deployment, payment and holds before it waits for anything."""
        request, own = request_of(deployment), self._holds.taken(deployment.key, deployment.service_provider)
        taken = self._taken(deployment, paying, readings)
        if isinstance(taken, Refusal):
            self.refuse(deployment, taken)
            return own
        paying.use()
        deployment.grant(
            taken.resources,
            taken.gpu_uuids,
            gpus_shared=taken.shared,
            network=Network.INTERNET if request.network is Network.INTERNET and self._gives_internet else Network.NONE,
            for_stranger=self.is_stranger(deployment.service_provider),
        )
        return [*own, *self._holds.yielding(deployment.key, taken)]

    def objection(self, deployment: Deployment, paying: Paying, readings: Sequence[GpuReading]) -> Refusal | None:
        """Why `decide` would refuse it."""
        taken = self._taken(deployment, paying, readings)
        return taken if isinstance(taken, Refusal) else None

    def is_stranger(self, peer_id: str) -> bool:
        """As it is connected just now."""
        return self._strangers.is_stranger(peer_id)

    def spec_of(self, deployment: Deployment) -> ExecutionSpec:
        """What is run for it."""
        request = request_of(deployment)
        return ExecutionSpec(
            job_id=deployment.key,
            node_id=self._signer.peer_id,
            image=request.params.image_id,
            arguments=request.arguments,
            arguments_given=request.params.arguments is not None,
            cpu_mhz=request.constraints.cpu,
            memory_mb=request.constraints.ram,
            gpu_uuids=deployment.gpu_uuids,
            environment=tuple(request.params.env.items()),
            network=deployment.network,
            for_stranger=deployment.for_stranger,
        )

    def refuse(self, deployment: Deployment, refusal: Refusal) -> None:
        """Also shown to the owner."""
        deployment.refuse(refusal.reason, refusal.fault)
        self._refusals.note(deployment.service_provider, refusal.kind, refusal.reason, deployment.key)

    def _taken(self, deployment: Deployment, paying: Paying, readings: Sequence[GpuReading]) -> Held | Refusal:
        return self.refusal(deployment, paying) or self._place(deployment.key, request_of(deployment), readings)

    def _place(self, job_id: str, request: ServiceRequest, readings: Sequence[GpuReading]) -> Held | Refusal:
        """One that no hold of another's is for, if there is any."""
        jobs = self._device.reservations
        beside_holds = self.place_for(request, readings, jobs.beside(self._device.holds, job_id))
        return beside_holds if isinstance(beside_holds, Held) else self.place_for(request, readings, jobs)

    def place_beside_holds(self, request: ServiceRequest, readings: Sequence[GpuReading]) -> Held | Refusal:
        """One that nobody holds."""
        wanted = msgspec.structs.replace(request.resources, vram_mb=0)
        if short := (self._device.free() - self._device.holds.total).shortfalls(wanted):
            return Refusal("; ".join(short), Fault.PROVIDER, "held")
        return self.place_for(request, readings, self._device.reservations.beside(self._device.holds))

    def place_for(self, request: ServiceRequest, readings: Sequence[GpuReading], held: Reservations) -> Held | Refusal:
        """What it would hold of this machine, beside what is held."""
        wish, recorded = request.gpu_wish, self._device.state.total.gpus
        if wish is None:
            return Held(resources=request.resources)
        gpus = held.free_gpus(recorded, readings, wish)
        if not gpus:
            return Refusal(_no_gpus(held.left_of(recorded), readings, wish), Fault.PROVIDER, "gpu")
        resources = msgspec.structs.replace(request.resources, vram_mb=vram_to_reserve(recorded, gpus, wish))
        return Held(resources=resources, gpu_uuids=tuple(gpu.uuid for gpu in gpus), shared=wish.shared)

    def of_channel(self, channel: str) -> Refusal | None:
        """channel: that the request was matched on; empty when it does not say."""
        device = self._device.state
        if device.onboarded and device.available and channel and channel != device.channel:
            reason = f"the provider is on channel {device.channel}, not {channel}"
            return Refusal(reason, Fault.PROVIDER, "provider")
        return None

    def refusal(self, deployment: Deployment, paying: Paying | None) -> Refusal | None:
        """Why it can't be taken, as far as that can be told at once. paying: None while nothing is paid yet."""
        to_be_checked = paying is not None and not deployment.funded
        return (
            next(iter(self._of_device()), None)
            or self._of_policy(deployment)
            or (None if deployment.funded else self._strangers.never(deployment))
            or self._of_request(deployment)
            or (None if deployment.funded else self._of_payee(deployment))
            or (None if paying is None else _of_payment(paying))
            or self._of_earlier_attempt(deployment, paying)
            or self._of_network(deployment)
            or self._of_workspace(deployment)
            or self._of_capacity(request_of(deployment).resources)
            or self._strangers.not_now(deployment)
            or self._of_feeds(deployment)
            or (self._of_checks(deployment.service_provider, deployment.key) if to_be_checked else None)
        )

    def of_all(self) -> Sequence[Refusal]:
        """Why no job at all is taken just now, however little it asks for, in the order in which one would be refused;
        empty while jobs are taken."""
        found = [*self._of_device(), self.of_log()]
        if self._device.state.onboarded:
            address = self._device.state.payment_address
            found += [self._of_address(address), self._of_capacity(self._device.least()), self._of_checks("")]
        return [refusal for refusal in found if refusal is not None]

    def of_log(self) -> Refusal | None:
        """What can't be recorded is not promised. A paid job is tried to be recorded all the same."""
        trouble = self._device.recording_trouble
        return Refusal(trouble, Fault.PROVIDER, "provider") if trouble else None

    def _of_device(self) -> Sequence[Refusal]:
        device = self._device.state
        reasons = why_closed(device.onboarded, device.available, device.hindrance)
        return [Refusal(reason, Fault.PROVIDER, "provider") for reason in reasons]

    def _of_policy(self, deployment: Deployment) -> Refusal | None:
        """What the owner's lists say. Another provider may take the job: so it is not the requester's fault."""
        if reason := self._device.state.policy.objection_to_peer(deployment.service_provider):
            return Refusal(reason, Fault.PROVIDER, "peer")
        return self.of_image(request_of(deployment).params.image_id)

    def of_image(self, image: str, digest: str = "") -> Refusal | None:
        """What the owner's list of images says. digest: where it is known."""
        reason = self._device.objection_to_image(image, digest)
        return Refusal(reason, Fault.PROVIDER, "image", "/params/image_id") if reason else None

    def _of_request(self, deployment: Deployment) -> Refusal | None:
        """What the request itself says wrongly: nothing in it is believed because a peer's DMS sent it."""
        request = request_of(deployment)
        if problems := problems_of(request):
            text = "; ".join(text for _, text in problems)
            return Refusal(text, Fault.REQUESTER, "request", problems[0][0])
        if readable := list(unsealed_names(request.params.secret_env)):
            reason = f"secret_env {', '.join(readable)}: the values are not sealed under the job's key"
            return Refusal(reason, Fault.REQUESTER, "request", "/params/secret_env")
        if objection := self._executor.objection(self.spec_of(deployment)):
            return Refusal(objection, Fault.REQUESTER, "request")
        if reason := self._furnishing.refusal(deployment):
            return Refusal(reason, Fault.REQUESTER, "request")
        return self._of_parties(request, deployment.service_provider) or self._of_price(request, deployment.price)

    def _of_parties(self, request: ServiceRequest, peer: str) -> Refusal | None:
        key_of, own = self._signer.public_key, self._signer.peer_id
        strangers = strangers_of(request.params, (own, key_of(own)), (peer, key_of(peer)))
        if not strangers:
            return None
        return Refusal(f"the request is for others: {'; '.join(strangers)}", Fault.REQUESTER, "request")

    def _of_price(self, request: ServiceRequest, quoted: str) -> Refusal | None:
        reason = ""
        try:
            price, asked = amount(quoted), quote(request.constraints, self._device.state.ntx_price)
        except InvalidInput as error:
            return Refusal(str(error), Fault.REQUESTER, "price")
        if price < asked:
            reason = (
                f"the price of {price_text(price)} NTX is below the {price_text(asked)} NTX that the job costs here"
            )
        elif price > limit_of(request):
            reason = f"the price of {price_text(price)} NTX is above the request's own max_ntx, {request.max_ntx:g}"
        return Refusal(reason, Fault.REQUESTER, "price") if reason else None

    def _of_payee(self, deployment: Deployment) -> Refusal | None:
        """Said before anything is paid that could never be seen here."""
        if wrong := other_blockchain(request_of(deployment).blockchain, self._paid_on):
            return Refusal(wrong, Fault.REQUESTER, "payment", "/blockchain")
        return self._of_address(deployment.payee)

    def _of_address(self, payee: str) -> Refusal | None:
        wrong = other_payee(payee, self._paid_on)
        return Refusal(wrong, Fault.PROVIDER, "payment") if wrong else None

    def _of_earlier_attempt(self, deployment: Deployment, paying: Paying | None) -> Refusal | None:
        """Also who only asks is told, or the attempt would be used up on it."""
        earlier = self._index.earlier_attempt(deployment) or (paying.kept_by if paying is not None else "")
        return Refusal(still_runs(earlier), Fault.PROVIDER, "busy") if earlier else None

    def _of_network(self, deployment: Deployment) -> Refusal | None:
        """Only where the request says what it needs: an older DMS does not, and asks whom it knows nothing of."""
        needed = request_of(deployment).constraints.network
        if needed == Network.INTERNET and not self._gives_internet:
            reason = "the provider gives jobs no internet, which this one needs"
            return Refusal(reason, Fault.PROVIDER, "network", "/constraints/network")
        return None

    def _of_workspace(self, deployment: Deployment) -> Refusal | None:
        if (trouble := self._device.workspace_trouble) and needs_workspace(request_of(deployment)):
            reason = f"the provider can't read or fill a job's workspace, which this one needs: {trouble}"
            return Refusal(reason, Fault.PROVIDER, "workspace")
        return None

    @property
    def _gives_internet(self) -> bool:
        return self._device.state.network == Network.INTERNET

    def _of_capacity(self, wanted: Resources) -> Refusal | None:
        """Places that are only held do not count: who pays first gets them. Memory of GPUs counts card by card, not as
        a sum. What jobs that are over still take is on no record: so that is said."""
        wanted = msgspec.structs.replace(wanted, vram_mb=0)
        free, left = self._device.free(), self._device.reservations.left
        if short := (free + left).shortfalls(wanted):
            return Refusal(no_capacity(short), Fault.PROVIDER, "capacity")
        if short := free.shortfalls(wanted):
            reason = "the provider has no capacity left until files of jobs that are over are removed"
            return Refusal(f"{reason}, {left.memory_mb} MB: {'; '.join(short)}", Fault.PROVIDER, "capacity")
        return None

    def _of_feeds(self, deployment: Deployment) -> Refusal | None:
        """Of a peer that we trust as well: what could not be followed is not taken."""
        peer_id = deployment.service_provider
        _, jobs = self._index.taken_by(peer_id)
        _, checked = self._index.payments_checked(peer_id, deployment.key)
        if jobs + checked < FEEDS_OF_A_PEER:
            return None
        reason = f"the provider has as many open jobs of this peer as it can tell it of at once, {FEEDS_OF_A_PEER}"
        return Refusal(reason, Fault.PROVIDER, "capacity")

    def _of_checks(self, peer_id: str, but: str = "") -> Refusal | None:
        """Of payments that are looked up now. but: a job that does not count."""
        in_all, of_peer = self._index.payments_checked(peer_id, but)
        if in_all >= MOST_CHECKED or of_peer >= MOST_CHECKED_OF_A_PEER:
            reason = "the provider checks too many payments already; try again later"
            return Refusal(reason, Fault.PROVIDER, "busy")
        return None


def _no_gpus(left: Sequence[Gpu], readings: Sequence[GpuReading], wish: GpuWish) -> str:
    """What decides and is on no record is said: a small change of what is free on a GPU is no event. left: of the GPUs
    on record."""
    reason = f"the provider does not have {wish} now"
    if not choose(left, wish):
        return reason
    told = ", ".join(f"{reading.free_vram_mb} MB free on {reading.uuid}" for reading in readings) or "no GPU"
    return f"{reason}: its driver tells of {told}"


def _of_payment(paying: Paying) -> Refusal | None:
    if not paying.is_named:
        return Refusal("the request names no transaction that pays for it", Fault.REQUESTER, "payment")
    return Refusal(paying.refusal, Fault.REQUESTER, "payment") if paying.refusal else None


def fault_of(error: ExecutionError) -> Fault:
    """Whose fault it is that the executor can't run it as asked."""
    if isinstance(error, RegistryUnavailable | InputUnavailable):
        return Fault.NETWORK
    return Fault.PROVIDER if isinstance(error, NoRoomForImage | NoPlaceForInput) else Fault.REQUESTER


def limit_of(request: ServiceRequest) -> Decimal:
    """max_ntx as it was written: the shortest decimal text of the number."""
    return Decimal(str(request.max_ntx))
