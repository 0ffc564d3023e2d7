"""Pulling, from a registry of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import ContainerLimits
from dms.errors import ImageUnavailable
from tests.fixtures.jobs import NODE, run, shell_spec, texts
from tests.fixtures.registry import Registry, serve_registry

pytestmark = pytest.mark.docker

SETTINGS = DockerSettings(limits=ContainerLimits(core_mhz=2_000, cores=1), pull_seconds=30.0)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Images pulled from it are removed from the engine at the end."""
    with serve_registry() as served:
        yield served
        api = APIClient(version="auto")
        for image in api.images():
            names = [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]
            if any(name.startswith(served.address) for name in names):
                api.remove_image(image["Id"], force=True)
        api.close()


async def test_pulls_and_answers_the_registrys_digest(registry: Registry) -> None:
    digest = registry.publish("nunet/demo", "1")
    executor = DockerExecutor(NODE, SETTINGS)
    spec = shell_spec("echo pulled", image=f"{registry.address}/nunet/demo:1")
    try:
        assert await executor.prepare(spec) == digest
        lines, execution = await run(executor, spec)
        assert (texts(lines), execution.exit_code) == (["pulled"], 0)
        pinned = shell_spec("true", image=f"{registry.address}/nunet/demo@{digest}")
        assert await executor.prepare(pinned) == digest
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
    settings = msgspec.structs.replace(SETTINGS, policy=ImagePolicy(deny=(digest,)))
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
