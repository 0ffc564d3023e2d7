"""The command `nunet` with tokens of each role: it asks the API for no more than that it shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dms.cli.main import cli
from dms.domain.api_token import Role
from dms.domain.event import new_id
from dms.domain.job import Job
from dms.errors import Exit
from tests.integration.http.node import PROVIDER, REQUEST, Node, now_us, running_node
from tests.integration.http.test_job_lists import their_job

CLIENT = "team-a"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def job_of(node: Node, client: str) -> str:
    job = Job(new_id())
    job.request_service(REQUEST, PROVIDER, "0.1", now_us() + 600_000_000, (), 0, client=client)
    await node.log.save(job)
    return job.key


async def nunet(node: Node, role: Role, *args: str) -> Result:
    token = str(await node.services.tokens.create(CLIENT if role is Role.SPD else role.value, role))

    def run() -> Result:
        return CliRunner().invoke(cli, args, env={"DMS_URL": node.url, "DMS_TOKEN": token}, catch_exceptions=False)

    return await asyncio.to_thread(run)


async def test_top_shows_a_client_its_jobs(node: Node) -> None:
    own, other = await job_of(node, CLIENT), await job_of(node, "team-b")
    for side in ((), ("--side", "requester")):
        shown = await nunet(node, Role.SPD, "top", "--once", *side)
        assert shown.exit_code == 0, shown.stderr
        assert "nunet top · requester" in shown.stdout
        assert (own[:13] in shown.stdout, "0 of 0 providers take jobs" in shown.stdout) == (True, True)
    data = json.loads((await nunet(node, Role.SPD, "top", "-o", "json")).stdout)
    assert data["machine"]["hidden"] is True
    assert [row["job_id"] for row in data["jobs"]] == [own]
    assert other not in json.dumps(data)


async def test_top_says_that_the_provider_s_side_is_not_for_a_client(node: Node) -> None:
    for how in ("--once", "--output=json"):
        refused = await nunet(node, Role.SPD, "top", "--side", "provider", how)
        assert refused.exit_code == Exit.DENIED
        assert "spd" in refused.stderr


@pytest.mark.parametrize("role", [Role.ADMIN, Role.CPD, Role.READ])
async def test_top_shows_the_machine_to_who_may_see_it(node: Node, role: Role) -> None:
    data = json.loads((await nunet(node, role, "top", "-o", "json")).stdout)
    assert (data["machine"]["hidden"], bool(data["machine"]["why_not"])) == (False, True)


async def test_the_newest_events_are_shown_to_each_role_of_those_it_sees(node: Node) -> None:
    own = await job_of(node, CLIENT)
    here = await their_job(node, "0.4", 60.0)
    for _ in range(30):  # further back than the twenty newest positions
        await job_of(node, "team-b")

    async def subjects(role: Role, *args: str) -> list[str]:
        shown = await nunet(node, role, "events", "tail", "-o", "jsonl", *args)
        assert shown.exit_code == 0, shown.stderr
        return [json.loads(line)["subject"].partition("-")[2] for line in shown.stdout.splitlines()]

    assert await subjects(Role.SPD) == [own]
    assert set(await subjects(Role.CPD)) >= {here}
    newest = await subjects(Role.CPD, "--limit", "1")
    assert newest == (await subjects(Role.CPD))[-1:]
    for role in (Role.ADMIN, Role.READ):
        assert len(await subjects(role)) == 20
        assert (await subjects(role, "--limit", "1000"))[0] == (await subjects(role, "--after", "0"))[0]


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("transaction", "list"), "see payments and rewards"),
        (("earnings",), "see payments and rewards"),
        (("transaction", "request-reward", "0xab"), "claim rewards and refunds"),
    ],
)
async def test_who_may_not_claim_is_told_so_and_nothing_of_providers(
    node: Node, args: tuple[str, ...], what: str
) -> None:
    refused = await nunet(node, Role.SPD, *args)
    assert refused.exit_code == Exit.DENIED
    assert f"a token of the role spd may not {what}" in refused.stderr
