"""What providers say of themselves: what is believed of it, and what of it is news."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms.adapters.p2p.identity import Identity, verify_signature
from dms.domain.directory import (
    CLOCK_SKEW_SECONDS,
    LIFETIME_SECONDS,
    Advertisement,
    Offering,
    OtherClock,
    Provider,
    SignedAdvertisement,
    check_advertisement,
    clock_text,
    read_advertisement,
)
from dms.domain.event import Event
from dms.errors import PeerMisbehaved
from tests.fixtures.histories import START

AUTHOR = Identity.generate()
SECOND = 1_000_000
OFFERING = Offering(channel="nunet-test", online=True, onboarded=True, ntx_price="0.5")


def signed(author: Identity = AUTHOR, expires_at: int = START + SECOND, **offering: Any) -> SignedAdvertisement:
    made = Advertisement(
        peer_id=AUTHOR.peer_id,
        addresses=(),
        sequence=1,
        expires_at=expires_at,
        offering=msgspec.structs.replace(OFFERING, **offering),
    )
    body = msgspec.json.encode(made)
    return SignedAdvertisement(body=body.decode(), signature=author.sign(body).hex())


def checked(advertisement: SignedAdvertisement, now: int = START) -> None:
    check_advertisement(advertisement, read_advertisement(advertisement), now, verify_signature)


def test_what_its_author_signed_is_believed() -> None:
    checked(signed())


@pytest.mark.parametrize(
    ("advertisement", "told"),
    [
        (SignedAdvertisement(body="{", signature=""), "can't be read"),
        (SignedAdvertisement(body=signed().body, signature="no hex"), "its signature is not hex"),
        (SignedAdvertisement(body=signed().body, signature="00" * 64), f"of {AUTHOR.peer_id} is not signed by it"),
        (signed(Identity.generate()), "is not signed by it"),
        (signed(ntx_price="x" * 99), f"of {AUTHOR.peer_id}: price {'x' * 64} is not a valid amount"),
    ],
    ids=["no JSON", "no hex", "no signature", "another's signature", "no price"],
)
def test_what_is_not_believed(advertisement: SignedAdvertisement, told: str) -> None:
    with pytest.raises(PeerMisbehaved, match=told):
        checked(advertisement)


def test_it_counts_until_it_expires() -> None:
    checked(signed(expires_at=START + 1))
    with pytest.raises(OtherClock) as told:
        checked(signed(expires_at=START))
    assert told.value.behind_seconds == LIFETIME_SECONDS
    with pytest.raises(OtherClock) as told:
        checked(signed(expires_at=START - 60 * SECOND))
    assert told.value.behind_seconds == LIFETIME_SECONDS + 60
    assert AUTHOR.peer_id in str(told.value)


def test_a_clock_may_be_ahead_a_little() -> None:
    furthest = START + (LIFETIME_SECONDS + CLOCK_SKEW_SECONDS) * SECOND
    checked(signed(expires_at=furthest))
    with pytest.raises(OtherClock) as told:
        checked(signed(expires_at=furthest + SECOND))
    assert told.value.behind_seconds == -CLOCK_SKEW_SECONDS - 1


def test_what_is_told_of_another_clock() -> None:
    assert clock_text(7).startswith("its clock is 7 s behind ours, so that what it offers counts as expired:")
    assert clock_text(-7).startswith("its clock is 7 s ahead of ours, so that what it offers counts as not valid yet:")
    assert clock_text(0).startswith("its clock is 0 s ahead of ours")


# --- what is kept of one ------------------------------------------------------------------------------
def kept(provider: Provider) -> list[Event]:
    return [event for _, event in provider.pending]


def test_only_changes_are_kept() -> None:
    provider = Provider(AUTHOR.peer_id)
    assert (provider.offering, provider.addresses) == (None, ())
    assert provider.would_advertise(OFFERING, ("a",))
    assert provider.advertise(OFFERING, ("a",))
    assert not provider.would_advertise(OFFERING, ("a",))
    assert not provider.advertise(OFFERING, ("a",))
    assert provider.advertise(OFFERING, ("b",))
    other = msgspec.structs.replace(OFFERING, ntx_price="1")
    assert provider.advertise(other, ("b",))
    assert kept(provider) == [
        Provider.Advertised(offering=OFFERING, addresses=("a",)),
        Provider.Advertised(offering=OFFERING, addresses=("b",)),
        Provider.Advertised(offering=other, addresses=("b",)),
    ]


def test_one_that_is_not_onboarded_withdraws_once() -> None:
    gone = msgspec.structs.replace(OFFERING, onboarded=False)
    provider = Provider(AUTHOR.peer_id)
    assert not provider.would_advertise(gone, ())
    assert not provider.advertise(gone, ())
    provider.advertise(OFFERING, ())
    assert provider.advertise(gone, ())
    assert not provider.advertise(gone, ())
    assert not provider.withdraw()
    assert kept(provider)[1:] == [Provider.Withdrawn()]


def test_one_that_is_lost_is_lost_once() -> None:
    provider = Provider(AUTHOR.peer_id)
    assert not provider.lose("silent")
    provider.advertise(OFFERING, ())
    assert provider.lose("silent")
    assert not provider.lose("silent")
    assert kept(provider)[1:] == [Provider.Lost(reason="silent")]
    assert provider.advertise(OFFERING, ())
