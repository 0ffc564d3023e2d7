"""Onboarding over REST, and the metadata file that other programs read: real log, views and files."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dms.adapters.metadata import file as metadata_module
from dms.adapters.wallets.maker import new_wallet
from dms.domain.device import Capacity, Device, Offer
from dms.domain.resources import Gpu
from tests.fixtures.waiting import wait_for
from tests.integration.http.node import ADDRESS, Node, running_node

API = "/api/v1"
ETHEREUM = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # EIP-55's test vector
OFFER: dict[str, Any] = {"memory": 8000, "cpu": 4000, "channel": "nunet-test", "payment_addr": ADDRESS}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as running:
        yield running


async def onboard(node: Node, expect: int = 200, **change: Any) -> dict[str, Any]:
    return await post(node, "onboard", OFFER | change, expect)


async def post(node: Node, path: str, body: Any = None, expect: int = 200) -> dict[str, Any]:
    async with node.client() as client:
        content = {} if body is None else {"json": body}
        answer = await client.post(f"{API}/onboarding/{path}", **content)
        assert answer.status_code == expect, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def status(node: Node) -> dict[str, Any]:
    async with node.client() as client:
        found: dict[str, Any] = (await client.get(f"{API}/onboarding/status")).json()
        return found


async def topics(node: Node) -> list[str]:
    return [event.topic for event in await node.log.read(0, 1000)]


# --- what may be offered ---------------------------------------------------------------------------------
@pytest.mark.parametrize(("cpu", "memory"), [(800, 1600), (7200, 14_400)])
async def test_a_tenth_and_nine_tenths_are_the_bounds_and_belong_to_the_range(
    node: Node, cpu: int, memory: int
) -> None:
    await onboard(node, cpu=cpu, memory=memory)
    step = -1 if cpu == 800 else 1
    assert "CPU should be between" in (await onboard(node, 400, cpu=cpu + step, memory=memory))["error"]
    assert "memory should be between" in (await onboard(node, 400, cpu=cpu, memory=memory + step))["error"]


@pytest.mark.parametrize("channel", ["nunet-staging", "nunet-test", "nunet-team", "nunet-edge"])
async def test_each_channel_of_the_original_is_taken(node: Node, channel: str) -> None:
    assert (await onboard(node, channel=channel))["network"] == channel


@pytest.mark.parametrize("channel", ["nunet", "NUNET-TEST", "", "nunet-test "])
async def test_no_other_channel_is_taken(node: Node, channel: str) -> None:
    assert "channel name not supported!" in (await onboard(node, 400, channel=channel))["error"]


@pytest.mark.parametrize(
    ("blockchain", "network"),
    [("cardano", "mainnet"), ("cardano", "preprod"), ("cardano", "preview"), ("ethereum", "")],
)
async def test_the_address_of_any_wallet_we_make_is_taken(node: Node, blockchain: str, network: str) -> None:
    address = new_wallet(blockchain, network).address
    assert (await onboard(node, payment_addr=address))["public_key"] == address


async def test_of_several_faults_the_wallet_is_named_first_then_the_ranges(node: Node) -> None:
    wrong = {"payment_addr": "addr1bad", "cpu": 1, "channel": "moon"}
    assert "invalid cardano wallet address" in (await onboard(node, 400, **wrong))["error"]
    assert "CPU should be between" in (await onboard(node, 400, **wrong | {"payment_addr": ADDRESS}))["error"]
    assert (await topics(node)) == []


async def test_plugins_are_taken_and_shown(node: Node) -> None:
    assert (await onboard(node, plugins=["ipfs"]))["plugins"] == ["ipfs"]
    assert "plugins" not in await onboard(node)
    await onboard(node, 400, plugins=["x"] * 33)
    await onboard(node, 400, plugins=["x" * 129])


# --- changes -----------------------------------------------------------------------------------------------
async def test_another_payment_address_is_an_event_of_its_own(node: Node) -> None:
    await onboard(node)
    await onboard(node, cpu=5000)
    assert await topics(node) == ["device.onboarded"] * 2
    await onboard(node, payment_addr=ETHEREUM)
    assert (await topics(node))[2:] == ["device.onboarded", "device.payment_address_changed"]
    change = (await node.log.read(3, 1))[0].event
    assert change == Device.PaymentAddressChanged(payment_address=ETHEREUM, blockchain="Ethereum", previous=ADDRESS)
    assert node.services.device.state.payment_address == ETHEREUM


async def test_resource_config_says_what_is_wrong(node: Node) -> None:
    assert (await post(node, "resource-config", None, 400))["error"] == "request body is empty"
    assert (
        "machine is not onboarded" in (await post(node, "resource-config", {"memory": 4000, "cpu": 2000}, 409))["error"]
    )
    await onboard(node, ntx_price=0.25)
    missing = await post(node, "resource-config", {"memory": 4000}, 400)
    assert missing["errors"] == [{"pointer": "/cpu", "detail": "is required"}]
    assert "CPU should be" in (await post(node, "resource-config", {"memory": 4000, "cpu": 9000}, 400))["error"]
    kept = await post(node, "resource-config", {"Memory": 4000, "CPU": 2000})
    assert (kept["reserved"], kept["ntx_price"]) == ({"cpu": 2000, "memory": 4000}, 0.25)


@pytest.mark.parametrize("method", ["DELETE", "POST"])
@pytest.mark.parametrize(("query", "body"), [("?force=true", None), ("", b'{"force": true}'), ("", b'{"Force": true}')])
async def test_force_is_taken_from_the_query_and_from_the_body(
    node: Node, method: str, query: str, body: bytes | None
) -> None:
    headers = {"content-type": "application/json"} if body else {}
    async with node.client() as client:
        refused = await client.request(method, f"{API}/onboarding/offboard")
        assert (refused.status_code, refused.json()["error"]) == (409, "machine is not onboarded")
        await onboard(node)
        forced = await client.request(method, f"{API}/onboarding/offboard{query}", content=body, headers=headers)
    assert forced.json() == {"message": "Successfully Offboarded", "forced": True}
    assert node.services.device.state.onboarded is False


async def test_the_identity_stays_through_offboarding_onboarding_and_a_restart(tmp_path: Path) -> None:
    async def own(node: Node) -> tuple[str, str]:
        async with node.client() as client:
            return (await client.get(f"{API}/peers/self")).json()["ID"], (await status(node))["machine_uuid"]

    async with running_node(tmp_path) as node:
        before = await own(node)
        await onboard(node)
        await post(node, "offboard")
        assert await own(node) == before
        metadata = await onboard(node)
        assert await own(node) == before
        assert metadata["node_id"] == before[0]
    async with running_node(tmp_path) as node:
        assert await own(node) == before
        assert (await status(node))["onboarded"] is True


# --- the metadata file -------------------------------------------------------------------------------------
def expected(node: Node, timestamp: int) -> str:
    return (
        "{\n"
        f' "name": {json.dumps(socket.gethostname())},\n'
        f' "update_timestamp": {timestamp},\n'
        ' "resource": {\n  "memory_max": 16000,\n  "total_core": 4,\n  "cpu_max": 8000\n },\n'
        ' "available": {\n  "cpu": 4000,\n  "memory": 8000\n },\n'
        ' "reserved": {\n  "cpu": 4000,\n  "memory": 8000\n },\n'
        ' "network": "nunet-test",\n'
        f' "public_key": "{ADDRESS}",\n'
        f' "node_id": "{node.services.network.peer_id}"\n'
        "}"
    )


async def test_the_metadata_file_is_there_while_the_machine_is_onboarded(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "metadataV2.json"
    assert (await status(node))["metadata_path"] == ""
    metadata = await onboard(node)
    found = await status(node)
    assert found["metadata_path"] == str(path)
    assert found["database_path"] == str(tmp_path / "events.db")
    assert found["error"] is None
    assert path.read_text() == expected(node, metadata["update_timestamp"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await post(node, "resource-config", {"memory": 2000, "cpu": 1000, "ntx_price": 0.5})
    await status(node)
    shown = json.loads(path.read_text())
    assert (shown["reserved"], shown["ntx_price"]) == ({"cpu": 1000, "memory": 2000}, 0.5)
    await post(node, "offboard")
    assert (await status(node))["metadata_path"] == ""
    assert not await asyncio.to_thread(lambda: [*tmp_path.glob("metadata*")])


async def test_gpus_are_in_the_metadata_with_their_memory(node: Node, tmp_path: Path) -> None:
    device = node.services.device.state
    gpu = Gpu(name="NVIDIA A100", uuid="GPU-1", total_vram_mb=40_960, free_vram_mb=40_000)
    offer = Offer(cpu_mhz=4000, memory_mb=8000, channel="nunet-test", payment_address=ADDRESS)
    device.onboard(offer, Capacity(cpu_mhz=8000, memory_mb=16_000, cores=4, gpus=(gpu,)))
    await node.log.save(device)
    await status(node)
    path = tmp_path / "metadataV2.json"
    assert json.loads(path.read_text())["gpu_info"] == [
        {"name": "NVIDIA A100", "tot_vram": 40_960, "free_vram": 40_000}
    ]


async def test_what_a_crash_left_undone_to_the_file_is_done_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "metadataV2.json"
    async with running_node(tmp_path) as node:
        await onboard(node)
        await status(node)
    good = path.read_text()
    for damage in (b"", b'{"name": "half', None):
        path.unlink() if damage is None else path.write_bytes(damage)
        async with running_node(tmp_path) as node:
            assert (await status(node))["metadata_path"] == str(path)
            assert path.read_text() == good
    async with running_node(tmp_path) as node:
        await post(node, "offboard")
        await status(node)
    path.write_text(good)  # as if it had died between the event and the removal
    async with running_node(tmp_path) as node:
        assert (await status(node))["metadata_path"] == ""
        assert not path.exists()


async def test_the_file_is_never_read_and_a_strangers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metadataV2.json"
    path.write_text('{"name": "of another program", "reserved": {"cpu": 1}}')
    async with running_node(tmp_path) as node:
        assert (await status(node))["onboarded"] is False
        assert "another program" in path.read_text()
        metadata = await onboard(node)
        await status(node)
        path.write_text('{"reserved": {"cpu": 1}}')
        async with httpx.AsyncClient(timeout=120, base_url=node.url) as client:
            assert (await client.get(f"{API}/onboarding/metadata")).json() == metadata


async def test_a_file_that_can_not_be_written_is_tried_again(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_module, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(metadata_module, "SETTLE_SECONDS", 0.1)
    path = tmp_path / "metadataV2.json"
    path.mkdir()
    await onboard(node)  # is not held up by it
    assert (await status(node))["metadata_path"] == ""
    await asyncio.to_thread(path.rmdir)
    await wait_for(path.is_file)
    assert (await status(node))["metadata_path"] == str(path)


async def test_the_policy_is_put_as_a_whole_and_what_is_wrong_in_it_is_named(node: Node) -> None:
    nothing: dict[str, list[str]] = {"allow": [], "deny": []}
    wanted = {"images": {"allow": ["busybox", "ghcr.io/nunet/*"], "deny": []}, "peers": nothing}
    async with node.client() as client:
        assert (await client.put(f"{API}/device/policy", json=wanted)).json() == wanted
        before = node.log.head
        wrong = {"images": {"allow": ["busybox", "Not An Image"], "deny": []}, "peers": {"allow": ["me"], "deny": []}}
        refused = await client.put(f"{API}/device/policy", json=wrong)
        assert refused.status_code == 400
        assert [one["pointer"] for one in refused.json()["errors"]] == ["/images/allow/1", "/peers/allow/0"]
        for partial in ({"images": nothing}, {"images": {"allow": []}, "peers": nothing}):
            assert (await client.put(f"{API}/device/policy", json=partial)).status_code == 400
        too_many = {"images": {"allow": ["x"] * 1001, "deny": []}, "peers": nothing}
        assert (await client.put(f"{API}/device/policy", json=too_many)).status_code == 400
        assert (await client.get(f"{API}/device/policy")).json() == wanted
        assert (await client.put(f"{API}/device/policy", json=wanted)).json() == wanted
    assert node.log.head == before, "what is no change is no event"


async def test_a_policy_is_only_changed_while_it_is_the_one_that_was_read(node: Node) -> None:
    def denying(*images: str) -> dict[str, Any]:
        return {"images": {"allow": [], "deny": list(images)}, "peers": {"allow": [], "deny": []}}

    async with node.client() as client:

        async def put(wanted: dict[str, Any], tag: str) -> httpx.Response:
            return await client.put(f"{API}/device/policy", json=wanted, headers={"if-match": tag})

        read = (await client.get(f"{API}/device/policy")).headers["etag"]
        first = await put(denying("a"), read)
        assert (first.status_code, first.headers["etag"]) != (200, read)
        assert first.headers["etag"] == (await client.get(f"{API}/device/policy")).headers["etag"]
        late = await put(denying("b"), read)
        assert (late.status_code, "read them again" in late.json()["detail"]) == (412, True)
        assert (await put(denying("b"), f"W/{first.headers['etag']}")).status_code == 412
        assert (await put(denying("b"), f'"x", {first.headers["etag"]}')).status_code == 200
        assert (await put(denying("c"), "*")).json() == denying("c")
