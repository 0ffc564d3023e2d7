"""A request as it can be sent again: without what was of that one time, and without what nobody may see."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from dms.domain.request import PERSONAL_FIELDS, ServiceRequest
from dms.domain.sealing import ERASED, take_out


class RequestAgain(Struct, frozen=True, kw_only=True):
    """request: the body of a service request. secrets: names of variables whose values are not kept. left_out: JSON
    pointers of fields that were there and tell of a person."""

    request: dict[str, Any]
    secrets: tuple[str, ...]
    left_out: tuple[str, ...]


def request_again(request: ServiceRequest, *, personal: bool) -> RequestAgain:
    """personal: with the fields that tell of a person. The payment is never among them."""
    body: dict[str, Any] = msgspec.to_builtins(request)
    body.pop("tx_hash", None)
    secrets = tuple(request.params.secret_env)
    left_out: tuple[str, ...] = ()
    if not personal:
        there = [path for path in PERSONAL_FIELDS if _is_in(body, path.split("."))]
        take_out(body, PERSONAL_FIELDS)
        left_out, secrets = tuple("/" + path.replace(".", "/") for path in there), ()
    body["params"].pop("secret_env", None)
    return RequestAgain(request=body, secrets=secrets, left_out=left_out)


def is_erased(request: ServiceRequest) -> bool:
    return request.params.image_id == ERASED


def _is_in(body: Any, steps: list[str]) -> bool:
    for step in steps:
        if not isinstance(body, dict) or step not in body:
            return False
        body = body[step]
    return True
