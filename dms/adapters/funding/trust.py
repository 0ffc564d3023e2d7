"""The default funding check: a reported payment is believed, as in the original protocol. That one
transaction pays for one job only is the log's own rule, whatever the check."""

from __future__ import annotations

from dms.application.ports import FundingVerdict


class TrustCheck:
    name = "trust"

    async def check(self, job_id: str, tx_hash: str, price: str, blockchain: str) -> FundingVerdict:
        return FundingVerdict(accepted=True)
