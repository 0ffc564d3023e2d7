"""The service provider's side: what is decided about jobs, for the users of this node.

Each command loads, decides, saves and answers. What follows from it (the check of the payment, the request to the
provider, the following of the deployment) is done by the reactors, which the log wakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver, DropResumes, FetchCheckpoints
from dms.application.device.device import DeviceService
from dms.application.files.user_files import Reach
from dms.application.inputs.own_inputs import OwnInputs
from dms.application.jobs.follow_deployments import FollowDeployments
from dms.application.jobs.fund_jobs import CheckFunding, ExpireUnfunded
from dms.application.jobs.job_index import JobIndex
from dms.application.jobs.preflight import Placed, Preflight, Wanted
from dms.application.jobs.provider_search import Found, ProviderSearch
from dms.application.jobs.request_check import NO_FINDINGS, Problems, ReadingFindings, RequestCheck
from dms.application.jobs.retry_jobs import RetryJobs
from dms.application.jobs.submission import Submission
from dms.application.jobs.tell_providers import RevokeDeployments, StopDeployments
from dms.application.network.budgets import Budgets
from dms.application.network.directory import Directory
from dms.application.payments.funding import PatientCheck
from dms.application.payments.payments import payment_of
from dms.application.ports.event_log import EventLog
from dms.application.ports.funding import FundingCheck
from dms.application.ports.outputs import OutputStore
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.application.reactors import Reactor
from dms.application.results.results_receiver import FetchResults, ResultsReceiver
from dms.application.secret_environment import seal_secrets
from dms.domain.checkpoint import ResumeFrom
from dms.domain.job import FundStatus, Job
from dms.domain.matching import Match
from dms.domain.payment import payment_key
from dms.domain.pricing import outcome_hashes, price_text, terms
from dms.domain.request import ServiceRequest, settled
from dms.domain.run_time import Instant
from dms.errors import InvalidInput, NotFound, TooMany

SUBMISSION_SECONDS = 60  # from the report of a payment until its job is with the provider


class Quote(Struct, frozen=True, kw_only=True):
    """The answer to a service request, with the fields of both generations of the original."""

    job_id: str
    compute_provider_addr: str  # where to pay: a wallet's address
    compute_provider_id: str  # peer id
    estimated_price: float
    signature: str
    oracle_message: str
    hashes: dict[str, str]
    attempts: int = 1  # how many times the job is tried on the one payment
    held_until: int = 0  # Unix time in microseconds: the provider keeps the place so long; 0: not at all
    warnings: Problems = ()


class Timeouts(Struct, frozen=True, kw_only=True):
    """All in seconds."""

    funding_window: float = 600.0
    answer: float = 30.0
    provider_grace: float = 3600.0
    funding_check: float = 600.0  # how long a payment may take to be confirmed
    next_provider: float = 600.0  # how long another provider is looked for when an attempt has failed


class ServiceProvider:
    """reactors: do what follows from the jobs' events, started once for the daemon (see `Reactors`)."""

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
        results: ResultsReceiver,
        inputs: OwnInputs,
        now: Callable[[], int],
        clock: Callable[[], Instant],
        timeouts: Timeouts,
        budgets: Budgets,
        default_target: str = "",
        most_unpaid: int = 100,
    ) -> None:
        """now: Unix time in microseconds. clock: of this machine. most_unpaid: jobs of one client that await their
        payment; the operator's own are not counted."""
        self._log, self._device, self._directory, self._clock = log, device, directory, clock
        self._signer, self._checkpoints, self._inputs, self._now = signer, checkpoints, inputs, now
        self._timeouts, self._default_target, self._most_unpaid = timeouts, default_target, most_unpaid
        self._index = JobIndex(log)
        self._checking = RequestCheck(signer, funding.blockchain)
        self._search = ProviderSearch(directory, device, network, funding.blockchain)
        self._preflight = Preflight(network, device, signer)
        self._carries = funding.carries
        submission = Submission(log, device, network, signer, timeouts.answer)
        self.reactors: Sequence[Reactor[Any]] = (
            ExpireUnfunded(log, now, timeouts.funding_window),
            CheckFunding(log, signer, PatientCheck(funding, timeouts.funding_check, now), clock),
            FollowDeployments(
                log, network, outputs, signer, checkpoints, results, submission, timeouts.provider_grace, clock, budgets
            ),
            StopDeployments(network),
            RevokeDeployments(log, network, now),
            FetchCheckpoints(checkpoints),
            FetchResults(results),
            DropResumes(checkpoints),
            RetryJobs(
                log,
                outputs,
                checkpoints,
                self._search,
                self._preflight,
                lambda: self.default_provider,
                timeouts.next_provider,
                clock,
            ),
        )

    def serve(self) -> None:
        """Gives providers the files of this machine that our jobs have as inputs."""
        self._inputs.serve()

    def take_up(self, open_jobs: Iterable[str]) -> None:
        """Their payments are known from the first moment. open_jobs: those that had not ended when the log was last
        written."""
        self._index.take_up(open_jobs)

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
        reached = await self._search.reach([peer_id])
        if not reached.seconds:
            raise InvalidInput("Peer not online.", [("?peerID", reached.troubles.get(peer_id, "does not answer"))])
        await self._device.change_default_provider(peer_id)

    async def clear_default_provider(self) -> None:
        await self._device.change_default_provider("")

    # --- the commands ------------------------------------------------------------------------------
    async def request_service(
        self,
        request: ServiceRequest,
        findings: ReadingFindings = NO_FINDINGS,
        *,
        reach: Reach = Reach.NONE,
        client: str = "",
    ) -> Quote:
        """findings: of when it was read. reach: which files of this machine may be inputs. client: whose the job will
        be. Raises InvalidInput (also when it can't be had for max_ntx), Forbidden, NoProviderMatches, TooMany."""
        self._checking.check(request, findings)
        self._check_share(client)
        request = settled(request)
        source = self._source_of(request, client)
        request = await self._inputs.measured(request, reach)
        found = await self._find(request)
        resume = await self._checkpoints.described(source) if source else None
        seconds = int(self._timeouts.funding_window) + SUBMISSION_SECONDS
        placed = await self._preflight.place(Wanted(request, resume, seconds), found, self._target(request))
        job = Job(placed.job_id)
        resume = await self._checkpoints.keep(source, job.key) if source else None
        return await self._quote(job, request, placed, found.match, resume, client)

    async def try_out(
        self,
        request: ServiceRequest,
        findings: ReadingFindings = NO_FINDINGS,
        *,
        reach: Reach = Reach.NONE,
        client: str = "",
    ) -> Found:
        """Who would get it just now; nothing is recorded, and nothing promised. Raises as `request_service` does."""
        self._checking.check(request, findings)
        request = settled(request)
        source = self._source_of(request, client)
        request = await self._inputs.measured(request, reach)
        found = await self._find(request)
        resume = await self._checkpoints.described(source) if source else None
        placed = await self._preflight.place(Wanted(request, resume), found, self._target(request))
        others = [one for one in found.there if one != placed.candidate]
        return found._replace(there=[placed.candidate, *others], match=placed.recorded_with(found.match))

    def _check_share(self, client: str) -> None:
        """Raises TooMany."""
        if client and self._index.awaiting(client) >= self._most_unpaid:
            raise TooMany(
                f"{self._most_unpaid} jobs of {client} await their payment already: pay for them, stop them, or wait "
                "until they expire"
            )

    def _source_of(self, request: ServiceRequest, client: str) -> Path | None:
        """The checkpoint that the request goes on from, which a client has of its own jobs alone. Raises
        InvalidInput."""
        source = self._checkpoints.source_of(request)
        if source is not None and client:
            of = self._log.load(Job, self._checkpoints.job_of(source))
            if of is None or of.client != client:
                what = f"there is no checkpoint {source.name} of a job of yours"
                raise InvalidInput(what, [("/params/resume_job/progress_file", what)])
        return source

    async def _find(self, request: ServiceRequest) -> Found:
        return await self._search.find(request, self._target(request))

    def _target(self, request: ServiceRequest) -> str:
        """The only peer that may get it; empty for any."""
        return request.params.node_id or self.default_provider

    async def _quote(
        self,
        job: Job,
        request: ServiceRequest,
        placed: Placed,
        found: Match,
        resume: ResumeFrom | None,
        client: str,
    ) -> Quote:
        chosen, match, now = placed.candidate, placed.recorded_with(found), self._now()
        expires_at = now + int(self._timeouts.funding_window * 1_000_000)
        request = seal_secrets(self._log, job.key, request)
        price = price_text(chosen.price)
        attempts = request.max_attempts if self._carries else 1
        job.request_service(
            request, chosen.peer_id, price, expires_at, match.refused, match.refused_count, chosen.payee, resume,
            attempts, client,
        )  # fmt: skip
        await self._log.save(job)
        message = terms(job.key, chosen.peer_id, self._signer.peer_id, chosen.price, request.constraints.time)
        return Quote(
            job_id=job.key,
            compute_provider_addr=chosen.payee or chosen.peer_id,
            compute_provider_id=chosen.peer_id,
            estimated_price=float(chosen.price),
            signature=self._signer.sign(message.encode()).hex(),
            oracle_message=message,
            hashes=outcome_hashes(message),
            held_until=now + placed.hold_seconds * 1_000_000 if placed.hold_seconds else 0,
            warnings=[("", placed.doubt)] if placed.doubt else (),
            attempts=attempts,
        )

    async def report_fund_status(self, status: FundStatus, job_id: str = "", client: str = "") -> str:
        """The job it was counted for. Without a job id: the latest request of the client that awaits funding.
        Raises InvalidInput, NotFound, Conflict."""
        if not payment_key(status.tx_hash) and status.transaction_status == "success":
            raise InvalidInput(
                "tx_hash is missing: a successful payment needs the hash of its transaction",
                [("/message/tx_hash", "text expected")],
            )
        job = self._job(job_id) if job_id else self._latest_awaiting(status, client)
        job.report_fund_status(status)
        await self._log.save(job)
        return job.key

    def _latest_awaiting(self, status: FundStatus, client: str) -> Job:
        """A payment reported again must not pay for an older request (UUIDv7s sort by age), nor end a newer one while
        its own job is still open."""
        paid = self._log.load(Job, self._paid_by(status.tx_hash))  # what peers paid with is none of the client's
        latest = self._index.latest_awaiting(client)
        if paid is not None and paid.client == client and (paid.open or latest < paid.key):
            return paid
        if not latest:
            raise NotFound("no request awaits funding: ask for a service first (POST /api/v1/run/request-service)")
        return self._job(latest)

    def _paid_by(self, tx_hash: str) -> str:
        """The job that a payment was reported for; empty for none."""
        key = payment_key(tx_hash)
        return (payment_of(self._log, tx_hash).job_id or self._index.checked_for(key)) if key else ""

    async def terminate(self, job_id: str, reason: str) -> None:
        """Raises NotFound; Conflict when the job is over."""
        job = self._job(job_id)
        job.request_termination(reason, self._clock())
        await self._log.save(job)

    def _job(self, job_id: str) -> Job:
        job = self._log.load(Job, job_id)
        if job is None:
            raise NotFound(f"no job {job_id} here")
        return job
