"""The description of what streams: all channels are in it, and each event fits its own message and no other."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.adapters.http.openapi import path_of
from dms.adapters.http.server import ROUTES, WEBSOCKETS, describe_streams
from dms.adapters.nats import description as nats
from dms.application.records import event_schemas
from dms.application.records.asyncapi import Part, component, document
from dms.application.records.cloudevents import cloud_event
from dms.domain.event import EVENT_TYPES, Recorded, decode
from tests.fixtures.described import channel_of, message_of
from tests.fixtures.npm import NODE, installed

DOCUMENT = describe_streams([nats.part()])
CORPUS, FIXTURES = (Path(__file__).parents[2] / name for name in ("corpus", "fixtures"))
JOB = "0198c0de-0000-7000-8000-000000000000"
EVENTS = event_schemas.event_schemas()


def recorded(name: str) -> Recorded:
    """As an older program may have written it, from the frozen body of that version."""
    topic, _, version = name.rpartition(".v")
    data = (CORPUS / f"{name}.json").read_bytes()
    return Recorded(
        position=7, originator_id=f"{topic.partition('.')[0]}-{JOB}", originator_version=1, topic=topic,
        schema_version=int(version), time=1_000_000, id=b"e" * 16, correlation=b"j" * 16, causation=b"",
        traceparent="", event=decode(topic, int(version), data), data=data, hash=b"h" * 32,
    )  # fmt: skip


def addresses(server: str) -> set[str]:
    reference = {"$ref": f"#/servers/{server}"}
    return {channel["address"] for channel in DOCUMENT["channels"].values() if reference in channel["servers"]}


@pytest.mark.slow
def test_asyncapis_own_parser_finds_nothing_wrong() -> None:
    """Its only warning is that AsyncAPI has a newer version."""
    folder = installed(FIXTURES / "js_asyncapi")
    given = msgspec.json.encode(DOCUMENT)
    answer = subprocess.run(
        [NODE, folder / "validate.mjs"], input=given, stdout=subprocess.PIPE, timeout=120, check=True
    ).stdout
    found = msgspec.json.decode(answer)
    assert [fault["code"] for fault in found["diagnostics"]] == ["asyncapi-latest-version"], found["diagnostics"]
    assert (found["version"], set(found["channels"])) == ("3.0.0", set(DOCUMENT["channels"]))
    assert set(found["operations"]) == set(DOCUMENT["operations"])


def test_every_websocket_and_every_streamed_answer_is_a_channel() -> None:
    assert addresses("websocket") == {socket.address for socket in WEBSOCKETS}
    assert addresses("http") == {path_of(route.address) for route in ROUTES if route.stream}


def test_every_streamed_form_is_an_operation_with_its_query() -> None:
    forms = {
        (operation["channel"]["$ref"], operation["x-media-type"])
        for operation in DOCUMENT["operations"].values()
        if "x-media-type" in operation
    }
    assert len(forms) == sum(len(route.media) for route in ROUTES if route.stream)
    query = DOCUMENT["operations"]["send_api.v1.events_sse"]["bindings"]["http"]["query"]["properties"]
    assert {"after", "type", "job_id", "follow"} <= set(query)


def test_each_action_is_a_message_of_its_version() -> None:
    first, second = DOCUMENT["channels"]["run.deploy"], DOCUMENT["channels"]["run.deploy.dms.actions.v2"]
    assert first["address"] == second["address"] == "/run/deploy"
    newer = {"funding-pending", "job-attempt-failed", "job-attempt-started", "log-progress"}
    newer |= {"input-started", "input-done", "input-failed", "checkpoint-received"}
    assert set(second["messages"]) - set(first["messages"]) == newer
    assert second["bindings"]["ws"]["headers"]["required"] == ["Sec-WebSocket-Protocol"]
    plain, numbered = {"action": "job-submitted"}, {"job_id": JOB, "position": 7, "time": "2026-01-31T12:00:00Z"}
    assert message_of("run.deploy", plain) == "job-submitted"
    assert message_of("run.deploy.dms.actions.v2", plain | numbered) == "job-submitted"
    for channel, other in (("run.deploy", plain | numbered), ("run.deploy.dms.actions.v2", plain)):
        with pytest.raises(AssertionError, match="fits nothing"):
            message_of(channel, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVENTS)
def test_an_event_fits_its_own_message_and_no_other(name: str) -> None:
    for personal in (False, True):
        sent = cloud_event(recorded(name), "12D3KooWExample", personal=personal)
        for channel in ("api.v1.events", "api.v1.events.ws"):
            assert message_of(channel, sent) == name


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_has_the_schema_that_is_committed(name: str) -> None:
    assert DOCUMENT["components"]["schemas"][name] == component(name, EVENTS[name])


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_in_one_channel_of_nats(name: str) -> None:
    aggregate, what, _ = name.split(".")
    channel = channel_of(f"dms.v1.12D3KooWExample.{aggregate}.{JOB}.{what}")
    assert channel == f"nats.{aggregate}"
    assert name in DOCUMENT["channels"][channel]["messages"]


def test_past_versions_are_described_as_they_were() -> None:
    past = {name for name, schema in EVENTS.items() if schema == event_schemas.past_schemas().get(name)}
    newest = {f"{topic}.v{cls.VERSION}" for topic, cls in EVENT_TYPES.items()}
    assert past == set(EVENTS) - newest == set(event_schemas.past_schemas())


def test_two_things_of_one_name_are_an_error() -> None:
    parts: list[dict[str, Any]] = [{"Same": {"type": "string"}}, {"Same": {"type": "integer"}}]
    with pytest.raises(TypeError, match="Same"):
        document([Part(schemas=schemas) for schemas in parts], "1")
