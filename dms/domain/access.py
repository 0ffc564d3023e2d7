"""Who may do what over the API. Each route and each websocket names its need; this table says who meets it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from dms.domain.api_token import Role

ADMIN, SPD, CPD, READ = Role.ADMIN, Role.SPD, Role.CPD, Role.READ


class Need(StrEnum):
    """What a caller must be."""

    NOTHING = "nothing"  # health, descriptions, the dashboards' files, what has a right of its own in its address
    LOCAL = "local"  # of this machine, or any role: nothing of it is about a person
    SEE = "see"
    ASK_FOR_JOBS = "ask for jobs"
    SEE_JOBS = "see jobs"  # those that are the caller's, as `sees_all_jobs` and Caller.client say
    STEER_JOBS = "steer jobs"
    SEE_PROVIDER = "see the provider"
    STEER_PROVIDER = "steer the provider"
    SEE_PAYMENTS = "see payments and rewards"
    CLAIM = "claim rewards and refunds"
    AUDIT = "audit"  # the whole history
    ADMINISTER = "administer"


ROLES: Mapping[Need, frozenset[Role]] = {
    Need.NOTHING: frozenset(Role),
    Need.LOCAL: frozenset(Role),
    Need.SEE: frozenset(Role),
    Need.ASK_FOR_JOBS: frozenset({ADMIN, SPD}),
    Need.SEE_JOBS: frozenset(Role),
    Need.STEER_JOBS: frozenset({ADMIN, SPD, CPD}),
    Need.SEE_PROVIDER: frozenset({ADMIN, CPD, READ}),
    Need.STEER_PROVIDER: frozenset({ADMIN, CPD}),
    Need.SEE_PAYMENTS: frozenset({ADMIN, CPD, READ}),
    Need.CLAIM: frozenset({ADMIN, CPD}),
    Need.AUDIT: frozenset({ADMIN, READ}),
    Need.ADMINISTER: frozenset({ADMIN}),
}


class Caller(Struct, frozen=True, kw_only=True):
    """role: None for nobody that we know. client: the name of the token; empty: the operator of this machine, or
    nobody. session: of a browser that logged in with the token. local: the other end of the connection is a process of
    this machine, of user `uid`."""

    role: Role | None = None
    client: str = ""
    token_id: str = ""
    session: str = ""
    local: bool = False
    uid: int | None = None

    def meets(self, need: Need) -> bool:
        if need is Need.NOTHING or (need is Need.LOCAL and self.local):
            return True
        return self.role is not None and self.role in ROLES[need]

    @property
    def owner(self) -> str | None:
        """The client whose jobs are the only ones that it sees; None: others' as well."""
        return self.client if self.role is SPD else None

    @property
    def only_deployments(self) -> bool:
        """It sees the jobs that run here, and no others."""
        return self.role is CPD


OPERATOR = Caller(role=ADMIN, local=True)
