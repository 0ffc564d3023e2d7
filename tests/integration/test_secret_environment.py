"""Sealed values of a job: for its own key alone, handed on to another attempt, gone with the key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.application.secret_environment import handed_on, open_secrets, resealed, seal_secrets
from dms.domain.event import new_id
from dms.domain.request import ServiceRequest
from dms.errors import ExecutionError
from tests.fixtures.histories import START, request

VALUES = {"HF_TOKEN": "hush", "OTHER": "sealed:looks like one"}


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SQLiteEventLog]:
    made = SQLiteEventLog(tmp_path / "events.db", lambda: START)
    await made.start()
    yield made
    await made.close()


def asked() -> ServiceRequest:
    made = request()
    return msgspec.structs.replace(made, params=msgspec.structs.replace(made.params, secret_env=dict(VALUES)))


async def test_values_are_opened_under_the_jobs_own_key_alone(log: SQLiteEventLog) -> None:
    job_id, other = new_id(), new_id()
    sealed = seal_secrets(log, job_id, asked())
    log.seal_key(other)
    assert "hush" not in str(sealed)
    found = open_secrets(log, job_id, sealed)
    assert dict(found.values) == VALUES
    assert repr(found) == "<2 secrets>"
    with pytest.raises(ExecutionError, match="HF_TOKEN"):
        open_secrets(log, other, sealed)


async def test_another_attempt_has_them_under_its_own_key(log: SQLiteEventLog) -> None:
    job_id, deployment_id = new_id(), new_id()
    sealed = seal_secrets(log, job_id, asked())
    assert handed_on(log, job_id, job_id, sealed) is sealed
    again = handed_on(log, job_id, deployment_id, sealed)
    assert dict(open_secrets(log, deployment_id, again).values) == VALUES
    with pytest.raises(ExecutionError):
        open_secrets(log, job_id, again)


async def test_a_value_can_not_be_given_to_another_variable(log: SQLiteEventLog) -> None:
    job_id = new_id()
    sealed = seal_secrets(log, job_id, asked())
    swapped = {"PRINTED": sealed.params.secret_env["HF_TOKEN"]}
    moved = msgspec.structs.replace(sealed, params=msgspec.structs.replace(sealed.params, secret_env=swapped))
    with pytest.raises(ExecutionError, match="PRINTED"):
        open_secrets(log, job_id, moved)


def test_a_sealed_value_of_another_job_is_named_in_a_request() -> None:
    assert [pointer for pointer, _ in resealed(asked())] == ["/params/secret_env/OTHER"]
