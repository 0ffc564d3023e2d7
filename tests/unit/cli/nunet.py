"""The command `nunet` run within this process, and what the daemon tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from click.testing import CliRunner, Result

from dms.cli.main import cli
from tests.unit.cli.tiny_dms import TinyDms

JOB = "01990000-0000-7000-8000-000000000001"
REQUEST = {"service_type": "ml-training-cpu", "params": {"image_id": "busybox"}, "constraints": {}, "max_ntx": 10}
OFFER = {"job_id": JOB, "estimated_price": 0.02, "compute_provider_addr": "12D3KooWProvider", "signature": "ab"}
SUBMITTED = {"action": "job-submitted", "job_id": JOB, "position": 5}
COMPLETED = {"action": "job-completed", "job_id": JOB, "position": 9}
FAILED = {"action": "job-failed", "message": "finished with errors: exit code 3", "job_id": JOB, "position": 9}
CONNECTED = {"action": "connected", "message": "You are connected to DMS for docker (GPU/CPU) deployment."}
PROVISIONED = {"cpu": 8000.4, "memory": 4000, "total_cores": 4}


def line(seq: int, stream: str, text: str) -> dict[str, Any]:
    return {"action": "log-stream-response", stream: f"{text}\n", "job_id": JOB, "seq": seq}


def nunet(*args: str, tiny: TinyDms | None = None, stdin: str | None = None, **env: str) -> Result:
    given = {"DMS_URL": tiny.url} if tiny else {}
    return CliRunner().invoke(cli, args, input=stdin, env=given | env, catch_exceptions=False)


def every_command() -> list[tuple[str, ...]]:
    def below(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, found in group.commands.items():
            if isinstance(found, click.Group):
                yield from below(found, (*path, name))
            else:
                yield (*path, name)

    return list(below(cli, ()))


JOBS: list[dict[str, Any]] = [
    {"job_id": JOB, "role": "service provider", "status": "running", "price": "0.02", "image": "a\x1b[2Jb"},
    {"job_id": "second", "role": "compute provider", "status": "failed", "exit_code": 3, "price": "1", "image": "c"},
]
