"""The live view of a job on a terminal: its output scrolls by, and below it stands where the job is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from dms.cli.job_text import PROGRESS, progress
from dms.cli.text import output_line, printable

REFRESHES_A_SECOND = 4
STATES = {
    "job-submitted": "submitted",
    "job-attempt-failed": "retrying",
    "job-attempt-started": "submitted again",
    "job-completed": "completed",
    "job-failed": "failed",
}


class LiveView:
    """about: provider and price of the quote, as far as they are known."""

    def __init__(self, job_id: str, about: Mapping[str, Any], *, colour: bool) -> None:
        self._about, self._job_id = about, job_id
        self._status, self._since = "paying", time.monotonic()
        self._inputs = ""
        self._unfinished: dict[str, str] = {}
        self._console = Console(no_color=not colour, highlight=False)
        self._live = self._new_live()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._live.stop()

    def show(self, frame: Mapping[str, Any]) -> None:
        action = frame["action"]
        if action == "log-stream-response":
            self._print(frame)
        elif action == PROGRESS:
            self._unfinished[str(frame.get("stream"))] = str(frame.get("text") or "")
        elif action not in ("connected", "error"):
            self._told(frame)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._new_live()
            self._live.start()

    def _told(self, frame: Mapping[str, Any]) -> None:
        action, message = frame["action"], frame.get("message")
        started = action == "deployment-response" and isinstance(message, dict) and message.get("success") is True
        status = "running" if started else STATES.get(action, self._status)
        if status != self._status:
            self._status, self._since = status, time.monotonic()
        if action.startswith("input"):
            self._inputs = printable(progress(frame).partition(" ")[2])
        self._console.print(Text(printable(progress(frame)), style="dim"), soft_wrap=True)

    def _print(self, frame: Mapping[str, Any]) -> None:
        for stream in ("stdout", "stderr"):
            if frame.get(stream) is not None:
                self._unfinished.pop(stream, None)
                text = output_line(str(frame[stream]).removesuffix("\n"), terminal=True)
                self._console.print(Text.from_ansi(text), soft_wrap=True)

    def _new_live(self) -> Live:
        return Live(
            get_renderable=self._below,
            console=self._console,
            refresh_per_second=REFRESHES_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def _below(self) -> Group:
        """What stands below the output."""
        parts = [Text.from_ansi(output_line(text, terminal=True)) for text in self._unfinished.values() if text]
        now = [f"{self._status} {_lasted(time.monotonic() - self._since)}"]
        if self._about.get("price") is not None:
            now.append(f"{self._about['price']} NTX")
        now += [self._inputs] if self._inputs else []
        where = [
            f"job {self._job_id}",
            *([f"provider {self._about['provider']}"] if self._about.get("provider") else []),
        ]
        lines = ([*now, "Ctrl-C leaves it, or stops it"], where)
        parts += [Text(printable(" · ".join(facts)), style="reverse") for facts in lines]
        for part in parts:
            part.no_wrap, part.overflow = True, "ellipsis"
        return Group(*parts)


def _lasted(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
