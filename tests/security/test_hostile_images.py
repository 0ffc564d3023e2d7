"""Thirty images that want more than a job gets, on one provider, several at once while its API is used; in the engine's
own runtime and in gVisor: there all of them by `make test-gvisor`, in `make test` a part."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from docker import APIClient

from dms.adapters.executors.profile import seccomp_profile
from dms.domain.deployment import Fault
from tests.fixtures.engine import own_engine
from tests.fixtures.gvisor import EVERYTHING
from tests.fixtures.hostile import probe_image
from tests.fixtures.hostile_images import LOG_MB, MIB, TRY, Image, Run, Seen, run_hostile

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BALLAST = "dd if=/dev/zero of={}/f bs=1M count=100"
DEVICES = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
           "urandom", "zero"}  # fmt: skip

IMAGES = [
    # processes, memory, CPU
    Image(name="fork-bomb", script="f() { f | f & }; f; sleep 1", dies=True),
    Image(name="many-processes", script="i=0; while [ $i -lt 600 ]; do sleep 60 & i=$((i+1)); done; echo GOT processes",
          dies=True, memory_mb=256, gvisor=False, control=True),
    Image(name="memory", script="exec tail /dev/zero", dies=True),
    Image(name="memory-by-files", script=f"try room '{BALLAST.format('/tmp')}'", dies=True, control=True),
    Image(name="cpu", script="echo ready; while :; do :; done", stays=True, dies=True),
    Image(name="open-files", script="try files '[ $(probe files 9000) -gt 8192 ]'", control=True, gvisor=False),
    Image(name="priority", script="try nice 'nice -n -5 true && [ $(nice -n -5 nice) -lt 0 ]'\n"
                                  "try oom 'echo -900 >/proc/self/oom_score_adj'", gvisor=False),
    # disk
    Image(name="workspace", script=f"try room '{BALLAST.format('/workspace')}'", dies=True),
    Image(name="shared-memory", script=f"try room '{BALLAST.format('/dev/shm')}'", dies=True, control=True),
    Image(name="volume", script=f"try room '{BALLAST.format('/data')}'", changes=("VOLUME /data",), dies=True,
          control=True),
    Image(name="root-files", script="for d in / /bin /etc /root /var /run /usr; do try $d \"echo x >$d/x\"; done\n"
                                    "try passwd 'echo x >>/etc/passwd'", control=True),
    Image(name="sparse", script="cd /workspace; ln -s /etc/shadow s; mkfifo f; truncate -s 1099511627776 hole; ls"),
    Image(name="output", script="yes 0123456789abcdef | head -c 8000000", dies=True),
    Image(name="control-bytes", script=r"printf '\033[2J\r\0\377 {\"}\n'"),
    # network
    Image(name="interfaces", script="try line 'ls /sys/class/net | grep -v lo'\n"
                                    "try route 'tail -n +2 /proc/net/route | grep .'", control=True),
    Image(name="network", script="try machine 'probe tcp {machine} {port} | grep -q reached'\n"
                                 "try loopback 'probe tcp 127.0.0.1 {port} | grep -q reached'\n"
                                 "try metadata 'probe tcp 169.254.169.254 80 | grep -q reached'\n"
                                 "try names 'probe name example.org | grep -q [0-9]'", control=True),
    Image(name="packets", script="try raw 'probe raw | grep -q opened'",
          control=True, gvisor=False),
    Image(name="sockets-of-the-host", script="try unix 'tail -n +2 /proc/net/unix | grep -q /'\n"
                                             "try listening 'tail -n +2 /proc/net/tcp | grep -q 0A'"),
    # the host
    Image(name="engine", script="for p in /var/run/docker.sock /run/docker.sock /run/containerd /var/lib/docker; do "
                                "try $p \"ls $p\"; done"),
    Image(name="devices", script="ls /dev; try block 'ls -l /dev | grep ^b'; try memory 'head -c 1 /dev/mem'\n"
                                 "try mknod 'mknod /tmp/d c 1 3'", gvisor=False),
    Image(name="kernel-files", script="reads() { try $1 \"[ \\$(head -c 1 $1 | wc -c) = 1 ]\"; }\n"
                                      "for f in /proc/kcore /proc/kmsg /proc/keys /proc/timer_list; do reads $f; done\n"
                                      "p=/proc/sys/kernel/core_pattern; cat $p >/tmp/p\n"
                                      "try pattern \"cat /tmp/p >$p\"\n"
                                      "try sysrq 'echo h >/proc/sysrq-trigger'", gvisor=False),
    Image(name="control-groups", script="for g in /sys/fs/cgroup /sys/fs/cgroup/*; do try $g \"mkdir $g/x\"; done\n"
                                        "try more 'echo 600 >/sys/fs/cgroup/pids/pids.max'"),
    Image(name="mounts", script="try mount 'mount -t tmpfs x /tmp'; try bind 'mount --bind / /tmp'\n"
                                "try remount 'mount -o remount,rw /'; try umount 'umount /proc/kcore'\n"
                                "try chroot 'chroot / true'"),
    Image(name="calls", script="probe calls", gvisor=False),
    Image(name="namespaces", script="try user 'unshare -r true'; try net 'unshare -n true'; try mnt 'unshare -m true'\n"
                                    "try enter 'nsenter -t 1 -m true'", gvisor=False),
    Image(name="machine", script="try date '[ -z \"$(date -s @$(date +%s) 2>&1 >/dev/null)\" ]'\n"
                                 "try name 'hostname job'"),
    # rights
    Image(name="root-user", changes=("USER root",), stays=True, dies=True,
          script="try root '[ $(id -u) = 0 ]'; try setuid '[ $(probe-of-root uid) = 0 ]'; try su 'su -c true'\n"
                 "try capabilities 'grep -E Cap...:.*[1-9a-f] /proc/self/status'\n"
                 "echo ready; while :; do sleep 1; done"),
    Image(name="setuid", script="try setuid '[ $(probe-of-root uid) = 0 ]'; grep -E NoNewPrivs /proc/self/status",
          gvisor=False),
    Image(name="variables", changes=("ENV LD_PRELOAD=/evil.so", "ENV NVIDIA_VISIBLE_DEVICES=all",
                                     "ENV NVIDIA_DRIVER_CAPABILITIES=all"), script="env | grep -E 'PRELOAD|NVIDIA'"),
    # its end
    Image(name="deaf", changes=("HEALTHCHECK CMD touch /tmp/checked",), stays=True, dies=True,
          script="trap '' TERM HUP INT QUIT WINCH; echo ready; while :; do sleep 1; done"),
    Image(name="kills-all", script="kill -9 1; kill -9 -1; sleep 1", dies=True),
    Image(name="left-behind", script="setsid sh -c 'trap \"\" TERM HUP; sleep 1000' >/dev/null 2>&1 &"),
]  # fmt: skip
IN_GVISOR = (
    "memory",
    "cpu",
    "workspace",
    "root-files",
    "network",
    "engine",
    "mounts",
    "root-user",
    "deaf",
    "left-behind",
)


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    """A port of every address of this machine where connections are taken."""
    with socket.create_server(("", 0), backlog=64) as server:
        yield server.getsockname()[1]


def at(image: Image, listening: int) -> Image:
    """With the machine's own address and port in its script."""
    machine = "$(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p')"
    script = image.script.replace("{machine}", machine).replace("{port}", str(listening))
    return Image(**{name: getattr(image, name) for name in image.__struct_fields__} | {"script": script})


