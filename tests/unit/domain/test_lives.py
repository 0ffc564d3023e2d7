"""The life of each aggregate, said here once more and independently as a regular expression over its events.

Every event may come after exactly those histories that the expression admits as the beginning of a life. A sentence is
the names of events, each with a blank behind it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ops.lives
from dms.domain.aggregate import Aggregate
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.event import Event, Unknown
from dms.domain.hold import Hold
from dms.domain.job import Job
from dms.domain.rules import Life
from dms.domain.transfer import Transfer
from dms.errors import OutOfOrder
from tests.unit.test_corpus import body_of

# What every life is: regular expressions, in which blanks and lines only lay out. A word in < > stands for the event
# itself; {n} are the parts named below it. What comes once although it may stand at several places is in ONCE.
DEPLOYMENT = """
    <Requested>
    ( {check} <Rejected> {after}
    | {check} <LogSealed>? <Failed> {after}
    | {check} <StopRequested> {stopping}
    | {check} <Accepted>
      ( {making} <LogSealed>? <Failed> {after}
      | {making} <StopRequested> {stopping}
      | {making} <ContainerCreated>
        ( <WorkspaceRestored>? <LogSealed>? <Failed> {after}
        | <WorkspaceRestored>? <StopRequested> {stopping}
        | <WorkspaceRestored>? <ContainerStarted>
          ( {running} ( <LogSealed> {kept} )? ( <ContainerExited> | <Failed> ) {after}
          | {running} <StopRequested> {stopping}
          )
        )
      )
    )
"""
DEPLOYMENT_PARTS = {
    "check": "<FundingPending>* <FundingAccepted>?",
    "making": "( <ImagePulled> | <WorkspaceRestored> | <InputStarted> | <InputDone> | <InputFailed> )*",
    "kept": "( <CheckpointDelivered> | <CheckpointDeleted> | <ResultsDelivered> | <ResultsDeleted> )*",
    "saved": """<CheckpointSaved> | <CheckpointSkipped> | <CheckpointDelivered> | <CheckpointDeleted>
        | <ResultsSaved> | <ResultsSkipped> | <ResultsDelivered> | <ResultsDeleted>""",
    "running": "{saved}*",
    "stopping": """
        ( <ImagePulled> | <WorkspaceRestored> | {saved} )*
        ( <LogSealed> {kept} )? ( <Stopped> | <Failed> ) {after}
    """,
    "after": """( <CheckpointDelivered> | <CheckpointDeleted> | <ResultsDelivered> | <ResultsDeleted>
        | <RewardClaimed> | <RewardSettled> )*""",
}
JOB = """
    <ServiceRequested> {unpaid}
    ( <Expired>
    | <Failed> {told}
    | <FundStatusReported:success> {checking}
      ( <Failed> {told}
      | <FundingRejected> <Failed> {told}
      | <FundingAccepted> <Submitted>
        ( {submitted} ( <DeploymentResponded:success> {running} )? <AttemptFailed> {between} <AttemptStarted> )*
        {submitted}
        ( <Failed> {told}
        | <DeploymentResponded:refused> <Failed> {told}
        | <DeploymentResponded:success> {running} ( <Completed> {told} | <Failed> {told} )
        | ( <DeploymentResponded:success> {running} )? <AttemptFailed> {between} <Failed> {told}
        )
      )
    )
