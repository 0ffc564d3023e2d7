"""What a deployment records of its inputs."""

from __future__ import annotations

from dms.domain.aggregate import applies
from dms.domain.deployment_events import DeploymentEvents
from dms.domain.deployment_rules import DeploymentState
from dms.domain.paid_work import PaidWork


class DeploymentInputs(DeploymentEvents, PaidWork):
    """The part of Deployment that is about inputs."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.inputs_started: set[int] = set()
        self.inputs: dict[int, DeploymentEvents.InputDone] = {}

    def input_started(self, number: int, path: str) -> bool:
        """Whether that is news, and still to be told."""
        if self.life.state is not DeploymentState.ACCEPTED or number in self.inputs_started:
            return False
        self.trigger(self.InputStarted(number=number, path=path))
        return True

    def input_done(self, number: int, path: str, size_bytes: int, sha256: str, *, cached: bool) -> bool:
        """Whether that is news, and still to be told."""
        if self.life.state is not DeploymentState.ACCEPTED or number in self.inputs:
            return False
        self.trigger(self.InputDone(number=number, path=path, size_bytes=size_bytes, sha256=sha256, cached=cached))
        return True

    def input_failed(self, number: int, path: str, reason: str) -> bool:
        """Whether it is still to be told."""
        if self.life.state is not DeploymentState.ACCEPTED:
            return False
        self.trigger(self.InputFailed(number=number, path=path, reason=reason))
        return True

    @applies(DeploymentEvents.InputStarted)
    def _input_started(self, event: DeploymentEvents.InputStarted) -> None:
        self.inputs_started.add(event.number)

    @applies(DeploymentEvents.InputDone)
    def _input_done(self, event: DeploymentEvents.InputDone) -> None:
        self.inputs[event.number] = event
