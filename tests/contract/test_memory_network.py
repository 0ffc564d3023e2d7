"""The network in memory keeps the contract of PeerNetwork, but for what is about bytes on a wire: bounds of frames,
slow readers, restarts, and gossip between who is not yet connected."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dms.adapters.p2p.identity import Identity
from tests.contract.test_peer_network import (
    BROKEN,
    COUNT,
    ECHO,
    ENDLESS,
    FAIL,
    Served,
    test_a_request_is_answered_and_knows_who_asks,
    test_a_sender_is_closed_when_its_reader_dies,
    test_a_slow_answer_is_unreachable_in_time,
    test_a_stream_comes_in_order_and_ends,
    test_a_stream_that_is_cut_raises,
    test_an_error_arrives_as_itself,
    test_an_error_inside_a_stream_arrives_after_its_frames,
    test_an_unknown_peer_is_unreachable,
    test_an_unknown_protocol_is_misbehaviour,
    test_cancelling_a_reader_closes_the_stream_at_the_sender,
    test_closing_a_stream_closes_it_at_the_sender,
    test_nothing_is_asked_of_a_closed_network,
    test_other_errors_arrive_as_the_peers_failure_and_a_bug_tells_nothing,
    test_peers_that_come_and_go_are_told,
    test_ping_measures_a_round_trip,
    test_raw_frames_arrive_as_they_were,
    test_who_is_on_this_machine_is_known_also_when_it_is_gone,
)
from tests.fixtures.memory_network import MemoryLine, MemoryNetwork

__all__ = [
    "test_a_request_is_answered_and_knows_who_asks",
    "test_a_sender_is_closed_when_its_reader_dies",
    "test_a_slow_answer_is_unreachable_in_time",
    "test_a_stream_comes_in_order_and_ends",
    "test_a_stream_that_is_cut_raises",
    "test_an_error_arrives_as_itself",
    "test_an_error_inside_a_stream_arrives_after_its_frames",
    "test_an_unknown_peer_is_unreachable",
    "test_an_unknown_protocol_is_misbehaviour",
    "test_cancelling_a_reader_closes_the_stream_at_the_sender",
    "test_closing_a_stream_closes_it_at_the_sender",
    "test_nothing_is_asked_of_a_closed_network",
    "test_other_errors_arrive_as_the_peers_failure_and_a_bug_tells_nothing",
    "test_peers_that_come_and_go_are_told",
    "test_ping_measures_a_round_trip",
    "test_raw_frames_arrive_as_they_were",
    "test_who_is_on_this_machine_is_known_also_when_it_is_gone",
]


def make(line: MemoryLine, served: Served) -> MemoryNetwork:
    network = MemoryNetwork(line, Identity.generate().peer_id)
    network.serve_request(ECHO, served.echo)
    network.serve_request("/test/whoami/1", served.whoami)
    network.serve_request(FAIL, served.fail)
    network.serve_stream(COUNT, served.count)
    network.serve_stream(ENDLESS, served.endless)
    network.serve_stream(BROKEN, served.broken)
    return network


@pytest.fixture
def line() -> MemoryLine:
    return MemoryLine()


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
async def a(line: MemoryLine) -> AsyncIterator[MemoryNetwork]:
    network = make(line, Served())
    await network.start()
    yield network
    await network.close()


@pytest.fixture
async def b(line: MemoryLine, served: Served, a: MemoryNetwork) -> AsyncIterator[MemoryNetwork]:
    network = make(line, served)
    await network.start()
    yield network
    await network.close()
