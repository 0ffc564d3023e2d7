"""Which compute provider gets a request: the cheapest that can take it and is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from dms.application.device.device import DeviceService
from dms.application.network.directory import Directory
from dms.application.ports.peers import PeerNetwork
from dms.application.tasks import patiently
from dms.domain.directory import clock_text
from dms.domain.job_events import Refusal
from dms.domain.matching import REFUSALS_KEPT, RULE, Candidate, Match, Rule, rank, search
from dms.domain.request import ServiceRequest
from dms.errors import DmsError, NoProviderMatches, PeerSlow, PeerUnreachable

CANDIDATES_ASKED = 16
RECENT_SECONDS = 20.0  # a heartbeat comes every 10 s: a peer heard of since then needs no ping to be there
SOON_SECONDS = 2.0  # how long the others may still answer once one candidate is known to be there
PATIENCE_SECONDS = 12.0  # for all candidates together, while none is
CLOCKS_NAMED = 5  # providers whose clock is another than ours, of whom a refusal tells
_NONE_KNOWN = "no compute provider is known on this channel"
_ITSELF = "this node itself, which gives no jobs to itself"
_ANOTHER = "onboard another machine, or a second DMS with a data folder of its own"


class Reached(NamedTuple):
    """seconds: the round trip of each peer that is there. troubles: of the others, what is wrong."""

    seconds: dict[str, float]
    troubles: dict[str, str]


class Own(NamedTuple):
    """This node, as a provider."""

    peer_id: str
    onboarded: bool


class Found(NamedTuple):
    """there: the candidates that are there, the best first. match: also why others can't take it. reached: who of them
    is there."""

    there: Sequence[Candidate]
    match: Match
    reached: Reached

    @property
    def chosen(self) -> Candidate:
        """Who gets the request."""
        return self.there[0]


class ProviderSearch:
    def __init__(self, directory: Directory, device: DeviceService, network: PeerNetwork, paid_on: str = "") -> None:
        """paid_on: the only blockchain that jobs are paid on; empty for any."""
        self._directory, self._device, self._network, self._paid_on = directory, device, network, paid_on
        self._pinging: dict[str, asyncio.Task[float]] = {}

    async def find(self, request: ServiceRequest, target: str, rule: Rule = RULE) -> Found:
        """target: the only peer that may get it; empty for any. Raises NoProviderMatches."""
        match = await self._match(request, target, rule)
        reached = await self.reach([candidate.peer_id for candidate in match.candidates])
        there = [c for c in match.candidates if c.peer_id in reached.seconds]
        if not there:
            own = Own(self._network.peer_id, self._device.state.onboarded)
            raise nobody(match, target, reached.troubles, own)
        return Found(sorted(there, key=lambda c: rank(c, reached.seconds[c.peer_id], rule)), match, reached)

    async def _match(self, request: ServiceRequest, target: str, rule: Rule) -> Match:
        """The cheapest that can take it, and why others can't; also those whose word does not count for their clock."""
        directory, channel = self._directory, self._device.channel
        rule = msgspec.structs.replace(rule, paid_on=self._paid_on)
        steps = search(
            request, directory.offers, channel, target, most=CANDIDATES_ASKED, now=directory.now(), rule=rule
        )
        found = await patiently(steps)
        known = {candidate.peer_id for candidate in found.candidates}
        clocks = [
            Refusal(peer_id=peer_id, reason=clock_text(behind))
            for peer_id, behind in directory.other_clocks().items()
            if (not target or peer_id == target) and peer_id not in known
        ]
        refused = (*clocks[:CLOCKS_NAMED], *found.refused)[:REFUSALS_KEPT]
        return msgspec.structs.replace(found, refused=refused, refused_count=found.refused_count + len(clocks))

    async def reach(self, peer_ids: Sequence[str]) -> Reached:
        """Which of the candidates are there, and how far. One whose kept connection was heard of needs no ping: under
        load, and over slow links, a ping of the moment says nothing. The others are asked side by side."""
        clock = asyncio.get_running_loop().time
        seconds: dict[str, float] = {}
        troubles: dict[str, str] = {}
        asked: dict[asyncio.Task[float], str] = {}
        for peer_id in peer_ids:
            heard = self._network.heard(peer_id)
            if heard is not None and heard.silent_seconds <= RECENT_SECONDS:
                seconds[peer_id] = heard.rtt_seconds
            else:
                asked[self._ping(peer_id)] = peer_id
        soon, latest = clock() + SOON_SECONDS, clock() + PATIENCE_SECONDS
        while asked and (left := (soon if seconds else latest) - clock()) > 0:
            done, _ = await asyncio.wait(asked, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                peer_id = asked.pop(task)
                try:
                    seconds[peer_id] = task.result()
                except PeerSlow as error:
                    troubles[peer_id] = f"is connected, but slow: {error}"
                except PeerUnreachable as error:
                    troubles[peer_id] = f"can't be reached: {error}"
                except DmsError as error:  # of this one: the others are candidates all the same
                    troubles[peer_id] = f"can't be pinged: {error}"
        for peer_id in asked.values():
            troubles[peer_id] = f"did not answer within {PATIENCE_SECONDS:g} s: it may be slow, or gone"
        return Reached(seconds, troubles)

    def _ping(self, peer_id: str) -> asyncio.Task[float]:
        """Requests that come together share one ping a peer, which goes on when one of them is given up."""
        pinging = self._pinging.get(peer_id)
        if pinging is None:
            self._network.add_addresses(peer_id, self._directory.addresses_of(peer_id))
            pinging = asyncio.create_task(self._network.ping(peer_id, PATIENCE_SECONDS), name=f"ping {peer_id}")
            self._pinging[peer_id] = pinging
            pinging.add_done_callback(partial(self._pinged, peer_id))
        return pinging

    def _pinged(self, peer_id: str, pinging: asyncio.Task[float]) -> None:
        self._pinging.pop(peer_id, None)
        if not pinging.cancelled():
            pinging.exception()  # read here: nobody may be waiting any more


def nobody(found: Match, target: str, troubles: Mapping[str, str], own: Own | None = None) -> NoProviderMatches:
    """troubles: peer id -> what is wrong with it, of candidates."""
    refusals = {refusal.peer_id: refusal.reason for refusal in found.refused} | dict(troubles)
    if target and not refusals:
        what = f"{_ITSELF}; target another one, or none" if own and target == own.peer_id else "not known"
        return NoProviderMatches(f"no peers found with matched specs: targeted peer {target} is {what}", {})
    reasons = "; ".join(f"{peer_id} {reason}" for peer_id, reason in refusals.items())
    left_out = found.refused_count - len(found.refused)
    if left_out > 0:
        reasons += f"; and {left_out} more"
    known = (
        f"the only compute provider known on this channel is {_ITSELF}; {_ANOTHER}"
        if own and own.onboarded
        else _NONE_KNOWN
    )
    return NoProviderMatches(f"no peers found with matched specs: {reasons or known}", refusals)
