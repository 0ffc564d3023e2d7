"""What is said over the websocket `/api/v1/live/ws`, by both sides."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from dms.adapters.http.events import MOST_TYPES
from dms.adapters.http.output_lines import ShownLine
from dms.adapters.http.problems import Problem
from dms.adapters.http.replies import LARGEST
from dms.adapters.http.usage import UsageNews
from dms.application.growing_lines import LONGEST
from dms.application.records.cloudevents import CloudEvent

# --- what a client says ----------------------------------------------------------------------------
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}\Z", description="the client's own name of a subscription")]
JobId = Annotated[str, Meta(max_length=64, description="the job's id")]
Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Topic = Annotated[str, Meta(max_length=129)]


class SubscribeEvents(Struct, frozen=True, kw_only=True, tag_field="subscribe", tag="events"):
    """Events of the log: those behind a position, then `caught_up`, then new ones as they come; without a position
    only those."""

    id: Name
    after: Annotated[Count | None, Meta(description="only behind this position")] = None
    types: Annotated[
        tuple[Topic, ...], Meta(max_length=MOST_TYPES, description="topics such as job.completed or job.*; none: all")
    ] = ()
    job_id: Annotated[JobId, Meta(description="only of this job; empty: of all")] = ""
    provider: Annotated[str, Meta(max_length=128, description="only of this compute provider: its peer id")] = ""
    personal: Annotated[bool, Meta(description="with what is sealed of persons in the clear")] = False


class SubscribeOutput(Struct, frozen=True, kw_only=True, tag_field="subscribe", tag="output"):
    """A job's output: the lines behind a number, then new ones until nothing follows; without a number only those."""

    id: Name
    job_id: JobId
    after: Annotated[Count | None, Meta(description="only behind this line")] = None
    progress: Annotated[bool, Meta(description="also lines that have no end yet, as progress bars draw them")] = False


class SubscribeUsage(Struct, frozen=True, kw_only=True, tag_field="subscribe", tag="usage"):
    """What this machine and its jobs use: each new sample. `/device/usage` has those of the last hour."""

    id: Name


class Unsubscribe(Struct, frozen=True, kw_only=True):
    """Ends a subscription. It is answered also where there is none of that name."""

    id: Name
    unsubscribe: Annotated[Literal[True], Meta(description="always true")]


# --- what it is told -------------------------------------------------------------------------------
class EventFrame(Struct, frozen=True, kw_only=True):
    """An event, as a CloudEvent."""

    id: Name
    event: Annotated[CloudEvent, Meta(description="as `/events` has it")]


class CaughtUpFrame(Struct, frozen=True, kw_only=True):
    """Every event wanted up to a position was sent; what follows is new."""

    id: Name
    caught_up: Annotated[int, Meta(ge=0, description="the position")]


class LinesFrame(Struct, frozen=True, kw_only=True):
    """Lines of output, in order and without gaps. With `sealed` the subscription has ended."""

    id: Name
    lines: Annotated[list[ShownLine], Meta(description="those that follow on the last ones")]
    sealed: Annotated[bool, Meta(description="whether nothing follows")]


class GrowingText(Struct, frozen=True, kw_only=True):
    """A line that has no end yet."""

    stream: Annotated[Literal["stdout", "stderr"], Meta(description="which of the two it is printed to")]
    text: Annotated[str, Meta(max_length=LONGEST, description="as a terminal shows it now; empty: it has ended")]


class GrowingFrame(Struct, frozen=True, kw_only=True):
    """The newest line of each stream while it grows. Each comes once more, whole, among the lines."""

    id: Name
    growing: Annotated[list[GrowingText], Meta(description="one for each stream that has one")]


class UsageFrame(Struct, frozen=True, kw_only=True):
    """A sample of what is used."""

    id: Name
    usage: Annotated[UsageNews, Meta(description="of one job, or of the whole machine")]


class UnsubscribedFrame(Struct, frozen=True, kw_only=True):
    """Nothing more comes under that name."""

    id: Name
    unsubscribed: Annotated[Literal[True], Meta(description="always true")]


class ErrorFrame(Struct, frozen=True, kw_only=True):
    """What was asked for can't be done, or the subscription has ended. After a 409 the one of that name goes on."""

    error: Annotated[Problem, Meta(description="what is wrong")]
    id: Name | UnsetType = UNSET


class Beat(Struct, frozen=True, kw_only=True):
    """At the beginning, and every 5 seconds: the connection lives. A subscription to events that has caught up has
    been sent all that it wants up to the position, and may go on from there."""

    position: Annotated[int, Meta(ge=0, description="the newest of the log that was sent to all who want it")]
    time: Annotated[str, Meta(description="of this machine, ISO 8601 in UTC")]


Asked = SubscribeEvents | SubscribeOutput | SubscribeUsage
