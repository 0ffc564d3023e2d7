"""Tokens of the API: who may call it from elsewhere, as what. The log has a digest of each; the secret is told once."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import ClassVar, NamedTuple

from dms.domain.aggregate import Aggregate, applies
from dms.domain.event import Event, register
from dms.errors import Conflict, InvalidInput

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}\Z"
PREFIX = "dms"
SECRET_BYTES = 32
_TEXT = re.compile(rf"{PREFIX}_([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")


class Role(StrEnum):
    """admin: all of it. spd: asks for jobs, and sees and steers its own. cpd: this machine as a provider. read: sees
    all, changes nothing."""

    ADMIN = "admin"
    SPD = "spd"
    CPD = "cpd"
    READ = "read"


class TokenText(NamedTuple):
    """What a caller presents: `dms_<id>_<secret>`."""

    token_id: str
    secret: str

    def __str__(self) -> str:
        return f"{PREFIX}_{self.token_id}_{self.secret}"


def new_text(token_id: str) -> TokenText:
    return TokenText(token_id, secrets.token_urlsafe(SECRET_BYTES))


def read_text(text: str) -> TokenText | None:
    """None for what can't be a token."""
    found = _TEXT.fullmatch(text.strip())
    return TokenText(found[1], found[2]) if found else None


def digest_of(text: TokenText) -> str:
    """SHA-256, hex: the secret has 256 random bits, so that nothing slower is needed."""
    return hashlib.sha256(str(text).encode()).hexdigest()


class ApiToken(Aggregate):
    """The key is a UUIDv7, and the part of the token that is no secret."""

    KIND: ClassVar[str] = "token"

    @register
    class Created(Event, frozen=True, kw_only=True, gc=False):
        """name: of the client that has it; jobs belong to a client, so a new token of that name gets them. It stays in
        the history, so it should be no person's. digest: SHA-256 of the token, hex. expires_at: Unix µs; 0: never."""

        TOPIC: ClassVar[str] = "token.created"
        name: str
        role: str
        digest: str
        expires_at: int = 0

    @register
    class Revoked(Event, frozen=True, kw_only=True, gc=False):
        TOPIC: ClassVar[str] = "token.revoked"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.name, self.digest, self.expires_at = "", "", 0
        self.role = Role.READ
        self.revoked = False

    def create(self, text: TokenText, name: str, role: Role, expires_at: int = 0) -> None:
        """Raises InvalidInput."""
        if not re.fullmatch(NAME_PATTERN, name):
            what = "1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit"
            raise InvalidInput(f"the token's name is '{name[:64]}'; expected {what}", [("/name", what)])
        self.trigger(self.Created(name=name, role=role.value, digest=digest_of(text), expires_at=expires_at))

    def revoke(self) -> None:
        """Raises Conflict."""
        if self.revoked:
            raise Conflict(f"token {self.key} is revoked already")
        self.trigger(self.Revoked())

    def admits(self, text: TokenText, now: int) -> bool:
        """Whether that is it, and it is in force. now: Unix µs."""
        same = hmac.compare_digest(self.digest.encode(), digest_of(text).encode())
        return same and self.in_force(now)

    def in_force(self, now: int) -> bool:
        return bool(self.digest) and not self.revoked and (not self.expires_at or now < self.expires_at)

    @applies(Created)
    def _created(self, event: Created) -> None:
        self.name, self.digest, self.expires_at = event.name, event.digest, event.expires_at
        self.role = Role(event.role)

    @applies(Revoked)
    def _revoked(self, _: Revoked) -> None:
        self.revoked = True
