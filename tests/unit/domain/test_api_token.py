"""Tokens: what a caller presents, and when it is let in; and what each role may do."""

from __future__ import annotations

import hashlib

import pytest

from dms.domain.access import OPERATOR, ROLES, Caller, Need
from dms.domain.api_token import ApiToken, Role, TokenText, digest_of, new_text, read_text
from dms.domain.event import new_id
from dms.errors import Conflict, InvalidInput

NOW = 1_760_000_000_000_000  # Unix µs


def token(expires_at: int = 0) -> tuple[ApiToken, TokenText]:
    made = ApiToken(new_id())
    text = new_text(made.key)
    made.create(text, "a-client", Role.SPD, expires_at)
    return made, text


def test_a_text_is_read_as_it_was_written() -> None:
    _, text = token()
    assert str(text) == f"dms_{text.token_id}_{text.secret}"
    assert read_text(f" {text}\n") == text
    assert len(text.secret) == 43  # 256 bits in base64


def test_secrets_differ() -> None:
    token_id = new_id()
    assert new_text(token_id) != new_text(token_id)
    assert new_text(token_id).token_id == token_id


@pytest.mark.parametrize("change", [lambda t: t[1:], lambda t: t + "a", lambda t: t.replace("_", "-", 1), lambda t: ""])
def test_what_is_no_token(change: object) -> None:
    _, text = token()
    assert callable(change)
    assert read_text(change(str(text))) is None


def test_the_log_has_a_digest_and_not_the_secret() -> None:
    made, text = token()
    assert made.digest == digest_of(text) == hashlib.sha256(str(text).encode()).hexdigest()
    assert made.name == "a-client"
    assert made.role is Role.SPD
    assert text.secret not in repr(made.pending)


def test_it_admits_only_its_own_text() -> None:
    made, text = token()
    assert made.admits(text, NOW)
    assert not made.admits(new_text(made.key), NOW)
    assert not ApiToken(made.key).admits(text, NOW)


def test_one_that_was_never_made_admits_nobody() -> None:
    made = ApiToken(new_id())
    assert not made.in_force(NOW)
    assert made.role is Role.READ
    assert (made.name, made.digest, made.expires_at, made.revoked) == ("", "", 0, False)


def test_it_ends_when_it_says() -> None:
    made, text = token(expires_at=NOW)
    assert made.admits(text, NOW - 1)
    assert not made.admits(text, NOW)
    assert not made.admits(text, NOW + 1)


def test_a_revoked_one_admits_nobody_and_is_not_revoked_again() -> None:
    made, text = token()
    made.revoke()
    assert made.revoked
    assert not made.admits(text, NOW)
    with pytest.raises(Conflict, match=made.key):
        made.revoke()


@pytest.mark.parametrize("name", ["", "A", "-a", "a" * 65, "a b", "é"])
def test_a_name_that_is_none(name: str) -> None:
    made = ApiToken(new_id())
    with pytest.raises(InvalidInput, match="name") as refused:
        made.create(new_text(made.key), name, Role.ADMIN)
    assert refused.value.problems[0][0] == "/name"
    assert not made.pending


@pytest.mark.parametrize("need", Need)
@pytest.mark.parametrize("role", [None, *Role])
@pytest.mark.parametrize("local", [True, False])
def test_who_may_what(need: Need, role: Role | None, local: bool) -> None:
    allowed = Caller(role=role, local=local).meets(need)
    if need is Need.NOTHING:
        assert allowed
    elif need is Need.LOCAL:
        assert allowed == (local or role is not None)
    else:
        assert allowed == (role in ROLES[need])


def test_the_operator_may_all() -> None:
    assert all(OPERATOR.meets(need) for need in Need)
