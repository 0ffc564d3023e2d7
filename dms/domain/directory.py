"""The compute providers this node knows of: their signed advertisements, and what of them changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from dms.domain.aggregate import Aggregate, applies
from dms.domain.decoding import UNREADABLE
from dms.domain.event import Event, Upcaster, register, unchanged
from dms.domain.resources import Gpu, Resources, least_cpu_mhz
from dms.domain.sealing import ERASED
from dms.errors import PeerMisbehaved

LIFETIME_SECONDS = 150  # pubsub forgets what it has seen after 120 s; two renewals fit in
CLOCK_SKEW_SECONDS = 300  # how far in the future a peer's clock may be

Short = Annotated[str, Meta(max_length=256)]


class Offering(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a provider offers right now. total: its hardware; onboarded: offered to the network;
    reserved: held by running jobs."""

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

    @property
    def free(self) -> Resources:
        return self.offered - self.reserved

    @property
    def least_cpu_mhz(self) -> int:
        """Less can't be given to a container; 0 when it does not say how many cores it has."""
        return least_cpu_mhz(self.total.cpu_mhz // self.cores) if self.cores > 0 else 0

    @property
    def price(self) -> Decimal:
        return Decimal(self.ntx_price)


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


_decoder = msgspec.json.Decoder(Advertisement)


def open_advertisement(
    signed: SignedAdvertisement, now: int, verify: Callable[[str, bytes, bytes], bool]
) -> Advertisement:
    """The advertisement inside. now: Unix µs. Raises PeerMisbehaved unless it is well formed,
    signed by the provider it names, still valid and not from the future."""
    try:
        advertisement = _decoder.decode(signed.body)
        price = advertisement.offering.price
        signature = bytes.fromhex(signed.signature)
    except (*UNREADABLE, ArithmeticError, ValueError) as error:
        raise PeerMisbehaved(f"advertisement can't be read: {error}") from error
    if not price.is_finite() or price < 0:
        raise PeerMisbehaved(f"advertisement of {advertisement.peer_id}: price {price} is no amount")
    if not now < advertisement.expires_at <= now + (LIFETIME_SECONDS + CLOCK_SKEW_SECONDS) * 1_000_000:
        raise PeerMisbehaved(f"advertisement of {advertisement.peer_id} has expired or comes from the future")
    if not verify(advertisement.peer_id, signed.body.encode(), signature):
        raise PeerMisbehaved(f"advertisement of {advertisement.peer_id} is not signed by it")
    return advertisement


class Provider(Aggregate):
    """What this node's log says of one compute provider; only changes are events."""

    KIND: ClassVar[str] = "provider"

    @register
    class Advertised(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "provider.advertised"
        VERSION: ClassVar[int] = 2
        UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
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
        if offering == self.offering and addresses == self.addresses:
            return False
        self.trigger(self.Advertised(offering=offering, addresses=addresses))
        return True

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
