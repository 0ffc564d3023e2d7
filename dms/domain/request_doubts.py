"""What in a request may be a mistake, although it can be taken as it is."""

from __future__ import annotations

from dms.domain.request import ServiceRequest
from dms.domain.wallet import CARDANO, ETHEREUM, blockchain_of
from dms.errors import InvalidInput


def doubts_of(request: ServiceRequest) -> list[tuple[str, str]]:
    """(JSON pointer, what may be meant otherwise)."""
    return _of_gpu(request) + _of_arguments(request) + _of_payment(request)


def _of_gpu(request: ServiceRequest) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if request.service_type == "ml-training-gpu" and not request.wants_gpu:
        found.append(("/params/machine_type", 'the job gets no GPU; write "gpu" here to give it one'))
    if request.service_type == "ml-training-cpu" and request.wants_gpu:
        found.append(("/params/machine_type", "the job gets a GPU, though its service_type is ml-training-cpu"))
    if request.constraints.share_gpu and not request.wants_gpu:
        found.append(("/constraints/share_gpu", "the job has no GPU to share: its params.machine_type is not gpu"))
    return found


def _of_arguments(request: ServiceRequest) -> list[tuple[str, str]]:
    params = request.params
    if params.arguments is not None or params.model_url or params.packages:
        return []
    what = (
        "is not given, nor are model_url and packages: the container gets two empty arguments, as the original gave it"
    )
    return [("/params/arguments", f"{what}; write [] for the image's own command")]


def _of_payment(request: ServiceRequest) -> list[tuple[str, str]]:
    named = {name.casefold(): name for name in (CARDANO, ETHEREUM)}
    blockchain = named.get(request.blockchain.casefold(), "")
    if request.blockchain and not blockchain:
        what = f"unknown blockchain {request.blockchain[:64]!r}; {CARDANO} or {ETHEREUM}"
        return [("/blockchain", what)]
    if not request.address_user:
        return []
    try:
        belongs_to = blockchain_of(request.address_user)
    except InvalidInput as error:
        return [("/address_user", str(error))]
    if blockchain and belongs_to != blockchain:
        return [("/address_user", f"is an address of {belongs_to}; the blockchain is {blockchain}")]
    return []
