"""The life of a job as its service provider sees it: its states, and what may follow what."""

from __future__ import annotations

from enum import StrEnum

from dms.domain.event import Event
from dms.domain.job_events import JobEvents as Events
from dms.domain.rules import Next, Rules, once


class JobState(StrEnum):
    NEW = "new"  # nothing recorded yet
    AWAITING = "awaiting"  # quoted; its funding is not reported yet
    FUNDING = "funding"  # reported as paid; the funding check has not answered yet
    FUNDED = "funded"  # paid; its submission follows at once
    SUBMITTED = "submitted"  # paid; the provider has not started the container yet
    REFUSED = "refused"  # by the funding check or by the provider; its failure follows at once
    RUNNING = "running"  # the container was started
    RETRYING = "retrying"  # an attempt failed; the next one is being arranged
    COMPLETED = "completed"  # exit code 0
    FAILED = "failed"  # anything else that ended it
    EXPIRED = "expired"  # never funded in time


NEW, AWAITING, FUNDING, FUNDED, SUBMITTED, REFUSED, RUNNING, RETRYING, COMPLETED, FAILED, EXPIRED = JobState

OPEN = frozenset((AWAITING, FUNDING, FUNDED, SUBMITTED, REFUSED, RUNNING, RETRYING))


def _after_report(event: Events.FundStatusReported) -> JobState:
    """funding when it reports a success, else awaiting"""
    return FUNDING if event.transaction_status == "success" else AWAITING


def _after_response(event: Events.DeploymentResponded) -> JobState:
    """running when it was started, else refused"""
    return RUNNING if event.success else REFUSED


_AFTER_THE_END: tuple[type[Event], ...] = (
    Events.CheckpointReceived,
    Events.CheckpointLost,
    Events.ResultsReceived,
    Events.ResultsLost,
    Events.ResultsRemoved,
    Events.RewardClaimed,
    Events.RewardSettled,
)
_TELLING: tuple[type[Event], ...] = (Events.ProviderTold, Events.TellingGivenUp)  # of attempts that were given up

TABLE: dict[JobState, Next[JobState]] = {
    NEW: {Events.ServiceRequested: AWAITING},
    AWAITING: {
        Events.FundStatusReported: _after_report,
        Events.TerminationRequested: AWAITING,
        Events.ProviderMisbehaved: AWAITING,
        Events.Failed: FAILED,
        Events.Expired: EXPIRED,
    },
    FUNDING: {
        Events.FundingPending: FUNDING,
        Events.FundingAccepted: FUNDED,
        Events.FundingRejected: REFUSED,
        Events.TerminationRequested: FUNDING,
        Events.ProviderMisbehaved: FUNDING,
        Events.Failed: FAILED,
    },
    FUNDED: {Events.Submitted: SUBMITTED},
    SUBMITTED: {
        Events.ProviderReported: SUBMITTED,
        Events.ProviderMisbehaved: SUBMITTED,
        Events.ProviderUnreachable: SUBMITTED,
        Events.ProviderReturned: SUBMITTED,
        Events.FundingPending: SUBMITTED,  # the provider checks the payment as well
        Events.InputStarted: SUBMITTED,
        Events.InputDone: SUBMITTED,
        Events.InputFailed: SUBMITTED,
        Events.DeploymentResponded: _after_response,
        Events.TerminationRequested: SUBMITTED,
        Events.LogSealed: SUBMITTED,
        **dict.fromkeys(_TELLING, SUBMITTED),
        Events.AttemptFailed: RETRYING,
        Events.Failed: FAILED,
    },
    REFUSED: {Events.Failed: FAILED},
    RUNNING: {
        Events.ProviderReported: RUNNING,
        Events.ProviderMisbehaved: RUNNING,
        Events.ProviderUnreachable: RUNNING,
        Events.ProviderReturned: RUNNING,
        Events.CheckpointOffered: RUNNING,
        Events.CheckpointReceived: RUNNING,
        Events.CheckpointLost: RUNNING,
        Events.ResultsOffered: RUNNING,
        Events.ResultsReceived: RUNNING,
        Events.ResultsLost: RUNNING,
        Events.TerminationRequested: RUNNING,
        Events.LogSealed: RUNNING,
        **dict.fromkeys(_TELLING, RUNNING),
        Events.AttemptFailed: RETRYING,
        Events.Completed: COMPLETED,
        Events.Failed: FAILED,
    },
    RETRYING: {
        Events.CheckpointReceived: RETRYING,
        Events.CheckpointLost: RETRYING,
        Events.ResultsReceived: RETRYING,
        Events.ResultsLost: RETRYING,
        Events.TerminationRequested: RETRYING,
        **dict.fromkeys(_TELLING, RETRYING),
        Events.AttemptStarted: SUBMITTED,
        Events.Failed: FAILED,
    },
    COMPLETED: dict.fromkeys((*_AFTER_THE_END, *_TELLING), COMPLETED),
    FAILED: dict.fromkeys((*_AFTER_THE_END, *_TELLING), FAILED),
    EXPIRED: {},
}

_RESULTS: tuple[type[Event], ...] = (Events.ResultsOffered, Events.ResultsReceived, Events.ResultsLost)

JOB_RULES = Rules(
    NEW,
    TABLE,
    once(
        Events.TerminationRequested,
        Events.LogSealed,
        Events.RewardClaimed,
        Events.RewardSettled,
        Events.ResultsOffered,
        Events.ResultsReceived,
        Events.ResultsLost,
        Events.ResultsRemoved,
    ),
    {Events.AttemptStarted: frozenset((Events.LogSealed, *_RESULTS))},  # each attempt has an output of its own
)
