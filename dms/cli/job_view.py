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

from dms.cli.glyphs import glyphs_for
from dms.cli.job_progress import About, Progress
from dms.cli.job_text import PROGRESS
from dms.cli.text import output_line, printable

REFRESHES_A_SECOND = 4


class LiveView:
    """Steps that are over and the output scroll by, in the order in which they come, and stay when it ends."""

    def __init__(self, job_id: str, about: About, *, colour: bool) -> None:
        self._job_id, self._progress = job_id, Progress(about, time.time())
        self._unfinished: dict[str, str] = {}
        self._console = Console(no_color=not colour, highlight=False)
        self._glyphs = glyphs_for(self._console.encoding)
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
        said = self._progress.take(frame, time.time())
        if said is not None:
            sign, style = (self._glyphs.completed, "dim") if said.good else (self._glyphs.failed, "red")
            self._console.print(Text(f"{sign} {said.text}", style=style), soft_wrap=True)

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
        now, where = self._progress.now_lines(time.time())
        lines = ([*now, "Ctrl-C leaves it, or stops it"], [f"job {self._job_id}", *where])
        parts += [Text(printable(self._glyphs.between.join(facts)), style="reverse") for facts in lines]
        for part in parts:
            part.no_wrap, part.overflow = True, "ellipsis"
        return Group(*parts)
