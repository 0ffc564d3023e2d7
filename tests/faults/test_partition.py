"""The two sides are cut off from each other in mid-job; neither process is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import websockets

from tests.fixtures.dms import Dms, Follower, payment, poll, request_body
from tests.fixtures.engine_starts import EngineStarts
from tests.fixtures.netns import other_host

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

CUT_SECONDS = 30
LINES = 450  # at 10 a second the job outlives the cut


async def test_cut_off_for_half_a_minute_nothing_is_lost_or_doubled(
    tmp_path: Path, engine_starts: EngineStarts
) -> None:
    with other_host() as host:
        cp = Dms(tmp_path / "cp", netns=host.name, host=host.address)
        sp: Dms | None = None
        cp.start()
        try:
            await cp.ready()
            await cp.onboard()
            sp = Dms(tmp_path / "sp", listen=[f"/ip4/{host.ours}/tcp/0"], bootstrap=[await cp.address()])
            sp.start()
            await sp.ready()
            await sp.sees_provider()
            script = f"i=1; while [ $i -le {LINES} ]; do echo out $i; i=$((i+1)); sleep 0.1; done"
            quote = await sp.post("/run/request-service", request_body(script))
            follower = Follower(sp, quote["job_id"])
            following = asyncio.create_task(follower.until_over(180))
            await pay(sp, quote["job_id"])
            await asyncio.to_thread(poll, lambda: len(follower.lines) > 20, "the first lines")
            host.cut()
            seen = len(follower.lines)
            await asyncio.sleep(CUT_SECONDS)
            assert len(follower.lines) - seen < CUT_SECONDS * 5, "the cut did not cut"
            host.mend()
            await following
            assert follower.names == ["job-submitted", "deployment-response", "job-completed"]
            assert [seq for seq, _, _ in follower.lines] == list(range(1, LINES + 1))
            assert follower.text("stdout") == "".join(f"out {i}\n" for i in range(1, LINES + 1))
            assert engine_starts.of(quote["job_id"]) == 1
        finally:
            for dms in (sp, cp):
                if dms is not None:
                    dms.end()


async def pay(sp: Dms, job_id: str) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{sp.rest_port}/api/v1/run/deploy") as socket:
        await socket.send(payment("tx-cut", job_id))
        async with asyncio.timeout(120):
            while "job.submitted" not in sp.topics(job_id):
                await asyncio.sleep(0.05)
