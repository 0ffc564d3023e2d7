"""Who meets which need: the whole table, said once more."""

from __future__ import annotations

import pytest

from dms.domain.access import OPERATOR, Caller, Need
from dms.domain.api_token import Role

ADMIN, SPD, CPD, READ = Role.ADMIN, Role.SPD, Role.CPD, Role.READ
EVERYONE = {ADMIN, SPD, CPD, READ, None}
MEETS: dict[Need, set[Role | None]] = {
    Need.NOTHING: EVERYONE,
    Need.LOCAL: EVERYONE - {None},
    Need.SEE: EVERYONE - {None},
    Need.ASK_FOR_JOBS: {ADMIN, SPD},
    Need.SEE_JOBS: EVERYONE - {None},
    Need.STEER_JOBS: {ADMIN, SPD, CPD},
    Need.SEE_PROVIDER: {ADMIN, CPD, READ},
    Need.STEER_PROVIDER: {ADMIN, CPD},
    Need.SEE_PAYMENTS: {ADMIN, CPD, READ},
    Need.CLAIM: {ADMIN, CPD},
    Need.AUDIT: {ADMIN, READ},
    Need.ADMINISTER: {ADMIN},
}


@pytest.mark.parametrize("need", Need)
@pytest.mark.parametrize("role", [ADMIN, SPD, CPD, READ, None])
@pytest.mark.parametrize("local", [True, False])
def test_a_role_meets_what_the_table_says(need: Need, role: Role | None, local: bool) -> None:
    allowed = role in MEETS[need] or (need is Need.LOCAL and local)
    assert Caller(role=role, local=local).meets(need) is allowed


def test_whose_jobs_a_caller_sees() -> None:
    assert [Caller(role=role, client="team").owner for role in (ADMIN, SPD, CPD, READ)] == [None, "team", None, None]
    assert [Caller(role=role).only_deployments for role in (ADMIN, SPD, CPD, READ)] == [False, False, True, False]
    assert all(OPERATOR.meets(need) for need in Need)
