"""Who gets which GPU: alone or shared, as the driver and the log have them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms.domain.deployment import Deployment, Fault
from dms.domain.device import Device, Offer
from dms.domain.directory import Offering
from dms.domain.event import Event, Recorded, decode, encode, new_id
from dms.domain.gpus import GpuReading, GpuWish, choose, recorded_anew
from dms.domain.matching import match
from dms.domain.request import ServiceRequest, problems_of
from dms.domain.reservations import Reservations, vram_to_reserve
from dms.domain.resources import Gpu, Resources
from projections.capacity import Capacity as CapacityView
from projections.capacity import CapacityRow
from tests.fixtures.histories import request

CAPACITY = {"cpu_mhz": 8000, "memory_mb": 16_000, "cores": 4}
OFFER = Offer(cpu_mhz=4000, memory_mb=8000, channel="nunet-test", payment_address="addr")
ALONE = GpuWish(count=1, vram_mb=4000)
SHARED = GpuWish(count=1, vram_mb=3000, shared=True)


def gpu(uuid: str, total: int = 8000, **more: object) -> Gpu:
    return msgspec.structs.replace(Gpu(name="Test GPU", uuid=uuid, total_vram_mb=total, free_vram_mb=total), **more)


def reading(uuid: str, total: int = 8000, used: int = 0, processes: int | None = 0) -> GpuReading:
    return GpuReading(
        name="Test GPU",
        uuid=uuid,
        vendor="nvidia",
        total_vram_mb=total,
        used_vram_mb=used,
        free_vram_mb=total - used,
        compute_processes=processes,
    )


def uuids(gpus: Sequence[Gpu]) -> list[str]:
    return [found.uuid for found in gpus]


def gpu_request(**constraints: object) -> ServiceRequest:
    plain = request(machine_type="gpu", vram=4000)
    return msgspec.structs.replace(plain, constraints=msgspec.structs.replace(plain.constraints, **constraints))


def recorded(position: int, stream: str, version: int, event: Event) -> Recorded:
    return Recorded(
        position=position,
        originator_id=stream,
        originator_version=version,
        topic=event.TOPIC,
        schema_version=event.VERSION,
        time=position,
        id=b"",
        correlation=b"",
        causation=b"",
        traceparent="",
        data=encode(event),
        hash=b"",
        event=stored_and_read(event),
    )


# --- choosing --------------------------------------------------------------------------------------------
def test_the_smallest_that_fits_then_the_lower_uuid() -> None:
    gpus = [gpu("d", 24_000), gpu("c"), gpu("b"), gpu("a", 2000)]
    assert uuids(choose(gpus, ALONE)) == ["b"]
    assert uuids(choose(gpus, GpuWish(count=3, vram_mb=4000))) == ["b", "c", "d"]
    assert choose(gpus, GpuWish(count=4, vram_mb=4000)) == ()


def test_a_held_gpu_goes_to_no_second_job() -> None:
    gpus, now = [gpu("1"), gpu("2", 24_000)], [reading("1"), reading("2", 24_000)]
    held = Reservations()
    assert uuids(held.free_gpus(gpus, now, ALONE)) == ["1"]
    held.hold("job", Resources(vram_mb=8000), ("1",))
    assert uuids(held.free_gpus(gpus, now, ALONE)) == ["2"]
    assert held.free_gpus(gpus, now, GpuWish(count=2)) == ()
    assert uuids(held.free_gpus(gpus, now, SHARED)) == ["2"]
    held.release("job")
    assert uuids(held.free_gpus(gpus, now, ALONE)) == ["1"]


def test_who_shares_sits_only_with_those_who_share_and_within_the_memory() -> None:
    gpus, held = [gpu("1"), gpu("2")], Reservations()
    for job in ("a", "b"):
        assert uuids(held.free_gpus(gpus, [reading("1"), reading("2")], SHARED)) == ["1"]
        held.hold(job, Resources(vram_mb=3000), ("1",), shared=True)
    assert uuids(held.free_gpus(gpus, [reading("1"), reading("2")], SHARED)) == ["2"]  # 2000 MB are left of the first
    assert uuids(held.free_gpus(gpus, [reading("1"), reading("2")], ALONE)) == ["2"]
    assert held.gpu_jobs() == {"1": ("a", "b")}


def test_a_shared_gpu_whose_jobs_use_more_than_they_said_is_full() -> None:
    held = Reservations()
    held.hold("a", Resources(vram_mb=3000), ("1",), shared=True)
    assert held.free_gpus([gpu("1")], [reading("1", used=6000)], SHARED) == ()
    assert uuids(held.free_gpus([gpu("1")], [reading("1", used=2000)], SHARED)) == ["1"]


def test_what_the_driver_no_longer_has_is_not_given() -> None:
    assert Reservations().free_gpus([gpu("1")], [], ALONE) == ()


def test_memory_that_something_else_took_a_moment_ago_is_not_given() -> None:
    assert Reservations().free_gpus([gpu("1")], [reading("1", used=4001)], ALONE) == ()
    assert uuids(Reservations().free_gpus([gpu("1")], [reading("1", used=4000)], ALONE)) == ["1"]


# --- what goes on record -----------------------------------------------------------------------------------
def test_a_gpu_that_something_outside_computes_on_is_not_offered() -> None:
    (found,) = recorded_anew([gpu("1")], [reading("1", used=100, processes=1)], ())
    assert (found.taken, found.free_vram_mb) == (True, 0)
    assert choose([found], GpuWish(count=1)) == ()


def test_a_screen_takes_only_its_memory() -> None:
    (found,) = recorded_anew([], [reading("1", used=600)], ())
    assert (found.taken, found.free_vram_mb) == (False, 7400)


@pytest.mark.parametrize(("used", "news"), [(0, False), (255, False), (256, True), (8000, True)])
def test_a_small_change_is_no_news(used: int, news: bool) -> None:
    assert (recorded_anew([gpu("1")], [reading("1", used=used)], ()) != (gpu("1"),)) is news


def test_a_held_gpu_stays_on_record_as_it_was_even_when_lost() -> None:
    assert recorded_anew([gpu("1")], [reading("1", used=7000, processes=5)], ["1"]) == (gpu("1"),)
    assert recorded_anew([gpu("1")], [], ["1"]) == (gpu("1"),)
    assert recorded_anew([gpu("1")], [], ()) == ()


def test_gpus_that_containers_can_not_have_are_not_offered() -> None:
    (found,) = recorded_anew([gpu("1")], [reading("1")], (), usable=False)
    assert choose([found], GpuWish(count=1)) == ()


def test_a_device_records_only_news_and_only_when_onboarded() -> None:
    device = Device("peer")
    assert not device.see_gpus([reading("1")], ())
    device.onboard(OFFER, msgspec.convert({**CAPACITY, "gpus": [msgspec.to_builtins(gpu("1"))]}, type(device.total)))
    assert device.offered.vram_mb == 8000
    assert not device.see_gpus([reading("1", used=100)], ())
    assert device.see_gpus([reading("1", used=1000), reading("2")], ())
    assert device.offered.vram_mb == 15_000
    assert device.see_gpus([reading("2")], ())
    assert uuids(device.total.gpus) == ["2"]


# --- what a request asks for, and who can take it -----------------------------------------------------------
def test_a_gpu_job_gets_one_alone_unless_it_asks_otherwise() -> None:
    assert gpu_request().gpu_wish == GpuWish(count=1, vram_mb=4000, shared=False)
    assert gpu_request(gpus=2, share_gpu=True).gpu_wish == GpuWish(count=2, vram_mb=4000, shared=True)
    assert request(machine_type="cpu", vram=2000).gpu_wish is None


def test_gpus_for_a_cpu_job_are_a_mistake_that_is_named() -> None:
    plain = request(machine_type="cpu")
    asked = msgspec.structs.replace(plain, constraints=msgspec.structs.replace(plain.constraints, gpus=1))
    assert [pointer for pointer, _ in problems_of(asked)] == ["/constraints/gpus"]


@pytest.mark.parametrize(
    ("gpus", "constraints", "reason"),
    [
        ([], {}, "has no GPU"),
        ([gpu("1", 2000), gpu("2", 2000)], {}, "1 GPU with 4000 MB free asked, which it does not have free"),
        ([gpu("1"), gpu("2", taken=True)], {"gpus": 2}, "2 GPUs with 4000 MB free each asked"),
        ([gpu("1", shared=True)], {}, "1 GPU with 4000 MB"),
        ([gpu("1", shared=True)], {"share_gpu": True}, ""),
        ([gpu("1"), gpu("2")], {"gpus": 2}, ""),
    ],
)
def test_a_provider_is_matched_gpu_by_gpu(gpus: list[Gpu], constraints: dict[str, object], reason: str) -> None:
    free = Resources(cpu_mhz=8000, memory_mb=8000)
    offering = Offering(channel="nunet-test", online=True, onboarded=True, total=free, offered=free, gpus=tuple(gpus))
    found = match(gpu_request(**constraints), [("12D3KooWOne", offering)], "nunet-test")
    assert bool(found.candidates) is not bool(reason)
    assert not reason or found.refused[0].reason.startswith(reason)


# --- at no position do two jobs hold one GPU -----------------------------------------------------------------
class Provider(RuleBasedStateMachine):
    """Jobs come and go, cards fall out and come back, other programs take them, the daemon restarts: what is
    decided is decided as the compute provider does it, and checked against nothing but the events."""

    def __init__(self) -> None:
        super().__init__()
        self.cards = {name: reading(name, total) for name, total in (("a", 8000), ("b", 8000), ("c", 24_000))}
        self.device, self.held = Device("peer"), Reservations()
        self.jobs: dict[str, Deployment] = {}
        self.row: CapacityRow | None = None
        self.position = 0
        gpus = recorded_anew((), self.cards.values(), ())
        self.device.onboard(OFFER, msgspec.structs.replace(self.device.total, **CAPACITY, gpus=gpus))
        self._store(self.device)

    def _store(self, *aggregates: Device | Deployment) -> None:
        for aggregate in aggregates:
            for version, event in aggregate.collect_pending():
                self.position += 1
                self.row = CapacityView().apply(self.row, recorded(self.position, aggregate.id, version, event))

    def _see(self) -> None:
        self.device.see_gpus(self.cards.values(), self.held.gpu_jobs())
        self._store(self.device)

    @rule(count=st.integers(1, 3), vram=st.sampled_from([0, 2000, 5000, 20_000]), shared=st.booleans())
    def ask(self, count: int, vram: int, shared: bool) -> None:
        self._see()
        wish, recorded_gpus = GpuWish(count=count, vram_mb=vram, shared=shared), self.device.total.gpus
        chosen = self.held.free_gpus(recorded_gpus, self.cards.values(), wish)
        assert len(chosen) in (0, count)
        if not chosen:
            return
        reserved = Resources(vram_mb=vram_to_reserve(recorded_gpus, chosen, wish))
        deployment = Deployment(new_id())
        deployment.accept("12D3KooWOne", request(), "1", reserved, tuple(uuids(chosen)), gpus_shared=shared)
        self.held.hold(deployment.key, reserved, deployment.gpu_uuids, shared=shared)
        self.jobs[deployment.key] = deployment
        self._store(deployment)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        deployment = self.jobs.pop(data.draw(st.sampled_from(sorted(self.jobs))))
        deployment.fail("over", Fault.JOB)
        self.held.release(deployment.key)
        self._store(deployment)

    @rule(name=st.sampled_from("abc"), used=st.sampled_from([0, 100, 3000, 8000]), processes=st.sampled_from([0, 2]))
    def use_outside(self, name: str, used: int, processes: int) -> None:
        if name in self.cards:
            self.cards[name] = reading(name, self.cards[name].total_vram_mb, used, processes)

    @rule(name=st.sampled_from("abc"))
    def lose_or_find(self, name: str) -> None:
        if self.cards.pop(name, None) is None:
            self.cards[name] = reading(name, 24_000 if name == "c" else 8000)

    @rule()
    def look(self) -> None:
        self._see()

    @rule()
    def restart(self) -> None:
        """Nothing is left but what the events say."""
        self.held = Reservations()
        for job_id, deployment in list(self.jobs.items()):
            again = Deployment(job_id)
            stored = Deployment.Accepted(
                reserved=deployment.reserved, gpu_uuids=deployment.gpu_uuids, gpus_shared=deployment.gpus_shared
            )
            again.apply(stored_and_read(Deployment.Requested(service_provider="p", request=request(), price="1")))
            again.apply(stored_and_read(stored))
            self.held.hold(job_id, again.reserved, again.gpu_uuids, shared=again.gpus_shared)
            self.jobs[job_id] = again

    @invariant()
    def no_gpu_is_held_twice(self) -> None:
        holders: dict[str, list[Deployment]] = {}
        for deployment in self.jobs.values():
            for uuid in deployment.gpu_uuids:
                holders.setdefault(uuid, []).append(deployment)
        for jobs in holders.values():
            assert len(jobs) == 1 or all(job.gpus_shared for job in jobs)
        assert {uuid: {job.key for job in jobs} for uuid, jobs in holders.items()} == {
            uuid: set(jobs) for uuid, jobs in self.held.gpu_jobs().items()
        }

    @invariant()
    def view_and_device_agree(self) -> None:
        assert self.row is not None
        assert self.row.total.vram_mb == sum(found.total_vram_mb for found in self.device.total.gpus)
        assert self.row.onboarded.vram_mb == self.device.offered.vram_mb
        left = self.held.left_of(self.device.total.gpus)
        assert self.row.free.vram_mb == sum(found.free_vram_mb for found in left) >= 0


def stored_and_read(event: Event) -> Event:
    return decode(event.TOPIC, event.VERSION, encode(event))


TestProvider = Provider.TestCase


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4000)), max_size=12))
def test_shared_gpus_are_never_promised_beyond_their_memory(asks: list[tuple[bool, int]]) -> None:
    gpus, held = [gpu("1"), gpu("2")], Reservations()
    for number, (shared, vram) in enumerate(asks):
        wish = GpuWish(count=1, vram_mb=vram, shared=shared)
        chosen = held.free_gpus(gpus, [reading("1"), reading("2")], wish)
        reserved = Resources(vram_mb=vram_to_reserve(gpus, chosen, wish))
        if chosen:
            held.hold(str(number), reserved, uuids(chosen), shared=shared)
    assert held.total.vram_mb <= 16_000
