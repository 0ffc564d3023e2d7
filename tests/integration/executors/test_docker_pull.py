"""Pulling, from a registry of our own."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import ContainerLimits
from dms.errors import ImageUnavailable
from tests.fixtures.jobs import NODE, run, shell_spec, texts
from tests.fixtures.registry import Registry, registry

pytestmark = pytest.mark.docker

SETTINGS = DockerSettings(limits=ContainerLimits(core_mhz=2_000, cores=1), pull_seconds=30.0)


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
