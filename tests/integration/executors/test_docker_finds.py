"""Whether an image can be had, told before anything is fetched: by the engine, from a registry of our own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors import registries
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import ContainerLimits
from dms.adapters.executors.pulls import NOT_GIVEN
from dms.application.ports.images import ImageFound
from dms.errors import ImageUnavailable, RegistryUnavailable
from tests.fixtures.images import PLAIN_IMAGE, demo_images, remove_image
from tests.fixtures.jobs import NODE, shell_spec
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


@pytest.fixture
async def unnamed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DockerExecutor]:
    """Its operator has named no image; the registry of a test counts as a public one."""
    monkeypatch.setattr("dms.adapters.executors.images.is_inner", lambda _: False)
    monkeypatch.setattr("dms.adapters.executors.engine_images.is_inner_address", lambda _: False)
    monkeypatch.setattr("dms.adapters.executors.engine_images.own_addresses", frozenset)
    made = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, policy=ImagePolicy(allow=("*",))))
    yield made
    await made.close()


@pytest.mark.usefixtures("demo_images")
async def test_one_that_is_here_needs_no_registry(executor: DockerExecutor) -> None:
    found = await executor.find_image(PLAIN_IMAGE)
    assert found.present
    assert found.digest


async def test_a_stranger_gets_no_image_that_only_this_machine_has(
    unnamed: DockerExecutor, registry: Registry, demo_images: tuple[str, str]
) -> None:
    """Such as one that its owner built here, or pulled with a password."""
    api, name = APIClient(version="auto"), f"{registry.address}/nunet/private"
    api.tag(demo_images[0], name, "1")
    try:
        spec = msgspec.structs.replace(shell_spec("true"), image=f"{name}:1", for_stranger=True)
        for asked in (unnamed.find_image(spec.image, for_stranger=True), unnamed.prepare(spec)):
            with pytest.raises(ImageUnavailable) as refused:
                await asked
            assert str(refused.value) == f"image {name}:1 can't be pulled: {NOT_GIVEN}"  # as of one that is nowhere
        assert (await unnamed.find_image(spec.image)).present
        named = ImagePolicy(allow=("*", "127.0.0.1:*/nunet/private"))
        owners = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, policy=named))
        assert (await owners.prepare(spec)).image == spec.image
        await owners.close()
    finally:
        remove_image(api, f"{name}:1")
        api.close()


async def test_a_stranger_gets_an_image_of_this_machine_that_anybody_can_have(
    unnamed: DockerExecutor, registry: Registry
) -> None:
    """Also when its tag means another one by now; and its registry is asked once."""
    registry.publish("nunet/public", "1", release="old")
    spec = msgspec.structs.replace(shell_spec("true"), image=f"{registry.address}/nunet/public:1", for_stranger=True)
    api = APIClient(version="auto")
    try:
        await pulled_by_its_owner(api, spec.image)
        old = registry.asked.copy()
        registry.publish("nunet/public", "1", release="new")
        for _ in range(3):
            assert (await unnamed.find_image(spec.image, for_stranger=True)).present
            assert not (await unnamed.prepare(spec)).fetched
        asked = [path for path in registry.asked[len(old) :] if "/manifests/" in path]
        assert len(set(asked)) == 1
        assert "sha256:" in asked[0]
        registry.trouble = lambda _: Trouble(503)
        again = DockerExecutor(
            NODE, msgspec.structs.replace(SETTINGS, policy=ImagePolicy())
        )  # knows nothing of the answer
        with pytest.raises(RegistryUnavailable):
            await again.find_image(spec.image, for_stranger=True)
        await again.close()
    finally:
        remove_image(api, spec.image)
        api.close()


async def pulled_by_its_owner(api: APIClient, image: str) -> None:
    name, _, tag = image.rpartition(":")
    await asyncio.to_thread(api.pull, name, tag)


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


async def test_a_registry_that_may_not_be_asked_is_not_and_nothing_is_told(
    unnamed: DockerExecutor, registry: Registry
) -> None:
    """Nor of an image that is here, which the registry would have to give a stranger."""
    digest = registry.publish("nunet/found", "1")
    registry.publish("nunet/public", "1")
    absent, here = (f"{registry.address}/nunet/{name}:1" for name in ("found", "public"))
    api, asked = APIClient(version="auto"), list[str]()

    def never() -> bool:
        asked.append("")
        return False

    try:
        await pulled_by_its_owner(api, here)
        before = len(registry.asked)
        for image in (absent, here):
            found = await unnamed.find_image(image, for_stranger=True, may_ask=never)
            assert found == ImageFound(present=False)
        assert (len(registry.asked), len(asked)) == (before, 2)
        assert (await unnamed.find_image(absent)).digest == digest
        assert (await unnamed.find_image(absent, may_ask=never)).digest == digest, "it is known by now"
        assert len(asked) == 2
    finally:
        remove_image(api, here)
        api.close()


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
