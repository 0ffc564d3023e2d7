"""Tokens of the API: made, revoked, recognised."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dms.application.ports.event_log import EventLog
from dms.domain.api_token import ApiToken, Role, TokenText, new_text, read_text
from dms.domain.event import new_id
from dms.errors import Conflict, NotFound

MOST_TOKENS = 1000  # in force
DAY_US = 86_400_000_000


class Tokens:
    """In memory are those in force: kept by the log, see `EventLog.index`."""

    def __init__(self, log: EventLog, now: Callable[[], int]) -> None:
        """now: Unix µs."""
        self._log, self._now = log, now
        self._known: dict[str, ApiToken] = {}
        self._nobody = ApiToken("")
        log.index(ApiToken, self._restate)

    def take_up(self, token_ids: Iterable[str]) -> None:
        """Those that were made before."""
        for token_id in token_ids:
            self._restate(token_id, self._log.load(ApiToken, token_id))

    def _restate(self, token_id: str, token: ApiToken | None) -> None:
        if token is None or token.revoked:
            self._known.pop(token_id, None)
        else:
            self._known[token_id] = token

    @property
    def any_in_force(self) -> bool:
        return any(token.in_force(self._now()) for token in self._known.values())

    def find(self, text: str) -> ApiToken | None:
        """The token in force that the text is; None for none. As slow for a wrong one as for none."""
        parts = read_text(text)
        if parts is None:
            return None
        token = self._known.get(parts.token_id, self._nobody)
        return token if token.admits(parts, self._now()) else None

    def get(self, token_id: str) -> ApiToken | None:
        """In force."""
        token = self._known.get(token_id)
        return token if token is not None and token.in_force(self._now()) else None

    async def create(self, name: str, role: Role, days: float = 0) -> TokenText:
        """The token, which is told this once. days: that it is in force; 0: for ever. Raises InvalidInput, Conflict."""
        if len(self._known) >= MOST_TOKENS:
            raise Conflict(f"there are {MOST_TOKENS} tokens already: revoke those that nobody uses")
        if any(token.name == name and token.role is not role for token in self._known.values()):
            raise Conflict(f"the client {name} has tokens of another role: revoke them, or take another name")
        text = new_text(new_id())
        token = ApiToken(text.token_id)
        token.create(text, name, role, self._now() + int(days * DAY_US) if days else 0)
        await self._log.save(token)
        return text

    async def revoke(self, token_id: str) -> None:
        """Raises NotFound, Conflict when it is revoked already."""
        token = self._log.load(ApiToken, token_id)
        if token is None:
            raise NotFound(f"there is no token {token_id[:64]}: nunet token list shows them")
        token.revoke()
        await self._log.save(token)
