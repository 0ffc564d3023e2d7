"""What both sides' records say of one job, held against each other."""

from __future__ import annotations

import msgspec
import pytest

from dms.adapters.p2p.identity import verify_signature
from dms.domain.audit import check_evidence, compare, evidence, recorded
from dms.domain.chain import SignedRecord, id_text, record_hash
from dms.domain.deployment import Deployment
from dms.domain.event import Event, decode, encode, new_id
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.domain.retry import deployment_id
from dms.domain.reward import Fault
from dms.errors import LogCorrupt
from tests.fixtures.histories import START, Author, paid, request

JOB = "01890a5d-ac96-774b-bcce-b302099a8057"


class Side:
    """The records of one side's stream."""

    def __init__(self, kind: str, key: str) -> None:
        self._stream, self.records = f"{kind}-{key}", list[SignedRecord]()

    def tell(self, *events: Event) -> None:
        for event in events:
            version = len(self.records) + 1
            draft = SignedRecord(
                position=version, stream=self._stream, version=version, topic=event.TOPIC, time=START + version,
                schema_version=event.VERSION, event_id=new_id(), correlation_id="", causation_id="", traceparent="",
                data=encode(event).decode(), previous="", hash="", signature="",
            )  # fmt: skip
            self.records.append(msgspec.structs.replace(draft, hash=record_hash(draft, "here").hex()))


def both_sides(*ends: Event) -> tuple[Author, Side, list[SignedRecord]]:
    """A job's records, and those of its deployment, from the request to the end."""
    author, asked = Author(), Side("job", JOB)
    made = request()
    job = Job(JOB)
    job.request_service(made, author.peer_id, "0.02728", START, (), 0)
    job.report_fund_status(paid())
    job.accept_funding("trust")
    ran = []
    for event in (
        Deployment.Requested(service_provider="p", request=made, price="0.02728"),
        Deployment.Accepted(reserved=Resources()),
        Deployment.ImagePulled(digest="sha256:0"),
        Deployment.ContainerCreated(container_id="c", executor="docker"),
        Deployment.ContainerStarted(stops_at=START + 1),
        *ends,
    ):
        record = author.record(JOB, event)
        ran.append(record)
        job.report_from_provider(record, decode(record.topic, record.schema_version, record.data.encode()))
    asked.tell(*(event for _, event in job.pending))
    return author, asked, ran


SEALED = Deployment.LogSealed(lines=0, sha256="", truncated=False)
EXITED = Deployment.ContainerExited(exit_code=0, oom_killed=False, duration_seconds=9.0)


def test_a_record_is_the_event_that_it_was() -> None:
    _, asked, _ = both_sides(SEALED, EXITED)
    for record in asked.records:
        found = recorded(record)
        assert (found.position, found.originator_version) == (record.position, record.version)
        assert found.originator_id == record.stream
        assert found.topic == record.topic
        assert found.time == record.time
        assert found.schema_version == record.schema_version
        assert found.data == record.data.encode()
        assert found.hash.hex() == record.hash
        assert record.topic == found.event.TOPIC


def test_evidence_is_what_the_provider_signed() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    (held,) = evidence(asked.records)
    assert held.provider == author.peer_id
    assert held.held == ran
    check_evidence(asked.records, verify_signature)
    with pytest.raises(LogCorrupt, match="kept as evidence is not the provider's"):
        check_evidence(asked.records, lambda *_: False)


def test_evidence_of_a_request_that_can_t_be_read() -> None:
    _, asked, _ = both_sides()
    asked.records[0] = msgspec.structs.replace(asked.records[0], data="[]")
    with pytest.raises(LogCorrupt, match="can't be read"):
        evidence(asked.records)
    asked.records[0] = msgspec.structs.replace(asked.records[0], data="{}", schema_version=99)  # of a newer program
    assert evidence(asked.records)[0].provider == ""


