"""Keeps the view fed, in a thread of its own: a snapshot, then the stream from there; again after each break, for as
long as somebody watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed

from dms.backoff import Backoff
from dms.cli.client import Api
from dms.cli.failure import Failure
from dms.cli.text import in_path
from dms.cli.top import live
from dms.cli.top.board import Use, fact_of, moves_machine
from dms.cli.top.live import Frame, Line, Live
from dms.cli.top.updates import Connected, Happened, Lost, MachineRead, PeersRead, Printed, Reached, Update, Used

RETRY_SECONDS = (0.25, 5.0)  # first and longest pause before the next try
MACHINE_SECONDS = 1.0  # it is read again once something has changed it, but not more often
PEERS_SECONDS = 10.0  # who is connected is in no log
LINES_READ = 2000  # of output, before it is followed
ALREADY = 409  # it is subscribed to, and goes on
_NOT_BEGUN = -1


class Due:
    """Something to be done again, at most so often."""

    def __init__(self, every_seconds: float) -> None:
        self._every, self._wanted, self._next = every_seconds, True, 0.0

    def want(self) -> None:
        self._wanted = True

    @property
    def seconds(self) -> float:
        """Until it is to be done; for ever while nobody wants it."""
        return max(0.0, self._next - time.monotonic()) if self._wanted else float("inf")

    def begin(self) -> bool:
        """Whether it is to be done now, which is taken for done."""
        if self.seconds > 0:
            return False
        self._wanted, self._next = False, time.monotonic() + self._every
        return True


class Feed:
    """tell: takes each update, in order; it may block, and then the daemon waits too."""

    def __init__(self, api: Api, tell: Callable[[Update], None]) -> None:
        self._api, self._tell = api, tell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._live: Live | None = None
        self._machine, self._peers = Due(MACHINE_SECONDS), Due(PEERS_SECONDS)
        self._output_of = ""  # the job whose output is wanted
        self._line = _NOT_BEGUN  # the newest one of it that was told

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for a daemon that does not answer."""
        self._stopped.set()
        if self._live is not None:
            threading.Thread(target=self._live.close, daemon=True).start()

    def show_output(self, job_id: str) -> None:
        """Of that job, or of none. Its newest lines come first."""
        before, self._output_of, self._line = self._output_of, job_id, _NOT_BEGUN
        if before:
            self._ask(id=_output(before), unsubscribe=True)
        if job_id:
            threading.Thread(target=self._begin_output, args=(job_id,), daemon=True).start()

    def stop_job(self, job_id: str, answered: Callable[[str], None]) -> None:
        """answered: gets what came of it."""

        def stop() -> None:
            try:
                self._api.post(f"/jobs/{in_path(job_id)}/stop", {"reason": ""})
            except Failure as failure:
                answered(failure.message)
            else:
                answered(f"job {job_id} was told to stop")

        threading.Thread(target=stop, daemon=True).start()

    # --- the stream --------------------------------------------------------------------------------------
    def _run(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while not self._stopped.is_set():
            try:
                self._follow(backoff)
            except Failure as failure:
                self._tell(Lost(failure.message))
            self._live = None
            self._stopped.wait(backoff.spread())

    def _follow(self, backoff: Backoff) -> None:
        with live.connected(self._api) as connection:
            self._tell(live.read_jobs(self._api, connection.position))
            connection.follow()
            self._live = connection
            self._tell(Connected())
            self._machine.want()
            self._peers.want()
            self._subscribe_output()
            heard = time.monotonic()
            while not self._stopped.is_set():
                self._read_what_is_due()
                frame = connection.next(min(self._machine.seconds, self._peers.seconds, 1.0))
                if frame is not None:
                    heard = time.monotonic()
                    self._take(frame)
                    backoff.reset()
                elif time.monotonic() - heard > live.SILENT_SECONDS:
                    raise Failure(f"nothing was heard of the daemon for {live.SILENT_SECONDS:g} s")

    def _read_what_is_due(self) -> None:
        if self._machine.begin():
            self._tell(MachineRead(live.read_machine(self._api)))
        if self._peers.begin():
            self._tell(PeersRead(live.read_peers(self._api)))
            self._peers.want()
            self._machine.want()  # that it is just too busy is in no log either

    def _take(self, frame: Frame) -> None:
        if frame.event is not None:
            fact = fact_of(frame.event)
            if moves_machine(fact):
                self._machine.want()
            self._tell(Happened(fact))
        elif frame.position is not None or frame.caught_up is not None:
            self._tell(Reached(frame.position or frame.caught_up or 0))
        elif frame.lines is not None:
            self._print(frame.id, frame.lines)
        elif frame.usage is not None:
            self._use(frame.usage)
        elif frame.error is not None:
            self._refused(frame)

    def _use(self, usage: dict[str, object]) -> None:
        sample = usage.get("sample")
        if usage.get("job_id") and isinstance(sample, dict):
            self._tell(Used(str(usage["job_id"]), Use(sample.get("cpu_cores"), int(sample.get("memory_mb") or 0))))

    def _refused(self, frame: Frame) -> None:
        """Without the events there is no view; the rest may be missing."""
        said = str((frame.error or {}).get("detail") or (frame.error or {}).get("title") or "no reason was given")
        if frame.id == _output(self._output_of) and (frame.error or {}).get("status") != ALREADY:
            self._tell(Printed(self._output_of, (), f"the output can't be followed: {said}"))
        elif frame.id == live.EVENTS:
            raise Failure(f"the daemon sends no events: {said}")

    # --- a job's output ------------------------------------------------------------------------------------
    def _begin_output(self, job_id: str) -> None:
        try:
            lines, note = live.read_end(self._api, job_id, LINES_READ)
        except Failure as failure:
            self._tell(Printed(job_id, (), failure.message))
            return
        if self._output_of != job_id:  # another one is looked at by now
            return
        self._line = lines[-1].seq if lines else 0
        self._tell(Printed(job_id, tuple((line.stream, line.text) for line in lines), note, begins=True))
        self._subscribe_output()

    def _subscribe_output(self) -> None:
        job_id = self._output_of
        if job_id and self._line != _NOT_BEGUN:
            self._ask(id=_output(job_id), subscribe="output", job_id=job_id, after=self._line)

    def _ask(self, **message: object) -> None:
        """A connection that breaks is told of by the thread that reads from it, which asks again."""
        connection = self._live
        if connection is not None:
            try:
                connection.ask(**message)
            except (ConnectionClosed, OSError):
                return

    def _print(self, name: str, lines: tuple[Line, ...]) -> None:
        if name != _output(self._output_of):  # of one that was looked at before
            return
        fresh = tuple(line for line in lines if line.seq > self._line)
        if fresh:
            self._line = fresh[-1].seq
            self._tell(Printed(self._output_of, tuple((line.stream, line.text) for line in fresh)))


def _output(job_id: str) -> str:
    """The name of the subscription."""
    return f"output-{job_id}"
