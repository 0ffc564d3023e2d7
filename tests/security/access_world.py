"""A node with callers of each role, for tests of who may do what."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import websockets

from dms.adapters.http import dashboard, debug, pages, sign_in
from dms.adapters.http.server import ROUTES
from dms.config import Rest
from dms.domain.api_token import Role
from dms.domain.event import new_id
from dms.domain.job import Job
from tests.fixtures.other_users import NOBODY, Answer, ask, socket_of
from tests.integration.http.node import PROVIDER, REQUEST, Node, now_us, running_node

ALL_ROUTES = (*ROUTES, *debug.ROUTES, *pages.PAGES, *dashboard.PAGES, *sign_in.PAGES)
API = "/api/v1"
BOTH = ("team-a", "team-b")


class World:
    """A node with a token of each role, two clients that ask for jobs, and a job of each and of the operator."""

    def __init__(self, node: Node) -> None:
        self.node, self.address = node, ("127.0.0.1", node.port)
        self.tokens: dict[str, str] = {}
        self.jobs: dict[str, str] = {}

    async def make(self) -> None:
        for name, role in (("ops", Role.ADMIN), ("machine", Role.CPD), ("auditor", Role.READ)):
            self.tokens[name] = str(await self.node.services.tokens.create(name, role))
        for name in BOTH:
            self.tokens[name] = str(await self.node.services.tokens.create(name, Role.SPD))
        for name in (*BOTH, ""):
            self.jobs[name] = await self.job(name)

    async def job(self, client: str) -> str:
        job = Job(new_id())
        job.request_service(REQUEST, PROVIDER, "0.1", now_us() + 600_000_000, (), 0, client=client)
        await self.node.log.save(job)
        return job.key

    async def ask(self, client: str, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """client: with its token; empty: nobody, without one."""
        headers = {"authorization": f"Bearer {self.tokens[client]}"} if client else {}
        return await ask(self.address, method, path, body, headers=headers | more.pop("headers", {}), **more)

    def connect(self, client: str, path: str) -> Any:
        return websockets.connect(
            f"ws://localhost:{self.node.port}{path}", sock=self._connected(), compression=None,
            additional_headers={"authorization": f"Bearer {self.tokens[client]}"} if client else {},
        )  # fmt: skip

    def _connected(self) -> socket.socket:
        made = socket_of(NOBODY)
        made.setblocking(True)
        made.connect(self.address)
        return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    os.environ["NUNET_DEBUG"] = "1"
    try:
        async with running_node(tmp_path_factory.mktemp("access"), Rest(requests_a_minute=1_000_000)) as node:
            made = World(node)
            await made.make()
            yield made
    finally:
        del os.environ["NUNET_DEBUG"]


def filled(address: str, job_id: str) -> str:
    """A path with its parameters."""
    return re.sub(r"<(\w+)(?::\w+)?>", lambda found: job_id if found[1] == "job_id" else "x", address)
