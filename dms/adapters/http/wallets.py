"""REST of new wallets. The secret goes to who asked and nowhere else."""

from __future__ import annotations

import asyncio

from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.replies import json_reply, query
from dms.adapters.http.routes import Api, Parameter, Route, choice
from dms.domain.access import Need


async def new_address(request: Request, api: Api) -> HTTPResponse:
    """cardano (the default): address, mnemonic and the network that the address is for, a test network unless
    network=mainnet. ethereum: address and private_key."""
    wallet = await asyncio.to_thread(api.services.new_wallet, query(request, "blockchain"), query(request, "network"))
    shown = {
        "address": wallet.address,
        "mnemonic": wallet.mnemonic,
        "private_key": wallet.private_key,
        "network": wallet.network,
    }
    return json_reply({k: v for k, v in shown.items() if v}, headers={"cache-control": "no-store"})


ROUTES = (
    Route(
        "GET", "/onboarding/address/new", new_address, "Make a wallet. Its secret is shown once and kept nowhere.",
        query=(
            Parameter("blockchain", "cardano (the default) or ethereum.", choice("cardano", "ethereum")),
            Parameter("network", "Of Cardano: a test network unless mainnet.", choice("preprod", "preview", "mainnet")),
        ),
        answer=answers.Wallet, answer_example=examples.WALLET, errors=(400,), tags=("onboarding",), secret=True,
        needs=Need.LOCAL,
    ),
)  # fmt: skip
