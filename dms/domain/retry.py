"""When a job is tried again, and which deployment is which attempt of it.

The first attempt has the job's id, so that peers and logs that know of no others go on. Job ids are UUIDv7s; the later
attempts have another version digit: 8 the second, 9 the third. So they sort behind the job, next to it, and no index
is needed to find it.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dms.domain.reward import Fault, Outcome, RewardType, reward_type

MOST_ATTEMPTS = 10
TRIED_AGAIN = frozenset((Fault.PROVIDER, Fault.NETWORK, Fault.NONE))
"""Whose fault an end may be for the job to be tried again: not its own, nor that of who asked for it."""
_DIGIT = 14  # the place of a UUID's version in its text
_FIRST = 7


class Retry(Struct, frozen=True, kw_only=True):
    """What is done about an end that is not the job's own fault. max_attempts: the first one counted."""

    max_attempts: Annotated[int, Meta(ge=1, le=MOST_ATTEMPTS)] = 1


def deployment_id(job_id: str, number: int) -> str:
    """Of the job's attempt, counted from 1."""
    if number == 1:
        return job_id
    return f"{job_id[:_DIGIT]}{(_FIRST + number - 1) % 16:x}{job_id[_DIGIT + 1 :]}"


def attempt_of(deployment_id: str) -> int:
    """Which attempt that is, from 1; an id of another make is its own job's only one."""
    try:
        number = (int(deployment_id[_DIGIT], 16) - _FIRST) % 16 + 1
    except (IndexError, ValueError):
        return 1
    return number if number <= MOST_ATTEMPTS else 1


def job_of(deployment_id: str) -> str:
    """The job that the deployment is an attempt of."""
    if attempt_of(deployment_id) == 1:
        return deployment_id
    return f"{deployment_id[:_DIGIT]}{_FIRST:x}{deployment_id[_DIGIT + 1 :]}"


def may_be_repeated(fault: Fault, outcome: Outcome | None, minutes: int) -> bool:
    """Whether a job may be tried again after such an end: not its own fault, and nothing of the price is earned by it,
    so that the payment can go to the next provider as a whole. minutes: that were given to the attempt."""
    earned_nothing = outcome is not None and reward_type(outcome, minutes) is RewardType.REFUND
    return fault in TRIED_AGAIN and earned_nothing
