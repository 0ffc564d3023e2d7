"""Asks providers whether they can take a job, and to keep its place, before anything is paid.

The candidates are asked one after the other, until one can take it and keeps a place; if none keeps one, it is the
first that can take it. Who runs a version that can't be asked is taken at its advertisement's word, as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from dms.application.device.device import DeviceService
from dms.application.inputs.own_inputs import as_sent
from dms.application.jobs.provider_search import Found, nobody
from dms.application.jobs.submission import addressed_to
from dms.application.network.messages import PREFLIGHT, PreflightAnswer, PreflightRequest, decode_answer, encode
from dms.application.ports.peers import PeerNetwork
from dms.application.ports.signing import Signer
from dms.domain.checkpoint import ResumeFrom
from dms.domain.event import new_id
from dms.domain.job_events import Refusal
from dms.domain.matching import REFUSALS_KEPT, Candidate, Match
from dms.domain.pricing import price_text
from dms.domain.request import ServiceRequest
from dms.domain.reward import Fault
from dms.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    PeerMisbehaved,
    ProtocolRefused,
    Unavailable,
)

MOST_ASKED = 8
ASK_SECONDS, PATIENCE_SECONDS = 8.0, 15.0  # for one provider, for all of them
LONGEST_RECORDED = 256  # characters of a refusal
SAME_WORD = 2  # so many say that the request itself is wrong: the others are not asked


class Wanted(NamedTuple):
    """A job that is to be placed. hold_seconds: how long a place is to be kept; 0: only ask. job_id: of the attempt;
    empty for a job that has no id yet: then each candidate is told another one, and it gets that of who takes it. So
    nobody who is asked learns what the job is called elsewhere, and asks for it there before its owner does."""

    request: ServiceRequest
    resume: ResumeFrom | None = None
    hold_seconds: int = 0
    job_id: str = ""


class Placed(NamedTuple):
    """Who takes it. job_id: under which it was asked. hold_seconds: how long from now it keeps the place; 0: not at
    all. doubt: why it is not sure to get the job all the same. refused: those that were asked before, for the record:
    no word in it tells of a person."""

    candidate: Candidate
    job_id: str
    refused: tuple[Refusal, ...] = ()
    hold_seconds: int = 0
    doubt: str = ""

    def recorded_with(self, found: Match) -> Match:
        """What matching found, with those that were asked and could not take it."""
        refused = (*self.refused, *found.refused)[:REFUSALS_KEPT]
        return replace(found, refused=refused, refused_count=found.refused_count + len(self.refused))


class NobodyTakesIt(Exception):
    """refused: who was asked, and why not. wrong: (JSON pointer, what is wrong with the request), when that is what all
    of them say."""

    def __init__(self, refused: tuple[Refusal, ...], wrong: tuple[str, str] | None) -> None:
        super().__init__("; ".join(f"{one.peer_id} {one.reason}" for one in refused))
        self.refused, self.wrong = refused, wrong


class Preflight:
    def __init__(self, network: PeerNetwork, device: DeviceService, signer: Signer) -> None:
        self._network, self._device, self._signer = network, device, signer

    async def place(self, wanted: Wanted, found: Found, target: str) -> Placed:
        """target: the only peer that may get it; empty for any. Raises NoProviderMatches; InvalidInput when it is the
        request that is wrong."""
        try:
            return await self.among(wanted, found.there)
        except NobodyTakesIt as error:
            if error.wrong is not None:
                raise InvalidInput(error.wrong[1], [error.wrong]) from error
            troubles = found.reached.troubles | {one.peer_id: one.reason for one in error.refused}
            raise nobody(found.match, target, troubles) from error

    async def among(self, wanted: Wanted, candidates: Sequence[Candidate]) -> Placed:
        """candidates: those that are there, the best first. Within PATIENCE_SECONDS. Raises NobodyTakesIt."""
        clock = asyncio.get_running_loop().time
        deadline, asking = clock() + PATIENCE_SECONDS, _Asking(wanted)
        for candidate in candidates[:MOST_ASKED]:
            seconds, job_id = min(ASK_SECONDS, deadline - clock()), wanted.job_id or new_id()
            if seconds <= 0 or asking.is_wrong:
                break
            try:
                answer = await self._ask(wanted, candidate, job_id, seconds)
            except ProtocolRefused:
                return asking.unheld or Placed(candidate, job_id, tuple(asking.refused), doubt=_OLDER)
            except (Unavailable, PeerMisbehaved, Conflict, Forbidden, NotFound, InvalidInput) as error:
                asking.refuse(candidate, _SILENT, f"{_SILENT}: {error}")
                continue
            if (placed := asking.take(candidate, job_id, answer)) is not None:
                return placed
        return asking.best()

    async def _ask(self, wanted: Wanted, candidate: Candidate, job_id: str, seconds: float) -> PreflightAnswer:
        message = PreflightRequest(
            job_id=job_id,
            request=addressed_to(as_sent(wanted.request.without_secrets()), candidate.peer_id, self._signer),
            price=price_text(candidate.price),
            hold_seconds=wanted.hold_seconds,
            channel=self._device.channel,
            resume=wanted.resume,
        )
        body = await self._network.request(candidate.peer_id, PREFLIGHT, encode(message), seconds)
        return decode_answer(candidate.peer_id, body, PreflightAnswer)


_SILENT = "does not say whether it can take the job"
_UNTOLD = {"image": "the image can't be had or is not allowed", "request": "it does not take such a request"}
"""Kinds of refusals whose words may tell what a person asked for: these stand in the record."""
_OLDER = "its provider runs an older version, which can't be asked before the payment whether it can take the job"


class _Asking:
    """What the candidates said so far."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.refused: list[Refusal] = []  # as it is recorded
        self._told: list[Refusal] = []  # as who asked for the job is told
        self.unheld: Placed | None = None
        self._wrong: list[tuple[str, str]] = []

    @property
    def is_wrong(self) -> bool:
        return len(self._wrong) >= SAME_WORD and self.unheld is None

    def take(self, candidate: Candidate, job_id: str, answer: PreflightAnswer) -> Placed | None:
        """What is decided by it."""
        if not answer.possible:
            reason = answer.reason or "the job can't be taken"
            self.refuse(candidate, f"says: {_UNTOLD.get(answer.kind, reason[:LONGEST_RECORDED])}", f"says: {reason}")
            if answer.fault == Fault.REQUESTER:
                self._wrong.append((answer.field, answer.reason))
        elif answer.hold_seconds or not self._wanted.hold_seconds:
            return Placed(candidate, job_id, tuple(self.refused), answer.hold_seconds)
        elif self.unheld is None:
            why = answer.reason or "it does not say why"
            doubt = f"its provider keeps no place for the job: {why}"
            self.unheld = Placed(candidate, job_id, tuple(self.refused), doubt=doubt)
        return None

    def refuse(self, candidate: Candidate, recorded: str, told: str) -> None:
        self.refused.append(Refusal(peer_id=candidate.peer_id, reason=recorded))
        self._told.append(Refusal(peer_id=candidate.peer_id, reason=told))

    def best(self) -> Placed:
        """Raises NobodyTakesIt."""
        if self.unheld is not None:
            return self.unheld._replace(refused=tuple(self.refused))
        wrong = self._wrong[0] if self._wrong and len(self._wrong) == len(self.refused) else None
        raise NobodyTakesIt(tuple(self._told), wrong)
