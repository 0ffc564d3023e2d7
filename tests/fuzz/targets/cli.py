"""What the command line reads: files of users, and the answers of a daemon that may be another than it seems."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import click
import httpx
import msgspec

from dms.cli import client, follow, job_progress
from dms.cli.failure import Failure
from dms.cli.job_files import read_request, set_all
from dms.cli.job_options import Amount, Duration
from dms.cli.job_text import log_token
from dms.cli.text import moment, printable
from dms.cli.top import board, live
from dms.cli.top.keys import is_unfinished
from dms.cli.yaml_text import YamlFault, parse
from projections.jobs import JobRow
from tests.fixtures.extremes import sample
from tests.fuzz.target import Target


# --- what users give ----------------------------------------------------------------------------------
def yaml(data: bytes) -> None:
    found = parse(data.decode("utf-8", "replace"))
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # as it is sent


def job_file(data: bytes) -> None:
    """The first byte says which kind of file it is said to be."""
    file: Any = io.BytesIO(data[1:])
    named = type("Named", (io.BytesIO,), {"name": ("a.json", "a.yaml", "-")[data[0] % 3 if data else 0]})
    found = read_request(named(file.getvalue()))
    json.dumps(found, ensure_ascii=False).encode()


def setting(data: bytes) -> None:
    request: dict[str, Any] = {"params": {"image_id": "a"}, "constraints": {}}
    set_all(request, (data.decode("utf-8", "replace"),))


def words(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    printed = printable(text)
    assert not any(ord(c) < 32 and c not in "\n\t" for c in printed)
    is_unfinished(text), moment(text)
    for kind in (Duration(), Amount("mhz", "ghz")):
        try:
            kind.convert(text, None, None)
        except click.UsageError:
            continue
    client.checked_url(text)


# --- what a daemon answers ----------------------------------------------------------------------------
class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, _seconds: float | None = None) -> str | bytes:
        """A text frame where it is text, as the library gives it."""
        try:
            return self._data.decode()
        except UnicodeDecodeError:
            return self._data


class _Api:
    url = "http://127.0.0.1:9999"


_API: Any = _Api()  # only its address is asked for


def top(data: bytes) -> None:
    one: Any = live.Live.__new__(live.Live)
    one._socket, one._url = _Socket(data), _Api.url
    assert one.next(1.0) is not None


def top_job(data: bytes) -> None:
    with live._understood(_API):
        board.row_of(json.loads(data))


def top_machine(data: bytes) -> None:
    """The four answers as one list."""
    with live._understood(_API):
        board.machine_of(*json.loads(data)[:4])


def top_output(data: bytes) -> None:
    """A job, and its newest lines."""

    class Api(_Api):
        def get(self, path: str, **_: object) -> Any:
            return json.loads(data)

    live.read_end(Api(), "job", 5)  # type: ignore[arg-type]  # it gives what it was given


def followed(data: bytes) -> None:
    one: Any = follow.Follower.__new__(follow.Follower)
    one._deadline, one._api, one._job_id = None, _Api(), "job"
    frame = one._receive(_Socket(data))
    job_progress._time_of(frame, 0.0)
    moment(frame.get("time"))


def refusal(data: bytes) -> None:
    class Response:
        status_code, reason_phrase, body = 401, "Unauthorized", data

    class Refused:
        response = Response()

    error: Any = Refused()
    assert isinstance(str(follow.refused(error, "http://127.0.0.1:9999")), str)


def answer(data: bytes) -> None:
    """Of any status, of a DMS or another server, and line by line."""
    status = 200 + (data[0] if data else 0)
    headers = {client.DMS_HEADER: "1"} if status % 2 == 0 else {}
    body = data[1:]
    request = httpx.Request("GET", "http://127.0.0.1:9999/api/v1/jobs")
    api: Any = client.Api.__new__(client.Api)
    api.url = "http://127.0.0.1:9999"
    with api._failures():
        for line in client._lines(httpx.Response(200, stream=httpx.ByteStream(body), request=request)):
            json.loads(line)
        client._check(httpx.Response(status, content=body, headers=headers, request=request))


def job(data: bytes) -> None:
    try:
        tree = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(str(error)) from error
    moment(tree.get("time"))
    with live._understood(_API):
        log_token(tree)


_JOB = b"""service_type: ml-training-cpu
params:
  image_id: "busybox\\x41"
  args: [a, 'b', 0x1F, 1e3, ~, true]
constraints: {time: 20, cpu: 1.5}
# end
"""
_ROW = re.sub(rb'("[a-z_]+_at"):\d+', rb'\1:"2026-01-01T00:00:00Z"', msgspec.json.encode(sample(JobRow)))
_CAPACITY = b'{"providers":[{"own":true,"channel":"c","onboarded":{"cpu_mhz":1}}],"network":{"providers":1,"online":1}}'
TARGETS = (
    Target("top-jobs", top_job, (Failure,), (_ROW,)),
    Target(
        "top-machines",
        top_machine,
        (Failure,),
        (
            b'[{"accepting":true,"online":true,"reasons":[]},{"cpu":1,"total_cores":2},'
            + _CAPACITY
            + b',{"total":{"earned_ntx":"1","to_claim_ntx":"2"}}]',
        ),
    ),
    Target(
        "top-outputs",
        top_output,
        (Failure,),
        (b'{"log_url":"http://a/b?token=c","lines":[{"seq":2,"stream":"stdout","text":"x"}],"gaps":[]}',),
    ),
    Target(
        "yaml",
        yaml,
        (YamlFault,),
        (_JOB, b'"\\u263a \\U0001F600"', b"--- |\n a\n b\n...", b"!!binary x", b"a: &x 1", b"%YAML 1.2\n---\n{}"),
    ),
    Target(
        "job-files",
        job_file,
        (Failure,),
        (b"\x01" + _JOB, b'\x00{"params": {}, /* x */ "a": [1, 2.5e3, "\\u0041"]}', b"\x02{}"),
    ),
    Target("job-settings", setting, (Failure,), (b"constraints.time=20", b"params.image_id.x=[1]", b"a.b={c: d}")),
    Target(
        "words",
        words,
        (Failure,),
        (
            b"\x1b[31mred\x07",
            b"90s",
            b"2.5ghz",
            b"http://127.0.0.1:9999/api/v1/",
            b"2026-01-01T00:00:00Z",
            b"0001-01-01",
            b"9999-12-31T23:59:59-14:00",
        ),
    ),
    Target(
        "top-frames",
        top,
        (Failure,),
        (
            b'{"id":"events","position":3,"lines":[{"seq":1,"stream":"stdout","text":"x"}]}',
            b'{"network":{},"providers":[]}',
        ),
    ),
    Target(
        "follow-frames",
        followed,
        (Failure,),
        (b'{"action":"job-completed","time":"2026-01-01T00:00:00Z"}', b'{"action":"x","time":17e5}'),
    ),
    Target("follow-refusals", refusal, (), (b'{"error":"no"}', b'{"error":[1]}', b"{")),
    Target("answers", answer, (Failure,), (b"\x00" + b'{"a":1}\n{"b":2}\n', b"\xc8" + b'{"error":"x"}', b"\x00")),
    Target(
        "jobs",
        job,
        (Failure,),
        (b'{"log_url":"http://a/b?token=c","time":1700000000000000}', b'{"time":1e300}', b'{"time":-1e17}'),
    ),
)
