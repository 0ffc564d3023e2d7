"""What a provider refuses before it takes a job, and what it can run at the very edge of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.domain.deployment import Deployment, Fault
from dms.domain.request import MOST_ARGUMENT_BYTES
from tests.fixtures.provider import accepted, ask, docker_provider, end_of, output_of

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]


async def test_a_provider_does_not_believe_that_the_request_was_looked_at(tmp_path: Path) -> None:
    async with docker_provider(tmp_path) as node:
        for reason, request in (
            ("lower case", {"image": "Nunet/X"}),
            ("NUL", {"script": "a\0b"}),
            ("passed on", {"packages": ("x" * 512,) * 256}),
        ):
            job_id, answer = await ask(node, **request)
            assert not answer.accepted
            assert reason in answer.reason
            assert node.log.load(Deployment, job_id) is None
            assert reason in node.services.refusals.newest()[0].reason
        for cpu, ram, reason in ((500, 5, "at least 6"), (19, 64, "at least 20 here"), (1, 64, "at least 10")):
            _, answer = await ask(node, cpu=cpu, ram=ram)
            assert not answer.accepted
            assert reason in answer.reason


async def test_the_longest_arguments_and_the_smallest_container_run(tmp_path: Path) -> None:
    async with docker_provider(tmp_path) as node:
        script = 'echo "${#0}"'
        words = ("x" * 511,) * ((MOST_ARGUMENT_BYTES - len(script) - 1) // 512)
        job_id, answer = await ask(node, script, packages=words)
        assert answer.accepted, answer.reason
        assert await end_of(node, job_id) == (Fault.NONE, "exit code 0")
        assert await output_of(node, job_id) == [str(len(" ".join(words)))]
        least = await accepted(node, "echo small", cpu=20, ram=6)
        assert await end_of(node, least) == (Fault.NONE, "exit code 0")
        assert await output_of(node, least) == ["small"]
