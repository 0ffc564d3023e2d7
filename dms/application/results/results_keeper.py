"""Results on the compute provider: archived when a job's container is over, given to their owner, deleted.

They are archived before the end is recorded and before the container and its workspace are removed, so the record of
the end comes behind the digest of what is given back. Nobody's fetching is waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from dms.application.checkpoints.checkpoint_keeper import Packed, packed_in_the_end
from dms.application.deadlines import Deadlines
from dms.application.deployments.ownership import deployment_of
from dms.application.files.file_exchange import FileExchange
from dms.application.files.file_parts import open_regular, opened
from dms.application.loops import Loop, Loops
from dms.application.network.messages import RESULTS, ResultsNote, ResultsNoted, decode_request, encode
from dms.application.payments.funding import request_of
from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Executor, PackedWorkspace
from dms.application.ports.peers import PeerNetwork
from dms.application.reactors import News, Reactor
from dms.application.results.result_files import ResultFiles
from dms.application.unread import stays_if_unread
from dms.domain.deployment import Deployment
from dms.domain.features import needs_workspace
from dms.domain.results import Selection
from dms.domain.reward import Fault
from dms.errors import ArchiveRefused, ExecutionError, ExecutorUnavailable

log = logging.getLogger(__name__)

KIND = "results"
TIDY_SECONDS = 3600.0


class ResultLimits(Struct, frozen=True, kw_only=True):
    """max_bytes: of content. keep_seconds: how long results that nobody fetches are kept."""

    max_bytes: int = 2**32
    keep_seconds: float = 3 * 86_400.0


class ResultsKeeper:
    def __init__(
        self,
        log: EventLog,
        executor: Executor,
        files: ResultFiles,
        exchange: FileExchange,
        now: Callable[[], int],
        limits: ResultLimits,
        loops: Loops | None = None,
    ) -> None:
        """now: Unix time in microseconds."""
        self._log, self._executor, self._files, self._exchange = log, executor, files, exchange
        self._now, self._limits = now, limits
        self._expiries = Deadlines(now, limits.keep_seconds)  # by job
        self._loops = loops or Loops()
        self._tidying: Loop | None = None

    def serve(self, network: PeerNetwork) -> None:
        self._exchange.serve(KIND, self._may_read, self._resolve)
        network.serve_request(RESULTS, self._on_note)

    def start(self) -> None:
        rest = min(TIDY_SECONDS, self._limits.keep_seconds)
        self._tidying = self._loops.every(rest, "tidying of results", self._tidy)

    async def close(self) -> None:
        if self._tidying is not None:
            await self._tidying.close()

    # --- making ---------------------------------------------------------------------------------
    async def save(self, job_id: str) -> Packed | None:
        """Of a job that was started and does not run any more: what was archived, if anything. Never holds its end up
        for long: what can't be saved is recorded as such."""
        deployment = self._log.load(Deployment, job_id)
        if deployment is None or deployment.results_settled:
            return None
        request, target = request_of(deployment), self._files.created(job_id)
        selection = Selection(
            patterns=request.params.results, inputs=tuple(each.place for each in request.params.inputs)
        )

        def pack() -> Awaitable[PackedWorkspace | None]:
            return self._executor.pack(job_id, target, self._limits.max_bytes, "", selection)

        try:
            packed = await packed_in_the_end(pack, f"results of job {job_id}")
        except ArchiveRefused as error:
            await self._skip(job_id, str(error), Fault.REQUESTER)
            return None
        except (ExecutionError, ExecutorUnavailable) as error:
            await self._skip(job_id, str(error), Fault.PROVIDER)
            return None
        if packed is None:
            await self._tell_trouble(job_id, needed=needs_workspace(request))
            return None
        saved_at = self._now()
        await self._record(
            job_id,
            lambda deployment: deployment.save_results(
                target.name, packed.size_bytes, packed.sha256, saved_at, packed.files, packed.skipped
            ),
        )
        self._expiries.begin(job_id)
        return Packed(archive=target, packed=packed)

    async def _tell_trouble(self, job_id: str, *, needed: bool) -> None:
        """Nothing is there: because the job left nothing, or because nobody could see it."""
        try:
            trouble = await self._executor.workspace_trouble()
        except ExecutorUnavailable as error:
            trouble = str(error)
        if trouble:
            fault = Fault.PROVIDER if needed else Fault.NONE
            await self._skip(job_id, f"this provider can't read what a job leaves: {trouble}", fault)

    async def _skip(self, job_id: str, reason: str, fault: Fault) -> None:
        log.warning("no results of job %s: %s", job_id, reason, extra={"job_id": job_id})
        await self._record(job_id, lambda deployment: deployment.skip_results(reason, fault))

    async def _record(self, job_id: str, decide: Callable[[Deployment], bool]) -> None:
        deployment = self._log.load(Deployment, job_id)
        if deployment is not None and decide(deployment):
            await self._log.save(deployment)

    # --- giving ---------------------------------------------------------------------------------
    def _may_read(self, peer_id: str, job_id: str) -> bool:
        deployment = self._log.load(Deployment, job_id)
        return deployment is not None and deployment.service_provider == peer_id and deployment.results_here

    async def _resolve(self, _peer_id: str, job_id: str) -> int | None:
        return await opened(open_regular, self._files.created(job_id))

    async def _on_note(self, peer_id: str, body: bytes) -> bytes:
        note = decode_request(body, ResultsNote)
        deployment = deployment_of(self._log, note.job_id, peer_id)
        deployment.deliver_results(note.sha256)
        await self._log.save(deployment)
        return encode(ResultsNoted(known=deployment.results_delivered))

    # --- deleting -------------------------------------------------------------------------------
    async def delete(self, job_id: str, reason: str) -> None:
        """The event first: a file that should be gone is found again by the next tidying."""
        await self._record(job_id, lambda deployment: deployment.delete_results(reason))
        self._expiries.forget(job_id)
        self._files.drop(self._files.created(job_id))

    async def _tidy(self) -> None:
        """Deletes what nobody fetched for too long, and what a crash left."""
        for job_id, path, changed in self._files.list_created():
            with stays_if_unread(str(path)):
                await self._tidy_one(job_id, path, changed)

    async def _tidy_one(self, job_id: str, path: Path, changed: float) -> None:
        deployment = self._log.load(Deployment, job_id)
        if deployment is None or (deployment.ended and not deployment.results_here):
            self._files.drop(path)
        elif is_delivered(deployment):
            await self.delete(job_id, "delivered")
        elif deployment.ended and self._expiries.left_seconds(job_id, self._expires_at(changed)) < 0:
            await self.delete(job_id, "expired")

    def _expires_at(self, changed: float) -> int:
        """Unix time in microseconds. changed: when the archive was, in seconds."""
        return int((changed + self._limits.keep_seconds) * 1_000_000)


def is_delivered(deployment: Deployment) -> bool:
    """Whether the owner of a job that is over has its results, and they are still here."""
    return deployment.ended and deployment.results_delivered and deployment.results_here


class DeleteResults(Reactor[Deployment]):
    """Of jobs that are over, once their owners have them."""

    name = "deletion of results"
    kind = Deployment
    topics = (
        Deployment.ResultsDelivered.TOPIC, Deployment.ContainerExited.TOPIC, Deployment.Failed.TOPIC,
        Deployment.Stopped.TOPIC,
    )  # fmt: skip

    def __init__(self, keeper: ResultsKeeper) -> None:
        self._keeper = keeper

    def due(self, aggregate: Deployment) -> bool:
        return is_delivered(aggregate)

    async def react(self, aggregate: Deployment, news: News) -> None:
        await self._keeper.delete(aggregate.key, "delivered")

    async def give_up(self, aggregate: Deployment, error: Exception) -> None:
        """They stay until their time is over: see ResultsKeeper."""
