"""A disk that is full, broken or slow under each store, at each of its steps, while a job is under way: clients are
told clearly, `/readyz` too, nothing acknowledged is lost, and once the disk is well all goes on without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets
from msgspec import Struct

from tests.fixtures.disk_shim import BROKEN, FULL, SLOW, DiskShim, Done, Fault, Step, read_trace
from tests.fixtures.dms import Dms, Follower, payment, request_body, unlike_pair
from tests.fixtures.plain_http import NO_TLS
from tests.fixtures.waiting import wait_for

pytestmark = [
    pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images"),
    pytest.mark.asyncio(loop_scope="module"),
]  # fmt: skip

STORES = {
    "events": "events.db*",
    "views": "views.db*",
    "outputs": "logs*",
    "checkpoints": "*_checkpoints*",
    "results": "*_results*",
    "inputs": "inputs*",
    "resumes": "resumes*",
    "heads": "*heads.json*",
    "log file": "dms.log",
}
W, S, F, C, R, L, U, M, T, D = (
    Step.WRITE, Step.SYNC, Step.SYNC_FOLDER, Step.CREATE, Step.RENAME, Step.LINK, Step.UNLINK, Step.MKDIR,
    Step.TRUNCATE, Step.RMDIR,
)  # fmt: skip
Table = dict[tuple[str, str], Sequence[Step]]
TABLE: Table = {
    ("sp", "events"): (W, S), ("cp", "events"): (W, S),
    ("sp", "views"): (W,), ("cp", "views"): (W,),
    ("sp", "outputs"): (C, W, S, F), ("cp", "outputs"): (C, W, S, F),
    ("sp", "checkpoints"): (C, W, S, F, R), ("cp", "checkpoints"): (C, W, S, F, R, U),
    ("sp", "results"): (C, W, S, F, R), ("cp", "results"): (C, W, S, F, R, U),
    ("cp", "inputs"): (M, C, W, S, F, R, L, U, D),
}  # fmt: skip
"""Which steps a job with an input takes, by role and store: a test holds it against what a job really does."""

BESIDES: dict[str, Table] = {
    "whole": {("sp", "results"): (L,), ("cp", "checkpoints"): (L,)},
    "resumed": {("sp", "resumes"): (F, R, L, U), ("cp", "resumes"): (C, W, S, F, R, U)},
}
"""What others do: one whose results are all of its workspace, so the same archive as its last checkpoint, and one that
goes on from the checkpoint of an earlier one."""

SCRIPT = (
    "mkdir -p /workspace/results; head -c 300000 /dev/urandom > /workspace/results/model; "
    "for i in 1 2 3; do echo line $i; done"
)


class Cell(Struct, frozen=True):
    """job: "given" an input, or one of BESIDES. skip: so many of these steps go well before."""

    job: str
    role: str
    store: str
    step: Step
    fault: Fault
    skip: int

    @property
    def name(self) -> str:
        return f"{self.fault.name} {self.role} {self.store} {self.step.name} after {self.skip}, {self.job}"


def cells() -> list[Cell]:
    return [
        Cell(job, role, store, step, fault, skip)
        for job, table in {"given": TABLE, **BESIDES}.items()
        for (role, store), steps in table.items()
        for step in steps
        for fault in (FULL, BROKEN, SLOW)
        if step in fault.steps
        for skip in ((0, 3) if step in (W, S) and store in ("events", "views") else (0,))
    ]


def chosen() -> list[Cell]:
    """One for each store of a role; DISK_FAULTS=all: all of them, or a number: others, by that seed."""
    found = cells()
    if os.environ.get("DISK_FAULTS") == "all":
        return found
    random = Random(os.environ.get("DISK_FAULTS", "1"))
    stores = dict.fromkeys((cell.role, cell.store) for cell in found)
    return [random.choice([cell for cell in found if (cell.role, cell.store) == store]) for store in stores]


class World:
    def __init__(self, sp: Dms, cp: Dms, shims: dict[str, DiskShim], given: Path) -> None:
        self.sp, self.cp, self.shims, self._given = sp, cp, shims, given

    def body(self, job: str) -> dict[str, Any]:
        """See Cell."""
        body = request_body(SCRIPT)
        if job == "whole":
            body["params"]["results"] = ["**"]
        if job == "given":
            body["params"]["inputs"] = [{"url": self._input().as_uri()}]
        if job == "resumed":
            archive = next((self.sp.folder / "received_checkpoints").glob("*.tar.gz"))
            body["params"]["resume_job"] = {"resume": True, "progress_file": archive.name}
        return body

    def _input(self) -> Path:
        """One of its own, so that it is not in the cache."""
        file = self._given / f"given-{len(list(self._given.iterdir()))}"
        file.write_bytes(os.urandom(300_000))
        return file

    async def troubles(self) -> list[str]:
        """What /readyz says of both: why one is not ready, or what of it does not work."""
        found = []
        async with httpx.AsyncClient(verify=NO_TLS, timeout=120) as client:
            for dms in (self.sp, self.cp):
                answer = await client.get(f"{dms.url}/readyz")
                if answer.status_code != 200:
                    found.append(answer.text)
                else:
                    found += answer.json()["degraded"]
        return found

    async def are_well(self) -> None:
        async with asyncio.timeout(240):
            while await self.troubles():
                await asyncio.sleep(0.05)


class Client:
    """One that wants its job done, whatever it is answered meanwhile."""

    def __init__(self, world: World, job: str) -> None:
        """job: see Cell."""
        self._world, self._job, self.refused = world, job, list[str]()
        self.job_id = ""
        self.follower: Follower | None = None

    async def run(self) -> None:
        body = self._world.body(self._job)
        async with httpx.AsyncClient(verify=NO_TLS, timeout=120) as client:
            while not self.job_id:
                answer = await client.post(f"{self._world.sp.url}/api/v1/run/request-service", json=body)
                if answer.status_code == 200:
                    self.job_id = answer.json()["job_id"]
                else:
                    assert answer.status_code in (404, 503), answer.text  # also: the provider can't answer
                    self.refused.append(answer.text)
                    await asyncio.sleep(0.1)
        await self._pay()
        self.follower = Follower(self._world.sp, self.job_id)
        await self.follower.until_over(240)

    async def until_served(self) -> None:
        """The job is over, and what it left is here."""
        await self.run()
        await results_here(self._world, self.job_id)

    async def _pay(self) -> None:
        """Until that is on record."""
        while "job.submitted" not in self._world.sp.topics(self.job_id):
            with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError):
                async with websockets.connect(f"ws://127.0.0.1:{self._world.sp.rest_port}/api/v1/run/deploy") as socket:
                    await socket.send(payment(f"tx-{self.job_id}", self.job_id))
                    async with asyncio.timeout(2):
                        while "job.submitted" not in self._world.sp.topics(self.job_id):
                            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("disks")
    (given := folder / "given").mkdir()
    shims = {role: DiskShim(folder / "shims" / role, folder / role, record=True) for role in ("sp", "cp")}
    async with unlike_pair(
        folder, {"files.send_folders": str(given)}, {}, {},
        sp_environment=shims["sp"].environment, cp_environment=shims["cp"].environment,
    ) as (sp, cp):  # fmt: skip
        made = World(sp, cp, shims, given)
        await Client(made, "whole").until_served()  # whose checkpoint others go on from
        yield made


async def results_here(world: World, job_id: str) -> None:
    async with asyncio.timeout(240):
        while (found := await world.sp.get(f"/jobs/{job_id}/results"))["state"] in ("fetching", "awaited"):
            await asyncio.sleep(0.05)
    assert found["state"] == "here", found
    assert found["files"] == 1


def taken(steps: Sequence[Done]) -> dict[str, set[Step]]:
    found: dict[str, set[Step]] = {}
    for done in steps:
        for store, pattern in STORES.items():
            if fnmatch(done.path, pattern):
                found.setdefault(store, set()).add(done.kind)
    return found


@pytest.mark.parametrize("job", ["given", *BESIDES])
async def test_the_table_has_all_that_a_job_does_to_its_disks(world: World, job: str) -> None:
    before = {role: shim.steps for role, shim in world.shims.items()}
    client = Client(world, job)
    await client.until_served()
    await wait_for(lambda: "deployment.results_deleted" in world.cp.topics(client.job_id))

    def found() -> dict[tuple[str, str], set[Step]]:
        return {
            (role, store): steps
            for role, shim in world.shims.items()
            for store, steps in taken(read_trace(shim.trace)[before[role] :]).items()
            if store not in ("heads", "log file")
        }

    def missing() -> Table:
        """What the table has, and the job has not done yet."""
        seen, wanted = found(), BESIDES.get(job, TABLE)
        return {place: rest for place, steps in wanted.items() if (rest := tuple({*steps} - seen.get(place, set())))}

    with contextlib.suppress(TimeoutError):
        await wait_for(lambda: not missing())
    assert missing() == {}
    for place, done in found().items():
        assert done <= {*TABLE.get(place, ()), *BESIDES.get(job, {}).get(place, ())}, place


@pytest.mark.parametrize("cell", chosen(), ids=lambda cell: cell.name)
async def test_a_disk_that_fails_under_a_job_is_told_and_survived(world: World, cell: Cell) -> None:
    await world.are_well()
    client = Client(world, cell.job)
    told: list[str] = []
    with world.shims[cell.role].armed(STORES[cell.store], cell.step, cell.fault, skip=cell.skip) as armed:
        running = asyncio.create_task(client.until_served())
        async with asyncio.timeout(240):
            while armed.hits < 2 and not (armed.hits and running.done()):  # else the fault did not happen
                told += await world.troubles()
                await asyncio.sleep(0.05)
        told += await world.troubles()
    await running
    await world.are_well()
    follower = client.follower
    assert follower is not None
    assert follower.names[-1] == "job-completed"
    assert [text for _, _, text in follower.lines] == ["line 1\n", "line 2\n", "line 3\n"]
    for text in client.refused:
        assert re.search("can't be written|can't be kept for the job|no peers found with matched specs", text), text
    if cell.fault is not SLOW and cell.step in (Step.WRITE, Step.SYNC) and cell.store in ("events", "views", "outputs"):
        assert told, "nobody could know"
    log = "\n".join(dms.log_tail(10_000) for dms in (world.sp, world.cp))
    assert "Traceback" not in log, log[log.index("Traceback") - 2000 :][:4000]
    assert json.loads(log.splitlines()[-1])


@pytest.fixture(autouse=True)
def lifted(world: World) -> Any:
    yield
    for shim in world.shims.values():
        shim.lift_all()
