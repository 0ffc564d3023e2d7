"""Gateways through their life: closed before anybody is in, closed again after a restart, and gone in the end, also
when their maker died at any step."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from docker import APIClient
from msgspec.structs import replace

from dms.adapters.executors import gateway_image, gateways, network_trial
from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.docker import DockerExecutor
from dms.adapters.executors.gateway_rules import closed_to_v6
from dms.adapters.executors.profile import LABEL_GATEWAY, LABEL_GATEWAY_NODE
from dms.application.ports.executor import ExecutionState
from dms.domain.network import Network
from dms.domain.run_end import EndedBy
from dms.errors import ExecutorUnavailable, NetworkUnavailable
from ops import leave
from tests.fixtures.docker_executors import SETTINGS
from tests.fixtures.engine import own_engine
from tests.fixtures.gated import executor, gated, world
from tests.fixtures.hostile import hostile_spec, open_network, side_by_side, tried
from tests.fixtures.jobs import NODE, launch, read_all, shell_spec, texts
from tests.fixtures.public_internet import LAN, PUBLIC, World
from tests.fixtures.waiting import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("demo_images")]
__all__ = ["executor", "world"]
LAN_AND_PUBLIC = side_by_side({"lan": f"tcp {LAN[0]} 80", "public": f"tcp {PUBLIC} 80"})


def parts(api: APIClient, job_id: str) -> tuple[list[str], list[str]]:
    """Ids of the containers and of the networks of a job's gateway."""
    label = {"label": f"{LABEL_GATEWAY}={job_id}"}
    return (
        [str(each["Id"]) for each in api.containers(all=True, filters=label)],
        [str(each["Id"]) for each in api.networks(filters=label)],
    )


def gateway_of(api: APIClient, job_id: str) -> str:
    (container,), _ = parts(api, job_id)
    return container


def rules_in(api: APIClient, container: str) -> str:
    made = api.exec_create(container, ["iptables-save", "-t", "filter"])
    return bytes(api.exec_start(made["Id"])).decode()


async def test_nothing_of_a_gateway_is_left_behind_its_job(executor: DockerExecutor, api: APIClient) -> None:
    spec = hostile_spec(LAN_AND_PUBLIC)
    await launch(executor, spec)
    await read_all(executor, spec.job_id)
    assert tuple(map(len, parts(api, spec.job_id))) == (1, 1)
    assert spec.job_id in await executor.list_jobs()
    await executor.remove(spec.job_id)
    assert parts(api, spec.job_id) == ([], [])
    assert spec.job_id not in await executor.list_jobs()


async def test_a_job_does_not_start_in_a_gateway_that_somebody_restarted(
    executor: DockerExecutor, api: APIClient
) -> None:
    spec = hostile_spec(LAN_AND_PUBLIC)
    await executor.create(spec)
    api.restart(gateway_of(api, spec.job_id), timeout=0)
    with pytest.raises(NetworkUnavailable, match="was restarted"):
        await executor.start(spec.job_id)
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.CREATED


async def test_a_gateway_that_somebody_restarts_closes_itself_again(executor: DockerExecutor, api: APIClient) -> None:
    spec = hostile_spec(LAN_AND_PUBLIC)
    await executor.create(spec)
    container = gateway_of(api, spec.job_id)
    before = rules_in(api, container)
    api.restart(container, timeout=0)
    async with asyncio.timeout(60):
        while "--quota" not in (after := await asyncio.to_thread(rules_in, api, container)):
            await asyncio.sleep(0.05)
    assert without_counts(after) == without_counts(before)
    # Whoever joins it now, past all our checks, is as closed as before.
    (job,) = [each["Id"] for each in api.containers(all=True, filters={"label": f"io.nunet.dms.job_id={spec.job_id}"})]
    api.start(job)
    lines = texts(await read_all(executor, spec.job_id))
    assert sorted(lines) == ["lan: refused (No route to host)", "public: reached"]


def without_counts(saved: str) -> list[str]:
    return [line for line in saved.splitlines() if line.startswith(("-A", ":"))]


