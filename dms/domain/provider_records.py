"""What a record of the provider's deployment means for the job that it runs."""

from __future__ import annotations

import signal

from dms.domain.deployment import Deployment
from dms.domain.deployment_rules import ENDS
from dms.domain.event import Event, Unknown
from dms.domain.job_events import JobEvents
from dms.domain.reward import Fault
from dms.domain.rules import kind_of

LAST_SIGNAL = 64  # of Linux: a greater exit code is just what the program said
UNREADABLE_END = "the provider ended it in a way that only a newer version of this program can read"


def consequences(event: Event, *, ran: bool) -> tuple[Event, ...]:
    """The job's own events that follow at once. ran: whether the provider had recorded the start of the container:
    without one there is no run to be paid for."""
    match event:
        case Deployment.FundingPending():
            reason = f"the provider checks the payment: {event.reason}"
            return (JobEvents.FundingPending(reason=reason, until=event.until),)
        case Deployment.Rejected():
            return (
                JobEvents.DeploymentResponded(success=False, content=event.reason),
                JobEvents.Failed(reason=event.reason, fault=event.fault),
            )
        case Deployment.InputStarted():
            return (JobEvents.InputStarted(number=event.number, path=event.path),)
        case Deployment.InputDone():
            return (
                JobEvents.InputDone(
                    number=event.number,
                    path=event.path,
                    size_bytes=event.size_bytes,
                    sha256=event.sha256,
                    cached=event.cached,
                ),
            )
        case Deployment.InputFailed():
            return (JobEvents.InputFailed(number=event.number, path=event.path, reason=event.reason),)
        case Deployment.LogSealed():
            return (JobEvents.LogSealed(lines=event.lines, sha256=event.sha256, truncated=event.truncated),)
        case Deployment.ResultsSkipped():
            return (JobEvents.ResultsLost(reason=event.reason),)
        case Deployment.ContainerExited():
            return (_exited(event),)
        case Deployment.Failed() | Deployment.Stopped():
            return (
                JobEvents.Failed(
                    reason=event.reason,
                    fault=event.fault,
                    exit_code=event.exit_code,
                    duration_seconds=event.duration_seconds if ran else 0.0,
                ),
            )
        case Unknown() if kind_of(event) in ENDS:
            return (JobEvents.Failed(reason=UNREADABLE_END, fault=Fault.NONE),)
    if kind_of(event) is Deployment.ContainerStarted:
        return (JobEvents.DeploymentResponded(success=True, content=""),)
    return ()


def _exited(event: Deployment.ContainerExited) -> Event:
    if event.exit_code == 0 and not event.oom_killed:
        return JobEvents.Completed(duration_seconds=event.duration_seconds)
    return JobEvents.Failed(
        reason=exit_reason(event),
        fault=Fault.JOB,
        exit_code=event.exit_code,
        duration_seconds=event.duration_seconds,
    )


def exit_reason(event: Deployment.ContainerExited) -> str:
    """Why the container counts as failed, for its owner; begins as the original's text does."""
    if event.oom_killed:
        return f"finished with errors: out of memory, killed by the memory limit (exit code {event.exit_code})"
    if 0 < event.exit_code - 128 <= LAST_SIGNAL:
        hint = ", as a program is that runs out of memory" if event.exit_code == 128 + signal.SIGKILL else ""
        return f"finished with errors: exit code {event.exit_code} (killed by signal {event.exit_code - 128}{hint})"
    return f"finished with errors: exit code {event.exit_code}"