def test_two_sides_that_tell_the_same() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", asked.records), (author.peer_id, ran))
    assert found.differences == ()
    assert (found.job_id, found.service_provider, found.compute_provider) == (JOB, "owner", author.peer_id)
    assert found.records_compared == len(ran)
    assert found.bill is not None
    assert (found.bill.price, found.bill.state, found.bill.duration_seconds) == ("0.02728", "completed", 9.0)
    assert found.bill.reward is not None
    assert found.bill.reward.to_provider == "0.02728"


def test_another_provider_than_the_one_that_was_chosen() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", asked.records), ("somebody", ran))
    assert found.differences == (f"the job was given to {author.peer_id}, the other export is of somebody",)


def test_what_one_side_lacks_or_has_otherwise() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", asked.records), (author.peer_id, ran[:-1]))
    assert found.differences[0] == f"version {len(ran)} ({EXITED.TOPIC}) is missing at the compute provider"
    assert any(difference.startswith("duration: 9.0 at the service provider") for difference in found.differences)
    longer = Author().record(JOB, msgspec.structs.replace(EXITED, duration_seconds=99.0), version=len(ran))
    found = compare(JOB, ("owner", asked.records), (author.peer_id, [*ran[:-1], longer]))
    assert found.differences == (
        f"version {len(ran)} ({EXITED.TOPIC}) is another event at the compute provider",
        "duration: 9.0 at the service provider, 99.0 at the compute provider",
    )


def test_an_export_of_nothing() -> None:
    author, _, ran = both_sides(SEALED, EXITED)
    found = compare(JOB, ("owner", []), (author.peer_id, ran))
    assert found.bill is None
    assert found.differences == (
        f"the job was given to nobody, the other export is of {author.peer_id}",
        "one of the exports holds nothing of the job",
    )


def test_a_failed_attempt_earns_nothing() -> None:
    failed = Deployment.Failed(reason="gone", fault=Fault.PROVIDER)
    author, asked, ran = both_sides(SEALED, failed)
    found = compare(JOB, ("owner", asked.records), (author.peer_id, ran))
    assert found.differences == ()
    assert found.bill is not None
    assert found.bill.state == "failed"
    assert found.bill.reward is not None
    assert found.bill.reward.to_provider == "0"


# --- a job with more attempts than one -------------------------------------------------------------------
STARTED = (
    Deployment.Requested(service_provider="p", request=request(time=60), price="8"),
    Deployment.Accepted(reserved=Resources()),
    Deployment.ContainerCreated(container_id="c", executor="docker"),
    Deployment.ContainerStarted(stops_at=START + 1),
)
BROKEN = Deployment.Failed(reason="its machine went down", fault=Fault.PROVIDER, duration_seconds=600.0)
FINISHED = Deployment.ContainerExited(exit_code=0, oom_killed=False, duration_seconds=3000.0)


def attempt(job: Job, author: Author, *ends: Event) -> list[SignedRecord]:
    """What its provider recorded of it."""
    ran = [author.record(job.deployment_id, event) for event in (*STARTED, *ends)]
    for record in ran:
        job.report_from_provider(record, decode(record.topic, record.schema_version, record.data.encode()))
    return ran


def tried_twice() -> tuple[Side, tuple[Author, list[SignedRecord]], tuple[Author, list[SignedRecord]]]:
    """The job's records, and of each attempt the provider and its records: one broke, the next finished it."""
    first, second, job, asked = Author(), Author(), Job(JOB), Side("job", JOB)
    job.request_service(request(time=60), first.peer_id, "8", START, (), 0, attempts=2)
    job.report_fund_status(paid())
    job.accept_funding("trust")
    broke = attempt(job, first, BROKEN)
    job.start_attempt(second.peer_id, "", None, 0)
    finished = attempt(job, second, FINISHED)
    asked.tell(*(event for _, event in job.pending))
    return asked, (first, broke), (second, finished)