@pytest.mark.parametrize("how", ["restart", "kill", "remove"])
async def test_a_running_job_whose_gateway_goes_has_no_network_and_that_is_told(
    executor: DockerExecutor, api: APIClient, how: str
) -> None:
    spec = hostile_spec(f"until [ -e /tmp/go ]; do sleep 0.1; done; {LAN_AND_PUBLIC}\nsleep 300")
    await launch(executor, spec)
    use = await executor.network_use(spec.job_id)
    assert use is not None
    assert use.trouble == ""
    container = gateway_of(api, spec.job_id)
    {
        "restart": lambda: api.restart(container, timeout=0),
        "kill": lambda: api.kill(container),
        "remove": lambda: api.remove_container(container, force=True),
    }[how]()
    use = await executor.network_use(spec.job_id)
    assert use is not None
    assert ("was restarted" if how == "restart" else "is gone") in use.trouble
    job = api.containers(filters={"label": f"io.nunet.dms.job_id={spec.job_id}"})[0]["Id"]
    api.exec_start(api.exec_create(job, ["/bin/touch", "/tmp/go"])["Id"])
    lines = [line async for line in first_lines(executor, spec.job_id, 2)]
    assert sorted(lines) == ["lan: refused (Network is unreachable)", "public: refused (Network is unreachable)"]


async def first_lines(executor: DockerExecutor, job_id: str, count: int) -> Any:
    async with asyncio.timeout(120), contextlib.aclosing(executor.follow(job_id, None)) as batches:
        async for batch in batches:
            for line in batch:
                yield line.text
                count -= 1
            if count <= 0:
                return


