"""The compute providers this node knows of: their signed advertisements, and what of them changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from dms.domain.aggregate import Aggregate, applies
from dms.domain.bounds import Unreadable, ntx_price, read
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.resources import Gpu, Resources, least_cpu_mhz
from dms.domain.sealing import ERASED
from dms.errors import PeerMisbehaved

LIFETIME_SECONDS = 150  # pubsub forgets what it has seen after 120 s; two renewals fit in
CLOCK_SKEW_SECONDS = 300  # how far in the future a peer's clock may be

Short = Annotated[str, Meta(max_length=256)]


class Offering(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a provider offers right now. total: its hardware; onboarded: offered to the network;
    reserved: held by running jobs. features: what it can do, by name (domain/features.py), sorted."""

    channel: Short
    online: bool
    onboarded: bool
    total: Resources = Resources()
    offered: Resources = Resources()
    reserved: Resources = Resources()
    cores: int = 0
    gpus: Annotated[tuple[Gpu, ...], Meta(max_length=64)] = ()
    ntx_price: Short = "0"  # a minute, decimal text
    blockchain: Short = ""
    payment_address: Short = ""
    allow_cardano: bool = False
    features: Annotated[tuple[Short, ...], Meta(max_length=64)] = ()

    @property
    def free(self) -> Resources:
        return self.offered - self.reserved

    @property
    def least_cpu_mhz(self) -> int:
        """Less can't be given to a container; 0 when it does not say how many cores it has."""
        return least_cpu_mhz(self.total.cpu_mhz // self.cores) if self.cores > 0 else 0

    @property
    def price(self) -> Decimal | None:
        """NTX a minute; None when it is not an amount that anybody may ask."""
        return ntx_price(self.ntx_price)


class Advertisement(Struct, frozen=True, kw_only=True, gc=False):
    """One provider's word. sequence: its clock in microseconds, newest wins. Times: Unix µs."""

    peer_id: Short
    addresses: Annotated[tuple[Short, ...], Meta(max_length=32)]
    sequence: Annotated[int, Meta(ge=0)]
    expires_at: Annotated[int, Meta(ge=0)]
    offering: Offering


class SignedAdvertisement(Struct, frozen=True, kw_only=True, gc=False):
    """body: the advertisement's JSON text, exactly; signature: Ed25519 over it, hex."""

    body: Annotated[str, Meta(max_length=32_768)]
    signature: Annotated[str, Meta(max_length=256)]


def read_advertisement(signed: SignedAdvertisement) -> Advertisement:
    """What it says, whoever signed it. Raises PeerMisbehaved."""
    try:
        return read(signed.body, Advertisement)
    except Unreadable as error:
        raise PeerMisbehaved(f"advertisement can't be read: {error}") from error


class OtherClock(PeerMisbehaved):
    """Well formed, but expired or from the future by our clock. behind_seconds: of its author's clock, when it is
    the author who says it now; negative when it is ahead."""

    def __init__(self, message: str, behind_seconds: int) -> None:
        super().__init__(message)
        self.behind_seconds = behind_seconds


def clock_text(behind_seconds: int) -> str:
    """For people."""
    direction = "behind" if behind_seconds > 0 else "ahead of"
    return (
        f"its clock is {abs(behind_seconds)} s {direction} ours, so that what it offers counts as "
        f"{'expired' if behind_seconds > 0 else 'not valid yet'}: set the clocks of both, as by NTP"
    )


def check_advertisement(
    signed: SignedAdvertisement,
    advertisement: Advertisement,
    now: int,
    verify: Callable[[str, bytes, bytes], bool],
) -> None:
    """advertisement: what was read of it. now: Unix µs. Raises PeerMisbehaved unless it is signed by the provider
    it names; OtherClock unless it is still valid and not from the future."""
    if advertisement.offering.price is None:
        price = advertisement.offering.ntx_price[:64]
        raise PeerMisbehaved(f"advertisement of {advertisement.peer_id}: price {price} is not a valid amount")
    try:
        signature = bytes.fromhex(signed.signature)
    except ValueError as error:
        raise PeerMisbehaved(f"advertisement can't be read: its signature is not hex: {error}") from error
    if not verify(advertisement.peer_id, signed.body.encode(), signature):
        raise PeerMisbehaved(f"advertisement of {advertisement.peer_id} is not signed by it")
    if not now < advertisement.expires_at <= now + (LIFETIME_SECONDS + CLOCK_SKEW_SECONDS) * 1_000_000:
        raise OtherClock(
            f"advertisement of {advertisement.peer_id} has expired or comes from the future",
            (now - advertisement.expires_at) // 1_000_000 + LIFETIME_SECONDS,
        )


class Provider(Aggregate):
    """What this node's log says of one compute provider; only changes are events."""

    KIND: ClassVar[str] = "provider"

    @register
    class Advertised(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "provider.advertised"
        VERSION: ClassVar[int] = 3
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged, 2: unchanged}
        TELLS_ALL: ClassVar[bool] = True
        PERSONAL: ClassVar[Mapping[str, Any]] = {"offering.payment_address": ERASED, "addresses": []}
        offering: Offering
        addresses: tuple[str, ...] = ()

    @register
    class Withdrawn(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "provider.withdrawn"

    @register
    class Lost(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "provider.lost"
        reason: str = ""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.offering: Offering | None = None
        self.addresses: tuple[str, ...] = ()

    def advertise(self, offering: Offering, addresses: tuple[str, ...]) -> bool:
        """Whether anything changed. A provider that is no longer onboarded withdraws."""
        if not offering.onboarded:
            return self.withdraw()
        if not self.would_advertise(offering, addresses):
            return False
        self.trigger(self.Advertised(offering=offering, addresses=addresses))
        return True

    def would_advertise(self, offering: Offering, addresses: tuple[str, ...]) -> bool:
        """Whether there is more to be kept of it than before."""
        return offering.onboarded and (offering, addresses) != (self.offering, self.addresses)

    def withdraw(self) -> bool:
        if self.offering is None:
            return False
        self.trigger(self.Withdrawn())
        return True

    def lose(self, reason: str) -> bool:
        if self.offering is None:
            return False
        self.trigger(self.Lost(reason=reason))
        return True

    @applies(Advertised)
    def _advertised(self, event: Advertised) -> None:
        self.offering, self.addresses = event.offering, event.addresses

    @applies(Withdrawn)
    def _withdrawn(self, _: Withdrawn) -> None:
        self.offering = None

    @applies(Lost)
    def _lost(self, _: Lost) -> None:
        self.offering = None
