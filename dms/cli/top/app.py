"""The live view itself: takes updates and keys in, draws frames."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable

from msgspec.structs import replace

from dms.cli.client import Api
from dms.cli.glyphs import Glyphs
from dms.cli.top.board import Board
from dms.cli.top.choice import Choice, Mode, pressed, shown
from dms.cli.top.feed import Feed
from dms.cli.top.frame import Link, Scene, frame, page_of
from dms.cli.top.keys import keys_in
from dms.cli.top.output_tail import OutputTail
from dms.cli.top.screen import Screen
from dms.cli.top.updates import (
    Connected,
    Happened,
    Lost,
    MachineRead,
    PeersRead,
    Printed,
    Reached,
    Snapshot,
    Update,
    Used,
)

REDRAW_SECONDS = 0.1  # at most so often, however much happens
IDLE_SECONDS = 0.5  # clocks go on
MOST_WAITING = 1000  # updates; then the feed waits, and with it the daemon
_REDRAW = "\x0c"  # Ctrl-L


class App:
    def __init__(self, api: Api, screen: Screen, choice: Choice, glyphs: Glyphs) -> None:
        self._screen, self._choice, self._glyphs = screen, choice, glyphs
        self._updates: queue.Queue[Update] = queue.Queue(MOST_WAITING)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._feed = Feed(api, self._tell)
        self._board, self._link, self._output, self._message = Board(), Link(), OutputTail(), ""
        self._over = False

    def run(self) -> None:
        """Until its user leaves it. Raises KeyboardInterrupt, EOFError when the terminal is gone."""
        with self._screen.taken():
            self._feed.start()
            try:
                while not self._over:
                    self._draw()
                    self._wait()
            finally:
                self._over = True
                self._feed.stop()

    # --- in ------------------------------------------------------------------------------------------
    def _tell(self, update: Update) -> None:
        """From the feed's thread."""
        while not self._over:
            try:
                self._updates.put(update, timeout=IDLE_SECONDS)
            except queue.Full:
                continue
            self._screen.wake()
            return

    def _answered(self, text: str) -> None:
        self._answers.put(text)
        self._screen.wake()

    def _wait(self) -> None:
        """For what happens next, and a little longer, so that what comes together is drawn together."""
        drawn = time.monotonic()
        typed = self._screen.wait(IDLE_SECONDS)
        while not typed and (left := drawn + REDRAW_SECONDS - time.monotonic()) > 0:
            typed = self._screen.wait(left)
        self.take(self._waiting())
        while not self._answers.empty():
            self._message = self._answers.get()
        self._press(typed)

    def _waiting(self) -> Iterable[Update]:
        for _ in range(MOST_WAITING):
            try:
                yield self._updates.get_nowait()
            except queue.Empty:
                return

    def take(self, updates: Iterable[Update]) -> None:
        for update in updates:
            if not isinstance(update, Lost):
                self._link = replace(self._link, heard_at=time.monotonic())
            self._apply(update)

    def _apply(self, update: Update) -> None:
        board = self._board
        match update:
            case Snapshot(rows=rows, position=position):
                board.begin(rows, position)
            case Happened(fact=fact):
                board.take((fact,))
            case Reached(position=position):
                board.position = max(board.position, position)
            case MachineRead(machine=machine):
                board.machine = machine
            case PeersRead(peers=peers):
                board.peers = peers
            case Used(job_id=job_id, use=use):
                board.uses[job_id] = use
            case Printed() if (count := self._output.take(update)) and self._choice.back:
                self._choice = replace(self._choice, back=self._choice.back + count)  # what is read stays in its place
            case Connected():
                self._link = replace(self._link, connected=True, trouble="")
            case Lost(why=why):
                self._link = replace(self._link, connected=False, trouble=why)

    # --- keys ----------------------------------------------------------------------------------------
    def _press(self, typed: str) -> None:
        for key in keys_in(typed):
            if key == _REDRAW:
                self._screen.redraw()
                continue
            scene = self._scene()
            rows = shown(self._board.jobs.values(), self._choice)
            self._message = ""
            done = pressed(key, self._choice, rows, page_of(scene, self._screen.size))
            self._choice = done.choice
            self._over = self._over or done.quit
            if done.stop:
                self._feed.stop_job(done.stop, self._answered)
            self._follow_output()
            if self._choice.mode is Mode.ASK_STOP:
                return  # what was typed before the question could be read is no answer to it

    def _follow_output(self) -> None:
        wanted = self._choice.selected if self._choice.mode is Mode.OUTPUT else ""
        if wanted != self._output.job_id:
            self._output = OutputTail(wanted)
            self._feed.show_output(wanted)

    # --- out -----------------------------------------------------------------------------------------
    def _scene(self) -> Scene:
        return Scene(
            board=self._board,
            choice=self._choice,
            link=self._link,
            now_us=time.time_ns() // 1000,
            now_seconds=time.monotonic(),
            output=self._output.shown,
            message=self._message,
            glyphs=self._glyphs,
        )

    def _draw(self) -> None:
        size = self._screen.size
        self._screen.draw(frame(self._scene(), size), size.columns)
