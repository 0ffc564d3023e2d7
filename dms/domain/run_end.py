"""Who ended a run, and what its deployment records: the end, and so the blame and the reward (docs/rewards.md)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class EndedBy(StrEnum):
    """Whose doing the end of a run was, as far as it can be known: the job's unless something says otherwise."""

    JOB = "job"
    ENGINE = "engine"  # the container engine or its machine went down, or was restarted
    OPERATOR = "operator"  # somebody on the provider's machine stopped, killed or removed it
    DMS = "dms"  # this program told it to stop


class RunEnd(StrEnum):
    EXITED = "exited"  # the job's own end, with its exit code
    FAILED = "failed"  # the provider's fault
    STOPPED = "stopped"  # as ordered


class Verdict(Struct, frozen=True):
    """reason: for people; only of FAILED."""

    end: RunEnd
    reason: str = ""


_REASONS = {
    EndedBy.ENGINE: "the provider's container engine ended the job: it was restarted or went down",
    EndedBy.OPERATOR: "the job was stopped on the provider's machine, from outside",
    EndedBy.DMS: "the provider's DMS ended the job without an order",
}


def judge(
    *, stop_ordered: bool, ended_by: EndedBy, gone: bool = False, started_again: bool = False, error: str = ""
) -> Verdict:
    """Of a run that is over. stop_ordered: our own log has an order to stop it, which explains every end.
    gone: its container is not there any more. started_again: it ended, and somebody else had it run once more.
    error: what the engine said of it, in a sentence of ours."""
    if stop_ordered:
        return Verdict(RunEnd.STOPPED)
    if gone:
        return Verdict(RunEnd.FAILED, f"the container is gone: {error or 'it was removed from outside'}")
    if started_again:
        return Verdict(RunEnd.FAILED, "the container was restarted from outside")
    if ended_by is EndedBy.JOB:
        return Verdict(RunEnd.EXITED)
    return Verdict(RunEnd.FAILED, _REASONS[ended_by] + (f" ({error})" if error else ""))
