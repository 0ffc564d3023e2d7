"""Rewards of ended jobs, for both roles: who is owed what, signed; what was paid out; what the list leaves out.

A transaction is found by the hash that funded its job. Nothing here moves money: users pay with their wallets.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256

from msgspec import Struct
from msgspec.structs import replace

from dms.application.payments.funding import claim_of, quote_hashes, request_of
from dms.application.payments.payments import never_run, payment_of, payments_of_jobs
from dms.application.ports.event_log import EventLog
from dms.application.ports.funding import FundingCheck, Repayment
from dms.application.ports.signing import Signer
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.domain.payment import Payment, payment_key
from dms.domain.retry import job_of
from dms.domain.reward import Reward
from dms.domain.sealing import ERASED
from dms.errors import Conflict, DmsError, InvalidInput, NotFound, Unavailable

SYNC_AFTER_SECONDS = 300  # younger transactions are not looked for on the chain, as in the original
DONE = "done"


class RewardAnswer(Struct, frozen=True, kw_only=True):
    """What a claim gets: the fields of all generations of the original. Signatures: Ed25519 by this node's key over
    the text beside them, 128 hex characters; the hashes are sha256 of the same text, in hex."""

    service_provider_addr: str
    compute_provider_addr: str
    reward_type: str
    signature_datum: str
    message_hash_datum: str
    datum: str
    signature_action: str
    message_hash_action: str
    action: str
    signature: str
    oracle_message: str
    job_id: str
    price: str
    to_provider: str
    to_requester: str


class Parties(Struct, frozen=True, kw_only=True):
    """The two sides of a paid job: their peer ids, and their wallets' addresses."""

    provider: str
    service_provider: str
    payee: str
    payer: str


class Synced(Struct, frozen=True, kw_only=True):
    """updated: how many were found paid out. failed: how many could not be looked up; trouble: why, of the first."""

    updated: int
    failed: int = 0
    trouble: str = ""