@pytest.fixture(scope="module", params=["engine's runtime", "gvisor"])
def hostile(
    request: pytest.FixtureRequest,
    listening: int,
    demo_images: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """What came of all of them."""
    folder = tmp_path_factory.mktemp("hostile")
    if request.param != "gvisor":
        return asyncio.run(run_hostile([at(image, listening) for image in IMAGES], folder))
    images = [image for image in IMAGES if image.gvisor and (EVERYTHING or image.name in IN_GVISOR)]
    with own_engine(gvisor=True) as engine:
        return asyncio.run(
            run_hostile([at(image, listening) for image in images], folder, engine.base_url, runtime="runsc")
        )


def seen(hostile: Run, name: str) -> Seen:
    """Fails the test where it was not run; a part of them is run in gVisor."""
    return hostile.seen[name]


def test_there_are_thirty() -> None:
    assert len({image.name for image in IMAGES}) >= 30


def test_none_gets_anything(hostile: Run) -> None:
    got = {name: [line for line in seen.lines if line.startswith("GOT")] for name, seen in hostile.seen.items()}
    assert {name: lines for name, lines in got.items() if lines} == {}
    may_die = {image.name for image in IMAGES if image.dies}
    assert [name for name, seen in hostile.seen.items() if name not in may_die and "over" not in seen.lines] == []


def test_the_same_tries_succeed_in_a_usual_container(listening: int, demo_images: tuple[str, str]) -> None:
    """So that the tries above could succeed."""
    controls = [image for image in IMAGES if image.control]
    with closing(APIClient(version="auto")) as api:
        for image in controls:
            name = probe_image(None, image.changes)
            script = TRY + at(image, listening).script + "; kill -9 -1"
            host_config = api.create_host_config(shm_size=400 * MIB)
            made = api.create_container_from_config(  # type: ignore[no-untyped-call]
                api.create_container_config(name, [script, ""], host_config=host_config)
            )
            try:
                api.start(made["Id"])
                api.wait(made["Id"], timeout=120)
                assert "GOT" in bytes(api.logs(made["Id"])).decode(), image.name
            finally:
                api.remove_container(made["Id"], force=True, v=True)


def test_nothing_of_them_is_left_on_the_machine(hostile: Run) -> None:
    """No container, volume, network, mount, process or folder."""
    assert hostile.left == []


def test_nothing_of_them_is_written_to_the_disk_but_bounded_output(hostile: Run) -> None:
    for name, one in hostile.seen.items():
        assert one.written_bytes <= MIB // 4, name  # the engine's own few files in it
        assert one.log_bytes <= 2 * (LOG_MB * MIB * 101 // 100 + 2 * MIB), name
        assert one.inspected["HostConfig"]["ReadonlyRootfs"], name
        assert {mount["Type"] for mount in one.inspected["Mounts"]} <= {"bind", "tmpfs"}, name


def test_the_api_is_answered_meanwhile(hostile: Run) -> None:
    assert hostile.answered > 0


def test_each_has_the_one_profile(hostile: Run) -> None:
    asked = {image.name: image.memory_mb for image in IMAGES}
    for name, one in hostile.seen.items():
        host, config = one.inspected["HostConfig"], one.inspected["Config"]
        assert (host["Privileged"], host["CapDrop"], host["CapAdd"]) == (False, ["ALL"], None), name
        assert host["SecurityOpt"] == ["no-new-privileges:true", f"seccomp={seccomp_profile()}"], name
        assert (host["NetworkMode"], host["IpcMode"], host["PidMode"]) == ("none", "private", ""), name
        assert (host["Devices"] or [], host["DeviceRequests"] or []) == ([], []), name
        assert host["Memory"] == host["MemorySwap"] == asked[name] * MIB, name
        assert host["PidsLimit"] == 512, name
        assert (config["User"], config["Healthcheck"]) == ("65532:65532", {"Test": ["NONE"]}), name
        assert {"LD_PRELOAD=", "NVIDIA_VISIBLE_DEVICES=void"} <= set(config["Env"]), name


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_a_fork_bomb_dies_inside_and_others_are_served(hostile: Run) -> None:
    assert not seen(hostile, "fork-bomb").inspected["State"]["Running"]
    assert hostile.left == []
    assert any("can't fork" in line for line in seen(hostile, "many-processes").lines)
    assert hostile.answered > 0


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_no_place_takes_more_than_its_share(hostile: Run) -> None:
    """Neither the workspace, /tmp, shared memory, a VOLUME, nor the image's own files."""
    for name in ("workspace", "memory-by-files", "shared-memory", "volume", "root-files"):
        assert not [line for line in seen(hostile, name).lines if line.startswith("GOT")], name
        assert seen(hostile, name).written_bytes <= MIB // 4


def test_all_of_the_memory_ends_the_job_and_says_so(hostile: Run) -> None:
    one = seen(hostile, "memory")
    assert (one.fault, one.reason) == (Fault.JOB, "exit code 137")
    assert one.oom_killed or one.inspected["HostConfig"]["Runtime"] == "runsc"  # which tells the engine now and then


def test_a_job_that_listens_to_nothing_is_ended_all_the_same(hostile: Run) -> None:
    """Whatever its image says of signals and of checks of its health."""
    for name in ("deaf", "cpu", "root-user"):
        assert (seen(hostile, name).fault, seen(hostile, name).reason) == (Fault.REQUESTER, "enough")
    assert seen(hostile, "deaf").inspected["State"].get("Health") is None


def test_roots_image_is_nobody_on_the_machine(hostile: Run) -> None:
    one = seen(hostile, "root-user")
    runtime = one.inspected["HostConfig"]["Runtime"]
    assert 0 not in one.users or runtime == "runsc"  # gVisor's own process, in a namespace without rights
    assert "GOT root" not in one.lines


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_system_calls_that_only_attackers_need_are_closed(hostile: Run) -> None:
    told = [line for line in seen(hostile, "calls").lines if line != "over"]
    assert len(told) == 14
    assert [line for line in told if not line.endswith(" closed")] == []


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_no_device_but_the_harmless_ones_and_none_of_the_gpus(hostile: Run) -> None:
    assert set(seen(hostile, "devices").lines) - {"over"} <= DEVICES
    assert set(seen(hostile, "variables").lines) - {"over"} == {
        "LD_PRELOAD=", "NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_DRIVER_CAPABILITIES=",
    }  # fmt: skip
    assert seen(hostile, "setuid").lines[0].split() == ["NoNewPrivs:", "1"]


@pytest.mark.parametrize("hostile", ["engine's runtime"], indirect=True)
def test_what_they_print_is_text_and_what_is_left_out_has_a_mark(hostile: Run) -> None:
    assert seen(hostile, "control-bytes").lines[0].startswith("\x1b[2J")
    flood = seen(hostile, "output").lines
    assert sum(len(line) + 1 for line in flood) < 8_000_000
