"""Results, end to end: two daemons, real containers, the files that a job left in the hands of who asked for it; with a
provider that may mount, and with one that is only of the group docker, as the packaged service is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_checkpoints import run, submit, until
from tests.fixtures.dms import Dms, containers_of, pair, poll, request_body, unlike_pair
from tests.fixtures.plain_http import NO_TLS

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

LEAVING = (
    "cd /workspace; mkdir -p results/deep; head -c 3000000 /dev/urandom > results/model.bin; "
    "sha256sum results/model.bin | cut -d' ' -f1; chmod 750 results/model.bin; "
    "echo low > 'results/deep/a loss #1.txt'; "
    "ln -s /etc/passwd results/link; echo scratch > other"
)
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path.cwd())}
PATHS = ["results/deep/a loss #1.txt", "results/model.bin"]


@asynccontextmanager
async def two(kind: str, folder: Path, **settings: str) -> AsyncIterator[tuple[Dms, Dms]]:
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    async with unlike_pair(folder, dotted, dotted, {}, cp_of_docker_group=kind == "of group docker") as both:
        yield both


@pytest.fixture(params=["may mount", "of group docker"])
async def dmses(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Dms, Dms]]:
    """What the provider may."""
    async with two(request.param, tmp_path) as both:
        yield both


async def here(sp: Dms, job_id: str) -> dict[str, Any]:
    """The list of results, once they are settled."""
    async with asyncio.timeout(120):
        while (found := await sp.get(f"/jobs/{job_id}/results"))["state"] in ("fetching", "awaited"):
            await asyncio.sleep(0.05)
    assert isinstance(found, dict)
    return found


async def content(sp: Dms, job_id: str, path: str, expect: int = 200, **headers: str) -> bytes:
    async with httpx.AsyncClient(verify=NO_TLS, timeout=120) as client:
        answer = await client.get(f"{sp.url}/api/v1/jobs/{job_id}/results{path}", headers=headers)
        assert answer.status_code == expect, answer.text
        return answer.content


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=120).stdout


def volumes_of(job_id: str) -> list[str]:
    return docker("volume", "ls", "-q", "--filter", f"label=io.nunet.dms.job_id={job_id}").split()


async def event(dms: Dms, job_id: str, topic: str) -> dict[str, Any]:
    items = (await dms.get(f"/jobs/{job_id}/history"))["items"]
    return next(dict(item["data"]) for item in items if item["topic"] == topic)


def nunet(sp: Dms, *arguments: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "dms.cli", "--url", sp.url, *arguments],
        capture_output=True, text=True, timeout=300, check=False, cwd=folder, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


async def test_what_a_job_leaves_comes_back_whole_to_who_asked(dmses: tuple[Dms, Dms], tmp_path: Path) -> None:
    sp, cp = dmses
    job = await run(sp, request_body(LEAVING), "tx-results")
    assert job.names[-1] == "job-completed", job.last_message
    found = await here(sp, job.job_id)
    assert (found["state"], found["origin"], found["files"], found["left_out"]) == ("here", "results", 2, 1)
    assert [item["path"] for item in found["items"]] == PATHS
    assert found["items"][1]["sha256"] == job.text("stdout").strip()
    for dms, topic in ((cp, "deployment.results_saved"), (sp, "job.results_offered"), (sp, "job.results_received")):
        assert (await event(dms, job.job_id, topic))["sha256"] == found["archive_sha256"], topic

    whole = await content(sp, job.job_id, "/results/model.bin")
    assert hashlib.sha256(whole).hexdigest() == found["items"][1]["sha256"]
    middle = await content(sp, job.job_id, "/results/model.bin", 206, range="bytes=1000000-1000009")
    assert middle == whole[1_000_000:1_000_010]
    assert await content(sp, job.job_id, "/results/model.bin", 206, range="bytes=-5") == whole[-5:]
    await content(sp, job.job_id, "/results/model.bin", 416, range="bytes=3000000-")
    await content(sp, job.job_id, "/results/model.bin", 400, range="lines=1-2")
    assert await content(sp, job.job_id, "/results/deep/a%20loss%20%231.txt") == b"low\n"
    for path in ("/other", "/results", "/..%2f..%2fevents.db", "/results/../../events.db", "/%00", "/results/link"):
        assert b"low" not in await content(sp, job.job_id, path, 404)
    with tarfile.open(fileobj=io.BytesIO(await content(sp, job.job_id, ".tar"))) as tar:
        assert sorted(tar.getnames()) == PATHS
        member = tar.extractfile(PATHS[1])
        assert member is not None
        assert member.read() == whole

    nunet(sp, "job", "results", job.job_id, "-d", "out", folder=tmp_path)
    assert (tmp_path / "out/results/model.bin").read_bytes() == whole
    assert (tmp_path / "out/results/model.bin").stat().st_mode & 0o100
    assert (tmp_path / "out" / PATHS[0]).stat().st_mode & 0o111 == 0
    listed = json.loads(nunet(sp, "job", "results", job.job_id, "--list", "-o", "json", folder=tmp_path).stdout)
    assert [row["path"] for row in listed] == PATHS
    nunet(sp, "job", "results", job.job_id, "-d", "some", "results/deep", folder=tmp_path)
    assert [path.name for path in (tmp_path / "some").rglob("*.*")] == ["a loss #1.txt"]
    nunet(sp, "job", "results", job.job_id, "nothing/here", folder=tmp_path, code=3)

    await until(lambda: not containers_of(job.job_id) and not volumes_of(job.job_id))
    await until(lambda: "deployment.results_deleted" in cp.topics(job.job_id))
    await until(lambda: not list((cp.folder / "created_results").iterdir()))


@pytest.mark.parametrize("script", ["exit 9", "sleep 600"], ids=["failed", "stopped"])
async def test_a_job_that_failed_or_was_stopped_gives_its_files_back_as_well(
    dmses: tuple[Dms, Dms], script: str
) -> None:
    sp, cp = dmses
    job = await submit(sp, request_body(f"echo 7 > /workspace/epoch; echo saved; {script}"), "tx-ends")
    following = asyncio.create_task(job.until_over())
    await until(lambda: "saved" in job.text("stdout") or job.over)
    if script.startswith("sleep"):
        await sp.post(f"/jobs/{job.job_id}/stop", {})
    await following
    assert job.names[-1] == "job-failed"
    found = await here(sp, job.job_id)
    assert [item["path"] for item in found["items"]] == ["epoch"]
    assert await content(sp, job.job_id, "/epoch") == b"7\n"
    topics = cp.topics(job.job_id)
    assert topics.index("deployment.results_saved") < topics.index("deployment.log_sealed")


async def test_only_what_the_request_names_comes_back(dmses: tuple[Dms, Dms]) -> None:
    sp, _ = dmses
    body = request_body("cd /workspace; mkdir -p out/a results; touch out/a/1.bin out/a/2.txt results/x last")
    body["params"]["results"] = ["out/**/*.bin", "las?"]
    job = await run(sp, body, "tx-patterns")
    assert [item["path"] for item in (await here(sp, job.job_id))["items"]] == ["last", "out/a/1.bin"]


async def test_while_a_job_runs_its_newest_checkpoint_can_be_looked_into(tmp_path: Path) -> None:
    async with pair(tmp_path, job__log_update_interval="0.01") as (sp, _):
        job = await submit(sp, request_body("cd /workspace; echo 1 > epoch; sleep 600"), "tx-live")
        await until(lambda: "job.checkpoint_received" in sp.topics(job.job_id))
        found = await sp.get(f"/jobs/{job.job_id}/results")
        assert (found["state"], found["origin"], found["checkpoint"]) == ("awaited", "checkpoint", 1)
        assert await content(sp, job.job_id, "/epoch") == b"1\n"
        shown = nunet(sp, "job", "results", job.job_id, "--list", folder=tmp_path)
        assert "checkpoint 1" in shown.stderr
        await sp.post(f"/jobs/{job.job_id}/stop", {})
        await job.until_over()


async def test_a_job_that_leaves_nothing_says_so(tmp_path: Path) -> None:
    async with pair(tmp_path) as (sp, _):
        job = await run(sp, request_body("true"), "tx-nothing")
        assert (await here(sp, job.job_id))["state"] == "none"
        assert b"left no files" in await content(sp, job.job_id, "/x", 404)
        done = nunet(sp, "job", "results", job.job_id, folder=tmp_path, code=3)
        assert "left no files" in done.stderr


async def test_who_names_what_comes_back_is_not_given_the_checkpoint_in_its_place(tmp_path: Path) -> None:
    body = request_body("cd /workspace; echo 1 > x.bin")
    body["params"]["results"] = ["nothing/**"]
    async with pair(tmp_path) as (sp, _):
        job = await run(sp, body, "tx-unmatched")
        await until(lambda: "job.checkpoint_received" in sp.topics(job.job_id))
        found = await here(sp, job.job_id)
        assert (found["state"], found["origin"], found["files"]) == ("none", "", 0)
        assert "params.results" in found["reason"]
        done = nunet(sp, "job", "results", job.job_id, folder=tmp_path, code=3)
        assert "params.results" in done.stderr


async def test_a_provider_that_lost_what_a_job_left_is_not_paid(tmp_path: Path) -> None:
    """Its holder was removed by somebody on the machine, while the job ran."""
    async with two("of group docker", tmp_path) as (sp, _):
        job = await submit(sp, request_body("echo 1 > /workspace/x; echo saved; sleep 15"), "tx-lost")
        following = asyncio.create_task(job.until_over())
        await until(lambda: "saved" in job.text("stdout"))
        holders = [name for name in containers_of(job.job_id) if "holder" in name]
        assert len(holders) == 1
        await asyncio.to_thread(docker, "rm", "-f", *holders)
        await following
        assert job.names[-1] == "job-failed"
        assert "the provider lost what the job left" in str(job.last_message)
        assert (await event(sp, job.job_id, "job.failed"))["fault"] == "provider"
        found = await sp.get(f"/jobs/{job.job_id}/results")
        assert (found["state"], found["files"]) == ("lost", 0)
        assert "workspace is gone" in found["reason"]
        await until(lambda: not containers_of(job.job_id) and not volumes_of(job.job_id))


RESULT_MB = int(os.environ.get("DMS_TEST_RESULT_MB", "96"))  # 1024 was tried as well


@pytest.mark.slow
async def test_large_results_come_back_whole_over_a_requester_that_is_killed_at_half(tmp_path: Path) -> None:
    """By a provider without the right to mount; what was there of them is gone on with."""
    async with two("of group docker", tmp_path, job__checkpoint_max_mb="1") as (sp, cp):
        script = (
            f"mkdir /workspace/results; cd /workspace/results; head -c {RESULT_MB * 2**20} /dev/urandom > model.bin; "
            "sha256sum model.bin | cut -d' ' -f1"
        )
        job = await submit(sp, request_body(script, RAM=2 * RESULT_MB + 200), "tx-large")
        await job.until_over(600)
        assert job.names[-1] == "job-completed", job.last_message
        part = sp.folder / "received_results" / ".incoming" / f"{job.job_id}.tar.gz.part"
        whole = (await event(cp, job.job_id, "deployment.results_saved"))["size_bytes"]
        half = int(whole) // 2

        def at_half() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return part.stat().st_size >= half
            return "job.results_received" in sp.topics(job.job_id)

        await asyncio.to_thread(poll, at_half, "half of the results", 600)
        sp.kill9()
        kept = part.stat().st_size
        assert half <= kept < whole
        sp.start()
        await sp.ready()
        async with asyncio.timeout(600):
            while (found := await sp.get(f"/jobs/{job.job_id}/results"))["state"] == "fetching":
                assert found["done_bytes"] >= kept
                await asyncio.sleep(0.1)
        assert [item["sha256"] for item in found["items"]] == [job.text("stdout").strip()]
        nunet(sp, "job", "results", job.job_id, "-d", "out", folder=tmp_path)
        with (tmp_path / "out/results/model.bin").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == job.text("stdout").strip()
