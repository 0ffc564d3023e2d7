"""The service provider's side: quotes a request, takes its payment, and follows the job to its end.

The follower of each open job is driven from the job's state, like the deployments on the other side:
a restart reads the state and goes on where it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from dms.application.cause import caused_by, current_cause
from dms.application.checkpoint_receiver import CheckpointReceiver
from dms.application.device import DeviceService
from dms.application.directory import Directory
from dms.application.funding import PatientCheck, claim_of
from dms.application.messages import (
    CONTROL,
    DEPLOYMENT_REQUEST,
    FEED,
    DeploymentAnswer,
    DeploymentRequest,
    FeedItem,
    FeedRequest,
    Terminate,
    decode_answer,
    encode,
)
from dms.application.payments import payment_of
from dms.application.ports import EventLog, FundingCheck, FundingState, OutputStore, PeerNetwork, Signer
from dms.application.tasks import JobTasks, background, cancelled, patiently
from dms.domain.bounds import Unreadable, check
from dms.domain.chain import SignedRecord, check_record
from dms.domain.deployment import Deployment, Fault
from dms.domain.directory import Provider, clock_text
from dms.domain.event import Event, new_id
from dms.domain.job import FundStatus, Job, JobState, Refusal
from dms.domain.matching import REFUSALS_KEPT, Candidate, Match, rank, search
from dms.domain.payment import payment_key
from dms.domain.pricing import estimate, outcome_hashes, price_text, terms
from dms.domain.request import ServiceRequest, is_key_of, problems_of
from dms.errors import (
    Conflict,
    DmsError,
    Forbidden,
    InvalidInput,
    NoProviderMatches,
    NotFound,
    PeerMisbehaved,
    PeerSlow,
    PeerUnreachable,
    Unavailable,
)

log = logging.getLogger(__name__)

CANDIDATES_ASKED = 16
RECENT_SECONDS = 20.0  # a heartbeat comes every 10 s: a peer heard of since then needs no ping to be there
SOON_SECONDS = 2.0  # how long the others may still answer once one candidate is known to be there
PATIENCE_SECONDS = 12.0  # for all candidates together, while none is
CLOCKS_NAMED = 5  # providers whose clock is another than ours, of whom a refusal tells
REQUEST_SECONDS = 10.0
RETRY_SECONDS = (0.2, 5.0)  # first and longest pause between tries to reach a provider
UNREACHABLE_AFTER_SECONDS = 30.0
REVOKE_SECONDS = 600.0  # how long a provider that never answered is told to stop, should it have accepted


class Quote(Struct, frozen=True, kw_only=True):
    """The answer to a service request, with the fields of both generations of the original."""

    job_id: str
    compute_provider_addr: str  # where to pay: a wallet's address
    compute_provider_id: str  # peer id
    estimated_price: float
    signature: str
    oracle_message: str
    hashes: dict[str, str]


class Timeouts(Struct, frozen=True, kw_only=True):
    """All in seconds."""

    funding_window: float = 600.0
    answer: float = 30.0
    provider_grace: float = 3600.0
    funding_check: float = 600.0  # how long a payment may take to be confirmed


class Reached(NamedTuple):
    """seconds: the round trip of each peer that is there. troubles: of the others, what is wrong."""

    seconds: dict[str, float]
    troubles: dict[str, str]


class Contact:
    """How long a provider has been silent, and when to try it again. Seconds of the loop's clock."""

    def __init__(self) -> None:
        self._silent_since: float | None = None
        self._pause = RETRY_SECONDS[0]

    def heard(self) -> None:
        self._silent_since, self._pause = None, RETRY_SECONDS[0]

    def silent_seconds(self) -> float:
        """Since the first failure after it was last heard."""
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        return now - self._silent_since

    def next_pause(self) -> float:
        """Twice as long each time, with jitter so that many jobs do not knock at once."""
        pause, self._pause = self._pause, min(self._pause * 2, RETRY_SECONDS[1])
        return pause * random.uniform(0.5, 1.0)  # noqa: S311  jitter


