"""Which network a job needs, and which providers give it: known before anyone is paid."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from dms.domain.deployment import Deployment
from dms.domain.device import Capacity, Device, Offer
from dms.domain.directory import Offering, Provider
from dms.domain.event import Event, Fact, Recorded, new_id
from dms.domain.inputs import Input
from dms.domain.job import Job
from dms.domain.matching import match
from dms.domain.network import Network
from dms.domain.policy import read_policy
from dms.domain.request import Params, ServiceRequest, problems_of, settled
from dms.domain.resources import Resources
from dms.domain.what_if import WhatIf
from projections.capacity import Capacity as CapacityView
from tests.fixtures.histories import request

PEER = "12D3KooWOwn"
ROOM = Resources(cpu_mhz=4000, memory_mb=8000)


def asked(network: str = "", *, model_url: str = "", packages: tuple[str, ...] | None = None) -> ServiceRequest:
    params = Params(image_id="registry.example/job:1", model_url=model_url, packages=packages)
    return replace(request(network=network), params=params)


def offering(*features: str) -> Offering:
    return Offering(channel="nunet-test", online=True, onboarded=True, total=ROOM, offered=ROOM, features=features)


def refusals(made: ServiceRequest, *features: str) -> list[str]:
    return [refusal.reason for refusal in match(made, [(PEER, offering(*features))], "nunet-test").refused]


@pytest.mark.parametrize(
    ("made", "needs"),
    [
        (asked(model_url="https://example.org/train.py"), Network.INTERNET),
        (asked(packages=("numpy",)), Network.INTERNET),
        (asked(), Network.NONE),
        (asked(packages=()), Network.NONE),
        (asked("none", model_url="https://example.org/train.py", packages=("numpy",)), Network.NONE),
        (asked("internet"), Network.INTERNET),
    ],
)
def test_an_image_of_the_originals_fetches_its_model_and_packages_unless_the_request_says_otherwise(
    made: ServiceRequest, needs: Network
) -> None:
    assert made.network is needs
    assert settled(made).constraints.network == needs.value
    assert settled(settled(made)) == settled(made)


@pytest.mark.parametrize("word", ["host", "Internet", "bridge", "container:x"])
def test_another_word_is_refused_by_its_field(word: str) -> None:
    assert [pointer for pointer, _ in problems_of(asked(word))] == ["/constraints/network"]


def test_what_is_among_the_inputs_need_not_be_fetched_by_the_image() -> None:
    made = asked(model_url="train.py")
    inputs = (Input(url="https://example.org/train.py"),)
    assert replace(made, params=replace(made.params, inputs=inputs)).network is Network.NONE


def test_who_gives_no_internet_is_refused_for_it_and_only_by_who_needs_it() -> None:
    """An older provider does not say what it gives. It counts as none, which is what it gave by default."""
    assert refusals(asked("internet"), "arguments", "internet") == []
    assert refusals(asked("internet"), "arguments") == ["gives jobs no internet"]
    assert refusals(asked("internet")) == ["gives jobs no internet"]
    assert [refusals(asked("none"), *features) for features in ((), ("internet",))] == [[], []]


def test_an_older_requesters_job_is_read() -> None:
    constraints = msgspec.json.decode(msgspec.json.encode(asked().constraints))
    del constraints["network"]
    assert msgspec.convert(constraints, type(asked().constraints)) == asked().constraints


def test_what_a_deployment_is_given_stands_in_its_log() -> None:
    for given in Network:
        deployment = Deployment(new_id())
        deployment.ask("12D3KooWService", request(), "1")
        deployment.grant(ROOM, (), network=given)
        assert deployment.network is given
    older = Deployment(new_id())
    older.ask("12D3KooWService", request(), "1")
    older.trigger(Deployment.Accepted(reserved=ROOM))
    assert older.network is Network.NONE


def test_what_a_device_gives_is_news_once_and_shown_by_the_view() -> None:
    device, row = Device(PEER), None
    assert not device.give_network(Network.INTERNET)  # of one that is not onboarded
    total = Capacity(cpu_mhz=10_000, memory_mb=10_000, cores=4)
    device.onboard(Offer(cpu_mhz=5_000, memory_mb=5_000, channel="nunet-test", payment_address="addr"), total)
    assert device.give_network(Network.NONE, "iptables is missing")
    assert not device.give_network(Network.NONE, "iptables is missing")
    for position, (_, event) in enumerate(device.collect_pending(), 1):
        row = CapacityView().apply(row, Fact(position, Device.KIND, PEER, event.TOPIC, position, type(event), event))
    assert row is not None
    assert (row.network, row.network_trouble) == ("none", "iptables is missing")
    assert device.give_network(Network.INTERNET)
    assert (device.network, device.network_trouble) == ("internet", "")


def test_history_from_before_providers_said_it_is_explained_as_it_was_decided() -> None:
    found = WhatIf(read_policy(b"{}"), 10)
    job = Job.ServiceRequested(
        request=asked(model_url="https://example.org/train.py"), provider=PEER, price="0.02728", expires_at=2**50
    )
    found.take([_recorded(1, f"provider-{PEER}", Provider.Advertised(offering=offering())), _recorded(2, "job-x", job)])
    assert (found.findings().jobs, found.findings().compared) == (1, 1)


def _recorded(position: int, stream: str, event: Event) -> Recorded:
    return Recorded(position, stream, 1, event.TOPIC, 1, position, b"", b"", b"", "", b"{}", b"", event)
