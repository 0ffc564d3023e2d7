"""What can be told of a request before anybody is asked for anything."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from dms.application.ports.signing import Signer
from dms.application.secret_environment import resealed
from dms.domain.pricing import estimate, price_text
from dms.domain.request import ServiceRequest, is_key_of, problems_of
from dms.domain.wallet import other_blockchain
from dms.errors import InvalidInput

Problems = Sequence[tuple[str, str]]
"""(JSON pointer, what is wrong there)."""


class ReadingFindings(NamedTuple):
    """When a request was read. misread: what could not be. doubted: what could, but may be a mistake, where that is not
    to be taken."""

    misread: Problems = ()
    doubted: Problems = ()


NO_FINDINGS = ReadingFindings()


class RequestCheck:
    def __init__(self, signer: Signer, paid_on: str = "") -> None:
        """paid_on: the only blockchain that jobs are paid on; empty for any."""
        self._signer, self._paid_on = signer, paid_on

    def check(self, request: ServiceRequest, found: ReadingFindings = NO_FINDINGS) -> None:
        """Raises InvalidInput with all that is wrong; what stands in the places found already is not looked at."""
        told = [*found.misread, *found.doubted]
        more = (one for one in self._problems(request) if not _covered(one[0], told))
        problems = [*told, *more]
        if problems:
            raise InvalidInput(_text(problems, _lead(found)), problems)

    def _problems(self, request: ServiceRequest) -> Problems:
        found = [*problems_of(request), *resealed(request), *self._strangers(request), *_of_price(request)]
        if wrong := other_blockchain(request.blockchain, self._paid_on):
            found.append(("/blockchain", wrong))
        return found

    def _strangers(self, request: ServiceRequest) -> Problems:
        """Ids and keys that the request names, and which are others'."""
        params, own = request.params, self._signer.peer_id
        found: list[tuple[str, str]] = []
        if params.local_node_id not in ("", own):
            found.append(("/params/local_node_id", f"this DMS is {own}, not {params.local_node_id[:64]}"))
        if not is_key_of(params.local_public_key, self._signer.public_key(own)):
            found.append(("/params/local_public_key", "is not the public key of this DMS"))
        if params.node_id and not is_key_of(params.public_key, self._signer.public_key(params.node_id)):
            found.append(("/params/public_key", f"is not the public key of {params.node_id[:64]}"))
        return found


def _of_price(request: ServiceRequest) -> Problems:
    try:
        price = estimate(request.constraints)
    except InvalidInput as error:
        return error.problems
    if price <= Decimal(str(request.max_ntx)):
        return ()
    what = "nunet estimation price is greater than client price"
    return [("/max_ntx", f"{what}: {price_text(price)} NTX is estimated, max_ntx is {request.max_ntx:g}")]


def _covered(pointer: str, found: Problems) -> bool:
    """Whether one of them is about the same place, what is above it, or in it."""
    return any(f"{pointer}/".startswith(f"{at}/") or at.startswith(f"{pointer}/") for at, _ in found)


def _lead(found: ReadingFindings) -> str:
    if found.misread:
        return "invalid request data"
    return "refused as strict" if found.doubted else ""


def _text(problems: Problems, lead: str) -> str:
    if len(problems) == 1:
        pointer, what = problems[0]
        return f"{lead} at {pointer}: {what}" if lead else what
    return f"{lead or 'the request'}: " + "; ".join(
        f"{pointer}: {what}" if pointer else what for pointer, what in problems
    )
