"""The default funding check: a reported payment is believed, as in the original protocol. That one
transaction pays for one job only is the log's own rule, whatever the check."""

from __future__ import annotations

from collections.abc import Sequence

from dms.application.ports.funding import FundingState, FundingVerdict, PaymentClaim, Repayment
from dms.errors import Unavailable


class TrustCheck:
    name = "trust"
    carries = True
    blockchain = ""

    async def check(self, claim: PaymentClaim) -> FundingVerdict:
        return FundingVerdict(state=FundingState.ACCEPTED)

    async def repayments(self, claim: PaymentClaim, owed: str, after_block: int) -> Sequence[Repayment]:
        """Always Unavailable: without a chain nothing can be looked up."""
        raise Unavailable(
            "failed to fetch UTXOs from Blockchain: this DMS looks up no chain (funding.check is trust); "
            "report what was paid with /transactions/send-status"
        )

    async def close(self) -> None:
        """Nothing is open."""
