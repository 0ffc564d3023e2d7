"""Whatever is done to a compute provider, in whatever order: what it shows its user, its operator and its peers is the
same, at every position of its log; and the past explains what was refused."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dms.application.device import gpus as gpu_watch
from dms.application.network import own_advertisement
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.directory import Advertisement
from dms.domain.event import Recorded
from dms.domain.features import INTERNET
from dms.domain.gpus import GpuReading, choose
from dms.domain.network import Network
from dms.domain.pricing import price_text, quote
from dms.domain.request import ServiceRequest
from dms.domain.reservations import Reservations
from dms.domain.resources import Gpu, Resources
from tests.integration.agreement.station import TX_USED_BEFORE, Heard, Shown, Station, station

MIB = 1024 * 1024
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes seconds
CHANNELS = st.sampled_from(["nunet-test"] * 4 + ["nunet-team"])
CPU, MEMORY = st.sampled_from([800, 3000, 7200]), st.sampled_from([1600, 6000, 14_400])
PRICE = st.sampled_from([Decimal(0), Decimal("0.01"), Decimal(2)])
VRAM = 8000


def a_gpu(uuid: str) -> st.SearchStrategy[GpuReading]:
    """With nothing of it in use, a little that is no news, much, or by a program that computes."""
    return st.tuples(st.sampled_from([0, 0, 100, 5000]), st.sampled_from([0, 0, 1])).map(
        lambda use: GpuReading(
            name="Test GPU", uuid=uuid, vendor="nvidia", total_vram_mb=VRAM, used_vram_mb=use[0],
            free_vram_mb=VRAM - use[0], compute_processes=use[1],
        )
    )  # fmt: skip


GPUS = st.tuples(a_gpu("GPU-1"), a_gpu("GPU-2")).flatmap(lambda both: st.sampled_from([both, both[:1], both[1:], ()]))
WANTED = st.one_of(
    st.fixed_dictionaries({"cpu": st.sampled_from([10, 500, 5000]), "ram": st.sampled_from([16, 512, 8000])}),
    st.fixed_dictionaries({
        "cpu": st.just(10), "ram": st.just(16), "gpus": st.integers(1, 2),
        "vram": st.sampled_from([1000, 7950, 9000]), "share_gpu": st.booleans(),
    }),
)  # fmt: skip
ASKS = st.tuples(
    st.just("ask"), st.sampled_from(["sleep 3600", "sleep 3600", "true"]),
    st.sampled_from(["nunet-test"] * 5 + ["", "nunet-team"]),
    st.sampled_from(["5", "5", "5", "0.001"]), st.sampled_from(["", "", "", TX_USED_BEFORE]), WANTED,
)  # fmt: skip


def named(name: str, *values: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), st.tuples(*values), st.fixed_dictionaries(more))


STEPS = st.one_of(
    ASKS.map(lambda asked: (asked[0], asked[1:], {})),
    ASKS.map(lambda asked: (asked[0], asked[1:], {})),
    named("onboard", CPU, MEMORY, CHANNELS, PRICE, available=st.sampled_from([True, True, False])),
    named("offboard", forced=st.sampled_from([False, False, True])),
    named("change_resources", CPU, MEMORY, PRICE),
    named("set_available", available=st.booleans()),
    named("engine", st.sampled_from(["", "", "no route", "gone"])),
    GPUS.map(lambda readings: ("gpus", readings, {})),
    GPUS.map(lambda readings: ("gpus_unseen", readings, {})),
    named("stop", st.integers(0, 3)),
    st.just(("broken_disk", (), {})),
    st.just(("restart", (), {})),
)


class Truth(Struct, frozen=True):
    """What the events up to a position come to, by the aggregates that decide."""

    online: bool
    onboarded: bool
    channel: str
    ntx_price: Decimal
    offered: Resources
    reserved: Resources
    gpus: tuple[Gpu, ...]
    network: str


def truths(events: Sequence[Recorded], peer_id: str) -> list[Truth]:
    """At each position, from 0."""
    device, deployments = Device(peer_id), dict[str, Deployment]()
    found = [truth_of(device, deployments)]
    for recorded in events:
        if recorded.kind == Device.KIND:
            device.apply(recorded.event)
        elif recorded.kind == Deployment.KIND:
            deployments.setdefault(recorded.key, Deployment(recorded.key)).apply(recorded.event)
        found.append(truth_of(device, deployments))
    return found


def truth_of(device: Device, deployments: dict[str, Deployment]) -> Truth:
    held = Reservations()
    for job_id, deployment in deployments.items():
        if deployment.reserved != Resources() and not deployment.ended:
            held.hold(job_id, deployment.reserved, deployment.gpu_uuids, shared=deployment.gpus_shared)
    return Truth(
        online=device.online,
        onboarded=device.onboarded,
        channel=device.channel,
        ntx_price=device.ntx_price,
        offered=device.offered,
        reserved=held.total,
        gpus=held.left_of(device.total.gpus) if device.onboarded else (),
        network=device.network,
    )


# --- the present: all that is shown is one ---------------------------------------------------------------
def check_shown(shown: Shown) -> None:
    row, dump, gauges, asked = shown.capacity, shown.dump, shown.gauges, shown.asked
    online = bool(gauges["dms_device_online", ""])
    assert dump["is_available"] == online
    for of in ("offered", "reserved", "free"):
        amount = Resources() if row is None else amount_of(row, "onboarded" if of == "offered" else of)
        assert gauges["dms_capacity_cpu_mhz", of] == amount.cpu_mhz
        assert gauges["dms_capacity_memory_bytes", of] == amount.memory_mb * MIB
        assert gauges["dms_capacity_vram_bytes", of] == amount.vram_mb * MIB
    free = Resources() if row is None else amount_of(row, "free")
    assert (dump["available_resources"]["tot_cpu_hz"], dump["available_resources"]["ram"]) == (
        free.cpu_mhz, free.memory_mb,
    )  # fmt: skip
    if row is not None:
        assert row["online"] == online
        assert bool(row["hindrance"]) <= (not online)
        assert dump["available_resources"]["ntx_price"] == float(row["ntx_price"])
        assert [(gpu["tot_vram"], gpu["free_vram"]) for gpu in dump["gpu_info"] or ()] == [
            (gpu["total_vram_mb"], gpu["free_vram_mb"]) for gpu in row["gpus"]
        ]
    if asked is not None:
        assert row is not None
        check_told(asked, row)


def check_told(told: Advertisement, row: dict[str, Any]) -> None:
    offering = told.offering
    assert offering.online == row["online"]
    assert offering.channel == row["channel"]
    assert offering.ntx_price == row["ntx_price"]
    assert offering.offered == amount_of(row, "onboarded")
    assert offering.reserved == amount_of(row, "reserved")
    assert offering.gpus == gpus_of(row)
    assert (INTERNET in offering.features) == (row["network"] == Network.INTERNET)


def amount_of(row: dict[str, Any], name: str) -> Resources:
    return msgspec.convert(row[name], Resources)


def gpus_of(row: dict[str, Any]) -> tuple[Gpu, ...]:
    return msgspec.convert(row["gpus"], tuple[Gpu, ...])


# --- the past --------------------------------------------------------------------------------------------
def check_past(rows: Sequence[dict[str, Any] | None], true: Sequence[Truth]) -> None:
    for position, (row, truth) in enumerate(zip(rows, true, strict=True)):
        if row is None:
            assert not truth.onboarded, position
            continue
        assert row["online"] == truth.online, position
        assert (row["channel"] or truth.channel) == truth.channel, position
        assert Decimal(row["ntx_price"]) == truth.ntx_price, position
        assert amount_of(row, "onboarded") == truth.offered, position
        assert amount_of(row, "reserved") == truth.reserved, position
        assert gpus_of(row) == truth.gpus, position
        assert row["network"] == truth.network, position


def check_heard(heard: Sequence[Heard], true: Sequence[Truth]) -> None:
    """Each advertisement says what was so at a position, none says what was so before the one that came before it."""
    position = 0
    for one in heard:
        while not says(one, true[position]):
            position += 1
            assert position < len(true), f"never so, or told too late: {one.advertisement}"


def says(heard: Heard, truth: Truth) -> bool:
    told = heard.advertisement.offering
    online = told.online and truth.online if heard.troubled else truth.online
    return (told.online, told.onboarded, Decimal(told.ntx_price), told.offered, told.reserved, told.gpus) == (
        online, truth.onboarded, truth.ntx_price, truth.offered, truth.reserved, truth.gpus,
    )  # fmt: skip


def check_refusals(events: Sequence[Recorded], rows: Sequence[dict[str, Any] | None], channels: dict[str, str]) -> None:
    """Each decision follows from what `as_of` shows of the moment before it was asked for."""
    asked: dict[str, tuple[int, Deployment.Requested]] = {}
    paid: set[str] = set()
    for recorded in events:
        event = recorded.event
        if isinstance(event, Deployment.Requested):
            asked[recorded.key] = recorded.position - 1, event
        elif isinstance(event, Deployment.Rejected | Deployment.Accepted):
            position, wanted = asked[recorded.key]
            reason = explanation(rows[position], wanted, channels[recorded.key], paid)
            said = event.reason if isinstance(event, Deployment.Rejected) else ""
            follows = said.startswith(reason) if reason else not said or by_the_driver(said) or by_what_is_left(said)
            assert follows, (recorded.position, said, reason)
            if isinstance(event, Deployment.Accepted):
                paid.add(wanted.request.tx_hash)


def by_the_driver(said: str) -> bool:
    """What its programs and others take of a GPU at the moment is not recorded where it is little: it is said."""
    return said.startswith("the provider does not have") and "its driver" in said


def by_what_is_left(said: str) -> bool:
    """What jobs that are over take until it is removed is not recorded either."""
    return said.startswith("the provider has no capacity left until files of jobs that are over are removed")


def explanation(row: dict[str, Any] | None, asked: Deployment.Requested, channel: str, paid: set[str]) -> str:
    """How the reason for a refusal begins, by what is shown; empty where there is none."""
    if row is None or amount_of(row, "onboarded") == Resources():
        return "the provider is not onboarded"
    if not row["available"]:
        return "the provider is offline"
    if channel and channel != row["channel"]:
        return f"the provider is on channel {row['channel']}, not {channel}"
    return str(row["hindrance"]) or of_request(asked, row, paid) or of_room(asked.request, row)


def of_request(asked: Deployment.Requested, row: dict[str, Any], paid: set[str]) -> str:
    costs = quote(asked.request.constraints, Decimal(row["ntx_price"]))
    if Decimal(asked.price) < costs:
        return f"the price of {asked.price} NTX is below the {price_text(costs)} NTX that the job costs here"
    return "this transaction was used already" if asked.request.tx_hash in paid else ""


def of_room(wanted: ServiceRequest, row: dict[str, Any]) -> str:
    needs = msgspec.structs.replace(wanted.resources, vram_mb=0)
    if short := amount_of(row, "free").shortfalls(needs):
        return f"the provider has no capacity left: {'; '.join(short)}"
    wish = wanted.gpu_wish
    if wish is not None and not choose(gpus_of(row), wish):
        return f"the provider does not have {wish} now"
    return ""


# --- the property ------------------------------------------------------------------------------------------
async def take(made: Station, step: Any) -> Shown:
    name, values, more = step
    if name == "broken_disk":
        async with made.broken_disk():
            check_shown(await made.shown())
            assert not made.heard or not made.heard[-1].advertisement.offering.online
    else:
        await made.do(name, *values, **more)
    shown = await made.shown()
    check_shown(shown)
    await made.until_told()
    return shown


async def go_through(steps: Sequence[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_watch, "SETTLE_SECONDS", 0.0)
        patch.setattr(own_advertisement, "SETTLE_SECONDS", 0.0)
        async with station(Path(folder)) as made:
            then = [await take(made, step) for step in steps]
            events, rows = await made.log.read(0, 100_000), await made.rows()
            true = truths(events, made.peer_id)
            for shown in then:
                assert rows[shown.position] == shown.capacity
            check_past(rows, true)
            check_heard(made.heard, true)
            check_refusals(events, rows, made.channels)


def a_gpu_ask(vram_mb: int) -> Any:
    wanted = {"cpu": 10, "ram": 16, "gpus": 1, "vram": vram_mb, "share_gpu": False}
    return ("ask", ("sleep 3600", "nunet-test", "5", "", wanted), {})


FREE = GpuReading(
    name="Test GPU", uuid="GPU-1", vendor="nvidia", total_vram_mb=VRAM, used_vram_mb=0, free_vram_mb=VRAM,
    compute_processes=0,
)  # fmt: skip
Step = tuple[str, tuple[Any, ...], dict[str, Any]]
ONBOARD: Step = ("onboard", (7200, 14_400, "nunet-test", Decimal("0.01")), {"available": True})
OFF: Step = ("set_available", (), {"available": False})
ON: Step = ("set_available", (), {"available": True})
AWAY: Step = ("engine", ("gone",), {})
BACK: Step = ("engine", ("",), {})
BROKEN_DISK: Step = ("broken_disk", (), {})
RESTART: Step = ("restart", (), {})
A_LITTLE_USED = msgspec.structs.replace(FREE, used_vram_mb=100, free_vram_mb=VRAM - 100)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=NO_SHRINKING)
@example((FREE,), [("gpus_unseen", (A_LITTLE_USED,), {}), a_gpu_ask(7950), a_gpu_ask(1000), a_gpu_ask(1000)])
@example((), [AWAY, OFF, ON, a_gpu_ask(1000), ONBOARD, RESTART, a_gpu_ask(1000), BACK, a_gpu_ask(1000)])
@example((FREE,), [a_gpu_ask(1000), BROKEN_DISK, ("offboard", (), {"forced": True}), ONBOARD, ("stop", (0,), {})])
@given(GPUS, st.lists(STEPS, min_size=10, max_size=20))
def test_all_that_tells_of_a_device_tells_the_same_at_every_position(
    readings: tuple[GpuReading, ...], steps: list[Any]
) -> None:
    asyncio.run(go_through([("gpus_unseen", readings, {}), ONBOARD, *steps]))
