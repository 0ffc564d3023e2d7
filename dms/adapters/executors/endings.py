"""What an engine remembers of the end of a run, and whose doing it was. Pure.

Evidence is a signal that was sent to the job, and what came of it. A job that got a signal long ago and went on is not
ended by it, for some take one as an order to read their settings again.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from msgspec import Struct

from dms.domain.run_end import EndedBy

SOON_SECONDS = 600.0  # so long after a signal that asks for an end the end is its doing: a job may save its work first
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL})
_BROKEN_OFF = 255  # what the engine says of a run that it found gone


class ContainerEvent(Struct, frozen=True):
    """action: the engine's word: "start", "kill" (a signal was sent), "oom" (one of its programs was killed for lack of
    memory), "die", "stop" (somebody's order to stop it was carried out), "destroy". time_ns: the engine's own, Unix."""

    container: str
    action: str
    time_ns: int
    signal: int = 0
    exit_code: int | None = None


class Ended(Struct, frozen=True, kw_only=True):
    """A run that is over, as the engine shows it. stop_signal: what its image takes as the order to end."""

    exit_code: int
    oom_killed: bool
    stop_signal: int


def is_ended_by(number: int, exit_code: int, seconds: float, stop_signal: int = signal.SIGTERM) -> bool:
    """Whether the signal ended the job. seconds: from the signal to the end."""
    if number == signal.SIGKILL or exit_code == 128 + number:
        return True
    return (number in ENDING or number == stop_signal) and seconds <= SOON_SECONDS


def ending_signal(ended: Ended, events: Sequence[ContainerEvent]) -> ContainerEvent | None:
    """The signal that ended the last run among the events, which are of its container and in order."""
    run = last_run(events)
    death = death_in(run)
    stopped = any(event.action == "stop" for event in run)
    for sent in (event for event in run if event.action == "kill"):
        seconds = (death.time_ns - sent.time_ns) / 1e9 if death else 0.0
        if stopped or is_ended_by(sent.signal, ended.exit_code, seconds, ended.stop_signal):
            return sent
    return None


def last_run(events: Sequence[ContainerEvent]) -> Sequence[ContainerEvent]:
    starts = [index for index, event in enumerate(events) if event.action == "start"]
    return events[starts[-1] :] if starts else events


def death_in(events: Sequence[ContainerEvent]) -> ContainerEvent | None:
    """Of the last run among them."""
    return next((event for event in last_run(events) if event.action == "die"), None)


def has_died(events: Sequence[ContainerEvent]) -> bool:
    return death_in(events) is not None


def may_have_run_out_of_memory(ended: Ended, events: Sequence[ContainerEvent]) -> bool:
    """Whether it was killed, and not by anybody who told the engine to. The kernel is who else kills."""
    return ended.exit_code == 128 + signal.SIGKILL and has_died(events) and ending_signal(ended, events) is None


def ran_out_of_memory(events: Sequence[ContainerEvent]) -> bool:
    """Of the last run among them."""
    return any(event.action == "oom" for event in last_run(events))


def looks_broken_off(ended: Ended) -> bool:
    """Whether the exit code is that of a run which an engine ends when it goes down, or finds gone when it comes up."""
    return ended.exit_code in {128 + signal.SIGTERM, 128 + signal.SIGKILL, 128 + ended.stop_signal, _BROKEN_OFF}


def blame(ended: Ended, events: Sequence[ContainerEvent], *, ours: bool, engine_restarted: bool) -> EndedBy:
    """ours: we sent it signals. engine_restarted: the signal fell into an outage of the engine; without any event of
    the end: the engine was started again since."""
    if ended.oom_killed:
        return EndedBy.JOB
    if ending_signal(ended, events) is not None:
        return EndedBy.DMS if ours else EndedBy.ENGINE if engine_restarted else EndedBy.OPERATOR
    if has_died(events) or not looks_broken_off(ended):
        return EndedBy.JOB
    return EndedBy.DMS if ours else EndedBy.ENGINE if engine_restarted else EndedBy.JOB
