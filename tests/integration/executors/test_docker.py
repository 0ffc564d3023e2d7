"""Strangers' containers on a real daemon: what they are given and what they can't do."""

from __future__ import annotations

import asyncio
from itertools import zip_longest
from uuid import uuid4

import msgspec
import pytest
from docker import APIClient

from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.images import ImagePolicy
from dms.adapters.executors.profile import MIB, seccomp_profile
from dms.application.ports.executor import ExecutionState
from dms.errors import GpuUnavailable, ImageUnavailable
from tests.fixtures.docker_executors import LIMITS, SETTINGS, attributes
from tests.fixtures.images import PLAIN_IMAGE, demo_images
from tests.fixtures.jobs import NODE, read_all, run, shell_spec, texts
from tests.fixtures.made_images import NewImage, image

__all__ = ["demo_images", "image"]

pytestmark = pytest.mark.docker


async def test_inspect_equals_the_profile(executor: DockerExecutor, api: APIClient) -> None:
    spec = msgspec.structs.replace(
        shell_spec("true", 128), cpu_mhz=1_000, environment=(("LD_PRELOAD", "/evil.so"), ("A", "b"))
    )
    found = await attributes(executor, api, spec)
    host, config = found["HostConfig"], found["Config"]
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"][0] == "no-new-privileges:true"
    assert host["SecurityOpt"][1:] == [f"seccomp={seccomp_profile()}"]
    assert (host["Memory"], host["MemorySwap"]) == (128 * MIB, 128 * MIB)
    assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, 512)
    assert host["ReadonlyRootfs"] is True
    assert (host["NetworkMode"], host["IpcMode"], host["CgroupnsMode"]) == ("none", "private", "private")
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["Init"] is True
    assert host["LogConfig"] == {
        "Type": "local",
        "Config": {
            "max-size": str(64 * MIB * 101 // 100 + MIB),
            "max-file": "2",
            "compress": "false",
            "mode": "blocking",
        },
    }
    assert not host["Binds"]
    assert not host["Devices"]
    assert not host["DeviceRequests"]
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]}["core"] == 0
    assert config["User"] == "65532:65532"
    assert config["Healthcheck"] == {"Test": ["NONE"]}
    assert set(config["Env"]) >= {"LD_PRELOAD=", "NVIDIA_VISIBLE_DEVICES=void", "A=b"}
    assert config["Labels"]["io.nunet.dms.job_id"] == spec.job_id
    assert config["Labels"]["io.nunet.dms.node_id"] == NODE


async def test_cpu_is_never_more_than_the_host(executor: DockerExecutor, api: APIClient) -> None:
    spec = msgspec.structs.replace(shell_spec("true"), cpu_mhz=10**9)
    found = await attributes(executor, api, spec)
    assert found["HostConfig"]["NanoCpus"] == LIMITS.cores * 10**9


async def test_a_job_is_nobody_with_nothing(executor: DockerExecutor) -> None:
    script = (
        "id -u; grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t';"
        "ls /sys/class/net; ls /var/run/docker.sock 2>&1 | wc -l; "
        "touch /x 2>/dev/null || echo read-only; touch /tmp/x /workspace/x && echo scratch; echo $HOME"
    )
    lines, execution = await run(executor, shell_spec(script))
    nothing = "0" * 16
    assert execution.exit_code == 0
    assert texts(lines) == [
        "65532",
        f"CapPrm:{nothing}",
        f"CapEff:{nothing}",
        f"CapBnd:{nothing}",
        "NoNewPrivs:1",
        "Seccomp:2",
        "lo",
        "1",
        "read-only",
        "scratch",
        "/workspace",
    ]


async def test_a_child_out_of_memory_is_no_failure_of_a_job_that_ends_well(executor: DockerExecutor) -> None:
    _, execution = await run(executor, shell_spec("(tail /dev/zero); exit 0", 32))
    assert (execution.exit_code, execution.oom_killed) == (0, False)


async def test_no_arguments_leave_the_image_its_own_command(executor: DockerExecutor, image: NewImage) -> None:
    spec = msgspec.structs.replace(shell_spec(""), image=image(Cmd=["echo its own"]), arguments=())
    lines, execution = await run(executor, spec)
    assert (execution.exit_code, texts(lines)) == (0, ["its own"])


async def test_a_command_that_is_not_there_is_named(executor: DockerExecutor) -> None:
    """The init process in the container finds that out, so it is an end and not a refusal."""
    spec = msgspec.structs.replace(shell_spec(""), image=PLAIN_IMAGE, arguments=("no-such-program",))
    lines, execution = await run(executor, spec)
    assert (execution.state, execution.exit_code) == (ExecutionState.EXITED, 127)
    assert "no-such-program" in texts(lines, "stderr")[0]


async def test_what_the_engine_refuses_to_start_is_over_and_says_why(executor: DockerExecutor) -> None:
    spec = msgspec.structs.replace(shell_spec("true"), gpu_uuids=("GPU-none",))
    await executor.prepare(spec)
    await executor.create(spec)
    for _ in range(2):
        with pytest.raises(
            GpuUnavailable, match=r"can't give the job its GPU.*NVIDIA Container Toolkit.*device driver"
        ):
            await executor.start(spec.job_id)
    execution = await executor.inspect(spec.job_id)
    assert execution.state is ExecutionState.EXITED
    assert "device driver" in execution.error
    assert execution.exit_code not in {0, None}
    assert await read_all(executor, spec.job_id) == []


