"""The tokens of the API, of the daemon or of one that does not run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dms.adapters.eventlog.durable_log import DurableEventLog
from dms.application.access.tokens import Tokens
from dms.application.loops import Loops
from dms.config import Settings
from dms.domain.api_token import ApiToken
from dms.wiring.adapters import build_event_log, folder_at
from dms.wiring.overrides import Overrides, now_us


def build_tokens(event_log: DurableEventLog, now: Callable[[], int]) -> Tokens:
    """Those that were made before are known from the first moment."""
    tokens = Tokens(event_log, now)
    tokens.take_up(name.partition("-")[2] for name in event_log.recorder.streams(ApiToken.KIND))
    return tokens


@asynccontextmanager
async def stored_tokens(settings: Settings) -> AsyncIterator[Tokens]:
    """The tokens of a DMS that does not run, to be made before its first start. Raises DmsError: AlreadyRunning,
    LogCorrupt, ConfigError."""
    folder_at(settings.general.data_dir)
    event_log = build_event_log(settings, Overrides(), Loops())
    try:
        await event_log.start()
        yield build_tokens(event_log, now_us)
    finally:
        await event_log.close()
