"""Values of secret environment variables: sealed before a job is recorded, opened for the container alone."""

from __future__ import annotations

from msgspec.structs import replace

from dms.application.ports.event_log import EventLog
from dms.application.ports.executor import Secrets
from dms.domain.environment import PURPOSE, SEALED, unsealed_names
from dms.domain.request import ServiceRequest
from dms.errors import ExecutionError


def resealed(request: ServiceRequest) -> list[tuple[str, str]]:
    """(JSON pointer, what is wrong) of values in a user's request that come from another job's history."""
    given = set(unsealed_names(request.params.secret_env))
    text = "is the sealed value of another job, which nobody else can have; give the value itself"
    return [(f"/params/secret_env/{name}", text) for name in request.params.secret_env if name not in given]


def seal_secrets(log: EventLog, job_id: str, request: ServiceRequest) -> ServiceRequest:
    """The request as it is recorded and as its provider gets it."""
    given = request.params.secret_env
    if not given:
        return request
    sealed = {name: SEALED + log.seal(job_id, value, PURPOSE + name) for name, value in given.items()}
    return replace(request, params=replace(request.params, secret_env=sealed))


def handed_on(log: EventLog, job_id: str, deployment_id: str, request: ServiceRequest) -> ServiceRequest:
    """The request for an attempt of the job, which has a key of its own. Raises ExecutionError."""
    if deployment_id == job_id or not request.params.secret_env:
        return request
    values = dict(open_secrets(log, job_id, request).values)
    return seal_secrets(log, deployment_id, replace(request, params=replace(request.params, secret_env=values)))


def open_secrets(log: EventLog, job_id: str, request: ServiceRequest) -> Secrets:
    """Raises ExecutionError when one can't be opened: it is sealed under another key, or the job's is destroyed."""
    found: list[tuple[str, str]] = []
    for name, value in request.params.secret_env.items():
        plain = log.unseal(job_id, value.removeprefix(SEALED), PURPOSE + name) if value.startswith(SEALED) else None
        if plain is None:
            raise ExecutionError(f"secret_env {name} can't be opened: it is not sealed under the job's key")
        found.append((name, plain))
    return Secrets(tuple(found))
