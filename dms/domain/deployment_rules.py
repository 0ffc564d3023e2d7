"""The life of a deployment: its states, and what may follow what. The same table holds on the provider, which decides,
and on the service provider, which believes no record that could not follow."""

from __future__ import annotations

from enum import StrEnum

from dms.domain.deployment_events import DeploymentEvents as Events
from dms.domain.event import Event
from dms.domain.rules import Next, Rules, once


class DeploymentState(StrEnum):
    NEW = "new"  # nothing recorded yet
    CHECKING = "checking"  # asked for; what it can't decide at once is looked up (its payment, on a chain)
    ACCEPTED = "accepted"  # capacity is reserved; the image is being fetched
    CREATED = "created"  # the container exists and was not started by us yet
    RUNNING = "running"
    STOPPING = "stopping"  # told to stop; the reason is recorded, the container may still run
    ENDED = "ended"  # nothing more will happen; the capacity is free again


NEW, CHECKING, ACCEPTED, CREATED, RUNNING, STOPPING, ENDED = DeploymentState

ENDS: frozenset[type[Event]] = frozenset((Events.Rejected, Events.ContainerExited, Events.Failed, Events.Stopped))

TABLE: dict[DeploymentState, Next[DeploymentState]] = {
    NEW: {Events.Requested: CHECKING},
    CHECKING: {
        Events.FundingPending: CHECKING,
        Events.FundingAccepted: CHECKING,
        Events.Accepted: ACCEPTED,
        Events.Rejected: ENDED,
        Events.StopRequested: STOPPING,
        Events.LogSealed: CHECKING,
        Events.Failed: ENDED,
    },
    ACCEPTED: {
        Events.ImagePulled: ACCEPTED,
        Events.WorkspaceRestored: ACCEPTED,
        Events.InputStarted: ACCEPTED,
        Events.InputDone: ACCEPTED,
        Events.InputFailed: ACCEPTED,
        Events.ContainerCreated: CREATED,
        Events.StopRequested: STOPPING,
        Events.LogSealed: ACCEPTED,
        Events.Failed: ENDED,
    },
    CREATED: {
        Events.WorkspaceRestored: CREATED,
        Events.ContainerStarted: RUNNING,
        Events.StopRequested: STOPPING,
        Events.LogSealed: CREATED,
        Events.Failed: ENDED,
    },
    RUNNING: {
        Events.CheckpointSaved: RUNNING,
        Events.CheckpointSkipped: RUNNING,
        Events.CheckpointDelivered: RUNNING,
        Events.CheckpointDeleted: RUNNING,
        Events.ResultsSaved: RUNNING,
        Events.ResultsSkipped: RUNNING,
        Events.ResultsDelivered: RUNNING,
        Events.ResultsDeleted: RUNNING,
        Events.StopRequested: STOPPING,
        Events.LogSealed: RUNNING,
        Events.ContainerExited: ENDED,
        Events.Failed: ENDED,
    },
    STOPPING: {
        Events.ImagePulled: STOPPING,  # what was under way when the order came
        Events.WorkspaceRestored: STOPPING,
        Events.CheckpointSaved: STOPPING,
        Events.CheckpointSkipped: STOPPING,
        Events.CheckpointDelivered: STOPPING,
        Events.CheckpointDeleted: STOPPING,
        Events.ResultsSaved: STOPPING,
        Events.ResultsSkipped: STOPPING,
        Events.ResultsDelivered: STOPPING,
        Events.ResultsDeleted: STOPPING,
        Events.LogSealed: STOPPING,
        Events.Stopped: ENDED,
        Events.Failed: ENDED,
    },
    ENDED: {
        Events.CheckpointDelivered: ENDED,
        Events.CheckpointDeleted: ENDED,
        Events.ResultsDelivered: ENDED,
        Events.ResultsDeleted: ENDED,
        Events.RewardClaimed: ENDED,
        Events.RewardSettled: ENDED,
    },
}

_ONLY_BEFORE_THE_SEAL: frozenset[type[Event]] = frozenset(
    kind for following in TABLE.values() for kind in following if kind not in ENDS and kind not in TABLE[ENDED]
) | {Events.Rejected}

DEPLOYMENT_RULES = Rules(
    NEW,
    TABLE,
    {
        **once(Events.ImagePulled, Events.WorkspaceRestored, Events.RewardClaimed, Events.RewardSettled),
        **once(Events.ResultsSaved, Events.ResultsSkipped, Events.ResultsDelivered, Events.ResultsDeleted),
        Events.FundingAccepted: frozenset((Events.FundingAccepted, Events.FundingPending)),
        Events.LogSealed: _ONLY_BEFORE_THE_SEAL,  # all that follows the end of the output is the end itself
    },
)
