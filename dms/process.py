"""The daemon as a process of the system: where its log goes, its signals, its limits, and the service manager."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from dms.adapters.service.limits import forbid_core_dumps, raise_open_files
from dms.adapters.service.logs import BackgroundHandler, rotating, to_descriptor, to_file
from dms.adapters.service.notify import ServiceManager
from dms.application.loops import said
from dms.application.tasks import cancelled
from dms.backoff import Backoff
from dms.bootstrap import build
from dms.config import Loaded, Settings
from dms.daemon import Daemon
from dms.disk import DAEMON_UMASK, make_folder, passes
from dms.errors import DiskTrouble, DmsError, LogUnavailable

log = logging.getLogger("dms")

GC_THRESHOLDS = (50_000, 20, 50)
"""Python's own (700, 10, 10) are for programs with little memory: of a daemon's time under load they take a sixth."""
WAITING_SECONDS = (1.0, 60.0)  # between two tries of a start that something passing hinders: the first, the longest
SWITCH_SECONDS = 0.0005  # a thread that commits must not wait for the loop's whole 5 ms turn


class JsonLines(logging.Formatter):
    """One JSON object a line, for journald and its readers; control characters can't break out of it."""

    _own = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in self._own}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class TerminalLines(logging.Formatter):
    """One line each, for who watches: what strangers wrote into a message makes no line and steers no terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the library's
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the same
        return "\n".join(escaped(line) for line in super().formatException(ei).split("\n"))


def escaped(text: str) -> str:
    """With control characters as Python writes them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def log_to_stderr(debug: bool) -> None:
    handler = BackgroundHandler(to_descriptor(sys.stderr.fileno()))
    handler.setFormatter(TerminalLines() if sys.stderr.isatty() else JsonLines())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    for chatty in ("asyncio", "urllib3", "docker", "httpx", "httpcore", "trio", "libp2p", "multiaddr"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log_to_file(path: Path) -> None:
    """For `nunet log`, where no journal keeps what goes to standard error. At most 5 x 10 MB."""
    try:
        make_folder(path.parent)
        handler = BackgroundHandler(to_file(rotating(path, each_bytes=10_000_000, older=4)))
    except OSError as error:
        log.warning("no log file: %s", error)
        return
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)


def _goes_to_journal() -> bool:
    """Source: systemd.exec(5), JOURNAL_STREAM: a variable that was only inherited names another file."""
    found = os.fstat(sys.stderr.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def serve(loaded: Loaded) -> None:
    """Runs the daemon until SIGTERM or SIGINT. Raises DmsError, which is in the log already."""
    os.umask(DAEMON_UMASK)
    log_to_stderr(loaded.settings.general.debug)
    if not _goes_to_journal():
        log_to_file(loaded.settings.general.data_dir / "dms.log")
    for warning in loaded.warnings:
        log.warning("%s", warning)
    forbid_core_dumps()
    raise_open_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what is loaded stays: it is never looked through for garbage
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        uvloop.run(_until_told(loaded.settings))
    except DmsError as error:
        log.error("%s", error, extra={"action": "start_failed"})
        raise


def tell_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's errors: those of tasks and callbacks that nobody waits for. That a library's connection was cut is no
    fault of ours: whoever uses it says so as well, and a line is enough."""
    error = context.get("exception")
    if isinstance(error, OSError):
        log.warning("%s: %s", context["message"], said(error), extra={"action": "connection_failed"})
    else:
        loop.default_exception_handler(context)


async def started(daemon: Daemon, told: asyncio.Event) -> bool:
    """False when it was told to stop before: a start may wait for long, as for a disk that is full."""
    starting, stopping = asyncio.create_task(daemon.start()), asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            return True
        log.info("stopping before the start is done", extra={"action": "stopping"})
        return False
    finally:
        await cancelled(starting)
        stopping.cancel()


async def running(settings: Settings, told: asyncio.Event, tell: Callable[[str], None]) -> Daemon | None:
    """None when it was told to stop before. What passes, such as a disk that is full, is waited for: who ended instead
    would be started again at once, a few times, and then never more."""
    pauses = Backoff(*WAITING_SECONDS)
    while True:
        try:
            daemon = await build(settings, tell=tell)
            return daemon if await started(daemon, told) else None
        except (LogUnavailable, DiskTrouble, OSError) as error:
            if isinstance(error, OSError) and not passes(error):
                raise
            pause, why = pauses.next(), said(error)
        tell(f"waits before it can start: {why}")
        log.warning("the start is tried again in %.0f s: %s", pause, why, extra={"action": "start_waits"})
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await told.wait()
                return None


async def _until_told(settings: Settings, signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(tell_error)
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    manager = ServiceManager.from_environment()
    daemon = await running(settings, told, manager.status)
    if daemon is None:
        return
    manager.ready(daemon.ready() or f"ready: REST on port {daemon.port}")
    loops, watch = daemon.loops, None
    if manager.watchdog_seconds:
        watch = loops.start("service manager", lambda: manager.watch(lambda: loops.fault, daemon.ready))
    try:
        await told.wait()
    finally:
        log.info("stopping; containers go on running", extra={"action": "stopping"})
        manager.stopping()
        if watch is not None:
            await watch.close()
        await daemon.close()
