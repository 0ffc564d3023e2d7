"""`nunet events tail --nats`: the events as NATS has them, of every DMS that relays there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import Any

from dms.cli.core import State
from dms.cli.failure import Failure, say
from dms.errors import Conflict, Exit

PREFIX = "io.nunet.dms."


def tail(
    state: State,
    show: Callable[[Mapping[str, Any]], None],
    *,
    follow: bool,
    after: int | None,
    limit: int | None,
    wanted: Mapping[str, str | None],
) -> int:
    """How many were shown. wanted: `type` and `job_id`; any other that is set is wrong usage."""
    from dms.adapters.nats.reader import read
    from dms.adapters.nats.stream import SUBJECTS, token

    settings = state.load().settings.nats
    if not settings.url:
        raise Failure("nats.url is not set", Exit.USAGE, "for example DMS_NATS_URL=nats://127.0.0.1:4222")
    others = [name for name, value in wanted.items() if value and name not in ("type", "job_id")]
    if others:
        raise Failure(f"--{others[0]} is not for --nats", Exit.USAGE, "filter by --type and --job")
    topics = [part.strip() for part in (wanted.get("type") or "").split(",") if part.strip()]
    job_id = wanted.get("job_id")
    newest = limit or 20 if after is None and not topics and not job_id else None
    most = limit if after is not None or topics or job_id or follow else None

    odd, newest_odd = 0, ""

    def note(error: Conflict) -> None:
        nonlocal odd, newest_odd
        odd, newest_odd = odd + 1, str(error)

    async def run() -> int:
        shown = 0
        subjects = f"dms.v1.*.*.{token(job_id)}.*" if job_id else SUBJECTS
        async with aclosing(read(settings, subjects=subjects, follow=follow, newest=newest, odd=note)) as events:
            async for event in events:
                if event["position"] <= (after or 0) or not _fits(event, topics):
                    continue
                show(event)
                shown += 1
                if most is not None and shown >= most:
                    break
        return shown

    try:
        return asyncio.run(run())
    finally:
        if odd:
            say(f"{odd} messages are left out, the last for this: {newest_odd}")


def _fits(event: Mapping[str, Any], topics: list[str]) -> bool:
    topic = str(event["type"]).removeprefix(PREFIX).rpartition(".v")[0]
    return not topics or any(fnmatchcase(topic, form if "." in form else f"{form}.*") for form in topics)
