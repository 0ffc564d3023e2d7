"""A person is erased on both sides of a job: no byte of theirs is left in the data folder, and all still verifies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.e2e.test_main_job import frames_until_over, socket_of
from tests.fixtures import prepared
from tests.fixtures.dms import ADDRESS, Dms, pair, payment, poll, request_body
from tests.fixtures.live_folders import files_with
from tests.fixtures.registry import ALLOW, Registry, registry

__all__ = ["registry"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

ALICE = "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgs68faae"
TX = "0xA11CE000" + "5" * 56
OUTPUT = "alice-was-here-7c1f"
NO_IMAGE = "alice-private/no-such-image:1"


@pytest.fixture
async def dmses(tmp_path: Path) -> AsyncIterator[tuple[Dms, Dms]]:
    async with pair(tmp_path, job__image_allow=ALLOW) as both:
        yield both


async def run_for(sp: Dms, address: str, tx_hash: str, script: str, image: str = "") -> str:
    """The id of a job of that person's that has ended."""
    body = request_body(script)
    body["address_user"] = address
    body["params"]["image_id"] = image or body["params"]["image_id"]
    quote = await sp.post("/run/request-service", body)
    async with socket_of(sp) as socket:
        await socket.send(payment(tx_hash, quote["job_id"]))
        await frames_until_over(socket)
    return str(quote["job_id"])


def nunet(dms: Dms, *arguments: str, code: int = 0) -> Any:
    done = prepared.run([*arguments, "-o", "json"], {"DMS_URL": dms.url, "PATH": "/usr/bin:/bin"})
    assert done.returncode == code, (done.stdout, done.stderr)
    return orjson.loads(done.stdout) if done.stdout else None


async def test_after_erasure_no_byte_is_left_and_both_histories_verify(
    dmses: tuple[Dms, Dms], tmp_path: Path, registry: Registry
) -> None:
    sp, _ = dmses
    job_id = await run_for(sp, ALICE, TX, f"echo {OUTPUT}; echo {OUTPUT} > /workspace/notes")
    registry.publish(NO_IMAGE.removesuffix(":1"), "1")
    registry.blobs.clear()  # it is there when it is asked for, and can't be fetched
    failed_id = await run_for(sp, ALICE, "0xA11CE001" + "6" * 56, "true", f"{registry.address}/{NO_IMAGE}")
    kept_id = await run_for(sp, ADDRESS, "0xB0B" + "7" * 61, "echo bob")
    for dms in dmses:
        before = dms.head()
        preview = nunet(dms, "erasure", "run", ALICE, "--dry-run")
        assert sorted(preview["erased"]) == sorted([job_id, failed_id])
        nunet(dms, "erasure", "run", ALICE, code=2)  # nobody there to be asked
        done = nunet(dms, "erasure", "run", ALICE, "--yes")
        assert sorted(done["erased"]) == sorted([job_id, failed_id])
        assert (done["keys"], done["remaining"]) == (2, [])
        assert done["files"] >= 1
        assert await asyncio.to_thread(files_with, dms.folder, ALICE, TX, OUTPUT, NO_IMAGE, "alice-private") == []
        (erasure,) = (await dms.get("/erasures"))["items"]
        assert (erasure["state"], erasure["keys"]) == ("completed", 2)
        jobs = {job["job_id"]: job for job in (await dms.get("/jobs"))["items"]}
        assert (jobs[job_id]["status"], jobs[job_id]["image"]) == ("completed", "erased")
        assert (jobs[failed_id]["status"], jobs[failed_id]["reason"]) == ("failed", "erased")
        assert jobs[kept_id]["image"] != "erased"
        assert (await dms.get(f"/jobs/{job_id}/history"))["items"][0]["position"] <= before
        assert nunet(dms, "audit", "verify", "--database", str(dms.folder / "events.db"))["intact"] is True
    exports = []
    for dms in dmses:
        exports.append(str(tmp_path / f"{dms.folder.name}.ndjson"))
        nunet(dms, "events", "export", "--job", job_id, "-f", exports[-1])
    same = nunet(sp, "audit", "verify", "--export", exports[0], "--against", exports[1])
    assert same["differences"] == []
    assert same["bill"]["reward"]["reward_type"] == "withdraw"


