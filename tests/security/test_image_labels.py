"""An engine gives a container the labels of its image. Ours say whose container it is and what it is for, so an image
must not be able to say so."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from docker import APIClient
from msgspec.structs import replace

from dms.adapters.executors import profile
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.profile import MIB, labels
from dms.application.ports.executor import ExecutionSpec, ExecutionState
from dms.domain.run_end import EndedBy
from dms.errors import ImageUnavailable
from tests.fixtures.jobs import NODE, ended, launch, packed, shell_spec
from tests.fixtures.made_images import NewImage, api, image
from tests.fixtures.provider import LIMITS

__all__ = ["api", "image"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("demo_images")]

PREFIX = "io.nunet.dms."
OURS = sorted(value for name, value in vars(profile).items() if name.startswith("LABEL_"))
LIES = dict.fromkeys(OURS, "holder") | {
    profile.LABEL_NODE: "another",
    profile.LABEL_JOB: "../../x",
    profile.LABEL_GATEWAY: "x y",
    profile.LABEL_GATEWAY_NODE: NODE,
    profile.LABEL_NETWORK: f"{'0' * 64} 2026-01-01T00:00:00Z",
}


@pytest_asyncio.fixture(params=["on the host", "in volumes", "in the container"])
async def executor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DockerExecutor]:
    """Where its workspaces are."""
    where = request.param
    settings = DockerSettings(
        limits=LIMITS,
        workspaces=tmp_path / "ws" if where == "on the host" else None,
        workspace_volumes=where == "in volumes",
    )
    made = DockerExecutor(NODE, settings)
    before = set(await made.list_jobs())
    yield made
    for job_id in set(await made.list_jobs()) - before:
        await made.remove(job_id)
    await made.close()


def spec_of(name: str, script: str) -> ExecutionSpec:
    return replace(shell_spec(script, image=name), arguments=(script,))


def test_each_of_our_labels_is_given_to_every_container() -> None:
    assert sorted(labels(shell_spec("true"))) == OURS
    assert all(name.startswith(PREFIX) for name in OURS)


@pytest.mark.parametrize("lie", [*([name] for name in OURS), OURS], ids=lambda lie: "all" if len(lie) > 1 else lie[0])
async def test_an_image_can_not_say_what_its_container_is(
    executor: DockerExecutor, api: APIClient, image: NewImage, lie: list[str]
) -> None:
    name = image({"a": b"x"}, Labels={label: LIES[label] for label in lie})
    spec = spec_of(name, "sleep 100")
    before = set(await executor.list_jobs())
    await launch(executor, spec)
    assert set(await executor.list_jobs()) - before == {spec.job_id}
    (container,) = api.containers(filters={"ancestor": name})
    ours = {label: value for label, value in container["Labels"].items() if label.startswith(PREFIX)}
    assert ours == labels(spec)
    again = DockerExecutor(NODE, DockerSettings(limits=LIMITS))  # knows nothing of the one before
    try:
        assert (await again.inspect(spec.job_id)).state is ExecutionState.RUNNING
    finally:
        await again.close()
    await executor.stop(spec.job_id, 0.0)
    assert (await ended(executor, spec.job_id)).ended_by is EndedBy.DMS
    await executor.remove(spec.job_id)
    assert set(await executor.list_jobs()) == before


async def test_a_workspace_is_never_read_by_a_program_in_the_jobs_own_container(
    api: APIClient, image: NewImage, tmp_path: Path
) -> None:
    """Which would have the uid 0 that a job never gets."""
    executor, began = DockerExecutor(NODE, DockerSettings(limits=LIMITS, workspace_volumes=True)), int(time.time())
    name = image(Labels={profile.LABEL_PART: "holder"})
    spec = spec_of(name, "echo 1 > /workspace/one; sleep 100")
    try:
        await launch(executor, spec)
        (container,) = api.containers(filters={"ancestor": name})
        await packed(executor, spec.job_id, tmp_path / "a.tar.gz", MIB)
        wanted = {"type": "container", "event": ["exec_start"]}
        ran = list(api.events(since=began, until=int(time.time()) + 1, filters=wanted, decode=True))
        assert {event["Actor"]["Attributes"].get(profile.LABEL_PART) for event in ran} >= {"holder"}
        assert container["Id"] not in {event["Actor"]["ID"] for event in ran}
    finally:
        await executor.remove(spec.job_id)
        await executor.close()


@pytest.mark.parametrize("label", ["exitCode", "signal"])
async def test_an_image_that_hides_how_its_container_ends_is_refused(
    executor: DockerExecutor, image: NewImage, label: str
) -> None:
    """Docker 20.10 tells of a container's end with its labels in place of its own words."""
    spec = spec_of(image(Labels={label: "0"}), "exit 3")
    with pytest.raises(ImageUnavailable, match=f"has the label '{label}', which hides how its container ends"):
        await executor.prepare(spec)
