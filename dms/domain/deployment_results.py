"""What a deployment gives back: archived at its end, fetched by the service provider, deleted."""

from __future__ import annotations

from abc import abstractmethod

from dms.domain.aggregate import Aggregate, applies
from dms.domain.deployment_events import DeploymentEvents
from dms.domain.reward import Fault


class DeploymentResults(DeploymentEvents, Aggregate):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.log_sealed = False  # all that follows is the end itself
        self.results: DeploymentEvents.ResultsSaved | None = None
        self.results_trouble = ""  # why there are none
        self.results_fault = Fault.NONE
        self.results_delivered = self.results_deleted = False

    @property
    @abstractmethod
    def ended(self) -> bool: ...

    @property
    def results_settled(self) -> bool:
        """Whether it is known what became of them."""
        return self.results is not None or bool(self.results_trouble)

    @property
    def results_here(self) -> bool:
        """Whether the archive is kept."""
        return self.results is not None and not self.results_deleted

    def save_results(
        self, name: str, size_bytes: int, sha256: str, saved_at: int, files: int = 0, skipped: int = 0
    ) -> bool:
        """Whether that is news. saved_at: Unix time in microseconds."""
        if self.ended or self.log_sealed or self.results_settled:
            return False
        self.trigger(
            self.ResultsSaved(
                name=name, size_bytes=size_bytes, sha256=sha256, saved_at=saved_at, files=files, skipped=skipped
            )
        )
        return True

    def skip_results(self, reason: str, fault: Fault) -> bool:
        """Whether that is news."""
        if self.ended or self.log_sealed or self.results_settled:
            return False
        self.trigger(self.ResultsSkipped(reason=reason, fault=fault))
        return True

    def deliver_results(self, sha256: str) -> bool:
        """Whether these are the ones, and were not known to be there."""
        if self.results is None or self.results.sha256 != sha256 or self.results_delivered:
            return False
        self.trigger(self.ResultsDelivered())
        return True

    def delete_results(self, reason: str) -> bool:
        """Whether that is news. reason: "delivered" or "expired"."""
        if not self.results_here:
            return False
        self.trigger(self.ResultsDeleted(reason=reason))
        return True

    @applies(DeploymentEvents.ResultsSaved)
    def _results_saved(self, event: DeploymentEvents.ResultsSaved) -> None:
        self.results = event

    @applies(DeploymentEvents.ResultsSkipped)
    def _results_skipped(self, event: DeploymentEvents.ResultsSkipped) -> None:
        self.results_trouble, self.results_fault = event.reason, event.fault

    @applies(DeploymentEvents.ResultsDelivered)
    def _results_delivered(self, _: DeploymentEvents.ResultsDelivered) -> None:
        self.results_delivered = True

    @applies(DeploymentEvents.ResultsDeleted)
    def _results_deleted(self, _: DeploymentEvents.ResultsDeleted) -> None:
        self.results_deleted = True

    @applies(DeploymentEvents.LogSealed)
    def _log_sealed(self, _: DeploymentEvents.LogSealed) -> None:
        self.log_sealed = True
