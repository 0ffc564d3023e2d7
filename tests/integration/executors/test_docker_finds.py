"""Whether an image can be had, told before anything is fetched: by the engine, from a registry of our own."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import msgspec
import pytest

from dms.adapters.executors import registries
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import ContainerLimits
from dms.application.ports.images import ImageFound
from dms.errors import ImageUnavailable, RegistryUnavailable
from tests.fixtures.images import PLAIN_IMAGE, demo_images
from tests.fixtures.jobs import NODE
from tests.fixtures.registry import Registry, Trouble, registry, times

__all__ = ["demo_images", "registry"]

pytestmark = pytest.mark.docker

POLICY = ImagePolicy(allow=("127.0.0.1:*/*", "registry.invalid/*", PLAIN_IMAGE))
SETTINGS = DockerSettings(limits=ContainerLimits(core_mhz=2_000, cores=1), policy=POLICY)


@pytest.fixture
async def executor() -> AsyncIterator[DockerExecutor]:
    made = DockerExecutor(NODE, SETTINGS)
    yield made
    await made.close()


@pytest.mark.usefixtures("demo_images")
async def test_one_that_is_here_needs_no_registry(executor: DockerExecutor) -> None:
    found = await executor.find_image(PLAIN_IMAGE)
    assert found.present
    assert found.digest


async def test_one_that_its_registry_has_is_not_fetched(executor: DockerExecutor, registry: Registry) -> None:
    digest = registry.publish("nunet/found", "1")
    name = f"{registry.address}/nunet/found"
    for image in (f"{name}:1", f"{name}@{digest}", f"{name}:1@{digest}"):
        assert await executor.find_image(image) == ImageFound(present=False, digest=digest)
    assert not [path for path in registry.asked if path.rpartition("/")[2] == digest and "/blobs/" in path]
    assert not await executor.has(f"{name}:1")


async def test_it_is_asked_for_once_in_a_while(executor: DockerExecutor, registry: Registry) -> None:
    registry.publish("nunet/found", "1")
    for _ in range(5):
        await executor.find_image(f"{registry.address}/nunet/found:1")
    assert len([path for path in registry.asked if path.endswith("/manifests/1")]) == 1


async def test_a_name_or_digest_that_the_registry_lacks(executor: DockerExecutor, registry: Registry) -> None:
    registry.publish("nunet/found", "1")
    for image in ("nunet/none:1", "nunet/found:2", f"nunet/found@sha256:{'0' * 64}"):
        with pytest.raises(ImageUnavailable, match=r"nunet/(none|found)") as missing:
            await executor.find_image(f"{registry.address}/{image}")
        assert not isinstance(missing.value, RegistryUnavailable)


async def test_an_image_for_another_machine(executor: DockerExecutor, registry: Registry) -> None:
    registry.publish("nunet/arm", "1", architecture="s390x")
    with pytest.raises(ImageUnavailable, match="is built for s390x, this machine is"):
        await executor.find_image(f"{registry.address}/nunet/arm:1")


async def test_what_the_policy_does_not_allow(registry: Registry) -> None:
    digest = registry.publish("nunet/found", "1")
    policy = ImagePolicy(allow=("127.0.0.1:*/*",), deny=(digest,))
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, policy=policy))
    with pytest.raises(ImageUnavailable, match="list of allowed images"):
        await executor.find_image("registry.example/other:1")
    with pytest.raises(ImageUnavailable, match="denied"):
        await executor.find_image(f"{registry.address}/nunet/found:1")
    await executor.close()


async def test_a_registry_in_trouble_is_no_missing_image(
    executor: DockerExecutor, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "TROUBLE_SECONDS", 0.0)
    digest = registry.publish("nunet/found", "1")
    registry.trouble = times(10, Trouble(status=503), "/manifests/")
    with pytest.raises(RegistryUnavailable):
        await executor.find_image(f"{registry.address}/nunet/found:1")
    registry.trouble = lambda _: None
    assert (await executor.find_image(f"{registry.address}/nunet/found:1")).digest == digest
    with pytest.raises(RegistryUnavailable):
        await executor.find_image("registry.invalid/nunet/found:1")


async def test_a_registry_that_does_not_answer_takes_no_longer_than_a_few_seconds(
    executor: DockerExecutor, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "ASK_SECONDS", 0.2)
    registry.publish("nunet/found", "1")
    held = threading.Event()
    registry.trouble = times(10, Trouble(held=held), "/manifests/")
    try:
        with pytest.raises(RegistryUnavailable, match=r"did not answer within 0\.2 s"):
            await executor.find_image(f"{registry.address}/nunet/found:1")
    finally:
        held.set()
