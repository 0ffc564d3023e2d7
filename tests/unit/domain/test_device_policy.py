"""Whose jobs, and which images, are taken by the owner's lists; and which lists are none."""

from __future__ import annotations

import pytest

from dms.domain.device import Device
from dms.domain.device_policy import EVERYTHING, MOST_ENTRIES, PEER_DENIED, PEER_NOT_ALLOWED, DevicePolicy, Lists
from dms.domain.image import parse_image
from dms.errors import InvalidInput

OWN = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
OTHER = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
DIGEST, ANOTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def of_peers(*, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> DevicePolicy:
    return DevicePolicy(peers=Lists(allow=allow, deny=deny))


def of_images(*, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> DevicePolicy:
    return DevicePolicy(images=Lists(allow=allow, deny=deny))


@pytest.mark.parametrize(
    ("policy", "objection", "denied"),
    [
        (EVERYTHING, "", False),
        (of_peers(deny=(PEER,)), PEER_DENIED, True),
        (of_peers(deny=(OTHER,)), "", False),
        (of_peers(allow=(OTHER,)), PEER_NOT_ALLOWED, False),
        (of_peers(allow=(PEER,)), "", False),
        (of_peers(allow=(PEER,), deny=(PEER,)), PEER_DENIED, True),
    ],
)
def test_peers_are_taken_by_the_lists(policy: DevicePolicy, objection: str, denied: bool) -> None:
    assert (policy.objection_to_peer(PEER), policy.denies(PEER)) == (objection, denied)


@pytest.mark.parametrize(
    ("policy", "digest", "says"),
    [
        (EVERYTHING, "", ""),
        (of_images(deny=("ghcr.io/nunet/*",)), "", "denied by the owner of this provider (by 'ghcr.io/nunet/*')"),
        (of_images(allow=("busybox",)), "", "not on the list of images that the owner of this provider allows"),
        (of_images(allow=("ghcr.io/nunet/ml:1",)), "", ""),
        (of_images(deny=(DIGEST,)), "", ""),
        (of_images(deny=(DIGEST,)), DIGEST, "denied"),
        (of_images(allow=(DIGEST,)), "", ""),  # it may be that one
        (of_images(allow=(DIGEST,)), ANOTHER, "not on the list"),
    ],
)
def test_images_are_taken_by_the_lists(policy: DevicePolicy, digest: str, says: str) -> None:
    objection = policy.objection_to_image(parse_image("ghcr.io/nunet/ml:1"), [digest])
    assert says in objection
    assert bool(objection) is bool(says)


@pytest.mark.parametrize(
    "pattern",
    ["busybox", "name:tag", "ghcr.io/nunet/*", "*", "*/x", "busybox:*", "127.0.0.1:*/*", "[[]::1]:5000/*", "a?c/[xy]",
     DIGEST, f"busybox@{DIGEST}", "busybox@sha256:*"],
)  # fmt: skip
def test_what_the_configuration_takes_for_a_pattern_is_one(pattern: str) -> None:
    Device(OWN).change_policy(of_images(allow=(pattern,)))


@pytest.mark.parametrize("entry", ["", "Busybox", "a b", "https://a/b", "sha256:12", "-x", "bücher", "x" * 513])
def test_an_image_that_can_be_none_is_named(entry: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Device(OWN).change_policy(of_images(deny=("busybox", entry)))
    assert [pointer for pointer, _ in refused.value.problems] == ["/images/deny/1"]


@pytest.mark.parametrize(("entry", "says"), [("me", "is not a peer id"), (OWN, "the machine itself"), (PEER, "twice")])
def test_a_peer_that_can_be_none_is_named(entry: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        Device(OWN).change_policy(of_peers(allow=(PEER, entry)))
    assert [pointer for pointer, _ in refused.value.problems] == ["/peers/allow/1"]


def test_the_lists_are_bounded() -> None:
    with pytest.raises(InvalidInput, match=f"at most {MOST_ENTRIES}"):
        Device(OWN).change_policy(of_images(allow=tuple(f"image{number}" for number in range(MOST_ENTRIES + 1))))


def test_only_a_change_is_an_event_and_what_is_wrong_is_none() -> None:
    device = Device(OWN)
    assert device.policy == EVERYTHING
    assert not device.change_policy(EVERYTHING)
    assert device.change_policy(of_peers(deny=(PEER,)))
    assert not device.change_policy(of_peers(deny=(PEER,)))
    with pytest.raises(InvalidInput):
        device.change_policy(of_peers(deny=("me",)))
    assert device.policy == of_peers(deny=(PEER,))
    assert [event.TOPIC for _, event in device.collect_pending()] == ["device.policy_changed"]
