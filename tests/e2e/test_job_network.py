"""A client of the original's and its image, which fetches its model itself: run to the end where providers give the
internet, refused before payment where they give none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from docker import APIClient

from dms.adapters.executors.profile import LABEL_GATEWAY_NODE
from tests.fixtures.dms import Dms, pair, request_body
from tests.fixtures.hostile import probe_image
from tests.fixtures.oldest_client import OldestClient
from tests.fixtures.public_internet import LAN, World, public_internet
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]
FETCHES = f"wget -q -O - http://model.example/model && probe tcp {LAN[0]} 80"


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


async def test_the_originals_image_fetches_its_model_and_reaches_no_lan(dmses: tuple[Dms, Dms]) -> None:
    sp, cp = dmses
    client = OldestClient(sp.rest_port)
    await client.request(probe_image(), FETCHES)
    async with asyncio.timeout(120), aclosing(client.run("tx-fetches")) as frames:
        seen = [frame async for frame in frames]
    assert seen[-1][0] == "job-completed"
    assert "".join(text for action, text in seen if action == "log-stream-response") == (
        "weights\nrefused (No route to host)\n"
    )
    ours = {"label": f"{LABEL_GATEWAY_NODE}={(await cp.get('/peers/self'))['ID']}"}
    with contextlib.closing(APIClient(version="auto")) as api:
        await wait_for(lambda: not (api.containers(all=True, filters=ours) or api.networks(filters=ours)))


async def test_it_is_refused_before_payment_where_no_provider_gives_the_internet(
    dmses: tuple[Dms, Dms], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with pair(tmp_path_factory.mktemp("closed")) as (sp, cp):
        body = request_body(FETCHES)
        del body["constraints"]["network"]  # as the original's clients leave it out
        answer = await sp.post("/run/request-service", body, expect=404)
        provider = (await cp.get("/peers/self"))["ID"]
        assert answer["refused"] == {provider: "gives jobs no internet"}
        assert (await cp.get("/device/status"))["network_trouble"] == "job.network is none"
        body["constraints"]["network"] = "none"
        assert (await sp.post("/run/request-service", body))["compute_provider_id"] == provider
