"""What is not given to strangers, as far as this machine's owner has not said otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dms.application.deployments.deployment_index import DeploymentIndex
from dms.application.device.device import DeviceService
from dms.application.payments.funding import request_of
from dms.domain.deployment import Deployment, Fault
from dms.domain.stranger_limits import NO_TRUST, StrangerLimits


class Refusal(NamedTuple):
    """Why a job can't be taken. kind: what it is about: provider, peer, request, image, price, payment, network,
    workspace, gpu, capacity, busy. field: JSON pointer of what is wrong in the request."""

    reason: str
    fault: Fault
    kind: str
    field: str = ""


class Strangers:
    def __init__(
        self,
        device: DeviceService,
        index: DeploymentIndex,
        is_trusted: Callable[[str], bool],
        limits: StrangerLimits,
        *,
        looks_up_payments: bool,
    ) -> None:
        """is_trusted: whether a peer, by its id, is no stranger. looks_up_payments: else a payment is what the peer
        says of it."""
        self._device, self._index, self._is_trusted = device, index, is_trusted
        self._limits, self._looks_up_payments = limits, looks_up_payments

    def is_stranger(self, peer_id: str) -> bool:
        return not self._is_trusted(peer_id)

    def never(self, deployment: Deployment) -> Refusal | None:
        """Why such a job is not taken of that peer at any time."""
        if self._is_trusted(deployment.service_provider):
            return None
        if not self._looks_up_payments and not self._limits.trusts_payments:
            return Refusal(NO_TRUST, Fault.PROVIDER, "payment")
        text, field = self._limits.objection_to(request_of(deployment))
        return Refusal(text, Fault.PROVIDER, "capacity", field) if text else None

    def not_now(self, deployment: Deployment) -> Refusal | None:
        """Why it is not taken beside the peer's other jobs."""
        peer_id = deployment.service_provider
        if self._is_trusted(peer_id):
            return None
        held, jobs = self._index.taken_by(peer_id)
        wanted, offered = request_of(deployment).resources, self._device.state.offered
        text = self._limits.objection_beside(held, jobs, wanted, offered)
        return Refusal(text, Fault.PROVIDER, "capacity") if text else None
