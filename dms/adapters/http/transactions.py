"""REST of payments and rewards, with the shapes and texts of the original."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from sanic import HTTPResponse, Request

from dms.adapters.http import answers, examples
from dms.adapters.http.access import caller_of, require
from dms.adapters.http.job_lists import ROLES
from dms.adapters.http.past import AS_OF, views_at
from dms.adapters.http.replies import LARGEST, iso, json_reply, list_reply, query, query_bool, query_int
from dms.adapters.http.routes import FLAG, Api, Parameter, Route, choice, whole
from dms.adapters.http.strict_json import parse
from dms.application.payments.transactions import SYNC_AFTER_SECONDS
from dms.domain.access import Caller, Need
from dms.domain.request import Text
from dms.domain.reward import RewardType
from dms.domain.sealing import ERASED
from dms.domain.wallet import blockchain_of
from dms.errors import InvalidInput
from projections.base import Views
from projections.transactions import DONE, TYPES, TransactionRow, Transactions

_TRANSACTIONS = Transactions()
ROWS_A_READ = 1000
SYNCHRONIZED = "Transaction statuses synchronized with blockchain successfully"
T = TypeVar("T")


class RewardBody(Struct, frozen=True):
    tx_hash: Text
    compute_provider_address: Text = ""


class PaidOutBody(Struct, frozen=True):
    transaction_status: Text
    tx_hash: Text
    transaction_type: Text = ""


class SyncBody(Struct, frozen=True):
    """address: of the contract; it must be a wallet's or a contract's. Which one is looked at says funding.*."""

    address: Text = ""


async def list_transactions(request: Request, api: Api) -> HTTPResponse:
    """A list, newest first, of what was paid for on this node. size_done=N: of those done only the N newest, 0 or
    absent: all. clean_tx=TYPE: first hides those of that type, for good (an event; the history keeps them).
    hidden=true: with those that were hidden."""
    size_done = _size_done(request)
    clean = _clean_tx(request)
    if clean and query(request, "as_of"):
        what = "the past can't be cleaned: leave out one of clean_tx and as_of"
        raise InvalidInput(what, [("?clean_tx", what)])
    if clean:
        require(caller_of(request), Need.CLAIM)
        await api.settled()
        await _hide(api, clean, caller_of(request))
    rows = await _rows(await views_at(request, api), caller_of(request), hidden=query_bool(request, "hidden"))
    done = [row.job_id for row in rows if row.transaction_type == DONE]
    left_out = set(done[size_done:]) if size_done else set()
    shown = [_transaction_answer(row) for row in rows if row.job_id not in left_out]
    return list_reply(shown, len(shown))


def _size_done(request: Request) -> int:
    try:
        return query_int(request, "size_done", 0)
    except InvalidInput as error:
        raise InvalidInput(f"invalid size_done parameter: {error}", error.problems) from error


def _clean_tx(request: Request) -> str:
    clean = query(request, "clean_tx")
    if clean and clean not in TYPES:
        what = f"one of {', '.join(TYPES)} is expected, not '{clean[:64]}'"
        raise InvalidInput(f"wrong clean_tx parameter: {what}", [("?clean_tx", what)])
    return clean


async def _hide(api: Api, transaction_type: str, caller: Caller) -> None:
    rows = await _rows(api.views, caller, transaction_type)
    for start in range(0, len(rows), ROWS_A_READ):
        some = rows[start : start + ROWS_A_READ]
        await api.services.transactions.hide((row.tx_hash, row.job_id) for row in some)


async def _rows(
    views: Views, caller: Caller, transaction_type: str = "", *, hidden: bool = False
) -> Sequence[TransactionRow]:
    """Those that the caller may know of. hidden: with those that are not shown any more."""
    where = ({} if hidden else {"shown": "yes"}) | ({"transaction_type": transaction_type} if transaction_type else {})
    found: list[TransactionRow] = []
    after = ""
    while True:
        page = await views.page(_TRANSACTIONS, limit=ROWS_A_READ, after=after, where=where, newest_first=True)
        known = [row for row in page.rows if row.role == ROLES["cp"] or not caller.only_deployments]
        found += [row for row in known if row.listed]
        if not page.next:
            return found
        after = page.next


def _transaction_answer(row: TransactionRow) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(row)
    for private in ("listed", "hidden", "position"):
        del shown[private]
    return shown | {"date_time": _go_time(row.date_time), "paid_at": iso(row.date_time), "ended_at": iso(row.ended_at)}


def _go_time(time_us: int) -> str:
    """As Go prints a time, which the original's clients see: 2024-03-01 10:20:30.5 +0000 UTC."""
    moment = datetime.fromtimestamp(time_us / 1_000_000, UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


async def request_reward(request: Request, api: Api) -> HTTPResponse:
    """Who gets what of the price of a job that is over, signed. 404 unknown hash, 409 while the job runs."""
    body = _parsed(request, RewardBody, "Invalid JSON format")
    claimed = await api.services.transactions.request_reward(
        body.tx_hash, body.compute_provider_address, only_deployments=caller_of(request).only_deployments
    )
    return json_reply(claimed)


async def send_status(request: Request, api: Api) -> HTTPResponse:
    """`success` says that the reward was paid out; any other status is only acknowledged."""
    body = _parsed(request, PaidOutBody, "cannot read payload body")
    await api.services.transactions.report(
        body.tx_hash,
        body.transaction_type,
        body.transaction_status,
        only_deployments=caller_of(request).only_deployments,
    )
    return json_reply({"message": f"transaction status {body.transaction_status} acknowledged"})


async def update_status(request: Request, api: Api) -> HTTPResponse:
    """Looks on the chain which rewards were paid out, of transactions older than five minutes. 503 without a chain;
    where only some could not be looked up, `failed` says how many, and `trouble` why.
    One whose hash and addresses are erased can't be looked up."""
    body = _parsed(request, SyncBody, "failed to fetch UTXOs from Blockchain") if request.body else SyncBody()
    if body.address:
        try:
            blockchain_of(body.address)
        except InvalidInput as error:
            text = f"failed to fetch UTXOs from Blockchain: {error}"
            raise InvalidInput(text, [("/address", "the address of a contract or wallet is expected")]) from error
    await api.settled()
    oldest = api.services.now() - SYNC_AFTER_SECONDS * 1_000_000
    open_ones = [
        row.tx_hash
        for kind in RewardType
        for row in await _rows(api.views, caller_of(request), kind.value)
        if row.ended_at and row.date_time <= oldest and row.tx_hash != ERASED
    ]
    synced = await api.services.transactions.sync(open_ones)
    message = (
        SYNCHRONIZED
        if not synced.failed
        else f"{synced.updated} updated, {synced.failed} could not be looked up: {synced.trouble}"
    )
    told = answers.Synchronized(message=message, updated=synced.updated, failed=synced.failed, trouble=synced.trouble)
    return json_reply(told)


def _parsed(request: Request, kind: type[T], text: str) -> T:
    """The body, or InvalidInput in the original's words and with ours."""
    try:
        return parse(request.body, kind)
    except InvalidInput as error:
        raise InvalidInput(f"{text}: {error}", error.problems) from error


_TAGS = ("transactions",)
_ACKNOWLEDGED = {"message": "transaction status success acknowledged"}

ROUTES = (
    Route(
        "GET", "/transactions", list_transactions, "What was paid for on this node, newest first.",
        query=(
            Parameter("size_done", "Of those done only so many, the newest; 0 or absent: all.", whole(LARGEST)),
            Parameter("clean_tx", "First hide those of this type. The history keeps them.", choice(*TYPES)),
            Parameter("hidden", "Also those that were hidden.", FLAG),
            AS_OF,
        ),
        answer=list[answers.Transaction], answer_example=[examples.TRANSACTION], errors=(400,), tags=_TAGS,
        changes=True, counted=True,
        needs=Need.SEE_PAYMENTS,
    ),
    Route(
        "POST", "/transactions/request-reward", request_reward, "Claim the reward of a job that is over.",
        RewardBody, answer=answers.Reward, answer_example=examples.REWARD, errors=(400, 404, 409), tags=_TAGS,
        body_example={"compute_provider_address": examples.ADDRESS, "tx_hash": examples.TX_HASH},
        needs=Need.CLAIM,
    ),
    *(
        Route(
            "POST", path, send_status, "Report that a reward was paid out.", PaidOutBody, answer=answers.Message,
            answer_example=_ACKNOWLEDGED, errors=(400, 404, 409), tags=_TAGS, body_example=examples.STATUS,
            needs=Need.CLAIM,
        )
        for path in ("/transactions/send-status", "/run/send-status")
    ),
    Route(
        "POST", "/transactions/update-status", update_status, "Look up on the chain what was paid out.", SyncBody,
        body_optional=True, body_example={"address": examples.ADDRESS}, answer=answers.Synchronized,
        answer_example={"message": SYNCHRONIZED, "updated": 1, "failed": 0, "trouble": ""},
        errors=(400, 503), tags=_TAGS,
        needs=Need.CLAIM,
    ),
)  # fmt: skip