"""
JOB_PARTS = {
    "unpaid": "( <FundStatusReported:pending> | <TerminationRequested> | <ProviderMisbehaved> )*",
    "checking": "( <FundingPending> | <TerminationRequested> | <ProviderMisbehaved> )*",
    "submitted": """( <FundingPending> | <ProviderReported> | <ProviderMisbehaved> | <ProviderUnreachable>
        | <ProviderReturned> | <TerminationRequested> | <LogSealed> | <ProviderTold> | <TellingGivenUp>
        | <InputStarted> | <InputDone> | <InputFailed> )*""",
    "running": """( <ProviderReported> | <ProviderMisbehaved> | <ProviderUnreachable> | <ProviderReturned>
        | <TerminationRequested> | <LogSealed> | <CheckpointOffered> | <CheckpointReceived> | <CheckpointLost>
        | <ResultsOffered> | <ResultsReceived> | <ResultsLost> | <ProviderTold> | <TellingGivenUp> )*""",
    "between": """( <CheckpointReceived> | <CheckpointLost> | <ResultsReceived> | <ResultsLost>
        | <TerminationRequested> | <ProviderTold> | <TellingGivenUp> )*""",
    "told": """( <CheckpointReceived> | <CheckpointLost> | <ResultsReceived> | <ResultsLost> | <ResultsRemoved>
        | <RewardClaimed> | <RewardSettled> | <ProviderTold> | <TellingGivenUp> )*""",
}
TRANSFER = "<Offered> ( <Failed> | <Cancelled> | <Accepted> ( <Completed> | <Failed> | <Cancelled> ) )"
HOLD = "<Placed> ( <Ended> <Placed> )* <Ended>"
DEVICE = "{idle} ( <Onboarded> {onboarded} <Offboarded> {idle} )* ( <Onboarded> {onboarded} )?"
DEVICE_PARTS = {
    "idle": "( <DefaultProviderChanged> | <PolicyChanged> | <Hindered> | <Unhindered> | <Offboarded> )*",
    "onboarded": """( <Onboarded> | <PaymentAddressChanged> | <ResourcesChanged> | <GpusChanged>
        | <AvailabilityChanged> | <DefaultProviderChanged> | <Hindered> | <Unhindered>
        | <NetworkChanged> | <SandboxTested> | <PolicyChanged> )*""",
}
ONCE = {
    Deployment: (
        "ImagePulled",
        "WorkspaceRestored",
        "RewardClaimed",
        "RewardSettled",
        "ResultsSaved",
        "ResultsSkipped",
        "ResultsDelivered",
        "ResultsDeleted",
    ),
    Job: (
        "TerminationRequested",
        "LogSealed",
        "RewardClaimed",
        "RewardSettled",
        "ResultsOffered",
        "ResultsReceived",
        "ResultsLost",
        "ResultsRemoved",
    ),
    Transfer: (),
    Hold: (),
    Device: (),
}
RENEWED = {"AttemptStarted": {"LogSealed", "ResultsOffered", "ResultsReceived", "ResultsLost"}}  # may come once more
LIVES: dict[type[Aggregate], tuple[str, dict[str, str]]] = {
    Deployment: (DEPLOYMENT, DEPLOYMENT_PARTS),
    Job: (JOB, JOB_PARTS),
    Transfer: (TRANSFER, {}),
    Hold: (HOLD, {}),
    Device: (DEVICE, DEVICE_PARTS),
}
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "FundStatusReported": ({"transaction_status": "success"}, {"transaction_status": "pending"}),
    "DeploymentResponded": ({"success": True}, {"success": False}),
}
READABLE = {"price": "1", "ntx_price": "1", "direction": "in"}  # of what no text will do


# --- what the expression says: all beginnings, as states of an automaton over derivatives ---------------------------
class Nfa:
    """Of a regular expression with < > tokens, |, *, ? and ( ): states are numbers, 0 the start."""

    def __init__(self, text: str, parts: dict[str, str]) -> None:
        while "{" in text:
            text = re.sub(r"\{(\w+)\}", lambda found: f"( {parts[found[1]]} )", text)
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._tokens = re.findall(r"<[\w:]+>|[()|*?]", text)
        self.empty: list[set[int]] = []
        self.steps: list[dict[str, set[int]]] = []
        self.start, self.end = self._choice()
        assert not self._tokens

    def _state(self) -> int:
        self.empty.append(set())
        self.steps.append({})
        return len(self.empty) - 1

    def _choice(self) -> tuple[int, int]:
        start, end = self._state(), self._state()
        while True:
            first, last = self._sequence()
            self.empty[start].add(first)
            self.empty[last].add(end)
            if not (self._tokens and self._tokens[0] == "|"):
                return start, end
            self._tokens.pop(0)

    def _sequence(self) -> tuple[int, int]:
        first = last = self._state()
        while self._tokens and self._tokens[0] not in "|)":
            start, end = self._repeated()
            self.empty[last].add(start)
            last = end
        return first, last

    def _repeated(self) -> tuple[int, int]:
        token = self._tokens.pop(0)
        if token == "(":
            start, end = self._choice()
            assert self._tokens.pop(0) == ")"
        else:
            start, end = self._state(), self._state()
            self.steps[start][token.strip("<>")] = {end}
        if self._tokens and self._tokens[0] in "*?":
            around, after = self._state(), self._state()
            self.empty[around] |= {start, after}
            self.empty[end] |= {start, after} if self._tokens.pop(0) == "*" else {after}
            return around, after
        return start, end

    def closed(self, states: set[int]) -> frozenset[int]:
        found, left = set(states), list(states)
        while left:
            new = self.empty[left.pop()] - found
            found |= new
            left += new
        return frozenset(found)

    def after(self, states: frozenset[int], name: str) -> frozenset[int]:
        if (states, name) not in self._known:
            self._known[states, name] = self._after(states, name)
        return self._known[states, name]

    def _after(self, states: frozenset[int], name: str) -> frozenset[int]:
        return self.closed({to for state in states for to in self.steps[state].get(name, ())})


def events(kind: type[Aggregate]) -> dict[str, Event]:
    """Of each event of the aggregate one; of those whose content decides, one of each sort."""
    found: dict[str, Event] = {}
    for cls in kind.event_types():
        readable = {name: text for name, text in READABLE.items() if name in cls.__struct_fields__}
        plain = msgspec.convert(body_of(cls) | readable, cls)
        for changes in VARIANTS.get(cls.__name__, ({},)):
            name = cls.__name__
            if changes:
                (value,) = changes.values()
                name += f":{value if isinstance(value, str) else 'success' if value else 'refused'}"
            found[name] = msgspec.structs.replace(plain, **changes)
    return found


def allowed(nfa: Nfa, states: frozenset[int], name: str, past: frozenset[str], kind: type[Aggregate]) -> bool:
    return bool(nfa.after(states, name)) and not (name in ONCE[kind] and name in past)


def everywhere(kind: type[Aggregate]) -> Iterator[tuple[Nfa, frozenset[int], frozenset[str], tuple[str, ...]]]:
    """Each place in a life that the expression tells apart, with what came once already and a history that leads
    there."""
    nfa, named = Nfa(*LIVES[kind]), events(kind)
    start = (nfa.closed({nfa.start}), frozenset[str]())
    histories: dict[tuple[frozenset[int], frozenset[str]], tuple[str, ...]] = {start: ()}
    left = [start]
    while left:
        states, past = place = left.pop()
        yield nfa, states, past, histories[place]
        for name in sorted(named):
            if not allowed(nfa, states, name, past, kind):
                continue
            new = (nfa.after(states, name), (past | {name} & set(ONCE[kind])) - RENEWED.get(name, set()))
            if new not in histories:
                histories[new] = (*histories[place], name)
                left.append(new)


@pytest.mark.parametrize("kind", LIVES, ids=lambda kind: kind.__name__)
def test_exactly_what_the_rules_say_may_follow(kind: type[Aggregate]) -> None:
    named, seen = events(kind), 0
    for nfa, states, past, history in everywhere(kind):
        life = Life(kind.RULES)
        for earlier in history:
            life.check(named[earlier])
            life.move(type(named[earlier]), named[earlier])
        before = life.state, life._ruled_out
        for name, event in named.items():
            assert follows(life, event) == allowed(nfa, states, name, past, kind), (history, name)
            assert (life.state, life._ruled_out) == before, "a look changes nothing"
            seen += 1
    assert seen > len(named)


def follows(life: Life[Any], event: Event) -> bool:
    try:
        life.check(event)
    except OutOfOrder:
        return False
    return True


@pytest.mark.parametrize("kind", LIVES, ids=lambda kind: kind.__name__)
def test_every_event_has_its_place_in_a_life(kind: type[Aggregate]) -> None:
    said = set(re.findall(r"<(\w+)", LIVES[kind][0] + " ".join(LIVES[kind][1].values())))
    assert said == {cls.__name__ for cls in kind.event_types()}


@pytest.mark.parametrize("kind", LIVES, ids=lambda kind: kind.__name__)
def test_an_event_that_can_not_follow_changes_nothing_also_with_others_that_can(kind: type[Aggregate]) -> None:
    named = events(kind)
    wrong = {Deployment: "Stopped", Job: "Completed", Transfer: "Completed", Hold: "Placed", Device: "GpusChanged"}[
        kind
    ]
    first = {Deployment: "Requested", Job: "ServiceRequested", Transfer: "Offered", Hold: "Placed", Device: "Hindered"}[
        kind
    ]
    aggregate = kind("key")
    before = (aggregate.life.state, aggregate.version)
    with pytest.raises(OutOfOrder):
        aggregate.trigger(named[first], named[wrong])
    assert (aggregate.life.state, aggregate.version, aggregate.pending) == (*before, [])


def test_the_page_about_lives_is_what_the_tables_say() -> None:
    assert ops.lives.PAGE.read_text() == ops.lives.page(), "run: python -m ops.lives"


# --- old logs: they are the truth, whatever order they have ------------------------------------------------
@pytest.mark.parametrize("kind", LIVES, ids=lambda kind: kind.__name__)
def test_any_two_events_in_any_order_can_be_read(kind: type[Aggregate]) -> None:
    for first, second in itertools.permutations(events(kind).values(), 2):
        aggregate = kind("key")
        for event in (first, second, Unknown(topic="job.invented_later", version=1, body={})):
            aggregate.apply(event)
        assert aggregate.version == 3


@settings(max_examples=200)
@given(st.data())
def test_any_history_can_be_read(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(LIVES)))
    history = data.draw(st.lists(st.sampled_from(list(events(kind).values())), max_size=30))
    aggregate = kind("key")
    for event in history:
        aggregate.apply(event)
    assert aggregate.version == len(history)


def test_an_end_that_an_older_version_took_too_early_is_still_the_end() -> None:
    named = events(Job)
    job = Job("key")
    for name in ("ServiceRequested", "ProviderReported", "Completed"):
        job.apply(named[name])
    assert not job.open
    assert job.reward is not None