async def test_a_job_gets_the_gpus_that_were_granted_and_no_others(executor: DockerExecutor, api: APIClient) -> None:
    spec = msgspec.structs.replace(
        shell_spec("true"),
        gpu_uuids=("GPU-1", "GPU-2"),
        environment=(
            ("NVIDIA_VISIBLE_DEVICES", "all"),
            ("NVIDIA_DRIVER_CAPABILITIES", "all"),
            ("LD_PRELOAD", "/proc/self/cwd/x.so"),
        ),
    )
    found = await attributes(executor, api, spec)
    assert found["HostConfig"]["DeviceRequests"] == [
        {
            "Driver": "nvidia",
            "Count": 0,
            "DeviceIDs": ["GPU-1", "GPU-2"],
            "Capabilities": [["gpu", "compute", "utility"]],
            "Options": {},
        }
    ]
    named = [line for line in found["Config"]["Env"] if line.startswith(("NVIDIA_", "LD_"))]
    assert sorted(named) == [
        "LD_AUDIT=", "LD_PRELOAD=", "NVIDIA_DRIVER_CAPABILITIES=compute,utility", "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2",
    ]  # fmt: skip


async def test_a_cpu_job_gets_no_gpu_even_where_every_container_would(executor: DockerExecutor, api: APIClient) -> None:
    """With NVIDIA's runtime as the engine's default, these two variables alone decide; an image may set them."""
    spec = msgspec.structs.replace(shell_spec("true"), environment=(("NVIDIA_VISIBLE_DEVICES", "all"),))
    found = await attributes(executor, api, spec)
    assert not found["HostConfig"]["DeviceRequests"]
    named = [line for line in found["Config"]["Env"] if line.startswith("NVIDIA_")]
    assert sorted(named) == ["NVIDIA_DRIVER_CAPABILITIES=", "NVIDIA_VISIBLE_DEVICES=void"]


@pytest.mark.parametrize("name", ["LD_LIBRARY_PATH", "XDG_CONFIG_HOME"])
async def test_a_gpu_hook_finds_nothing_of_the_image_by_its_environment(
    executor: DockerExecutor, api: APIClient, image: NewImage, name: str
) -> None:
    """It may run on the host in the image's root folder, with the image's variables."""
    moving = "", ".", "lib", "./lib", "../x", "/proc/self/cwd/x", "//proc/1/root", "/usr/../proc/x", "/./dev/fd/3", "~"
    fixed = "/usr/local/nvidia/lib64", "/processes/lib", "/opt/dev"
    folders = [folder for pair in zip_longest(moving, fixed) for folder in pair if folder is not None]
    of_image = image(Env=["PATH=/bin", f"{name}={':'.join(folders)}", "LD_AUDIT=evil.so", "A=b"])
    spec = msgspec.structs.replace(shell_spec("true"), image=of_image, arguments=("true",), gpu_uuids=("GPU-1",))
    config = (await attributes(executor, api, spec))["Config"]
    assert f"{name}={':'.join(fixed)}" in config["Env"]
    assert {"LD_AUDIT=", "PATH=/bin", "A=b"} <= set(config["Env"])
    asked = msgspec.structs.replace(spec, job_id=str(uuid4()), environment=((name, "x:/asked"),))
    assert f"{name}=/asked" in (await attributes(executor, api, asked))["Config"]["Env"]


async def test_a_strangers_container_with_our_name_is_not_ours(executor: DockerExecutor, api: APIClient) -> None:
    spec = shell_spec("echo ours")
    name = f"dms-{spec.job_id}"
    theirs = (await asyncio.to_thread(api.create_container, PLAIN_IMAGE, ["true"], name=name))["Id"]
    try:
        assert (await executor.inspect(spec.job_id)).state is ExecutionState.ABSENT
        await executor.remove(spec.job_id)
        assert await executor.create(spec) != theirs
        lines, _ = await run(executor, spec)
        assert texts(lines) == ["ours"]
        assert (await asyncio.to_thread(api.inspect_container, theirs))["State"]["Status"] == "created"
        assert spec.job_id not in await executor.list_jobs()
    finally:
        await asyncio.to_thread(api.remove_container, theirs)


@pytest.mark.parametrize("image", ["dms-test/never-built:1", "127.0.0.1:1/none", "-v", "../x", "sha256:" + "0" * 64])
async def test_a_missing_image_says_why(image: str) -> None:
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, patience_seconds=0.1))
    try:
        with pytest.raises(ImageUnavailable, match="image"):
            await executor.prepare(shell_spec("true", image=image))
    finally:
        await executor.close()


async def test_policy_holds_for_images_that_are_here(demo_images: tuple[str, str], api: APIClient) -> None:
    image_id = (await asyncio.to_thread(api.inspect_image, PLAIN_IMAGE))["Id"]
    for policy in (ImagePolicy(deny=("dms-test/*",)), ImagePolicy(deny=(image_id,)), ImagePolicy(allow=("a",))):
        executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, policy=policy))
        with pytest.raises(ImageUnavailable):
            await executor.prepare(shell_spec("true", image=PLAIN_IMAGE))
        await executor.close()


async def test_too_large_an_image_is_refused(demo_images: tuple[str, str]) -> None:
    executor = DockerExecutor(NODE, msgspec.structs.replace(SETTINGS, max_image_mb=0))
    with pytest.raises(ImageUnavailable, match="MiB"):
        await executor.prepare(shell_spec("true"))
    await executor.close()
