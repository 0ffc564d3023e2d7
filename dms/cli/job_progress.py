"""How far a job is, told by its frames: steps with their durations, inputs, checkpoints, price. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dms.cli.text import cell, clock


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a job beforehand, as far as it is. price, most_ntx: what it costs, and what it might have cost,
    in NTX. minutes: that it may run. inputs: how many are fetched."""

    provider: str = ""
    price: object = None
    most_ntx: object = None
    minutes: int = 0
    inputs: int = 0


@dataclass(frozen=True)
class Said:
    """A step that is over, for people. good: False for a failure."""

    text: str
    good: bool = True


class Progress:
    """status: what the job does now."""

    def __init__(self, about: About, now: float) -> None:
        """now: Unix seconds, as everywhere here."""
        self._about, self.status = about, "paying"
        self._began = self._since = now  # by our clock
        self._before: float | None = None  # when the step before was over, by the daemon's clock
        self._fetched_since: dict[int, float] = {}  # input -> when that began
        self._inputs_done, self._fetching = 0, ""  # the one that is fetched now
        self._checkpoints = 0

    def take(self, frame: Mapping[str, Any], now: float) -> Said | None:
        """What the frame of an action says, as a step that is over; None for one that only begins something."""
        at = _time_of(frame, now)
        match frame["action"]:
            case "job-submitted":
                return self._step("submitted", "payment counts", at, now)
            case "funding-pending":
                return Said(f"payment waits: {_words(frame)}")
            case "input-started":
                self._fetched_since[_number(frame)] = at
                self._fetching = cell(str(frame.get("path") or ""), 60)
                return None
            case "input-done":
                return self._input_done(frame, at)
            case "input-failed":
                self._fetching = ""
                return Said(_words(frame), good=False)
            case "deployment-response":
                self._fetching = ""
                return self._step("running", "container started", at, now)
            case "checkpoint-received":
                self._checkpoints += 1
                return Said(_words(frame))
            case "job-attempt-failed" | "job-attempt-started":
                return self._attempt(frame, at, now)
            case "job-completed":
                return self._step("completed", "completed", at, now)
            case "job-failed":
                return self._step("failed", f"failed: {_words(frame)}", at, now, good=False)
        return Said(_words(frame))

    def now_lines(self, now: float) -> tuple[list[str], list[str]]:
        """The facts of the two lines that stand below the output."""
        about = self._about
        state = f"{self.status} {clock(now - self._since)}"
        if self.status == "running" and about.minutes:
            state += f" of {clock(about.minutes * 60)}"
        facts = [state, f"{clock(now - self._began)} in all"] if self._since != self._began else [state]
        if about.price is not None:
            bound = f" (at most {about.most_ntx})" if about.most_ntx is not None else ""
            facts.append(f"{about.price} NTX{bound}")
        if self._fetching:
            of_all = f" of {about.inputs}" if about.inputs else ""
            facts.append(f"input {self._inputs_done + 1}{of_all}: {self._fetching}")
        if self._checkpoints:
            facts.append(f"{self._checkpoints} checkpoint{'s' if self._checkpoints > 1 else ''} kept")
        return facts, [f"provider {cell(about.provider)}"] if about.provider else []

    def _input_done(self, frame: Mapping[str, Any], at: float) -> Said:
        self._inputs_done += 1
        self._fetching = ""
        return Said(f"{_words(frame)}  {_lasted(max(0.0, at - self._fetched_since.pop(_number(frame), at)))}")

    def _attempt(self, frame: Mapping[str, Any], at: float, now: float) -> Said:
        message = frame.get("message")
        told: Mapping[str, Any] = message if isinstance(message, dict) else {}
        attempt = f"attempt {told.get('attempt', '')}"
        if frame["action"] == "job-attempt-failed":
            why = cell(str(told.get("reason", "")), 500)
            return self._step("retrying", f"{attempt} failed: {why}", at, now, good=False)
        resumed = ", from its checkpoint" if told.get("resumed") else ""
        where = cell(str(told.get("provider", "")))
        return self._step("submitted again", f"{attempt} goes to {where}{resumed}", at, now)

    def _step(self, status: str, said: str, at: float, now: float, *, good: bool = True) -> Said:
        """Two clocks are never compared: they may differ by much."""
        lasted = now - self._since if self._before is None else at - self._before
        self.status, self._since, self._before = status, now, at
        return Said(f"{said}  {_lasted(max(0.0, lasted))}", good)


def _number(frame: Mapping[str, Any]) -> int:
    return int(frame.get("number") or 0)


def _words(frame: Mapping[str, Any]) -> str:
    return cell(str(frame.get("message") or frame["action"]), 500)


def _time_of(frame: Mapping[str, Any], now: float) -> float:
    """When it happened, by the daemon's clock; a step that is over lasted as long as that says."""
    try:
        return datetime.fromisoformat(str(frame["time"])).timestamp()
    except (KeyError, ValueError):
        return now


def _lasted(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)