# --- what can't be closed is not given ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("closed_to_v6", "*filter\n-A INPUT -j NOWHERE\nCOMMIT\n", "a gateway can't be closed"),
        ("closed_to_v6", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n", ""),
        ("closed", "*filter\n-A OUTPUT -m nothing -j DROP\nCOMMIT\n", "a gateway can't be closed"),
    ],
)
async def test_rules_that_do_not_load_give_no_network(
    executor: DockerExecutor, api: APIClient, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    if not said:  # they load, and are others than those that are read back
        answers, real = iter([text]), closed_to_v6()
        monkeypatch.setattr(gateways, name, lambda: next(answers, real))
        said = "are not in force as they were loaded: .* lines in place of"
    else:
        monkeypatch.setattr(gateways, name, lambda *_: text)
    spec = hostile_spec(LAN_AND_PUBLIC)
    with pytest.raises(NetworkUnavailable, match=said):
        await executor.create(spec)
    assert (await executor.inspect(spec.job_id)).state is ExecutionState.ABSENT
    await executor.remove(spec.job_id)
    assert parts(api, spec.job_id) == ([], [])


async def test_an_image_that_somebody_removed_is_made_again(
    executor: DockerExecutor, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_image, "TOOLS", (*gateway_image.TOOLS, "true"))  # another one than everybody's
    image = await executor._gateways.image.ready()
    for _ in range(2):
        api.remove_image(image, force=True)
        assert (await tried(executor, {"public": f"tcp {PUBLIC} 80"})) == {"public": "reached"}
    api.remove_image(image, force=True)


async def test_a_machine_without_iptables_says_which_package_it_lacks(
    executor: DockerExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_image, "_FOLDERS", "/usr/bin")
    given = await executor.try_network()
    assert (given.network, given.reason) == (
        Network.NONE, "iptables-restore is not installed on this machine (apt-get install iptables)",
    )  # fmt: skip


# --- ranges -------------------------------------------------------------------------------------------
async def test_each_job_has_a_range_of_its_own_and_none_is_left_for_one_too_many(world: World, api: APIClient) -> None:
    small = IPv4Network((int(world.range.network_address), 28))
    taken, free = small.subnets(new_prefix=29)
    async with gated(world, range=small) as executor:
        with open_network(api, taken):  # another program's
            first, second = hostile_spec(LAN_AND_PUBLIC), hostile_spec(LAN_AND_PUBLIC)
            await executor.create(first)
            _, (network,) = parts(api, first.job_id)
            assert api.inspect_network(network)["IPAM"]["Config"][0]["Subnet"] == str(free)
            with pytest.raises(NetworkUnavailable, match=r"no part of job.network_range .* is free"):
                await executor.create(second)
            await executor.remove(first.job_id)
            await executor.create(second)


# --- a maker that dies --------------------------------------------------------------------------------
class Died(BaseException):
    """Nothing of the maker's runs any more, not even what would tidy up."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Makes the engine's next calls the maker's last, as many as are said; it never hears of the last one's answer."""
    real, left = EngineCalls.work, [1000]

    async def work(self: EngineCalls, what: str, call: Callable[[APIClient], object]) -> object:
        if left[0] <= 0:
            raise Died(what)
        done = await real(self, what, call)
        left[0] -= 1
        if left[0] <= 0:
            raise Died(what)
        return done

    monkeypatch.setattr(EngineCalls, "work", work)
    yield lambda calls: left.__setitem__(0, calls)
    left[0] = 1000


async def test_what_a_maker_left_that_died_at_any_step_is_found_and_removed(
    world: World, api: APIClient, dying: Callable[[int], None]
) -> None:
    steps = 0
    for calls in range(1, 20):
        spec = hostile_spec(LAN_AND_PUBLIC)
        async with gated(world) as executor:
            dying(calls)
            try:
                await executor.create(spec)
                break
            except Died:
                steps += 1
            finally:
                dying(1000)
            async with gated(world) as later:  # the next process
                left = parts(api, spec.job_id)
                assert (spec.job_id in await later.list_jobs()) == any(left)
                await later.remove(spec.job_id)
                assert parts(api, spec.job_id) == ([], [])
    assert steps >= 5  # image, network, container, start, rules, job


async def test_a_next_process_makes_it_anew_over_what_is_left(
    world: World, api: APIClient, dying: Callable[[int], None]
) -> None:
    spec = hostile_spec(LAN_AND_PUBLIC)
    async with gated(world) as executor:
        dying(4)
        with pytest.raises(Died):
            await executor.create(spec)
        dying(1000)
        left = gateway_of(api, spec.job_id)
    async with gated(world) as later:
        await launch(later, spec)
        lines = texts(await read_all(later, spec.job_id))
        assert sorted(lines) == ["lan: refused (No route to host)", "public: reached"]
        assert gateway_of(api, spec.job_id) != left


async def test_what_could_not_be_removed_while_the_engine_was_away_is_found_later(
    executor: DockerExecutor, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = hostile_spec("true")
    await executor.create(spec)
    with monkeypatch.context() as away:

        async def gone(*_: object) -> object:
            raise ExecutorUnavailable("the engine is away")

        away.setattr(EngineCalls, "work", gone)
        with pytest.raises(ExecutorUnavailable):
            await executor.remove(spec.job_id)
    assert spec.job_id in await executor.list_jobs()
    await executor.remove(spec.job_id)
    assert spec.job_id not in await executor.list_jobs()


# --- the try at the start -------------------------------------------------------------------------------
async def test_the_internet_is_given_where_it_was_tried_and_nothing_is_left_of_the_try(
    executor: DockerExecutor, api: APIClient
) -> None:
    given = await executor.try_network()
    assert (given.network, given.reason) == (Network.INTERNET, "")
    assert not [job for job in await executor.list_jobs() if job.startswith(network_trial.TRIAL_PREFIX)]


async def test_names_that_nobody_answers_are_the_reason_for_none(world: World) -> None:
    async with gated(world, resolver=IPv4Address(LAN[1])) as executor:
        given = await executor.try_network()
    assert given.network is Network.NONE
    assert f"no answer from the name server ({LAN[1]})" in given.reason
    assert "job.resolver" in given.reason


async def test_rules_that_do_not_hold_are_found_out(executor: DockerExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """They load and are read back as they were loaded; only a job's own try shows that they close nothing."""
    heads = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
    monkeypatch.setattr(gateways, "closed", lambda *_: heads)
    given = await executor.try_network()
    assert given.network is Network.NONE
    assert "a job would reach this machine" in given.reason


async def test_an_engine_with_another_network_than_ours_is_not_trusted(
    executor: DockerExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_trial, "network_namespace", lambda: "net:[1]")
    given = await executor.try_network()
    assert given.network is Network.NONE
    assert "a network that this DMS does not see" in given.reason


def test_no_range_leads_where_the_machine_already_goes() -> None:
    whole = IPv4Network("10.217.0.0/24")
    lan, vpn = IPv4Network("10.217.0.0/26"), IPv4Network("10.217.0.200/32")
    found = list(gateways.free_subnets(whole, [lan, vpn, IPv4Network("192.168.0.0/16")], str(uuid4())))
    assert len(found) == 32 - 8 - 1
    assert not [subnet for subnet in found if subnet.overlaps(lan) or subnet.overlaps(vpn)]
    begun = {next(gateways.free_subnets(whole, [lan, vpn], str(uuid4()))) for _ in range(64)}
    assert len(begun) > 1  # jobs begin to look in different places


@pytest.mark.parametrize(
    "text", ["8.8.8.0/24", "10.0.0.0/7", "10.0.0.0/30", "127.0.0.0/24", "224.0.0.0/24", "10.0.0.1/24"]
)
def test_a_range_must_be_private_and_large_enough(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        gateways.job_range(text)
    assert str(gateways.job_range("192.168.7.0/29")) == "192.168.7.0/29"


def test_only_the_own_programs_of_the_machine_are_in_the_image() -> None:
    paths = gateway_image.files().paths
    assert {Path(name).name for name in paths} >= {"bash", "sleep", "iptables-restore", "ip6tables-restore"}
    assert all(file.is_file() for file in paths.values())


async def test_nothing_of_a_network_stays_when_the_package_goes(
    executor: DockerExecutor, api: APIClient, world: World
) -> None:
    mine, other = hostile_spec("sleep 300"), hostile_spec("sleep 300")
    await launch(executor, mine)
    stranger = gateways.Gateways("another node", executor._calls, gateways.GatewaySettings(range=world.range))
    try:
        await stranger.open(other.job_id)
        await asyncio.to_thread(leave.remove_gateways, api, NODE)
        assert parts(api, mine.job_id) == ([], [])
        assert tuple(map(len, parts(api, other.job_id))) == (1, 1)
    finally:
        await stranger.remove(other.job_id)


async def test_a_container_that_the_engine_removes_already_is_waited_for_when_the_package_goes(
    executor: DockerExecutor, api: APIClient
) -> None:
    spec = hostile_spec("sleep 300")
    await launch(executor, spec)
    clients = [APIClient(version="auto") for _ in range(4)]
    try:
        await asyncio.gather(*(asyncio.to_thread(leave.remove_gateways, one, NODE) for one in clients))
    finally:
        for one in clients:
            one.close()
    assert parts(api, spec.job_id) == ([], [])


_TRY = """
import asyncio, sys
from ipaddress import IPv4Address, IPv4Network
from dms.adapters.executors.docker import DockerExecutor, DockerSettings
from dms.adapters.executors.gateways import GatewaySettings
from dms.adapters.executors.profile import ContainerLimits

async def main():
    gateways = GatewaySettings(range=IPv4Network(sys.argv[1]), resolver=IPv4Address(sys.argv[2]))
    limits = ContainerLimits(core_mhz=2000, cores=1)
    executor = DockerExecutor("a node without rights", DockerSettings(limits=limits, gateways=gateways))
    given = await executor.try_network()
    print(given.network.value, given.reason, await executor.list_jobs())
    await executor.close()

asyncio.run(main())
"""


async def test_no_right_is_needed_beyond_the_engines_socket(world: World) -> None:
    """As the packaged service has it: no capability at all, and no way to get one."""
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", sys.executable, "-c", _TRY]
    done = await asyncio.to_thread(
        subprocess.run, [*command, str(world.range), str(world.resolver)], check=False, capture_output=True, text=True
    )
    assert done.stdout == "internet  []\n", done.stderr


async def test_an_engine_that_was_restarted_leaves_nothing_of_a_gateway() -> None:
    """Neither is started again by the engine; the next job gets a gateway of its own."""
    with own_engine() as engine:
        wanted = gateways.GatewaySettings(range=IPv4Network("10.218.255.0/24"), resolver=IPv4Address(LAN[0]))
        executor = DockerExecutor(NODE, replace(SETTINGS, base_url=engine.base_url, gateways=wanted))
        api = APIClient(base_url=engine.base_url, version="auto")
        try:
            spec = replace(shell_spec("sleep 300"), network=Network.INTERNET)
            await launch(executor, spec)
            await asyncio.to_thread(engine.stop)
            await asyncio.to_thread(engine.start)
            ended = await executor.inspect(spec.job_id)
            assert (ended.state, ended.ended_by) == (ExecutionState.EXITED, EndedBy.ENGINE)
            use = await executor.network_use(spec.job_id)
            assert use is not None
            assert "is gone" in use.trouble
            assert spec.job_id in await executor.list_jobs()
            await executor.remove(spec.job_id)
            assert parts(api, spec.job_id) == ([], [])
            another = replace(shell_spec("ip -4 addr show dev eth0 | grep -c inet"), network=Network.INTERNET)
            await launch(executor, another)
            assert texts(await read_all(executor, another.job_id)) == ["1"]
        finally:
            for job_id in await executor.list_jobs():
                await executor.remove(job_id)
            await executor.close()
            api.close()


@pytest.mark.parametrize("lost_part", ["the end", "the middle"])
async def test_rules_that_the_engine_tells_in_part_are_read_again(
    executor: DockerExecutor, monkeypatch: pytest.MonkeyPatch, lost_part: str
) -> None:
    """As Docker 20.10 does now and then on a busy machine."""
    work = executor._calls.work
    lost: list[str] = []

    async def losing(what: str, call: Callable[[APIClient], Any]) -> Any:
        found = await work(what, call)
        if what == "read a gateway's rules" and len(lost) < 2:
            lost.append(found[0])
            return found[0][: 40 * len(lost) - 40] + (found[0][-200:] if lost_part == "the middle" else ""), 0
        return found

    monkeypatch.setattr(executor._calls, "work", losing)
    try:
        assert (await executor._gateways.open("read-again")).container
        assert len(lost) == 2
    finally:
        await executor._gateways.remove("read-again")


async def test_a_try_that_a_crash_cut_off_is_removed_and_one_that_runs_is_not(
    executor: DockerExecutor, api: APIClient
) -> None:
    cut_off, running = f"{network_trial.TRIAL_PREFIX}1", f"{network_trial.TRIAL_PREFIX}2"
    try:
        for job_id in (cut_off, running):
            await executor._gateways.open(job_id)
        executor._trial.running.add(running)
        assert cut_off in await executor.list_jobs()
        assert running not in await executor.list_jobs()
        assert (await executor.inspect(cut_off)).state is ExecutionState.ABSENT  # so a sweep removes it
        await executor.remove(cut_off)
        assert (parts(api, cut_off), tuple(map(len, parts(api, running)))) == (([], []), (1, 1))
    finally:
        executor._trial.running.clear()
        await executor._gateways.remove(running)
        await executor._gateways.remove(cut_off)


async def test_a_try_that_nobody_waits_for_any_more_leaves_nothing_behind(world: World, api: APIClient) -> None:
    """As when the DMS stops: whoever waited is cancelled until it ends, and then the executor is closed."""
    async with gated(world) as executor:
        for begun in (lambda: executor._trial.running, lambda: trials(api)):
            trying = asyncio.create_task(executor.try_network())
            await wait_for(begun)
            while not trying.done():
                trying.cancel()
                await asyncio.sleep(0)
            await executor._trial.close()
            assert trials(api) == []


def trials(api: APIClient) -> list[str]:
    """Containers and networks of this process's tries."""
    ours = {"label": f"{LABEL_GATEWAY_NODE}={NODE}"}
    found = [*api.containers(all=True, filters=ours), *api.networks(filters=ours)]
    return [each["Id"] for each in found if each["Labels"][LABEL_GATEWAY].startswith(network_trial.TRIAL_PREFIX)]
