"""Who calls, and whether they may: every route and every websocket passes here, once it is known which it is.

A caller is known by a token (`Authorization: Bearer`), by the session of a browser that logged in with one, or, on
loopback, by the user of the other end's socket: root, the DMS's own user and the group nunet are the operator. Whoever
presents a token is that token's caller alone, on loopback too.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum, auto
from functools import partial
from typing import Protocol

from sanic import Request

from dms.adapters.http.connection import Allowance, Connection, connection_of
from dms.adapters.http.problems import Refused
from dms.adapters.http.replies import checked_job_id
from dms.adapters.http.sessions import Sessions
from dms.application.access.tokens import Tokens
from dms.application.files.user_files import Reach
from dms.application.ports.event_log import EventLog
from dms.domain.access import ROLES, Caller, Need
from dms.domain.api_token import ApiToken, Role
from dms.domain.deployment import Deployment
from dms.domain.job import Job
from dms.errors import NotFound, TooMany
from dms.operators import GROUP, Operators

log = logging.getLogger(__name__)

MOST_COUNTED = 10_000  # callers whose requests are counted
LOG_INS_A_MINUTE = 120  # of each address or user, with what the page to log in at consists of
_HOW = "Authorization: Bearer TOKEN; the command takes --token-file FILE or DMS_TOKEN, a browser logs in at /login"
_MADE_BY = "whoever runs the DMS makes one: nunet token create NAME --role admin|spd|cpd|read"


class Budget(Enum):
    """What a request is counted in, so that others who share an address, and send too much, don't keep its callers from
    logging in, and nobody's health checks fail."""

    REQUESTS = auto()
    LOG_INS = auto()
    NONE = auto()


class AccessSettings(Protocol):
    """What of the settings matters here."""

    @property
    def public_url(self) -> str: ...
    @property
    def require_token(self) -> bool: ...
    @property
    def requests_a_minute(self) -> int: ...


