"""Pulling, from a registry of our own."""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
import threading
from pathlib import Path

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors import engine_disk
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import MIB, ContainerLimits
from dms.domain.deployment import Fault
from dms.errors import ImageUnavailable, NoRoomForImage, RegistryUnavailable
from tests.fixtures.engine import own_engine
from tests.fixtures.jobs import NODE, run, shell_spec, texts
from tests.fixtures.provider import accepted, ask, docker_provider, end_of
from tests.fixtures.registry import Registry, Trouble, registry, serve_registry, times
from tests.fixtures.waiting import wait_for

pytestmark = pytest.mark.docker

DISK_MB = 256  # of an engine of its own
LOOPBACK = ("127.0.0.1:*/*", "registry.invalid/*")
SETTINGS = DockerSettings(
    limits=ContainerLimits(core_mhz=2_000, cores=1), policy=ImagePolicy(allow=LOOPBACK), pull_seconds=60.0
)


__all__ = ["registry"]


async def test_pulls_and_answers_the_registrys_digest(registry: Registry) -> None:
    digest = registry.publish("nunet/demo", "1")
    executor = DockerExecutor(NODE, SETTINGS)
    spec = shell_spec("echo pulled", image=f"{registry.address}/nunet/demo:1")
    try:
        prepared = await executor.prepare(spec)
        assert (prepared.digest, prepared.image, prepared.fetched) == (digest, spec.image, True)
        lines, execution = await run(executor, spec)
        assert (texts(lines), execution.exit_code) == (["pulled"], 0)
        pinned = shell_spec("true", image=f"{registry.address}/nunet/demo@{digest}")
        again = await executor.prepare(pinned)
        assert (again.digest, again.image_id, again.fetched) == (digest, prepared.image_id, False)
        assert (await run(executor, pinned))[1].exit_code == 0
    finally:
        await executor.close()


async def test_a_name_that_the_registry_lacks(registry: Registry) -> None:
    executor = DockerExecutor(NODE, SETTINGS)
    with pytest.raises(ImageUnavailable, match="nunet/none"):
        await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/none"))
    await executor.close()


async def test_an_image_for_another_machine(registry: Registry) -> None:
    registry.publish("nunet/arm", "1", architecture="s390x")
    executor = DockerExecutor(NODE, SETTINGS)
    with pytest.raises(ImageUnavailable, match="s390x"):
        await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/arm:1"))
    await executor.close()


async def test_a_denied_digest_is_denied_once_it_is_known(registry: Registry) -> None:
    digest = registry.publish("nunet/demo", "2")
    settings = msgspec.structs.replace(SETTINGS, policy=ImagePolicy(allow=LOOPBACK, deny=(digest,)))
    executor = DockerExecutor(NODE, settings)
    with pytest.raises(ImageUnavailable, match="denied"):
        await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/demo:2"))
    await executor.close()


async def test_what_is_too_large_does_not_stay(registry: Registry) -> None:
    registry.publish("nunet/big", "1")
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, max_image_mb=0))
    with pytest.raises(ImageUnavailable, match="MiB"):
        await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/big:1"))
    await executor.close()
    api = APIClient(version="auto")
    assert await asyncio.to_thread(api.images, f"{registry.address}/nunet/big") == []
    api.close()


async def test_an_image_of_a_terabyte_is_not_fetched(registry: Registry) -> None:
    """The engine tells how large a layer is once it begins to come: then it is told to stop."""
    digest = registry.publish("nunet/huge", "1", layer=b"huge" + registry.address.encode())
    assert digest
    layers = [path for path in registry.blobs if registry.blobs[path].startswith(b"\x1f\x8b")]
    sent = Trouble(200, b"\0" * 4 * MIB, claims=1 << 40)
    registry.trouble = lambda path: sent if path.rpartition("/")[2] in layers else None
    executor = DockerExecutor(NODE, SETTINGS)
    with pytest.raises(ImageUnavailable, match="larger than 20480 MiB"):
        await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/huge:1"))
    assert not await executor.has(f"{registry.address}/nunet/huge:1")
    await executor.close()


