"""Who looks after the daemon's long-lived tasks: what happens when one of them dies is answered here, once.

A loop that ends, whatever the reason, is logged, counted and begun again after a pause that grows. When it dies
quickly several times in a row its part counts as failed: it is tried on, and is named to who asks whether the DMS is
ready, and to the service manager, until it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from dms.backoff import nth_pause
from dms.errors import DmsError, Unavailable

log = logging.getLogger(__name__)

CANCEL_AGAIN_SECONDS = 0.5

Body = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Patience:
    """first, longest: seconds of the pause before a loop is begun again; it doubles. quick_deaths: so many in a row and
    the part has failed. steady_seconds: a life that lasts so long is not a quick one."""

    first: float = 0.2
    longest: float = 60.0
    quick_deaths: int = 5
    steady_seconds: float = 60.0


class Loop:
    """One of them, running. Made by `Loops`."""

    def __init__(
        self,
        name: str,
        body: Body,
        patience: Patience,
        on_death: Callable[[Exception], None],
        on_end: Callable[[], object],
    ) -> None:
        self.name = name
        self.quick = 0  # deaths in a row
        self._body, self._patience, self._on_death = body, patience, on_death
        self._error: Exception | None = None  # the last death's
        self._began = 0.0
        self.resting = False  # between a death and the next try
        self._closing = False
        self._task = asyncio.create_task(self._keep(), name=name)
        self._task.add_done_callback(lambda _: on_end())

    @property
    def trouble(self) -> str | None:
        """Why the part does not work just now; None while it does."""
        if not self.resting and (self.quick < self._patience.quick_deaths or self._lasts()):
            return None
        return f"{self.name}: {said(self._error)}"

    @property
    def broken(self) -> bool:
        """In trouble by an error of ours, again and again: a new process may help. Not when what it needs is away."""
        return (
            self.trouble is not None
            and self.quick >= self._patience.quick_deaths
            and not isinstance(self._error, Unavailable)
        )

    def well(self) -> None:
        """Says, from within the loop, that a step of it worked."""
        if self.quick:
            log.info("%s: works again", self.name, extra={"action": "loop_mended", "loop": self.name})
        self.quick = 0

    async def close(self) -> None:
        """Cancels until it has ended: nats-py, for one, can swallow a cancellation."""
        self._closing = True
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CANCEL_AGAIN_SECONDS)

    def _lasts(self) -> bool:
        return asyncio.get_running_loop().time() - self._began >= self._patience.steady_seconds

    async def _keep(self) -> None:
        while not self._ending():
            self._began = asyncio.get_running_loop().time()
            try:
                await self._body()
                if self._ending():
                    return
                self._died(RuntimeError("it ended by itself"))
            except asyncio.CancelledError:
                if self._ending():
                    raise
                self._died(RuntimeError("something that it waited for was cancelled"))  # and not the loop itself
            except Exception as error:  # noqa: BLE001  the outermost loop of a task: nothing may end it silently
                self._died(error)
            await asyncio.sleep(nth_pause(self.quick, self._patience.first, self._patience.longest))
            self.resting = False

    def _ending(self) -> bool:
        """Also when all tasks are cancelled, as a loop of asyncio's ends."""
        return self._closing or bool(self._task.cancelling())

    def _died(self, error: Exception) -> None:
        self.resting = True
        self.quick = 1 if self._lasts() else self.quick + 1
        self._error = error
        told = {"action": "loop_died", "loop": self.name, "quick_deaths": self.quick}
        if isinstance(error, Unavailable):
            log.warning("%s waits: %s", self.name, error, extra=told)
        elif isinstance(error, DmsError):
            log.error("%s stopped and is begun again: %s", self.name, error, extra=told)
        else:
            log.error("%s died and is begun again: %s", self.name, said(error), exc_info=error, extra=told)
        if self.quick == self._patience.quick_deaths:
            log.error(
                "%s has failed %d times in a row; it is tried again every %g s at most",
                self.name, self.quick, self._patience.longest, extra=told | {"action": "loop_failed"},
            )  # fmt: skip
        try:
            self._on_death(error)
        except Exception:  # what is told of it must not end what looks after it
            log.exception("%s: telling of its death failed", self.name, extra=told)


class Loops:
    """All of them, by name. needed: the DMS does not serve while that one is in trouble."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._running: dict[Loop, bool] = {}
        self.deaths: Counter[str] = Counter()

    def start(
        self,
        name: str,
        body: Body,
        *,
        needed: bool = False,
        on_death: Callable[[Exception], None] = lambda _: None,
        patience: Patience | None = None,
    ) -> Loop:
        """body: runs until it is cancelled, and can be begun anew from where it stands; that it returns is a fault as
        well. on_death: called with each death's error before the pause; it closes what depends on the loop."""

        def died(error: Exception) -> None:
            self.deaths[name] += 1
            on_death(error)

        loop = Loop(name, body, patience or self._patience, died, lambda: self._running.pop(loop, None))
        self._running[loop] = needed
        return loop

    def every(
        self, seconds: float, name: str, step: Body, *, at_once: bool = True, patience: Patience | None = None
    ) -> Loop:
        """A loop that takes a step, then rests. at_once: begin with the step, not with the rest."""
        resting = not at_once

        async def body() -> None:
            nonlocal resting
            while True:
                if resting:
                    await asyncio.sleep(seconds)
                resting = False
                await step()
                loop.well()
                resting = True

        loop = self.start(name, body, patience=patience)
        return loop

    def __iter__(self) -> Iterator[Loop]:
        return iter(list(self._running))

    @property
    def in_trouble(self) -> Mapping[str, bool]:
        """What is wrong -> whether the DMS can't serve with it."""
        return {trouble: needed for loop, needed in self._running.items() if (trouble := loop.trouble) is not None}

    @property
    def trouble(self) -> str | None:
        """Why the DMS can't serve, as far as its loops know."""
        return "; ".join(text for text, needed in self.in_trouble.items() if needed) or None

    @property
    def fault(self) -> str | None:
        """The same, where a new process may help."""
        broken = [
            trouble for loop, needed in self._running.items() if needed and loop.broken and (trouble := loop.trouble)
        ]
        return "; ".join(broken) or None


def said(error: BaseException | None) -> str:
    """What went wrong, for people; errors of ours are sentences already."""
    if isinstance(error, DmsError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
