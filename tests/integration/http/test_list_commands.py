"""`nunet job list|summary|stop`, `nunet earnings`, `nunet policy` against a real daemon: they show what its
API shows."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dms.cli.client import Api
from dms.cli.main import cli
from dms.cli.policy import change_lists
from dms.domain.event import new_id
from dms.errors import Exit
from tests.integration.http.node import Node, running_node
from tests.integration.http.test_job_lists import OTHER, their_job


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def nunet(node: Node, *args: str) -> Result:
    def run() -> Result:
        return CliRunner().invoke(cli, args, env={"DMS_URL": node.url}, catch_exceptions=False)

    return await asyncio.to_thread(run)


async def test_jobs_are_listed_by_what_is_asked_for(node: Node) -> None:
    waiting, broken = await node.job(), await node.job()
    await node.fail(broken, "out of memory")
    dear = await their_job(node, "10", 60.0)

    async def listed(*args: str) -> list[str]:
        result = await nunet(node, "-o", "json", "job", "list", *args)
        assert result.exit_code == 0, result.stderr
        return [row["job_id"] for row in json.loads(result.stdout)]

    assert await listed() == [dear, broken, waiting]
    assert await listed("--search", "MEMORY") == [broken]
    assert await listed("--image", "registry.example/*") == [dear]
    assert await listed("--peer", OTHER, "--status", "completed,failed") == [dear]
    assert await listed("--sort", "price", "--reverse", "--offset", "1", "--limit", "1") == [broken]
    assert await listed("--since", "2999-01-01T00:00:00Z") == []
    assert await listed("--at", "1") == [waiting]
    few = await nunet(node, "job", "list", "--limit", "1")
    assert (dear in few.stdout, "1 of 3" in few.stderr) == (True, True)
    wrong = await nunet(node, "job", "list", "--since", "soon")
    assert (wrong.exit_code, "since is 'soon'" in wrong.stderr) == (Exit.FAILURE, True)


async def test_jobs_are_counted_and_added_up(node: Node) -> None:
    await node.job()
    await their_job(node, "0.4", 60.0)
    shown = await nunet(node, "job", "summary")
    assert shown.exit_code == 0, shown.stderr
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["jobs", "2"], ["awaiting", "1"], ["completed", "1"], ["failed", "in", "the", "last", "24", "h", "0"],
        ["spent", "0", "NTX"], ["open", "jobs,", "at", "most", "0.1", "NTX"],
        ["earned", "0.4", "NTX"], ["still", "to", "claim", "0.4", "NTX"],
    ]  # fmt: skip
    found = json.loads((await nunet(node, "-o", "json", "job", "summary", "--role", "cp")).stdout)
    assert (found["by_status"], found["earned_ntx"]) == ({"completed": 1}, "0.4")


async def test_several_jobs_are_stopped_after_a_look_at_which(node: Node) -> None:
    first, second, over = await node.job(), await node.job(), await node.job()
    await node.fail(over, "broken")
    head = node.log.head
    looked = await nunet(node, "job", "stop", first, second, over, "--dry-run")
    assert (looked.exit_code, node.log.head) == (0, head)
    assert looked.stdout.count("would be stopped") == 2
    stopped = await nunet(node, "-o", "json", "job", "stop", first, second, over, "--reason", "wrong data")
    assert [told["outcome"] for told in json.loads(stopped.stdout)] == ["stopping", "stopping", "over"]
    assert stopped.exit_code == Exit.CONFLICT
    assert (await nunet(node, "job", "stop", first)).exit_code == Exit.CONFLICT
    assert (await nunet(node, "job", "stop", new_id(), "--dry-run")).exit_code == 0
    assert (await nunet(node, "job", "stop")).exit_code == Exit.USAGE


async def test_earnings_as_a_table_as_json_and_as_csv(node: Node) -> None:
    nothing = await nunet(node, "earnings")
    assert (nothing.stdout, "no paid job is over yet" in nothing.stderr) == ("", True)
    await their_job(node, "0.4", 60.0)
    await their_job(node, "0.1", 60.0, claimed=True)
    table = (await nunet(node, "earnings", "--by", "peer")).stdout.splitlines()
    assert [line.split() for line in table] == [
        ["PEER", "JOBS", "EARNED", "CLAIMED", "PAID", "OUT", "TO", "CLAIM", "SPENT"],
        [OTHER, "2", "0.5", "0.1", "0", "0.4", "0"],
        ["in", "all", "2", "0.5", "0.1", "0", "0.4", "0"],
    ]
    found = json.loads((await nunet(node, "-o", "json", "earnings", "--role", "cp")).stdout)
    assert (found["by"], found["total"]["earned_ntx"]) == ("day", "0.5")
    rows = list(csv.reader(io.StringIO((await nunet(node, "earnings", "--by", "peer", "--csv")).stdout)))
    assert (rows[0][0], rows[1][:3]) == ("peer", [OTHER, "2", "0.5"])
    assert (await nunet(node, "-o", "json", "earnings", "--csv")).exit_code == Exit.USAGE


async def test_lists_of_a_policy_that_several_change_at_once_get_every_change(node: Node) -> None:
    images = [f"image-{number}" for number in range(3)]  # fewer than the threads of the daemon in this process

    def deny(image: str) -> None:
        with closing(Api(node.url)) as api:
            change_lists(api, "images", lambda lists: lists | {"deny": [*lists["deny"], image]})

    await asyncio.gather(*(asyncio.to_thread(deny, image) for image in images))
    shown = json.loads((await nunet(node, "policy", "show", "-o", "json")).stdout)
    assert sorted(shown["images"]["deny"]) == images
