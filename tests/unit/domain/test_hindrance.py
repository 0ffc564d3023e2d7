"""Why a device takes no jobs just now: decided, recorded, and shown alike by the views."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms.domain.device import Capacity, Device, Offer
from dms.domain.event import Fact
from projections.capacity import Capacity as CapacityView
from projections.capacity import network_sum
from projections.device import DeviceView

PEER = "12D3KooWOwn"
TOTAL = Capacity(cpu_mhz=10_000, memory_mb=10_000, cores=4)
OFFER = Offer(cpu_mhz=5_000, memory_mb=5_000, channel="nunet-test", payment_address="addr")


def test_a_hindrance_is_news_once_and_again_with_another_reason() -> None:
    device = Device(PEER)
    assert device.hinder("the engine is away")
    assert not device.hinder("the engine is away")
    assert device.hinder("the disk is full")
    assert device.hindrance == "the disk is full"
    assert device.unhinder()
    assert not device.unhinder()
    assert device.hindrance == ""


def test_a_device_that_never_onboarded_is_hindered_and_counts_for_nothing() -> None:
    device = Device(PEER)
    device.hinder("the engine is away")
    row = None
    for position, (_, event) in enumerate(device.collect_pending(), 1):
        fact = Fact(position, Device.KIND, PEER, event.TOPIC, position, type(event), event)
        row = CapacityView().apply(row, fact)
    assert row is not None
    assert (row.online, row.hindrance) == (False, "the engine is away")
    assert network_sum(row, {}).providers == 0


STEPS = st.sampled_from(("onboard", "offboard", "available", "away", "hinder", "hinder otherwise", "unhinder"))


@given(st.lists(STEPS, max_size=20))
def test_the_views_say_online_exactly_while_the_device_takes_jobs(steps: list[str]) -> None:
    device, capacity, shown = Device(PEER), None, None
    for position, step in enumerate(steps, 1):
        _take(device, step)
        for _, event in device.collect_pending():
            fact = Fact(position, Device.KIND, PEER, event.TOPIC, position, type(event), event)
            capacity, shown = CapacityView().apply(capacity, fact), DeviceView().apply(shown, fact)
        if capacity is not None:
            assert (capacity.online, capacity.hindrance) == (device.online, device.hindrance)
        if shown is not None:
            assert (shown.online, shown.hindrance) == (device.online, device.hindrance)


def _take(device: Device, step: str) -> None:
    match step:
        case "onboard":
            device.onboard(OFFER, TOTAL)
        case "offboard":
            device.offboard(forced=True)
        case "available" | "away" if device.onboarded:
            device.set_available(step == "available")
        case "hinder" | "hinder otherwise":
            device.hinder(step)
        case "unhinder":
            device.unhinder()