async def test_an_erased_payment_pays_for_no_other_job(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    await run_for(sp, ALICE, TX, "true")
    for dms in (sp, cp):
        nunet(dms, "erasure", "run", TX, "--yes")
    quote = await sp.post("/run/request-service", request_body("true"))
    async with socket_of(sp) as socket:
        await socket.send(payment(TX, quote["job_id"]))
        frames = await frames_until_over(socket)
    assert frames[-1]["action"] == "job-failed"
    assert "was used already" in frames[-1]["message"]


async def test_what_has_not_ended_is_not_erased(dmses: tuple[Dms, Dms]) -> None:
    sp, _ = dmses
    ended = await run_for(sp, ALICE, TX, "true")
    body = request_body("sleep 600") | {"address_user": ALICE}
    running = (await sp.post("/run/request-service", body))["job_id"]
    async with socket_of(sp) as socket:
        await socket.send(payment("0xA11CE002", running))
        await asyncio.to_thread(poll, lambda: "job.deployment_responded" in sp.topics(running), "running")
        refused = await sp.post("/erasures", {"subject": ALICE}, expect=409)
        assert running in refused["error"]
        assert "Nothing was erased" in refused["error"]
        assert (await sp.get("/erasures"))["items"] == []
        done = await sp.post("/erasures", {"subject": ALICE, "skip_open": True})
        assert (done["erased"], [one["scope"] for one in done["open"]]) == ([ended], [running])
        await sp.post(f"/jobs/{running}/terminate", {"reason": "enough"})
        frames = await frames_until_over(socket)
    assert "enough" in frames[-1]["message"]
    assert (await sp.post("/erasures", {"subject": ALICE}))["erased"] == [running]
    assert await asyncio.to_thread(files_with, sp.folder, ALICE, "enough") == []
    await sp.post("/erasures", {"subject": ALICE}, expect=404)


@pytest.mark.slow
@pytest.mark.parametrize("after_seconds", [0.0, 0.01, 0.05, 0.2])
async def test_killed_while_it_erases_the_next_start_goes_on(dmses: tuple[Dms, Dms], after_seconds: float) -> None:
    sp, _ = dmses
    job_ids = [await run_for(sp, ALICE, f"0xA11CE{n:03}" + "5" * 56, f"echo {OUTPUT}") for n in range(3)]
    erasing = asyncio.create_task(broken(sp, {"subject": ALICE}))
    await asyncio.to_thread(poll, lambda: "erasure.requested" in sp.written_topics(), "the erasure is decided")
    await asyncio.sleep(after_seconds)
    sp.kill9()
    await erasing
    sp.start()
    await sp.ready()
    await asyncio.to_thread(poll, lambda: "erasure.completed" in sp.written_topics(), "the next start goes on with it")
    (erasure,) = (await sp.get("/erasures"))["items"]
    assert (erasure["state"], erasure["scopes"]) == ("completed", 3)
    assert await asyncio.to_thread(files_with, sp.folder, ALICE, OUTPUT, "0xA11CE") == []
    assert nunet(sp, "audit", "verify", "--database", str(sp.folder / "events.db"))["intact"] is True
    jobs = (await sp.get("/jobs"))["items"]
    assert sorted(job["job_id"] for job in jobs) == job_ids
    assert {job["image"] for job in jobs} == {"erased"}


async def broken(dms: Dms, body: dict[str, Any]) -> None:
    """A request whose answer may never come."""
    with suppress(httpx.HTTPError):
        async with httpx.AsyncClient(timeout=120) as client:
            await client.post(f"{dms.url}/api/v1/erasures", json=body)
