"""Sends a funded job to its provider, until that has answered."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from dms.application.device.device import DeviceService
from dms.application.inputs.own_inputs import as_sent
from dms.application.network.messages import (
    DEPLOYMENT_REQUEST,
    DeploymentAnswer,
    DeploymentRequest,
    decode_answer,
    encode,
)
from dms.application.ports.event_log import EventLog
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.application.reactors import News
from dms.application.secret_environment import handed_on
from dms.backoff import Backoff
from dms.domain.device_policy import PEER_DENIED
from dms.domain.job import Job
from dms.domain.request import ServiceRequest
from dms.domain.reward import Fault
from dms.errors import Conflict, ExecutionError, Forbidden, InvalidInput, NotFound, PeerMisbehaved, Unavailable

REQUEST_SECONDS = 10.0
RETRY_SECONDS = (0.2, 5.0)  # first and longest pause between tries to reach a provider


class NotTaken(Exception):
    """The provider does not run the job, or nobody knows. The message is the reason, for the job's owner."""

    def __init__(self, reason: str, fault: Fault = Fault.PROVIDER) -> None:
        super().__init__(reason)
        self.fault = fault


class Submission:
    def __init__(
        self, log: EventLog, device: DeviceService, network: PeerNetwork, signer: Signer, answer_seconds: float
    ) -> None:
        """answer_seconds: how long a provider may take to answer."""
        self._log, self._device, self._network, self._signer = log, device, network, signer
        self._answer_seconds = answer_seconds

    async def send(self, job: Job, news: News) -> None:
        """Again is harmless: the provider repeats its answer. At least once, also when we were away meanwhile. Raises
        NotTaken."""
        try:
            message = self._request(job, await self._traceparent(job.key))
        except ExecutionError as error:
            raise NotTaken(str(error), Fault.REQUESTER) from error
        clock = asyncio.get_running_loop().time
        deadline, backoff = clock() + self._answer_seconds, Backoff(*RETRY_SECONDS)
        while True:
            if self._device.denies(job.provider):  # since it was quoted
                raise NotTaken(f"the provider was not asked: {PEER_DENIED}", Fault.NONE)
            try:
                body = await self._network.request(job.provider, DEPLOYMENT_REQUEST, message, REQUEST_SECONDS)
                decode_answer(job.provider, body, DeploymentAnswer)
                return
            except Unavailable as error:  # also the provider's own word that it can't decide now
                if clock() + backoff.upcoming > deadline:
                    raise NotTaken(f"provider did not answer within {self._answer_seconds:g} s: {error}") from error
            except (Forbidden, NotFound, Conflict, InvalidInput, PeerMisbehaved) as error:
                raise NotTaken(f"provider refused the request: {error}") from error
            self._check_wanted(job.key)
            await news.changed(backoff.next())

    def _check_wanted(self, job_id: str) -> None:
        job = self._log.load(Job, job_id)
        if job is not None and job.termination is not None:
            raise NotTaken(job.termination, Fault.REQUESTER)

    async def _traceparent(self, job_id: str) -> str:
        """Of who asked for the job, also after a restart."""
        first = await self._log.read(0, 1, stream=f"{Job.KIND}-{job_id}")
        return first[0].traceparent if first else ""

    def _request(self, job: Job, traceparent: str) -> bytes:
        if job.request is None:
            raise Conflict(f"job {job.key} has no request")
        request = handed_on(self._log, job.key, job.deployment_id, job.request.for_attempt(job.minutes))
        request = addressed_to(request, job.provider, self._signer)
        message = DeploymentRequest(
            job_id=job.deployment_id,
            request=as_sent(replace(request, tx_hash=job.tx_hash)),
            price=job.price,
            traceparent=traceparent,
            channel=self._device.channel,
            resume=job.resume,
            seal_key=self._log.seal_key(job.deployment_id).hex(),
        )
        return encode(message)


def addressed_to(request: ServiceRequest, provider: str, signer: Signer) -> ServiceRequest:
    """With the ids and keys of both sides, which the provider checks. provider: its peer id."""
    own = signer.peer_id
    params = replace(
        request.params,
        node_id=provider,
        public_key=signer.public_key(provider),
        local_node_id=own,
        local_public_key=signer.public_key(own),
    )
    return replace(request, params=params)
