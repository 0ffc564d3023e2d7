"""What the built-in checks of Schemathesis can't tell: which 400 is our fault."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

MISREAD = ("invalid request data", "invalid query data", "query parameter")


@schemathesis.check
def what_fits_its_schema_is_read(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """A request that fits its schema may be refused for what it says (a price, a position in the future, a wallet's
    checksum), but never because it could not be read."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = str(response.json()["error"])
    assert not error.startswith(MISREAD), f"the schema allows what the API can't read: {error}"
