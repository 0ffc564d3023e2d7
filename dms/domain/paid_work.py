"""What a job and its deployment share, each on its own side: the payment, the outcome, who gets what of the price."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from dms.domain.aggregate import Aggregate, applies
from dms.domain.checkpoint import ResumeFrom
from dms.domain.event import Event, Upcaster, unchanged
from dms.domain.request import ServiceRequest
from dms.domain.reward import Outcome, Reward, reward
from dms.domain.sealing import ERASED
from dms.errors import Conflict


class PaymentPending(Event, frozen=True, kw_only=True, gc=False):
    VERSION: ClassVar[int] = 2
    UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
    PERSONAL: ClassVar[Mapping[str, Any]] = {"reason": ERASED}
    reason: str
    until: int  # Unix time in microseconds: the end of the checker's patience


class PaymentAccepted(Event, frozen=True, kw_only=True, gc=False):
    VERSION: ClassVar[int] = 2
    UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
    PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED, "payer": ERASED}
    tx_hash: str
    check: str  # the name of this side's funding check
    payer: str = ""  # the address that paid, as the chain has it
    units: str = ""  # what arrived, in whole smallest units
    block: int = 0


class RewardClaim(Event, frozen=True, kw_only=True, gc=False):
    """Amounts in NTX, decimal text."""

    reward_type: str
    price: str
    to_provider: str
    to_requester: str


class RewardSettlement(Event, frozen=True, kw_only=True, gc=False):
    VERSION: ClassVar[int] = 2
    UPCASTERS: ClassVar[dict[int, Upcaster]] = {1: unchanged}
    PERSONAL: ClassVar[Mapping[str, Any]] = {"tx_hash": ERASED}
    transaction_type: str  # "done" as reported; "withdrawn", "refunded", "distributed" as the chain has it
    tx_hash: str = ""  # of the transaction that settled it, where that is known


class PaidWork(Aggregate, ABC):
    """Its key is the job's id."""

    PENDING: ClassVar[type[PaymentPending]]
    CLAIMED: ClassVar[type[RewardClaim]]
    SETTLED: ClassVar[type[RewardSettlement]]

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.request: ServiceRequest | None = None
        self.resume: ResumeFrom | None = None
        self.price = self.payee = ""
        self.funding_reason = ""
        self.funding_until = 0
        self.funded = False
        self.payer = ""
        self.block = 0
        self.outcome: Outcome | None = None
        self.claimed = False
        self.settled = ""

    @property
    def correlation_id(self) -> str:
        return self.key

    @property
    def deployment_id(self) -> str:
        """What both sides know the work by."""
        return self.key

    @property
    @abstractmethod
    def checks_funding(self) -> bool:
        """Whether it waits for the check of its payment."""

    @property
    @abstractmethod
    def ran(self) -> bool:
        """Whether its container was started: without that nothing is earned."""

    @property
    @abstractmethod
    def may_still_run(self) -> bool:
        """Whether it is not over, or somebody who runs it may not know yet that it is."""

    @property
    def payment_is_free(self) -> bool:
        """Whether its payment may pay for another job: it is over and never ran, and what is owed back was neither
        claimed nor paid back."""
        over = self.outcome is not None and not self.may_still_run
        return over and not (self.ran or self.claimed or self.settled)

    @property
    def minutes(self) -> int:
        """Asked and paid for."""
        return self.request.constraints.time if self.request else 0

    @property
    def reward(self) -> Reward | None:
        """Who gets what of the price; None until it is over."""
        return None if self.outcome is None else reward(self.price, self.minutes, self.outcome)

    def wait_for_funding(self, reason: str, until: int) -> bool:
        """Whether that is news. until: Unix time in microseconds."""
        if not self.checks_funding or (reason, until) == (self.funding_reason, self.funding_until):
            return False
        self.trigger(self.PENDING(reason=reason, until=until))
        return True

    def claim_reward(self) -> Reward:
        """The first claim is recorded, a repeat gets the same answer. Raises Conflict while the job runs."""
        found = self._require_reward()
        if not self.claimed:
            self.trigger(
                self.CLAIMED(
                    reward_type=found.reward_type.value,
                    price=found.price,
                    to_provider=found.to_provider,
                    to_requester=found.to_requester,
                )
            )
        return found

    def settle_reward(self, transaction_type: str, tx_hash: str = "") -> bool:
        """Whether that is news. Raises Conflict while the job runs."""
        self._require_reward()
        if self.settled:
            return False
        self.trigger(self.SETTLED(transaction_type=transaction_type, tx_hash=tx_hash))
        return True

    def _require_reward(self) -> Reward:
        found = self.reward
        if found is None:
            raise Conflict("the job is still running")
        return found

    @applies(PaymentPending)
    def _funding_pending(self, event: PaymentPending) -> None:
        self.funding_reason, self.funding_until = event.reason, event.until

    @applies(PaymentAccepted)
    def _funding_accepted(self, event: PaymentAccepted) -> None:
        self.funded = True
        self.payer, self.block = event.payer, event.block

    @applies(RewardClaim)
    def _reward_claimed(self, _: RewardClaim) -> None:
        self.claimed = True

    @applies(RewardSettlement)
    def _reward_settled(self, event: RewardSettlement) -> None:
        self.settled = event.transaction_type