class Access:
    def __init__(
        self,
        tokens: Tokens,
        event_log: EventLog,
        settings: AccessSettings,
        own_peer_id: str,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """seconds: of a clock that no one sets."""
        self._tokens, self._log, self._settings = tokens, event_log, settings
        self.sessions = Sessions(own_peer_id, seconds)
        self._seconds = seconds
        self.operators = Operators()
        self._counted: OrderedDict[tuple[Budget, str], Allowance] = OrderedDict()

    async def admit(self, request: Request, need: Need, budget: Budget = Budget.REQUESTS) -> None:
        """`caller_of(request)` is known from here on. Raises Refused (401, 403), TooMany; NotFound for a job that is
        not the caller's."""
        try:
            caller = request.ctx.caller = await self._caller(request)
        except Refused:
            guessed = Budget.REQUESTS if budget is Budget.NONE else budget  # what is no token always counts
            self._count(Caller(), request, guessed)
            raise
        connection_of(request).in_force = partial(self._in_force, caller)
        self._count(caller, request, budget)
        require(caller, need)
        job_id = request.match_info.get("job_id")
        if job_id is not None and need is not Need.NOTHING:
            self.check_job(caller, checked_job_id(job_id))

    def check_job(self, caller: Caller, job_id: str) -> None:
        """Raises NotFound for a job that the caller may not know of."""
        if caller.owner is not None:
            job = self._log.load(Job, job_id)
            known = job is not None and job.client == caller.owner
        elif caller.only_deployments:
            known = self._log.load(Deployment, job_id) is not None
        else:
            known = True
        if not known:
            raise NotFound(f"no job {job_id} here")

    @property
    def has_token(self) -> bool:
        """Whether one is in force."""
        return self._tokens.any_in_force

    def cut_off(self, connections: Iterable[Connection], asking: Connection | None = None) -> None:
        """Those whose token or session is over: also streams end with it. asking: who ended it, and is to be told."""
        for connection in list(connections):
            if connection is not asking and not connection.in_force():
                connection.cut_off()

    def _in_force(self, caller: Caller) -> bool:
        """Whether by what it was let in is so still."""
        if caller.session and not self.sessions.token_of(caller.session):
            return False
        return not caller.token_id or self._tokens.get(caller.token_id) is not None

    def find(self, text: str) -> ApiToken | None:
        return self._tokens.find(text)

    async def _caller(self, request: Request) -> Caller:
        uid = self._uid(request)
        token, session = self._presented(request)
        if token is not None:
            local = uid is not None
            return Caller(role=token.role, client=token.name, token_id=token.key, session=session, local=local, uid=uid)
        if uid is None:
            return Caller()
        return Caller(role=Role.ADMIN if await self.operators.has(uid) else None, local=True, uid=uid)

    def _uid(self, request: Request) -> int | None:
        """Behind a proxy everybody looks as if they were on this machine: then nobody counts as such."""
        if self._settings.require_token or self._settings.public_url:
            return None
        return connection_of(request).peer_uid

    def _presented(self, request: Request) -> tuple[ApiToken | None, str]:
        """The token, and the session by which it is presented; empty for none. Raises Refused (401) for a token that is
        none; a session that is over is as if it were not there."""
        for header in request.headers.getall("authorization", []):
            scheme, _, text = header.partition(" ")
            if scheme.casefold() == "bearer":
                if (token := self._tokens.find(text)) is None:
                    raise Refused(401, f"this DMS knows no such token, or it is over: {_MADE_BY}", _CHALLENGE)
                return token, ""
        session = self.sessions.named_by(request)
        token_id = self.sessions.token_of(session)
        return (self._tokens.get(token_id) if token_id else None), session

    def _count(self, caller: Caller, request: Request, budget: Budget) -> None:
        """Raises TooMany."""
        if is_operator(caller) or budget is Budget.NONE:
            return
        of_requests, now = budget is Budget.REQUESTS, self._seconds()
        name, most = (budget, party_of(request, caller)), self._settings.requests_a_minute
        most = most if of_requests else LOG_INS_A_MINUTE
        allowance = self._counted.pop(name, None) or Allowance(most, now)
        self._counted[name] = allowance
        if len(self._counted) > MOST_COUNTED:
            self._counted.popitem(last=False)
        if not allowance.take(now):
            raise TooMany(
                f"more than {most} requests a minute; see rest.requests_a_minute" if of_requests
                else f"more than {most} requests a minute to log in; try again in a moment",
                allowance.next_in_seconds,
            )  # fmt: skip


_CHALLENGE = {"www-authenticate": 'Bearer realm="DMS"'}


def require(caller: Caller, need: Need) -> None:
    """Raises Refused: 401 for who is unknown, 403 for who is known and may not."""
    if caller.meets(need):
        return
    if caller.role is not None:
        roles = ", ".join(sorted(ROLES[need]))
        raise Refused(403, f"a token of the role {caller.role} may not {need}: that takes one of {roles}")
    if caller.local:
        text = (
            f"user {caller.uid} of this machine may not {need} here without a token: {_HOW}. Root, the DMS's own "
            f"user and members of the group {GROUP} need none (adduser USER {GROUP})"
        )
    else:
        text = f"a token is needed to {need} ({_HOW}); {_MADE_BY}"
    raise Refused(401, text, _CHALLENGE)


def is_operator(caller: Caller) -> bool:
    """The one who needs no token, and whom no limits hold."""
    return caller.role is Role.ADMIN and not caller.token_id


def party_of(request: Request, caller: Caller) -> str:
    """Who shares the limits: a token's client, a user of this machine, or an address."""
    return f"client {caller.client}" if caller.client else connection_of(request).party


def caller_of(request: Request) -> Caller:
    """Of a request that was let in."""
    caller: Caller = request.ctx.caller
    return caller


def reach_of(request: Request) -> Reach:
    """Which files of this machine the caller may have sent."""
    caller = caller_of(request)
    if not caller.local:  # or not surely
        return Reach.NONE
    return Reach.DAEMONS if caller.role is Role.ADMIN else Reach.PUBLIC


def access_of(request: Request) -> Access:
    access: Access = request.app.ctx.access
    return access