def test_each_attempt_is_held_against_its_own_provider() -> None:
    asked, (first, broke), (second, finished) = tried_twice()
    assert [(one.provider, one.held) for one in evidence(asked.records)] == [
        (first.peer_id, broke),
        (second.peer_id, finished),
    ]
    for number, (author, ran), state, seconds, earned in (
        (1, (first, broke), "failed", 600.0, "0"),
        (2, (second, finished), "completed", 3000.0, "8"),
    ):
        found = compare(deployment_id(JOB, number), ("owner", asked.records), (author.peer_id, ran))
        assert found.differences == ()
        assert (found.job_id, found.records_compared) == (JOB, len(ran))
        assert found.bill is not None
        assert found.bill.reward is not None
        told = (found.bill.price, found.bill.state, found.bill.duration_seconds, found.bill.reward.to_provider)
        assert told == ("8", state, seconds, earned)


def test_the_provider_of_another_attempt_is_another_one() -> None:
    asked, (first, broke), (second, _) = tried_twice()
    found = compare(deployment_id(JOB, 2), ("owner", asked.records), (first.peer_id, broke))
    assert found.differences[0] == f"the job was given to {second.peer_id}, the other export is of {first.peer_id}"
    assert "one of the exports holds nothing of the job" in found.differences


def test_an_attempt_that_is_not_over_has_earned_nothing_yet() -> None:
    asked, (first, broke), _ = tried_twice()
    end = next(n for n, record in enumerate(asked.records) if record.topic == Job.AttemptFailed.TOPIC)
    begun = [record for record in asked.records if record is not asked.records[end]]
    found = compare(JOB, ("owner", begun), (first.peer_id, broke))
    assert found.bill is not None
    assert (found.bill.state, found.bill.duration_seconds, found.bill.reward) == ("failed", 0.0, None)


def test_other_streams_of_the_exports_count_for_nothing() -> None:
    asked, _, (second, finished) = tried_twice()
    other = new_id()
    foreign = [msgspec.structs.replace(record, stream=f"job-{other}") for record in asked.records]
    noise = [Author().record(other, event) for event in (*STARTED, BROKEN)]
    found = compare(deployment_id(JOB, 2), ("owner", [*asked.records, *foreign]), (second.peer_id, [*finished, *noise]))
    assert found.differences == ()


def test_prices_and_rewards_that_differ_are_told() -> None:
    author, asked, ran = both_sides(SEALED, EXITED)
    dear = msgspec.structs.replace(ran[0], data=ran[0].data.replace("0.02728", "9"))
    found = compare(JOB, ("owner", asked.records), (author.peer_id, [dear, *ran[1:]]))
    price, reward = found.differences
    assert price == "price: 0.02728 at the service provider, 9 at the compute provider"
    assert reward.startswith("reward: Reward(")


def test_a_run_that_goes_on_has_no_reward_on_either_side() -> None:
    author, asked, ran = both_sides()
    found = compare(JOB, ("owner", asked.records), (author.peer_id, ran))
    assert found.differences == ()
    assert found.bill is not None
    assert (found.bill.state, found.bill.duration_seconds, found.bill.reward) == ("running", 0.0, None)


def test_ids_and_traces_of_a_record_are_kept() -> None:
    ids = [new_id() for _ in range(3)]
    record = msgspec.structs.replace(
        Author().record(JOB, EXITED), event_id=ids[0], correlation_id=ids[1], causation_id=ids[2], traceparent="00-ab"
    )
    found = recorded(record)
    assert [id_text(found.id), found.correlation_id, found.causation_id, found.traceparent] == [*ids, "00-ab"]


class Keys:
    """Opens anything, and tells what it was asked for."""

    def open(self, token: str, topic: str) -> bytes | None:
        return msgspec.json.encode({"reason": f"{token} of {topic}"})


def test_personal_fields_are_read_as_far_as_the_keys_are_there() -> None:
    failed = Deployment.Failed(reason="", fault=Fault.JOB)
    body = msgspec.json.decode(encode(failed))
    del body["reason"]
    record = Author().record(JOB, failed, data=msgspec.json.encode(body | {"sealed": "token"}).decode())
    opened = recorded(record, Keys()).event
    assert isinstance(opened, Deployment.Failed)
    assert opened.reason == f"token of {Deployment.Failed.TOPIC}"
