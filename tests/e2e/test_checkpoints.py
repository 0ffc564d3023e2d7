"""Checkpoints, end to end: two daemons as processes, real containers, the workspace going over and coming back."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.fixtures.dms import Dms, Follower, pair, payment, request_body
from tests.fixtures.jobs import file_in

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

STEPS = 90
SUM = STEPS * (STEPS + 1) // 2


def counting(pause_seconds: float) -> str:
    """Counts to STEPS and sums up, with its state in the workspace; goes on from what is there."""
    return (
        "cd /workspace; n=0; sum=0; [ ! -e state ] || read n sum < state; echo from $n; "
        f"while [ $n -lt {STEPS} ]; do n=$((n+1)); sum=$((sum+n)); echo $n $sum > new; mv new state; "
        f"sleep {pause_seconds}; done; echo sum $sum"
    )


def resuming(body: dict[str, Any], progress_file: str) -> dict[str, Any]:
    params = body["params"] | {"resume_job": {"resume": True, "progress_file": progress_file}}
    return body | {"params": params}


@pytest.fixture
async def dmses(tmp_path: Path) -> AsyncIterator[tuple[Dms, Dms]]:
    async with pair(tmp_path) as both:
        yield both


@pytest.fixture
async def frequent(tmp_path: Path) -> AsyncIterator[tuple[Dms, Dms]]:
    """With a checkpoint every 0.6 s."""
    async with pair(tmp_path, job__log_update_interval="0.01", job__checkpoint_max_mb="1") as both:
        yield both


async def submit(sp: Dms, body: dict[str, Any], tx_hash: str) -> Follower:
    quote = await sp.post("/run/request-service", body)
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment(tx_hash, quote["job_id"]))
        async with asyncio.timeout(120):
            while "job.submitted" not in sp.topics(quote["job_id"]):
                await asyncio.sleep(0.02)
    return Follower(sp, quote["job_id"])


async def run(sp: Dms, body: dict[str, Any], tx_hash: str) -> Follower:
    follower = await submit(sp, body, tx_hash)
    await follower.until_over()
    return follower


async def received(sp: Dms, job_id: str) -> Path:
    """The job's newest checkpoint, once nothing is left to be fetched."""
    async with asyncio.timeout(120):
        while True:
            topics = sp.topics(job_id)
            if "job.checkpoint_received" in topics and topics.count("job.checkpoint_offered") and not wanted(topics):
                return sp.folder / "received_checkpoints" / f"{job_id}.tar.gz"
            await asyncio.sleep(0.05)


def wanted(topics: list[str]) -> bool:
    """Whether an offer stands behind the last one that was settled."""
    relevant = [t for t in topics if t.startswith("job.checkpoint_")]
    return bool(relevant) and relevant[-1] == "job.checkpoint_offered"


