"""A node's past for the benchmarks, of both roles: jobs it asked for, with the records that their providers signed,
jobs it ran for others, and the advertisements it heard meanwhile. Made by the commands of the aggregates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

from dms.adapters.eventlog.envelope import Draft
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.domain.aggregate import Aggregate
from dms.domain.chain import SignedRecord, id_bytes
from dms.domain.deployment import Deployment
from dms.domain.device import Capacity, Device, Offer
from dms.domain.directory import Offering, Provider
from dms.domain.event import Event, encode, new_id, new_id_bytes
from dms.domain.job import FundStatus, Job
from dms.domain.request import Constraints, Params, ServiceRequest
from dms.domain.resources import Resources
from dms.domain.sealing import scope_of

AT_ONCE = 20  # jobs whose events overlap
EVENTS_A_PAIR = 25.4  # of a job, one that was run for another node, and their share of advertisements
BATCH = 5_000
NEIGHBOURS = 50
REQUEST = ServiceRequest(
    service_type="ml-training-cpu",
    params=Params(image_id="registry.example/team/image:latest", model_url="https://example.org/train.py"),
    constraints=Constraints(complexity="Low", cpu=500, ram=2000, vram=2000, power=170, time=1),
    max_ntx=10,
)
PRICE = "0.02728"


def fill(database: Path, events: int, owner: str = "12D3KooWOwn") -> int:
    """Writes about so many; answers how many. owner: the peer whose log it is."""
    recorder = SQLiteRecorder(database)
    drafts = _drafts(recorder, [_device(owner)])
    total = 0
    for first in range(0, round(events / EVENTS_A_PAIR), AT_ONCE):
        drafts += _drafts(recorder, [a for number in range(first, first + AT_ONCE) for a in _lives(number)])
        if len(drafts) > BATCH:
            total += _write(recorder, drafts)
            drafts = []
    total += _write(recorder, drafts)
    recorder.close()
    return total


def _write(recorder: SQLiteRecorder, drafts: list[Draft]) -> int:
    recorder.insert(drafts)
    recorder.commit()
    return len(drafts)


def _lives(number: int) -> Iterator[Aggregate]:
    yield _asked(number)
    yield _deployment(new_id(), number)
    if number % 5 == 0:
        yield _neighbour(number)


def _device(owner: str) -> Device:
    device = Device(owner)
    offer = Offer(
        cpu_mhz=18_000, memory_mb=56_000, channel="nunet-team", payment_address="addr_test1", ntx_price=Decimal("0.01")
    )
    device.onboard(offer, Capacity(cpu_mhz=20_000, memory_mb=64_000, cores=8))
    return device


def _asked(number: int) -> Job:
    """From the request to the claim; what its provider reports is a deployment like our own."""
    job = Job(new_id())
    job.request_service(REQUEST, f"12D3KooWNeighbour{number % NEIGHBOURS}", PRICE, 2**50, (), 0)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash=f"{number:064x}"))
    job.accept_funding("trust")
    for version, event in _deployment(job.key, number).collect_pending():
        if not isinstance(event, Deployment.RewardClaimed):
            job.report_from_provider(_record(job, version, event), event)
    job.claim_reward()
    return job


def _deployment(key: str, number: int) -> Deployment:
    deployment = Deployment(key)
    deployment.ask("12D3KooWOther", REQUEST, PRICE)
    deployment.accept_funding("trust", "", "", 0)
    deployment.grant(Resources(cpu_mhz=500, memory_mb=2000), ())
    deployment.image_pulled("sha256:" + "0" * 64)
    deployment.container_created("c" * 64, "docker")
    deployment.container_started(1)
    deployment.seal_log(10, "0" * 64, truncated=False)
    deployment.exited(0 if number % 4 else 3, oom_killed=False, duration_seconds=1.5)
    deployment.claim_reward()
    return deployment


def _record(job: Job, version: int, event: Event) -> SignedRecord:
    """As it comes from a provider, but for the hashes and the signature, which no fold looks at."""
    return SignedRecord(
        position=version, stream=f"{Deployment.KIND}-{job.key}", version=version, topic=event.TOPIC,
        schema_version=event.VERSION,
        time=time.time_ns() // 1000, event_id=new_id(), correlation_id=job.key, causation_id="",
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01", data=encode(event).decode(),
        previous="0" * 64, hash="1" * 64, signature="2" * 128,
    )  # fmt: skip


def _neighbour(number: int) -> Provider:
    provider = Provider(f"12D3KooWNeighbour{number % NEIGHBOURS}-{number // NEIGHBOURS}")
    whole = Resources(cpu_mhz=8000, memory_mb=16_000)
    for taken in (0, 500):
        provider.advertise(
            Offering(
                channel="nunet-team", online=True, onboarded=True, total=whole, offered=whole,
                reserved=Resources(cpu_mhz=taken), cores=4, ntx_price="0.01",
            ),
            ("/ip4/192.0.2.7/tcp/9000",),
        )  # fmt: skip
    return provider


def _drafts(recorder: SQLiteRecorder, aggregates: list[Aggregate]) -> list[Draft]:
    """The events of all of them, sealed as the log does; each stream's in order and the streams mixed."""
    now = time.time_ns() // 1000
    found = [
        Draft(
            aggregate.id, version, event.TOPIC, encode(event, partial(recorder.keys.seal, scope_of(aggregate.id))),
            event.VERSION, now, new_id_bytes(), id_bytes(aggregate.correlation_id), new_id_bytes(),
            f"00-{'a' * 32}-{'b' * 16}-01",
        )
        for aggregate in aggregates
        for version, event in aggregate.collect_pending()
    ]  # fmt: skip
    return sorted(found, key=lambda draft: draft.originator_version)
