"""The tokens view: which tokens of the API were made, and which are revoked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from dms.domain.api_token import ApiToken
from dms.domain.event import AnyFact, Event, Unknown
from projections.base import Projection


class TokenRow(Struct, frozen=True, kw_only=True):
    """Times: Unix µs, 0 for none."""

    token_id: str
    name: str
    role: str
    created_at: int
    expires_at: int = 0
    revoked_at: int = 0


class Tokens(Projection[TokenRow]):
    name: ClassVar[str] = "tokens"
    row_type = TokenRow
    event_types: ClassVar[frozenset[type[Event]]] = ApiToken.event_types() | {Unknown}
    columns: ClassVar[Mapping[str, str]] = {"name": "TEXT"}

    def key(self, recorded: AnyFact) -> str | None:
        return recorded.key if recorded.kind == ApiToken.KIND and recorded.event_type in self.event_types else None

    def column_values(self, row: TokenRow) -> tuple[Any, ...]:
        return (row.name,)

    def apply(self, row: TokenRow | None, recorded: AnyFact) -> TokenRow | None:
        match recorded.event:
            case ApiToken.Created(name=name, role=role, expires_at=expires_at):
                return TokenRow(
                    token_id=recorded.key, name=name, role=role, created_at=recorded.time, expires_at=expires_at
                )
            case ApiToken.Revoked() if row is not None:
                return replace(row, revoked_at=recorded.time)
        return row