async def until(probe: Any, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not probe():
            await asyncio.sleep(0.05)


async def test_a_job_cut_off_by_its_time_limit_goes_on_and_ends_with_the_same_result(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    whole = await run(sp, request_body(counting(0)), "tx-whole")
    cut = await run(sp, request_body(counting(0.8), time=1), "tx-cut")
    assert cut.names[-1] == "job-failed"
    assert "time limit of 1 min reached" in str(cut.last_message)
    assert "sum" not in cut.text("stdout")
    archive = await received(sp, cut.job_id)
    reached = int(file_in(archive, "workspace/state").split()[0])
    assert 0 < reached < STEPS
    listed = {row["filename_path"]: row for row in await sp.get("/run/checkpoints")}
    assert listed[archive.name]["checkpoint_dir"] == str(archive.parent)
    assert abs(listed[archive.name]["last_modified"] - archive.stat().st_mtime) < 2

    again = resuming(request_body(counting(0)), archive.name)
    assert len((await sp.post("/run/request-service/dry-run", again))["candidates"]) == 1
    rest = await run(sp, again, "tx-rest")
    assert rest.names[-1] == "job-completed"
    assert rest.text("stdout") == f"from {reached}\nsum {SUM}\n"
    assert rest.text("stdout").splitlines()[-1] == whole.text("stdout").splitlines()[-1]
    restored = next(e for e in (await cp.get(f"/jobs/{rest.job_id}/history"))["items"] if "restored" in e["topic"])
    assert restored["data"]["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    await until(lambda: not list((cp.folder / "created_checkpoints").iterdir()))  # it has been told
    await until(lambda: not list((sp.folder / "resumes" / "out").iterdir()))
    await until(lambda: not list((cp.folder / "workspaces").iterdir()))


async def test_a_running_job_is_saved_now_and_then_and_can_be_gone_on_from_elsewhere(
    frequent: tuple[Dms, Dms],
) -> None:
    sp, _ = frequent
    follower = await submit(sp, request_body(counting(0.1) + "; sleep 600"), "tx-live")
    await until(lambda: sp.topics(follower.job_id).count("job.checkpoint_received") >= 3)
    await sp.post(f"/jobs/{follower.job_id}/stop", {})
    await follower.until_over()
    archive = await received(sp, follower.job_id)
    before = int(file_in(archive, "workspace/state").split()[0])
    other = await run(sp, resuming(request_body(counting(0)), str(archive)), "tx-live-2")
    assert other.text("stdout") == f"from {before}\nsum {SUM}\n"


@pytest.mark.parametrize(
    ("script", "last"),
    [("echo 1 > /workspace/x", "job-completed"), ("echo 1 > /workspace/x; exit 9", "job-failed")],
    ids=["completed", "failed"],
)
async def test_every_end_leaves_a_checkpoint_and_an_empty_workspace_none(
    dmses: tuple[Dms, Dms], script: str, last: str
) -> None:
    sp, _ = dmses
    follower = await run(sp, request_body(script), "tx-end")
    assert follower.names[-1] == last
    assert file_in(await received(sp, follower.job_id), "workspace/x") == b"1\n"
    empty = await run(sp, request_body("true"), "tx-empty")
    assert "job.checkpoint_offered" not in sp.topics(empty.job_id)
    assert len(await sp.get("/run/checkpoints")) == 1


async def test_a_workspace_beyond_the_bound_is_said_to_be_so_and_the_job_ends_as_ever(
    frequent: tuple[Dms, Dms],
) -> None:
    sp, cp = frequent
    big = await run(sp, request_body("head -c 2000000 /dev/urandom > /workspace/x", RAM=64), "tx-big")
    assert big.names[-1] == "job-completed"
    history = (await cp.get(f"/jobs/{big.job_id}/history"))["items"]
    assert ["more than 1 MiB" in e["data"]["reason"] for e in history if e["topic"].endswith("skipped")] == [True]
    assert await sp.get("/run/checkpoints") == []


async def test_only_a_received_checkpoint_can_be_gone_on_from(dmses: tuple[Dms, Dms], tmp_path: Path) -> None:
    sp, _ = dmses
    folder = sp.folder / "received_checkpoints"
    (tmp_path / "else.tar.gz").write_bytes(b"x")
    (folder / "link.tar.gz").symlink_to(tmp_path / "else.tar.gz")
    os.mkfifo(folder / "pipe.tar.gz")
    (folder / "foreign.tar.gz").write_bytes(b"x")
    os.chown(folder / "foreign.tar.gz", 65534, 65534)
    for name in (
        "", "missing.tar.gz", "link.tar.gz", "pipe.tar.gz", "foreign.tar.gz", str(tmp_path / "else.tar.gz"),
        f"{folder}/../events.db", "../events.db", "/etc/shadow", "a/b.tar.gz", f"{folder}/", "x\0.tar.gz",
    ):  # fmt: skip
        body = await sp.post("/run/request-service", resuming(request_body("true"), name), expect=400)
        assert "progress_file" in str(body), name
    assert await sp.get("/run/checkpoints") == []
    plain = request_body("true")
    plain["params"]["resume_job"] = {"resume": False, "progress_file": "/etc/shadow"}
    await sp.post("/run/request-service", plain)


async def test_an_archive_that_a_malicious_owner_offers_fails_the_job_with_the_reason(
    dmses: tuple[Dms, Dms], tmp_path: Path
) -> None:
    sp, cp = dmses
    evil = sp.folder / "received_checkpoints" / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as tar:
        link = tarfile.TarInfo("workspace/out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
    follower = await run(sp, resuming(request_body("echo ran"), "evil.tar.gz"), "tx-evil")
    assert follower.names == ["job-submitted", "job-failed"]
    assert "symbolic link" in str(follower.last_message)
    assert follower.lines == []
    for left in ("workspaces", "resumes/in"):
        await until(lambda left=left: not list((cp.folder / left).iterdir()))
