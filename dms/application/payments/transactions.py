"""Rewards of ended jobs, for both roles: who is owed what, signed; what was paid out; what the list leaves out.

A transaction is found by the hash that funded its job. Nothing here moves money: users pay with their wallets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from dms.application.payments.funding import claim_of, quote_hashes, request_of
from dms.application.payments.payments import payment_of, payments_of_jobs
from dms.application.ports.event_log import EventLog
from dms.application.ports.funding import FundingCheck
from dms.application.ports.signing import Signer
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.domain.payment import payment_key
from dms.domain.retry import job_of
from dms.domain.reward import Reward
from dms.domain.sealing import ERASED
from dms.errors import Conflict, InvalidInput, NotFound

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
        paid = self._find(tx_hash, only_deployments=only_deployments)
        reward = paid.reward
        if reward is None:
            raise Conflict("the job is still running")
        said, real = transaction_type.casefold(), reward.reward_type.value
        if said not in ("", real, real.partition("-")[0]):
            raise Conflict(f"the reward of job {paid.key} is {real}, not {transaction_type[:64]}")
        paid.settle_reward(DONE)
        await self._log.save(paid)

    async def hide(self, paid: Iterable[tuple[str, str]]) -> None:
        """Leaves them out of the list from now on. paid: (the transaction's hash, or ERASED; its job's id)."""
        known, erased = [], set[str]()
        for tx_hash, job_id in paid:
            erased |= {job_id} if tx_hash == ERASED else set()
            known += [tx_hash] if tx_hash != ERASED else []
        found = [payment_of(self._log, tx_hash) for tx_hash in known] + await payments_of_jobs(self._log, erased)
        payments = [payment for payment in found if payment.hide()]
        if payments:
            await self._log.save(*payments)

    async def sync(self, tx_hashes: Iterable[str]) -> int:
        """Looks on the chain whether their rewards were paid out; answers how many were. Raises Unavailable."""
        settled = 0
        for tx_hash in tx_hashes:
            settled += await self._sync(self._find(tx_hash))
        return settled

    async def _sync(self, paid: Job | Deployment) -> bool:
        reward = paid.reward
        if reward is None or paid.settled:
            return False
        parties = self._parties(paid)
        claim = claim_of(paid, paid.tx_hash, parties.provider, parties.service_provider)
        for tx_hash in await self._funding.repayments(claim, reward.to_requester, paid.block):
            payment = payment_of(self._log, tx_hash)
            if payment.job_id in ("", paid.key) and paid.settle_reward(reward.reward_type.settled_as, tx_hash):
                payment.use(paid.key)  # one repayment settles one job
                await self._log.save(paid, payment)
                return True
        return False

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
        return Parties(
            provider=provider, service_provider=service_provider, payee=paid.payee, payer=request.address_user
        )

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
