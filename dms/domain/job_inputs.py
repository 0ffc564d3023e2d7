"""What a job records of its inputs, as its provider tells of them."""

from __future__ import annotations

from dms.domain.aggregate import applies
from dms.domain.checkpoint import is_sha256
from dms.domain.deployment_events import DeploymentEvents
from dms.domain.event import Event
from dms.domain.job_checkpoints import CheckpointedJob
from dms.domain.job_events import JobEvents


class JobInputs(CheckpointedJob):
    """The part of Job that is about inputs."""

    def problem_of_input(self, event: Event) -> str:
        """What is wrong with what the provider says of an input; empty for nothing, and for other events. Each is told
        once: a provider can't fill our log with them."""
        if not isinstance(
            event, DeploymentEvents.InputStarted | DeploymentEvents.InputDone | DeploymentEvents.InputFailed
        ):
            return ""
        inputs = self.request.params.inputs if self.request else ()
        if not 1 <= event.number <= len(inputs) or event.path != inputs[event.number - 1].place:
            return f"there is no input {event.number} at {event.path[:100]!r}"
        if (event.TOPIC, event.number) in self.attempt.inputs_told:
            return f"{event.TOPIC} of input {event.number} was told before"
        if isinstance(event, DeploymentEvents.InputDone) and not is_sha256(event.sha256):
            return f"input {event.number} has no valid digest"
        return ""

    @applies(JobEvents.InputStarted)
    def _input_started(self, event: JobEvents.InputStarted) -> None:
        self.attempt.inputs_told.add((DeploymentEvents.InputStarted.TOPIC, event.number))

    @applies(JobEvents.InputDone)
    def _input_done(self, event: JobEvents.InputDone) -> None:
        self.attempt.inputs_told.add((DeploymentEvents.InputDone.TOPIC, event.number))

    @applies(JobEvents.InputFailed)
    def _input_failed(self, event: JobEvents.InputFailed) -> None:
        self.attempt.inputs_told.add((DeploymentEvents.InputFailed.TOPIC, event.number))
