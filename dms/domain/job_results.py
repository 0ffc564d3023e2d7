"""What a job gives back, as its service provider sees it: offered by the provider, fetched, kept for a while."""

from __future__ import annotations

from dms.domain.aggregate import applies
from dms.domain.checkpoint import is_sha256
from dms.domain.deployment_events import DeploymentEvents
from dms.domain.job_checkpoints import CheckpointedJob
from dms.domain.job_events import JobEvents
from dms.errors import PeerMisbehaved


class JobResults(CheckpointedJob):
    """The part of a job that its results take part in: those of its newest attempt."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.results_offered: JobEvents.ResultsOffered | None = None
        self.results_received: JobEvents.ResultsReceived | None = None
        self.results_loss = ""  # why there are none to be had
        self.results_removed = False
        self.log_is_sealed = False  # the provider has told all but the end

    @property
    def results_wanted(self) -> JobEvents.ResultsOffered | None:
        """While they are to be fetched; also after the job's end."""
        settled = self.results_received is not None or self.results_loss
        return None if settled else self.results_offered

    def offer_results(self, saved: DeploymentEvents.ResultsSaved, fetch_until: int, max_bytes: int) -> None:
        """What the provider has archived. Raises PeerMisbehaved where that makes no sense. max_bytes: larger ones are
        not fetched."""
        if not self.open:
            return
        check_results(self.key, saved)
        offered = self.ResultsOffered(
            name=saved.name[:255],
            size_bytes=saved.size_bytes,
            sha256=saved.sha256,
            saved_at=saved.saved_at,
            fetch_until=fetch_until,
            files=saved.files,
            skipped=saved.skipped,
        )
        self.trigger(offered)
        if saved.size_bytes > max_bytes:
            reason = f"they have {saved.size_bytes / 2**20:.0f} MiB, more than job.results_max_mb allows"
            self.lose_results(offered, reason)

    def results_are_here(self, offered: JobEvents.ResultsOffered, name: str, received_at: int) -> bool:
        """Whether they were waited for; those of another attempt may be by now. received_at: Unix time in
        microseconds."""
        if self.results_wanted != offered:
            return False
        self.trigger(
            self.ResultsReceived(
                name=name, size_bytes=offered.size_bytes, sha256=offered.sha256, received_at=received_at
            )
        )
        return True

    def lose_results(self, offered: JobEvents.ResultsOffered, reason: str) -> bool:
        """Whether they were waited for."""
        if self.results_wanted != offered:
            return False
        self.trigger(self.ResultsLost(reason=reason))
        return True

    def begin_results_anew(self) -> None:
        """Of an attempt."""
        self.results_offered = self.results_received = None
        self.results_loss, self.log_is_sealed = "", False

    def remove_results(self, reason: str) -> bool:
        """Whether they were here."""
        if self.results_received is None or self.results_removed or self.open:
            return False
        self.trigger(self.ResultsRemoved(reason=reason))
        return True

    @applies(JobEvents.LogSealed)
    def _log_sealed(self, _: JobEvents.LogSealed) -> None:
        self.log_is_sealed = True

    @applies(JobEvents.ResultsOffered)
    def _results_offered(self, event: JobEvents.ResultsOffered) -> None:
        self.results_offered = event

    @applies(JobEvents.ResultsReceived)
    def _results_received(self, event: JobEvents.ResultsReceived) -> None:
        self.results_received = event

    @applies(JobEvents.ResultsLost)
    def _results_lost(self, event: JobEvents.ResultsLost) -> None:
        self.results_loss = event.reason

    @applies(JobEvents.ResultsRemoved)
    def _results_removed(self, _: JobEvents.ResultsRemoved) -> None:
        self.results_removed = True


def check_results(job_id: str, saved: DeploymentEvents.ResultsSaved) -> None:
    """Raises PeerMisbehaved when what the provider says that it has archived makes no sense."""
    if saved.size_bytes <= 0 or not is_sha256(saved.sha256):
        raise PeerMisbehaved(f"job {job_id}: its results have no valid size or digest")