async def test_an_image_that_would_fill_the_disk_is_not_fetched_to_its_end(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small layer can unpack to any size; the disk is looked at all the while."""
    registry.publish("nunet/bomb", "1")
    held = threading.Event()
    registry.trouble = lambda path: Trouble(held=held) if "/blobs/" in path else None
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, patience_seconds=3.0))
    pulling = asyncio.create_task(executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/bomb:1")))
    try:
        await wait_for(lambda: any("/blobs/" in path for path in registry.asked))
        assert not pulling.done()
        monkeypatch.setattr(engine_disk, "LEAST_FREE_BYTES", 2**62)  # as if it unpacked to all of it just now
        with pytest.raises(NoRoomForImage, match="would fill the provider's disk"):
            await pulling
        assert not held.is_set(), "nobody waited for its end"
    finally:
        held.set()
        pulling.cancel()
        await executor.close()


@pytest.mark.slow
async def test_a_layer_that_unpacks_to_more_than_the_disk_has_leaves_it_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the engine goes on."""
    monkeypatch.setattr(engine_disk, "LEAST_FREE_BYTES", DISK_MB // 2 * MIB)
    with own_engine(disk_mb=DISK_MB) as engine, serve_registry(engine.host.ours) as registry:
        registry.publish("nunet/bomb", "1", layer=one_file(DISK_MB * MIB))
        assert max(map(len, registry.blobs.values())) < 2 * MIB
        allowed = ImagePolicy(allow=(f"{registry.address}/*",))
        settings = msgspec.structs.replace(SETTINGS, base_url=engine.base_url, policy=allowed, patience_seconds=3.0)
        executor = DockerExecutor(NODE, settings)
        before = shutil.disk_usage(engine.folder).used
        with pytest.raises(NoRoomForImage):
            await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/bomb:1"))
        await wait_for(lambda: shutil.disk_usage(engine.folder).used < before + MIB)
        await executor.check()
        await executor.close()


def one_file(size: int) -> bytes:
    """A tar archive with so many zeros."""
    whole, entry = io.BytesIO(), tarfile.TarInfo("zeros")
    entry.size = size
    with tarfile.open(fileobj=whole, mode="w") as tar:
        tar.addfile(entry, io.BytesIO(bytes(size)))
    return whole.getvalue()


async def test_only_images_that_a_newer_one_replaced_are_removed(registry: Registry) -> None:
    """A name's newest image, one with a container and one that somebody gave another name all stay."""
    name = f"{registry.address}/nunet/moving:1"
    api = APIClient(version="auto")
    executor = DockerExecutor(NODE, SETTINGS)
    ids: list[str] = []
    spec = shell_spec("true", image=name)

    def release(number: int) -> None:
        registry.publish("nunet/moving", "1", release=str(number))
        api.pull(name)

    try:
        for number in range(4):
            await asyncio.to_thread(release, number)
            ids.append((await executor.prepare(spec)).image_id)
            if number == 1:
                await executor.create(spec)  # holds the second
            if number == 2:
                await asyncio.to_thread(api.tag, ids[2], f"{registry.address}/mine", "kept")
        assert len(set(ids)) == 4
        assert await executor.remove_superseded(name, [*ids, "sha256:" + "0" * 64]) == [ids[0]]
        assert await executor.remove_superseded(name, ids) == []
        await executor.remove(spec.job_id)
        assert await executor.remove_superseded(name, ids) == [ids[1]]
        assert await executor.remove_superseded(f"{registry.address}/nunet/never:1", ids) == ()
        left = await asyncio.to_thread(lambda: {image["Id"] for image in api.images(all=True)})
        assert left.issuperset(ids[2:])
        assert left.isdisjoint(ids[:2])
    finally:
        await executor.remove(spec.job_id)
        await executor.close()
        api.close()


PASSING = {
    "429": Trouble(429, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'),
    "429 without a word": Trouble(429),
    "500": Trouble(500),
    "503": Trouble(503, b"<html>Service Unavailable</html>"),
    "cut before the answer": Trouble(),
    "cut in the middle": Trouble(after=40),
}
LASTING = {
    "401": Trouble(401),
    "403": Trouble(403, b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}'),
    "404": Trouble(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}'),
    "404 of no registry": Trouble(404, b"<html>"),
}


@pytest.mark.parametrize("about", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING.keys())
async def test_passing_trouble_of_a_registry_is_waited_out(registry: Registry, trouble: Trouble, about: str) -> None:
    registry.publish("nunet/shy", "1")
    registry.trouble = times(3, trouble, about)
    executor = DockerExecutor(NODE, SETTINGS)
    try:
        prepared = await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/shy:1"))
        assert prepared.fetched
    finally:
        await executor.close()


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING.keys())
async def test_trouble_that_does_not_pass_is_not_the_requesters_fault(registry: Registry, trouble: Trouble) -> None:
    registry.publish("nunet/shy", "1")
    registry.trouble = times(10_000, trouble, "/manifests/")
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, patience_seconds=1.0))
    try:
        with pytest.raises(RegistryUnavailable, match="nunet/shy"):
            await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/shy:1"))
    finally:
        await executor.close()