class Transactions:
    def __init__(self, log: EventLog, signer: Signer, funding: FundingCheck) -> None:
        self._log, self._signer, self._funding = log, signer, funding

    async def request_reward(
        self, tx_hash: str, compute_provider_address: str = "", *, only_deployments: bool = False
    ) -> RewardAnswer:
        """Of the job that the transaction funded; again gets the same answer. only_deployments: jobs that this node
        asked for are unknown to the caller. Raises NotFound, Conflict while the job runs, InvalidInput when the address
        is another's."""
        paid = self._find(tx_hash, only_deployments=only_deployments)
        parties = self._parties(paid)
        if compute_provider_address.casefold() not in ("", parties.payee.casefold(), parties.provider.casefold()):
            what = f"the compute provider of this job is paid at {parties.payee or parties.provider}"
            raise InvalidInput(what, [("/compute_provider_address", what)])
        reward = paid.claim_reward()
        await self._log.save(paid)
        return self._answer(paid, parties, reward)

    async def report(
        self, tx_hash: str, transaction_type: str, transaction_status: str, *, only_deployments: bool = False
    ) -> None:
        """`success` settles the reward; anything else is taken note of by the caller only, as in the original.
        only_deployments: as above. Raises NotFound; Conflict while the job runs, or when its reward is of another
        type."""
        if transaction_status != "success":
            return
        paid, payment = await self._settled_by(tx_hash, only_deployments=only_deployments)
        reward = paid.reward
        if reward is None:
            raise Conflict("the job is still running")
        said, real = transaction_type.casefold(), reward.reward_type.value
        if said not in ("", real, real.partition("-")[0]):
            raise Conflict(f"the reward of job {paid.key} is {real}, not {transaction_type[:64]}")
        paid.settle_reward(DONE)
        if payment is not None:
            payment.use(paid.key)
        await self._log.save(paid, *([payment] if payment is not None else []))

    async def hide(self, paid: Iterable[tuple[str, str]]) -> None:
        """Leaves them out of the list from now on. paid: (the transaction's hash, or ERASED; its job's id)."""
        jobs_of = defaultdict[str, list[str]](list)
        for tx_hash, job_id in paid:
            jobs_of[tx_hash].append(job_id)
        erased = jobs_of.pop(ERASED, [])
        found = [(payment_of(self._log, tx_hash), jobs) for tx_hash, jobs in jobs_of.items()]
        found += [(payment, erased) for payment in await payments_of_jobs(self._log, erased)]
        payments = {payment.key: (payment, jobs) for payment, jobs in found}.values()
        hidden = [payment for payment, jobs in payments if payment.hide(jobs)]
        if hidden:
            await self._log.save(*hidden)

    async def sync(self, tx_hashes: Iterable[str]) -> Synced:
        """Looks on the chain whether their rewards were paid out. Raises Unavailable when all look-ups fail."""
        looked, troubles = await self._looked_up(tx_hashes)
        if troubles and not looked:
            raise Unavailable(str(troubles[0])) from troubles[0]
        # A sum that is just what one of them is owed is for that one, not for one that is owed less. Among those that
        # can't be looked up now may be the one that a larger sum is for.
        exact_only = any(isinstance(trouble, Unavailable) for trouble in troubles)
        pairs = [(paid, found) for paid, repayments in looked for found in repayments]
        updated = 0
        for paid, repayment in sorted(pairs, key=lambda pair: pair[1].excess_units):
            if repayment.excess_units == 0 or not exact_only:
                updated += await self._settle(paid, repayment.tx_hash)
        return Synced(updated=updated, failed=len(troubles), trouble=str(troubles[0]) if troubles else "")

    async def _looked_up(
        self, tx_hashes: Iterable[str]
    ) -> tuple[list[tuple[Job | Deployment, Sequence[Repayment]]], list[DmsError]]:
        """(what is still to be settled, with what may have settled it; what kept others from being looked up)"""
        looked: list[tuple[Job | Deployment, Sequence[Repayment]]] = []
        troubles: list[DmsError] = []
        for tx_hash in tx_hashes:
            try:
                paid = self._find(tx_hash)
                if paid.reward is not None and not paid.settled:
                    looked.append((paid, await self._repayments(paid, paid.reward)))
            except (Unavailable, NotFound) as error:
                troubles.append(error)
        return looked, troubles

    async def _repayments(self, paid: Job | Deployment, reward: Reward) -> Sequence[Repayment]:
        parties = self._parties(paid)
        claim = replace(claim_of(paid, paid.tx_hash, parties.provider, parties.service_provider), payer=parties.payer)
        return await self._funding.repayments(claim, reward.to_requester, paid.block)

    async def _settle(self, looked: Job | Deployment, tx_hash: str) -> bool:
        """Whether that repayment settles it: one settles one job."""
        paid = self._log.load(type(looked), looked.key)  # it may have been settled since it was looked up
        payment = payment_of(self._log, tx_hash)
        if paid is None or paid.reward is None or payment.job_id not in ("", paid.key):
            return False
        if not paid.settle_reward(paid.reward.reward_type.settled_as, tx_hash):
            return False
        payment.use(paid.key)
        await self._log.save(paid, payment)
        return True

    async def _settled_by(self, tx_hash: str, *, only_deployments: bool) -> tuple[Job | Deployment, Payment | None]:
        """(whose reward is settled, the payment that must pay for nothing else from now on). A payment that came with a
        refused request was never counted: once it is paid back it is, or it could pay for the next job too."""
        try:
            return self._find(tx_hash, only_deployments=only_deployments), None
        except NotFound:
            payment = payment_of(self._log, tx_hash)
            refused = await never_run(self._log, tx_hash) if payment.key and not payment.job_id else None
            if refused is None:
                raise
            return refused, payment

    def _find(self, tx_hash: str, *, only_deployments: bool = False) -> Job | Deployment:
        key = payment_key(tx_hash)
        payment = payment_of(self._log, tx_hash)
        if payment.job_id:
            job = None if only_deployments else self._log.load(Job, job_of(payment.job_id))
            if job is not None and payment_key(job.tx_hash) == key:
                return job
            deployment = self._log.load(Deployment, payment.job_id)
            if deployment is not None and payment_key(deployment.tx_hash) == key:
                return deployment
        raise NotFound("unknown tx hash")

    def _parties(self, paid: Job | Deployment) -> Parties:
        request, own = request_of(paid), self._signer.peer_id
        if isinstance(paid, Job):
            provider, service_provider = paid.provider, own
        else:
            provider, service_provider = own, paid.service_provider
        payer = request.address_user or paid.payer  # who is known from the chain alone is owed as well
        return Parties(provider=provider, service_provider=service_provider, payee=paid.payee, payer=payer)

    def _answer(self, paid: Job | Deployment, parties: Parties, reward: Reward) -> RewardAnswer:
        datum = _canonical(
            {
                "job_id": paid.deployment_id,
                "tx_hash": payment_key(paid.tx_hash),
                "service_provider": parties.service_provider,
                "service_provider_addr": parties.payer,
                "compute_provider": parties.provider,
                "compute_provider_addr": parties.payee,
                "price": reward.price,
                "to_provider": reward.to_provider,
                "to_requester": reward.to_requester,
                **quote_hashes(paid, parties.provider, parties.service_provider),
            }
        )
        action = _canonical(
            {"job_id": paid.deployment_id, "action": reward.reward_type.value, "redeemer": reward.reward_type.redeemer}
        )
        signature = self._signer.sign(datum.encode()).hex()
        return RewardAnswer(
            service_provider_addr=parties.payer,
            compute_provider_addr=parties.payee or parties.provider,
            reward_type=reward.reward_type.value,
            signature_datum=signature,
            message_hash_datum=_digest(datum),
            datum=datum,
            signature_action=self._signer.sign(action.encode()).hex(),
            message_hash_action=_digest(action),
            action=action,
            signature=signature,
            oracle_message=datum,
            job_id=paid.key,
            price=reward.price,
            to_provider=reward.to_provider,
            to_requester=reward.to_requester,
        )


def _canonical(fields: dict[str, str | int] | dict[str, str]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