class ServiceProvider:
    def __init__(
        self,
        log: EventLog,
        device: DeviceService,
        directory: Directory,
        network: PeerNetwork,
        outputs: OutputStore,
        signer: Signer,
        funding: FundingCheck,
        checkpoints: CheckpointReceiver,
        now: Callable[[], int],
        timeouts: Timeouts,
        default_target: str = "",
    ) -> None:
        self._log, self._device, self._directory, self._network = log, device, directory, network
        self._outputs, self._signer, self._checkpoints, self._now = outputs, signer, checkpoints, now
        self._funding = PatientCheck(funding, timeouts.funding_check, now)
        self._timeouts, self._default_target = timeouts, default_target
        self._tasks = JobTasks("job", self._drive)
        self._awaiting: dict[str, int] = {}  # job id -> expiry, in the order requested
        self._paying: dict[str, str] = {}  # payment -> the job whose funding is being checked
        self._revoking: set[asyncio.Task[None]] = set()
        self._fetched_anew: set[str] = set()
        self._pinging: dict[str, asyncio.Task[float]] = {}
        log.on_rollback(self._recount)

    async def start(self, open_jobs: Iterable[str]) -> None:
        """open_jobs: in the order requested; those that had not ended when the log was last written."""
        for job_id in open_jobs:
            job = self._log.load(Job, job_id)
            if job is None or not job.open:
                continue
            if job.state is JobState.AWAITING:
                self._awaiting[job_id] = job.expires_at
            elif job.state is JobState.FUNDING:
                self._paying[payment_key(job.tx_hash)] = job_id
            self._tasks.start(job_id)

    async def close(self) -> None:
        for task in self._revoking:
            task.cancel()
        await self._tasks.close()

    # --- the default provider ----------------------------------------------------------------------
    @property
    def default_provider(self) -> str:
        """The peer that gets the requests which name none; empty: any that fits. What a user set stands over the
        configuration's job.target_peer."""
        return self._device.state.default_provider or self._default_target

    async def set_default_provider(self, peer_id: str) -> None:
        """Raises InvalidInput with the original's texts: this node itself, not known, not online."""
        if peer_id == self._signer.peer_id:
            raise InvalidInput("peerID can not be self peerID", [("?peerID", "another peer")])
        if not self._directory.knows(peer_id):
            text = "Peer not in DHT yet.\nPlease use peerID from DHT Peers section of 'nunet peer list'"
            raise InvalidInput(text, [("?peerID", "no known compute provider")])
        reached = await self._reach([peer_id])
        if not reached.seconds:
            raise InvalidInput("Peer not online.", [("?peerID", reached.troubles.get(peer_id, "does not answer"))])
        await self._device.change_default_provider(peer_id)

    async def clear_default_provider(self) -> None:
        await self._device.change_default_provider("")

    # --- the commands ------------------------------------------------------------------------------
    async def request_service(self, request: ServiceRequest) -> Quote:
        """Raises InvalidInput (also when it can't be had for max_ntx), NoProviderMatches."""
        self._check(request)
        source = self._checkpoints.source_of(request)
        target = request.params.node_id or self.default_provider
        found = await self._match(request, target)
        reached = await self._reach([candidate.peer_id for candidate in found.candidates])
        there = [c for c in found.candidates if c.peer_id in reached.seconds]
        if not there:
            raise _nobody(found, target, reached.troubles)
        chosen = min(there, key=lambda c: rank(c, reached.seconds[c.peer_id]))
        return await self._quote(request, chosen, found, source)

    async def _match(self, request: ServiceRequest, target: str) -> Match:
        """The cheapest that can take it, and why others can't; also those whose word does not count for their clock."""
        directory, channel = self._directory, self._device.channel
        steps = search(request, directory.offers, channel, target, most=CANDIDATES_ASKED, now=self._now())
        found = await patiently(steps)
        known = {candidate.peer_id for candidate in found.candidates}
        clocks = [
            Refusal(peer_id=peer_id, reason=clock_text(behind))
            for peer_id, behind in directory.other_clocks().items()
            if (not target or peer_id == target) and peer_id not in known
        ]
        refused = (*clocks[:CLOCKS_NAMED], *found.refused)[:REFUSALS_KEPT]
        return msgspec.structs.replace(found, refused=refused, refused_count=found.refused_count + len(clocks))

    def _check(self, request: ServiceRequest) -> None:
        problems = problems_of(request) + self._strangers(request)
        if problems:
            raise InvalidInput("; ".join(text for _, text in problems), problems)
        price = estimate(request.constraints)
        if price > Decimal(str(request.max_ntx)):
            raise InvalidInput(
                f"nunet estimation price is greater than client price: {price_text(price)} NTX is estimated, "
                f"max_ntx is {request.max_ntx:g}",
                [("/max_ntx", f"at least {price_text(price)}")],
            )

    def _strangers(self, request: ServiceRequest) -> list[tuple[str, str]]:
        """Ids and keys that the request names, and which are others'."""
        params, own = request.params, self._signer.peer_id
        found: list[tuple[str, str]] = []
        if params.local_node_id not in ("", own):
            found.append(("/params/local_node_id", f"this DMS is {own}, not {params.local_node_id[:64]}"))
        if not is_key_of(params.local_public_key, self._signer.public_key(own)):
            found.append(("/params/local_public_key", "is not the public key of this DMS"))
        if params.node_id and not is_key_of(params.public_key, self._signer.public_key(params.node_id)):
            found.append(("/params/public_key", f"is not the public key of {params.node_id[:64]}"))
        return found

    async def _reach(self, peer_ids: Sequence[str]) -> Reached:
        """Which of the candidates are there, and how far. One whose kept connection was heard of needs no ping: under
        load, and over slow links, a ping of the moment says nothing. The others are asked side by side."""
        clock = asyncio.get_running_loop().time
        seconds: dict[str, float] = {}
        troubles: dict[str, str] = {}
        asked: dict[asyncio.Task[float], str] = {}
        for peer_id in peer_ids:
            heard = self._network.heard(peer_id)
            if heard is not None and heard.silent_seconds <= RECENT_SECONDS:
                seconds[peer_id] = heard.rtt_seconds
            else:
                asked[self._ping(peer_id)] = peer_id
        soon, latest = clock() + SOON_SECONDS, clock() + PATIENCE_SECONDS
        while asked and (left := (soon if seconds else latest) - clock()) > 0:
            done, _ = await asyncio.wait(asked, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                peer_id = asked.pop(task)
                try:
                    seconds[peer_id] = task.result()
                except PeerSlow as error:
                    troubles[peer_id] = f"is connected, but slow: {error}"
                except PeerUnreachable as error:
                    troubles[peer_id] = f"can't be reached: {error}"
        for peer_id in asked.values():
            troubles[peer_id] = f"did not answer within {PATIENCE_SECONDS:g} s: it may be slow, or gone"
        return Reached(seconds, troubles)

    def _ping(self, peer_id: str) -> asyncio.Task[float]:
        """Requests that come together share one ping a peer, which goes on when one of them is given up."""
        pinging = self._pinging.get(peer_id)
        if pinging is None:
            self._network.add_addresses(peer_id, self._directory.addresses_of(peer_id))
            pinging = asyncio.create_task(self._network.ping(peer_id, PATIENCE_SECONDS), name=f"ping {peer_id}")
            self._pinging[peer_id] = pinging
            pinging.add_done_callback(partial(self._pinged, peer_id))
        return pinging

    def _pinged(self, peer_id: str, pinging: asyncio.Task[float]) -> None:
        self._pinging.pop(peer_id, None)
        if not pinging.cancelled():
            pinging.exception()  # read here: nobody may be waiting any more

    async def _quote(self, request: ServiceRequest, chosen: Candidate, found: Match, source: Path | None) -> Quote:
        job = Job(new_id())
        resume = await self._checkpoints.keep(source, job.key) if source else None
        expires_at = self._now() + int(self._timeouts.funding_window * 1_000_000)
        price = price_text(chosen.price)
        job.request_service(
            request, chosen.peer_id, price, expires_at, found.refused, found.refused_count, chosen.payee, resume
        )
        self._awaiting[job.key] = expires_at
        try:
            await self._log.save(job)
        except DmsError:
            self._awaiting.pop(job.key, None)  # its task was not there to be counted
            raise
        self._tasks.start(job.key)
        message = terms(job.key, chosen.peer_id, self._signer.peer_id, chosen.price, request.constraints.time)
        return Quote(
            job_id=job.key,
            compute_provider_addr=chosen.payee or chosen.peer_id,
            compute_provider_id=chosen.peer_id,
            estimated_price=float(chosen.price),
            signature=self._signer.sign(message.encode()).hex(),
            oracle_message=message,
            hashes=outcome_hashes(message),
        )

    async def report_fund_status(self, status: FundStatus, job_id: str = "") -> str:
        """The job it was counted for. Without a job id: the latest request that awaits funding.
        Raises InvalidInput, NotFound, Conflict."""
        if not payment_key(status.tx_hash) and status.transaction_status == "success":
            raise InvalidInput(
                "tx_hash is missing: a successful payment needs the hash of its transaction",
                [("/message/tx_hash", "text expected")],
            )
        job = self._job(job_id) if job_id else self._latest_awaiting(status)
        job.report_fund_status(status)
        if job.state is not JobState.AWAITING:
            self._awaiting.pop(job.key, None)
        if job.state is JobState.FUNDING:
            self._paying.setdefault(payment_key(job.tx_hash), job.key)
        await self._log.save(job)
        self._tasks.wake(job.key)
        return job.key

    def _latest_awaiting(self, status: FundStatus) -> Job:
        """A payment reported again, in place of a new one, must not pay for an older request."""
        paid = self._paid_by(status.tx_hash)
        latest = next(reversed(self._awaiting), None)
        if paid and (latest is None or latest < paid):  # UUIDv7s sort by age
            return self._job(paid)
        if latest is None:
            raise NotFound("no request awaits funding: ask for a service first (POST /api/v1/run/request-service)")
        return self._job(latest)

    def _paid_by(self, tx_hash: str) -> str:
        """The job that a payment was reported for; empty for none."""
        key = payment_key(tx_hash)
        return (payment_of(self._log, tx_hash).job_id or self._paying.get(key, "")) if key else ""

    async def terminate(self, job_id: str, reason: str) -> None:
        """Raises NotFound; Conflict when the job is over."""
        job = self._job(job_id)
        job.request_termination(reason)
        self._awaiting.pop(job_id, None)
        await self._log.save(job)
        self._tasks.wake(job_id)

    def _job(self, job_id: str) -> Job:
        job = self._log.load(Job, job_id)
        if job is None:
            raise NotFound(f"no job {job_id} here")
        return job

    def _recount(self) -> None:
        """Rebuilds what is kept beside the jobs from the jobs themselves."""
        jobs = [job for job_id in self._tasks.jobs() if (job := self._log.load(Job, job_id)) is not None]
        self._awaiting = {job.key: job.expires_at for job in jobs if job.state is JobState.AWAITING}
        self._paying = {payment_key(job.tx_hash): job.key for job in jobs if job.state is JobState.FUNDING}

    # --- driving a job to its end ----------------------------------------------------------------------
    async def _drive(self, job_id: str) -> None:
        while (job := self._job(job_id)).open:
            with caused_by(new_id(), current_cause().traceparent):
                if job.state is JobState.AWAITING:
                    await self._await_funding(job)
                elif job.state is JobState.FUNDING:
                    await self._check_funding(job)
                elif job.provider_version == 0:
                    await self._submit(job)
                else:
                    await self._follow(job)
        self._checkpoints.forget(job_id)

    async def _await_funding(self, job: Job) -> None:
        left = (job.expires_at - self._now()) / 1_000_000
        if left > 0 and await self._tasks.changed(job.key, left):
            return
        if job.state is JobState.AWAITING and self._now() >= job.expires_at:
            self._awaiting.pop(job.key, None)
            job.expire(f"not funded within {self._timeouts.funding_window:g} s")
            await self._log.save(job)

    async def _check_funding(self, job: Job) -> None:
        if job.request is None:
            raise Conflict(f"job {job.key} has no request")
        claim = claim_of(job.key, job.request, job.tx_hash, job.price, job.payee, job.provider, self._signer.peer_id)
        decision = await self._funding.decide(claim, job.funding_until)
        verdict = decision.verdict
        job = self._job(job.key)
        if job.state is not JobState.FUNDING:
            return
        if verdict.state is FundingState.PENDING:
            job.wait_for_funding(verdict.reason, decision.until)
            await self._log.save(job)
            await self._tasks.changed(job.key, decision.pause_seconds)
            return
        key, payment = payment_key(job.tx_hash), payment_of(self._log, job.tx_hash)
        try:
            if verdict.state is FundingState.REFUSED:
                raise Conflict(verdict.reason)
            payment.use(job.key)
        except Conflict as refused:
            job.reject_funding(str(refused))
        else:
            job.accept_funding(self._funding.name, verdict.payer, verdict.units, verdict.block)
        await self._log.save(job, payment)
        if self._paying.get(key) == job.key:
            del self._paying[key]

    async def _submit(self, job: Job) -> None:
        """Asks until the provider has answered; at least once, also when we were away meanwhile."""
        self._remember_addresses(job.provider)
        message = self._deployment_request(job, await self._traceparent(job.key))
        deadline = asyncio.get_running_loop().time() + self._timeouts.answer
        pause = RETRY_SECONDS[0]
        while True:
            try:
                body = await self._network.request(job.provider, DEPLOYMENT_REQUEST, message, REQUEST_SECONDS)
                decode_answer(job.provider, body, DeploymentAnswer)
                break
            except Unavailable as error:  # also the provider's own word that it can't decide now
                if asyncio.get_running_loop().time() + pause > deadline:
                    reason = f"provider did not answer within {self._timeouts.answer:g} s: {error}"
                    return await self._give_up(job.key, reason)
            except (Forbidden, NotFound, Conflict, InvalidInput, PeerMisbehaved) as error:
                return await self._give_up(job.key, f"provider refused the request: {error}")
            if self._job(job.key).termination is not None:
                return await self._give_up(job.key, self._job(job.key).termination or "", Fault.REQUESTER)
            await self._tasks.changed(job.key, pause)
            pause = min(pause * 2, RETRY_SECONDS[1])
        return await self._follow(job)

    async def _traceparent(self, job_id: str) -> str:
        """Of who asked for the job, also after a restart."""
        first = await self._log.read(0, 1, stream=f"{Job.KIND}-{job_id}")
        return first[0].traceparent if first else ""

    def _deployment_request(self, job: Job, traceparent: str) -> bytes:
        if job.request is None:
            raise Conflict(f"job {job.key} has no request")
        own = self._signer.peer_id
        params = msgspec.structs.replace(
            job.request.params,
            node_id=job.provider,
            public_key=self._signer.public_key(job.provider),
            local_node_id=own,
            local_public_key=self._signer.public_key(own),
        )
        request = msgspec.structs.replace(job.request, params=params, tx_hash=job.tx_hash)
        message = DeploymentRequest(
            job_id=job.key,
            request=request,
            price=job.price,
            traceparent=traceparent,
            channel=self._device.channel,
            resume=job.resume,
            seal_key=self._log.seal_key(job.key).hex(),
        )
        return encode(message)

    async def _give_up(self, job_id: str, reason: str, fault: Fault = Fault.PROVIDER) -> None:
        """Ends the job without the provider's word, and tells the provider, should it come back."""
        job = self._job(job_id)
        if not job.open:
            return
        job.fail(reason, fault)
        await self._log.save(job)
        task = background(self._revoke(job.provider, job_id, reason), f"revocation of {job_id}")
        self._revoking.add(task)
        task.add_done_callback(self._revoking.discard)

    async def _revoke(self, provider: str, job_id: str, reason: str) -> None:
        deadline = asyncio.get_running_loop().time() + REVOKE_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            try:
                await self._network.request(
                    provider, CONTROL, encode(Terminate(job_id=job_id, reason=reason[:1000])), REQUEST_SECONDS
                )
            except PeerUnreachable:
                await asyncio.sleep(RETRY_SECONDS[1])
            except DmsError:
                return  # it never had the job, or has ended it
            else:
                return

    # --- following the provider ----------------------------------------------------------------------
    async def _follow(self, job: Job) -> None:
        """Takes the provider's records and lines until the job is over, over any number of cuts."""
        job_id = job.key
        self._remember_addresses(job.provider)
        telling = background(self._tell_termination(job_id), f"termination of {job_id}")
        contact = Contact()
        try:
            while (job := self._job(job_id)).open:
                try:
                    await self._take_feed(job, contact)
                except PeerUnreachable as error:
                    if await self._is_lost(job_id, contact.silent_seconds(), error):
                        return
                    await asyncio.sleep(contact.next_pause())
                except NotFound:
                    await self._give_up(job_id, "the provider no longer knows the job")
                except (Forbidden, InvalidInput, PeerMisbehaved) as error:
                    await self._give_up(job_id, f"the provider broke the protocol: {error}")
        finally:
            self._fetched_anew.discard(job_id)
            await cancelled(telling)

    async def _take_feed(self, job: Job, contact: Contact) -> None:
        job_id, provider = job.key, job.provider
        body = encode(
            FeedRequest(job_id=job_id, after=job.provider_version, log_after=await self._outputs.last(job_id))
        )
        async with contextlib.aclosing(self._network.stream(provider, FEED, body)) as frames:
            async for frame in frames:
                contact.heard()
                await self._returned(job_id)
                item = decode_answer(provider, frame, FeedItem)
                if item.lines:
                    await self._outputs.extend(job_id, item.lines)
                for record in item.records:
                    await self._take_record(job_id, provider, record)
                if not self._job(job_id).open:
                    return

    async def _take_record(self, job_id: str, provider: str, record: SignedRecord) -> None:
        check_record(record, provider, self._signer.verify)
        job = self._job(job_id)
        with caused_by(record.event_id, record.traceparent):
            if record.topic == Deployment.LogSealed.TOPIC and record.version == job.provider_version + 1:
                await self._check_output(job_id, record)
            event = self._log.open_record(record)
            _check_event(provider, event)
            is_new = record.version > job.provider_version
            try:
                job.report_from_provider(record, event)
            except PeerMisbehaved as error:
                job.provider_misbehaved(record.version, record.topic, str(error))
                await self._log.save(job)
                raise
            if is_new and isinstance(event, Deployment.CheckpointSaved):
                self._checkpoints.offer(job, event)
            await self._log.save(job)
        if is_new and isinstance(event, Deployment.CheckpointSaved):
            self._checkpoints.fetch(job_id)

    async def _check_output(self, job_id: str, record: SignedRecord) -> None:
        """What we hold must be what the provider sealed. When it is not, it is fetched anew, once."""
        claimed = self._log.open_record(record)
        ours = await self._outputs.seal(job_id)
        if not isinstance(claimed, Deployment.LogSealed) or (ours.truncated and not claimed.truncated):
            return  # of a newer version; or our own limit is lower than the provider's
        if (ours.lines, ours.sha256) == (claimed.lines, claimed.sha256):
            return
        if job_id in self._fetched_anew:
            raise PeerMisbehaved("the output does not match what it sealed")
        self._fetched_anew.add(job_id)
        await self._outputs.drop(job_id)
        raise PeerUnreachable(f"the output of job {job_id} differs from what was sealed; it is fetched anew")

    async def _returned(self, job_id: str) -> None:
        job = self._job(job_id)
        if job.provider_returned():
            await self._log.save(job)

    async def _is_lost(self, job_id: str, silent_seconds: float, error: PeerUnreachable) -> bool:
        """Marks the job after half a minute, gives it up after the grace."""
        job = self._job(job_id)
        if silent_seconds >= UNREACHABLE_AFTER_SECONDS and job.provider_unreachable(str(error)):
            await self._log.save(job)
        if silent_seconds < self._timeouts.provider_grace:
            return False
        await self._give_up(job_id, f"provider lost: not reachable for {self._timeouts.provider_grace:g} s")
        return True

    async def _tell_termination(self, job_id: str) -> None:
        """Carries a termination to the provider, as often as it takes."""
        while True:
            job = self._job(job_id)
            if not job.open:
                return
            if job.termination is None:
                await self._tasks.changed(job_id)
                continue
            body = encode(Terminate(job_id=job_id, reason=job.termination[:1000]))
            try:
                await self._network.request(job.provider, CONTROL, body, REQUEST_SECONDS)
                return
            except PeerUnreachable:
                await asyncio.sleep(RETRY_SECONDS[1])
            except DmsError as refused:
                log.warning("job %s: the provider does not stop it: %s", job_id, refused)
                return

    def _remember_addresses(self, peer_id: str) -> None:
        """After a restart the log knows where the provider was, before the network tells."""
        provider = self._log.load(Provider, peer_id)
        if provider is not None and provider.addresses:
            self._network.add_addresses(peer_id, provider.addresses)


def _check_event(provider: str, event: Event) -> None:
    """Raises PeerMisbehaved on a value that is out of any sane range."""
    try:
        check(event)
    except Unreadable as error:
        raise PeerMisbehaved(f"{provider} sent an event {event.TOPIC} out of bounds: {error}") from error


def _nobody(found: Match, target: str, troubles: Mapping[str, str]) -> NoProviderMatches:
    refusals = {refusal.peer_id: refusal.reason for refusal in found.refused} | dict(troubles)
    if target and not refusals:
        return NoProviderMatches(f"no peers found with matched specs: targeted peer {target} is not known", {})
    reasons = "; ".join(f"{peer_id} {reason}" for peer_id, reason in refusals.items())
    left_out = found.refused_count - len(found.refused)
    if left_out > 0:
        reasons += f"; and {left_out} more"
    return NoProviderMatches(
        f"no peers found with matched specs: {reasons or 'no compute provider is known on this channel'}", refusals
    )
