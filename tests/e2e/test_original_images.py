"""An image as the original's: its entry point takes the model's URL and the packages, fetches both itself, and leaves
checkpoints below /workspace. Asked for by the oldest client, on the defaults of a fresh install."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio
from docker import APIClient

from ops.demo_image import build_image
from tests.fixtures.dms import Dms, pair
from tests.fixtures.jobs import file_in
from tests.fixtures.oldest_client import OldestClient
from tests.fixtures.public_internet import World, public_internet
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]

# As `python run.py MODEL_URL "PACKAGE PACKAGE"` does: exactly two arguments, and a workspace that it makes itself.
ENTRY = """set -e
[ $# = 2 ] || { echo "expected two arguments, got $#" >&2; exit 64; }
mkdir -p /workspace/checkpoints
cd /workspace
for package in $2; do
  wget -q -O "$HOME/$package.whl" "http://model.example/$package"
  echo "Successfully installed $package"
done
wget -q -O model.py "$1"
echo "training $(cat model.py)"
for epoch in 1 2 3; do echo "epoch $epoch" > checkpoints/last; echo "epoch $epoch" >&2; done
"""


@pytest.fixture(scope="module")
def ml_image() -> str:
    tag = f"dms-test/ml-on-cpu:{hashlib.sha256(ENTRY.encode()).hexdigest()[:12]}"
    with contextlib.closing(APIClient(version="auto")) as api:
        return build_image(api, tag, [f"ENTRYPOINT {json.dumps(['/bin/sh', '-c', ENTRY, 'run.py'])}"])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with public_internet() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dmses(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Dms, Dms]]:
    """As a fresh install has it, but for where "the internet" is."""
    settings = {"job__network_range": str(world.range), "job__resolver": str(world.resolver)}
    async with pair(tmp_path_factory.mktemp("pair"), job__network="auto", **settings) as both:
        await both[0].sees_internet()
        yield both


async def test_it_fetches_trains_and_leaves_a_checkpoint(dmses: tuple[Dms, Dms], ml_image: str) -> None:
    sp, _ = dmses
    client = OldestClient(sp.rest_port)
    await client.request(ml_image, "http://model.example/model.py", packages=("numpy", "torch"))
    seen: list[tuple[str, Any]] = []
    async with asyncio.timeout(120), aclosing(client.run("tx-original")) as frames:
        seen += [frame async for frame in frames]
    assert [action for action, _ in seen if action != "log-stream-response"] == [
        "connected", "job-submitted", "deployment-response", "job-completed",
    ]  # fmt: skip
    printed = "".join(text or "" for action, text in seen if action == "log-stream-response")
    assert printed == "Successfully installed numpy\nSuccessfully installed torch\ntraining weights\n"

    [row] = [job for job in (await sp.get("/jobs"))["items"] if job["image"] == ml_image]
    archive = sp.folder / "received_checkpoints" / f"{row['job_id']}.tar.gz"
    await wait_for(lambda: archive.exists() and file_in(archive, "workspace/checkpoints/last") == b"epoch 3\n")
    assert file_in(archive, "workspace/model.py") == b"weights\n"


async def test_what_it_can_not_fetch_fails_the_job_by_its_own_fault(dmses: tuple[Dms, Dms], ml_image: str) -> None:
    sp, _ = dmses
    client = OldestClient(sp.rest_port)
    await client.request(ml_image, "http://nowhere.example/model.py", packages=())
    async with asyncio.timeout(120), aclosing(client.run("tx-nowhere")) as frames:
        seen = [frame async for frame in frames]
    assert seen[-1] == ("job-failed", "finished with errors: exit code 1")
