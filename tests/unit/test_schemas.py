"""The committed schemas are those of the code, and real events fit them."""

from __future__ import annotations

import msgspec
import pytest
from jsonschema import Draft202012Validator

from dms.domain.event import EVENT_TYPES, encode
from dms.domain.job import FundStatus, Job
from dms.domain.request import Constraints, Params, ServiceRequest
from ops.schemas import differences, schemas

SCHEMAS = schemas()


def test_committed_schemas_are_those_of_the_code() -> None:
    assert differences() == [], "run: python -m ops.schemas"


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - {"openapi.json", "asyncapi.json"}))
def test_each_is_a_valid_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


def test_every_event_has_one() -> None:
    assert {f"events/{t}.v{c.VERSION}.json" for t, c in EVENT_TYPES.items()} <= set(SCHEMAS)


def test_events_of_a_job_fit_theirs() -> None:
    job = Job("0198c0de-0000-7000-8000-000000000000")
    request = ServiceRequest(
        service_type="ml-training-cpu",
        params=Params(image_id="example/image:1"),
        constraints=Constraints(complexity="Low", cpu=1, ram=1, time=1),
        max_ntx=1,
    )
    job.request_service(request, "12D3KooWExample", "0.1", 1, (), 0)
    job.report_fund_status(FundStatus(transaction_type="fund", transaction_status="success", tx_hash="ab"))
    job.accept_funding("trust")
    for _, event in job.collect_pending():
        schema = SCHEMAS[f"events/{event.TOPIC}.v{event.VERSION}.json"]
        Draft202012Validator(schema).validate(msgspec.json.decode(encode(event)))
