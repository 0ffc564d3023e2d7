"""Follows a job on the terminal or in a pipe: its frames come in, text and an exit code go out."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import click

from dms.cli.core import State, can_ask
from dms.cli.failure import Failure, say
from dms.cli.job_progress import About
from dms.cli.job_text import PROGRESS, print_line, progress
from dms.cli.text import in_path
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.follow import Follower

FUND_SECONDS = 60.0  # from the report of a payment to the job's submission
ENDS = ("job-completed", "job-failed")


class Display(Protocol):
    """Where what a job does is shown."""

    def show(self, frame: Mapping[str, Any]) -> None: ...

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While something else is written to the terminal."""


class Watched:
    """A job that is followed. wait: until it has ended; else until it is submitted."""

    def __init__(self, state: State, job_id: str, about: About, *, wait: bool) -> None:
        self._state, self.job_id, self._about, self._wait = state, job_id, about, wait
        self._api = state.api()

    def pay_and_follow(self, tx_hash: str, timeout_seconds: float | None) -> int:
        """The exit code. Raises Failure; KeyboardInterrupt, once it was said that the job goes on."""
        from dms.cli.follow import Follower

        seconds = timeout_seconds if self._wait else FUND_SECONDS
        deadline = None if seconds is None else time.monotonic() + seconds
        payment = {"transaction_type": "fund", "transaction_status": "success", "tx_hash": tx_hash}
        return self._follow(Follower(self._api, self.job_id, payment, deadline=deadline, progress=self._wait))

    def _follow(self, follower: Follower) -> int:
        with self._display() as display:
            while True:
                try:
                    with contextlib.closing(follower.frames()) as frames:
                        for frame in frames:
                            display.show(frame)
                            if frame["action"] == "error":
                                raise Failure(str(frame.get("message") or "the payment was not accepted"))
                            if frame["action"] == "job-submitted" and not self._wait:
                                break
                            if frame["action"] in ENDS:
                                return self._end(frame)
                    break
                except KeyboardInterrupt:
                    with display.paused():
                        self._interrupted()
        _print_job_id(self._state, self._api, self.job_id)
        return Exit.OK

    def _interrupted(self) -> None:
        """Returns when the job is told to stop, and its end is waited for. Raises KeyboardInterrupt to leave it."""
        if self._wait and can_ask() and self._wants_stop():
            self._stop()
            return
        job = self.job_id
        say(f"\njob {job} goes on; watch it: nunet job logs -f {job}    stop it: nunet job stop {job}")
        raise KeyboardInterrupt

    def _stop(self) -> None:
        try:
            self._api.post(f"/jobs/{in_path(self.job_id)}/stop", {"reason": ""})
        except Failure as failure:
            if failure.exit_code != Exit.CONFLICT:
                raise
            say(f"it is not stopped: {failure.message}")  # it ended meanwhile, and how is told next
        else:
            say(f"job {self.job_id} was told to stop; waiting for its end")

    def _wants_stop(self) -> bool:
        try:
            return click.confirm("\nStop the job too? Otherwise it goes on without you", default=False, err=True)
        except click.Abort:
            return False

    @contextlib.contextmanager
    def _display(self) -> Iterator[Display]:
        if self._wait and self._state.output.for_people and _is_terminal():
            from dms.cli.job_view import LiveView

            with LiveView(self.job_id, self._about, colour=self._state.colour) as view:
                yield view
        else:
            yield PlainDisplay(self._state, wait=self._wait)

    def _end(self, frame: Mapping[str, Any]) -> int:
        """The exit code: the container's own; without one, 125 when it never started."""
        job = self._api.get(f"/jobs/{in_path(self.job_id)}")
        if self._state.output.kind in ("json", "yaml"):
            self._state.output.record(job)
        if frame["action"] == "job-completed":
            return Exit.OK
        say(f"error: job {self.job_id} failed: {frame.get('message') or job.get('reason')}")
        return exit_code(job)


class PlainDisplay:
    """The output where it belongs, and actions as lines of progress; with jsonl each frame as it is."""

    def __init__(self, state: State, *, wait: bool) -> None:
        self._output, self._wait = state.output, wait

    def show(self, frame: Mapping[str, Any]) -> None:
        if frame["action"] == PROGRESS:
            return  # its line comes whole
        if self._output.kind == "jsonl":
            if self._wait:
                self._output.line(frame)
        elif frame["action"] == "log-stream-response":
            if self._wait:
                self._print(frame)
        elif frame["action"] not in ("connected", "error"):
            say(progress(frame))

    def _print(self, frame: Mapping[str, Any]) -> None:
        for stream in ("stdout", "stderr"):
            if frame.get(stream) is not None:
                # A document on standard output must not be mixed with the job's.
                text = str(frame[stream])
                end = "\n" if text.endswith("\n") else ""
                print_line(stream if self._output.for_people else "stderr", text.removesuffix("\n"), end)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield


def exit_code(job: Mapping[str, Any]) -> int:
    """Of a job that failed."""
    if job.get("exit_code"):
        return int(job["exit_code"])
    if job.get("exit_code") == 0 or job.get("started_at"):
        return Exit.FAILURE
    return Exit.NOT_STARTED


def _print_job_id(state: State, api: Api, job_id: str) -> None:
    if state.output.for_people:
        click.echo(job_id)
    else:
        state.output.record(api.get(f"/jobs/{in_path(job_id)}"))


def _is_terminal() -> bool:
    from rich.console import Console

    return sys.stdout.isatty() and sys.stderr.isatty() and not Console().is_dumb_terminal
