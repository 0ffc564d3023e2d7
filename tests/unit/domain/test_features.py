"""A provider is asked only for what it says that it can do: an earlier version would leave the rest out in silence."""

from __future__ import annotations

import msgspec
import pytest

from dms.domain.bounds import Unreadable, read
from dms.domain.directory import Offering
from dms.domain.features import FEATURES, UNDERSTOOD, needed_by
from dms.domain.matching import match
from dms.domain.request import ServiceRequest
from dms.domain.resources import Resources
from tests.fixtures.histories import request

ROOM = Resources(cpu_mhz=4_000, memory_mb=8_000)


def with_arguments(*arguments: str) -> ServiceRequest:
    made = request("")
    return msgspec.structs.replace(made, params=msgspec.structs.replace(made.params, arguments=arguments))


def offering(*features: str) -> Offering:
    return Offering(channel="c", online=True, onboarded=True, total=ROOM, offered=ROOM, features=features)


def test_arguments_go_only_to_a_provider_that_passes_them_on() -> None:
    asked = with_arguments("train.py", "--epochs", "3")
    found = match(asked, [("new", offering(*UNDERSTOOD)), ("old", offering())], "c")
    assert [candidate.peer_id for candidate in found.candidates] == ["new"]
    assert [(refused.peer_id, "params.arguments" in refused.reason) for refused in found.refused] == [("old", True)]


def test_what_the_original_knew_goes_to_any_provider() -> None:
    assert needed_by(request()) == ()
    assert match(request(), [("old", offering())], "c").candidates


def test_no_arguments_are_arguments_as_well() -> None:
    """An image's own command runs, where the original's pair would be passed to it."""
    assert [feature.name for feature in needed_by(with_arguments())] == ["arguments"]


def test_each_feature_is_named_once() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(names) == len(set(names))
    assert set(names) >= UNDERSTOOD


@pytest.mark.parametrize("features", [["x" * 257], ["a\nb"], ["x"] * 65])
def test_what_a_peer_says_of_its_features_is_bounded(features: list[str]) -> None:
    said = {"channel": "c", "online": True, "onboarded": True, "features": features}
    with pytest.raises(Unreadable):
        read(msgspec.json.encode(said), Offering)


def test_what_a_later_version_can_do_is_read_and_ignored() -> None:
    said = {"channel": "c", "online": True, "onboarded": True, "features": ["time-travel"], "moon": 1}
    assert read(msgspec.json.encode(said), Offering).features == ("time-travel",)
