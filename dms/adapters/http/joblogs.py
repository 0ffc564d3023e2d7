"""The output of a job over REST: as text, or as JSON lines with number, stream and time; live with `follow`."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial

import msgspec
from sanic import HTTPResponse, Request

from dms.adapters.http.replies import checked_job_id, preferred, query, query_bool, query_choice, query_int
from dms.adapters.http.routes import Api
from dms.application.ports.outputs import OUTPUT_DAMAGED, LogLine
from dms.domain.bounds import time_text
from dms.errors import Forbidden, NotFound

LINES_A_READ = 4096
SEND_SECONDS = 60.0  # a reader that takes nothing for so long is cut
LOOK_SECONDS = 0.5  # how often a silent job is looked at for its end
TEXT = "text/plain; charset=utf-8"
NDJSON = "application/x-ndjson"
DAMAGE = "Output-Damage"  # a header: how what follows differs from what was sealed
OURS = "[dms] "
HEADER = "x-log-token"  # or the query parameter token
STREAMS = ("stdout", "stderr")

_encoder = msgspec.json.Encoder()


async def readable_job(request: Request, api: Api) -> str:
    """Its id, for who may read its output. Raises Forbidden without the job's token; NotFound."""
    job_id = checked_job_id(request.match_info["job_id"])
    token = query(request, "token") or request.headers.get(HEADER, "")
    if not hmac.compare_digest(token.encode(errors="replace"), api.services.log_token(job_id).encode()):
        raise Forbidden("the output is only for who has the job's token: use the log_url of the job")
    if not api.services.outputs.is_known(job_id):
        raise NotFound(f"no job {job_id} here")
    return job_id


async def logs(request: Request, api: Api) -> HTTPResponse | None:
    """200 text, or JSON lines when `Accept: application/x-ndjson`. 403 without the job's token."""
    job_id = await readable_job(request, api)
    after, follow = query_int(request, "after", 0), query_bool(request, "follow")
    as_json = preferred(request, "text/plain", NDJSON) == NDJSON
    return await _answer(request, api, job_id, after=after, follow=follow, as_json=as_json, headers={})


async def download(request: Request, api: Api) -> HTTPResponse | None:
    """200 the text of all lines that are there, to be saved as a file."""
    job_id = await readable_job(request, api)
    name = "-".join(filter(None, (f"job-{job_id}", query_choice(request, "stream", *STREAMS))))
    headers = {"content-disposition": f'attachment; filename="{name}.txt"'}
    return await _answer(request, api, job_id, after=0, follow=False, as_json=False, headers=headers)


async def _answer(
    request: Request, api: Api, job_id: str, *, after: int, follow: bool, as_json: bool, headers: dict[str, str]
) -> HTTPResponse | None:
    stream = query_choice(request, "stream", *STREAMS)
    damage = await api.services.outputs.damage(job_id)
    more = {DAMAGE: damage} if damage else {}
    response = await request.respond(content_type=NDJSON if as_json else TEXT, headers=headers | more)
    if response is None or request.method == "HEAD":
        return None
    await response.send(b"")  # the head at once: a silent job's follower knows that it was let in
    async with aclosing(_lines(api, job_id, after, follow)) as batches:
        async for batch in batches:
            lines = [line for line in batch if stream in ("", line.stream) or (damage and line.text.startswith(OURS))]
            if lines:
                async with asyncio.timeout(SEND_SECONDS):
                    await response.send(_as_json(lines) if as_json else _as_text(lines))
    await response.eof()
    return None


async def _lines(api: Api, job_id: str, after: int, follow: bool) -> AsyncGenerator[Sequence[LogLine], None]:
    """Batches behind line `after`. Following, until the job is over. The last line of an output that is damaged says
    so."""
    told = False
    read = partial(api.services.outputs.read, job_id, limit=LINES_A_READ)
    outputs = api.services.outputs
    while True:
        # Looked at before the read: all lines are stored before the end is recorded.
        complete = not follow or outputs.is_complete(job_id)
        lines = await read(after=after)
        if lines:
            after = lines[-1].seq
            yield lines
            told = told or any(_tells_damage(line) for line in lines)
        elif complete:
            if not told and (damage := await outputs.damage(job_id)):
                yield [LogLine(after + 1, "stderr", 0, OUTPUT_DAMAGED + damage)]
            return
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await outputs.wait(job_id, after)


def _tells_damage(line: LogLine) -> bool:
    return line.stream == "stderr" and line.text.startswith(OUTPUT_DAMAGED)


def _as_text(lines: Sequence[LogLine]) -> bytes:
    return "".join(line.text if line.goes_on else line.text + "\n" for line in lines).encode()


def _as_json(lines: Sequence[LogLine]) -> bytes:
    return b"".join(
        _encoder.encode(
            {
                "seq": line.seq,
                "stream": line.stream,
                "time": time_text(line.time_ns),
                "text": line.text,
                **({"goes_on": True} if line.goes_on else {}),
                **({"damaged": True} if _tells_damage(line) else {}),
            }
        )
        + b"\n"
        for line in lines
    )