@pytest.mark.parametrize("name", ["127.0.0.1:1/x", "registry.invalid/x"])
async def test_a_registry_that_is_not_there_is_not_the_requesters_fault(name: str) -> None:
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, patience_seconds=1.0))
    try:
        with pytest.raises(RegistryUnavailable, match=name):
            await executor.prepare(shell_spec("true", image=name))
    finally:
        await executor.close()


@pytest.mark.parametrize("trouble", LASTING.values(), ids=LASTING.keys())
async def test_what_a_registry_will_never_give_is_asked_for_once(registry: Registry, trouble: Trouble) -> None:
    registry.publish("nunet/shy", "1")
    registry.trouble = times(10_000, trouble, "/manifests/")
    executor = DockerExecutor(NODE, SETTINGS)
    try:
        with pytest.raises(ImageUnavailable) as refused:
            await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/shy:1"))
        assert type(refused.value) is ImageUnavailable
        assert len([path for path in registry.asked if "/manifests/" in path]) <= 2  # the engine's HEAD and GET
    finally:
        await executor.close()


async def test_slow_pulls_hold_up_no_other_pull_and_no_other_call(registry: Registry) -> None:
    for name in ("slow", "quick"):
        registry.publish(f"nunet/{name}", "1", release=name)
    held = threading.Event()
    registry.trouble = lambda path: Trouble(held=held) if "nunet/slow" in path else None
    executor = DockerExecutor(NODE, SETTINGS)
    slow = [
        asyncio.create_task(executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/slow{n}:1")))
        for n in range(8)
    ]
    try:
        await wait_for(lambda: len([path for path in registry.asked if "nunet/slow" in path]) >= 8)
        assert (await executor.prepare(shell_spec("true", image=f"{registry.address}/nunet/quick:1"))).fetched
        await asyncio.gather(*(executor.check() for _ in range(64)))
        assert not any(task.done() for task in slow)
    finally:
        held.set()
        await asyncio.gather(*slow, return_exceptions=True)
        await executor.close()


async def test_a_job_that_is_stopped_during_its_pull_ends_at_once(registry: Registry, tmp_path: Path) -> None:
    registry.publish("nunet/slow", "1")
    held = threading.Event()
    registry.trouble = lambda _: Trouble(held=held)
    try:
        async with docker_provider(tmp_path, SETTINGS) as node:
            job_id = await accepted(node, image=f"{registry.address}/nunet/slow:1")
            await wait_for(lambda: registry.asked)
            await node.services.compute_provider.stop(job_id, "operator", "no longer wanted", Fault.REQUESTER)
            assert await end_of(node, job_id, 20) == (Fault.REQUESTER, "no longer wanted")
            assert not held.is_set()
    finally:
        held.set()


async def test_whose_fault_it_is_that_an_image_can_not_be_had(registry: Registry, tmp_path: Path) -> None:
    registry.trouble = lambda path: Trouble(503) if "nunet/shy" in path else None
    settings = msgspec.structs.replace(SETTINGS, patience_seconds=0.1)
    async with docker_provider(tmp_path, settings) as node:
        shy, none = [await accepted(node, image=f"{registry.address}/nunet/{name}:1") for name in ("shy", "none")]
        assert (await end_of(node, shy))[0] is Fault.NETWORK
        assert (await end_of(node, none))[0] is Fault.REQUESTER


@pytest.mark.parametrize("policy", [ImagePolicy(), ImagePolicy(allow=("*",)), ImagePolicy(allow=("1*",))])
async def test_a_stranger_does_not_choose_whom_the_engine_asks_on_the_providers_network(
    registry: Registry, tmp_path: Path, policy: ImagePolicy
) -> None:
    registry.publish("nunet/demo", "1")
    settings = msgspec.structs.replace(SETTINGS, policy=policy)
    async with docker_provider(tmp_path, settings) as node:
        for host in (registry.address, f"localhost:{registry.address.partition(':')[2]}"):
            _, answer = await ask(node, image=f"{host}/nunet/demo:1")
            assert not answer.accepted
            assert "job.image_allow" in answer.reason
            with pytest.raises(ImageUnavailable, match="inner network"):
                await node.executor.prepare(shell_spec("true", image=f"{host}/nunet/demo:1"))
    assert registry.asked == []


async def test_a_public_name_that_leads_into_an_inner_network_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a name that somebody points at 127.0.0.1: here the machine's own name stands for it."""

    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, policy=ImagePolicy(), patience_seconds=0.1))
    monkeypatch.setattr("dms.lookups.system_addresses", lambda _: ["93.184.216.34", "10.1.2.3"])
    with pytest.raises(ImageUnavailable, match="inner network"):
        await executor.prepare(shell_spec("true", image="registry.public-name.invalid/x"))
    await executor.close()
