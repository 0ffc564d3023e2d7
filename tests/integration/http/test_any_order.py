"""Requests of a client in any order against a live server, which is also started anew in between: it answers as a few
lines of Python say, and nothing of it is a failure of ours.

`make test` tries a few orders, `make any-order` as many as it is told (ORDERS, ORDER_STEPS)."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from dms.application.access.tokens import Tokens
from dms.domain.device import Device
from tests.integration.http.node import ADDRESS, Node, running_node

API = "/api/v1"
ORDERS, STEPS = int(os.environ.get("ORDERS", "4")), int(os.environ.get("ORDER_STEPS", "20"))
ROLES = {"team-a": "spd", "team-b": "read"}


class AnyOrder(RuleBasedStateMachine):
    jobs, tokens = Bundle("jobs"), Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(prefix="dms-any-order-")
        self.stack, self.node = self.loop.run_until_complete(self._start())
        self.onboarded = False
        self.offer: tuple[int, int] | None = None
        self.statuses: dict[str, str] = {}  # job -> as it is shown
        self.in_force: dict[str, str] = {}  # token id -> its text
        self.revoked: dict[str, str] = {}

    async def _start(self) -> tuple[AsyncExitStack, Node]:
        stack = AsyncExitStack()
        return stack, await stack.enter_async_context(running_node(Path(self.folder.name)))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()
        self.folder.cleanup()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with self.node.client() as client:
                return await client.request(method, API + path, json=body, headers=headers)

        answer = self.loop.run_until_complete(asked())
        assert answer.status_code < 500, answer.text
        return answer

    # --- this machine ------------------------------------------------------------------------------
    @rule(memory=st.sampled_from((500, 1600, 8000, 14_400, 15_000)), cpu=st.sampled_from((700, 800, 7200, 7300)))
    def onboard(self, memory: int, cpu: int) -> None:
        body = {"memory": memory, "cpu": cpu, "channel": "nunet-test", "payment_addr": ADDRESS}
        fits = memory in (1600, 8000, 14_400) and cpu in (800, 7200)  # from a tenth to nine tenths
        assert self.ask("POST", "/onboarding/onboard", body).status_code == (200 if fits else 400)
        if fits:
            self.onboarded, self.offer = True, (memory, cpu)

    @rule(memory=st.sampled_from((2000, 4000)), cpu=st.sampled_from((1000, 2000)))
    def change_what_is_offered(self, memory: int, cpu: int) -> None:
        answer = self.ask("POST", "/onboarding/resource-config", {"memory": memory, "cpu": cpu})
        assert answer.status_code == (200 if self.onboarded else 409)
        if self.onboarded:
            self.offer = (memory, cpu)

    @rule()
    def offboard(self) -> None:
        assert self.ask("DELETE", "/onboarding/offboard").status_code == (200 if self.onboarded else 409)
        self.onboarded, self.offer = False, None

    # --- jobs --------------------------------------------------------------------------------------
    @rule(target=jobs)
    def ask_for_a_job(self) -> str:
        job_id = self.loop.run_until_complete(self.node.job())
        self.statuses[job_id] = "awaiting"
        return job_id

    @rule(job_id=jobs)
    def pay(self, job_id: str) -> None:
        if self.statuses[job_id] == "awaiting":
            self.loop.run_until_complete(self.node.submit(job_id))
            self.statuses[job_id] = "submitted"

    @rule(job_id=jobs)
    def run(self, job_id: str) -> None:
        if self.statuses[job_id] == "submitted":
            self.loop.run_until_complete(self.node.respond(job_id))
            self.statuses[job_id] = "running"

    @rule(job_id=jobs)
    def end(self, job_id: str) -> None:
        if self.statuses[job_id] == "running":
            self.loop.run_until_complete(self.node.complete(job_id))
            self.statuses[job_id] = "completed"

    @rule(job_id=jobs)
    def look_at_a_job(self, job_id: str) -> None:
        assert self.ask("GET", f"/jobs/{job_id}").json()["status"] == self.statuses[job_id]

    # --- tokens ------------------------------------------------------------------------------------
    @rule(target=tokens, name=st.sampled_from(sorted(ROLES)))
    def make_a_token(self, name: str) -> str:
        answer = self.ask("POST", "/tokens", {"name": name, "role": ROLES[name]})
        assert answer.status_code == 200
        made = answer.json()
        self.in_force[made["token_id"]] = made["token"]
        return str(made["token_id"])

    @rule(token_id=consumes(tokens))
    def revoke_a_token(self, token_id: str) -> None:
        assert self.ask("DELETE", f"/tokens/{token_id}").status_code == 200
        assert self.ask("DELETE", f"/tokens/{token_id}").status_code == 409
        self.revoked[token_id] = self.in_force.pop(token_id)

    # --- a start anew ------------------------------------------------------------------------------
    @rule()
    def start_anew(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.stack, self.node = self.loop.run_until_complete(self._start())

    @invariant()
    def all_is_shown_as_it_is(self) -> None:
        shown = self.ask("GET", "/jobs?limit=1000").json()["items"]
        assert {row["job_id"]: row["status"] for row in shown} == self.statuses
        states = {row["token_id"]: row["state"] for row in self.ask("GET", "/tokens?limit=1000").json()["items"]}
        assert states == dict.fromkeys(self.in_force, "in force") | dict.fromkeys(self.revoked, "revoked")
        assert self.ask("GET", "/onboarding/status").json()["onboarded"] is self.onboarded
        metadata = self.ask("GET", "/onboarding/metadata")
        if self.offer is not None:
            reserved = metadata.json()["reserved"]
            assert (reserved["memory"], reserved["cpu"]) == self.offer
        for known, status in ((self.in_force, 200), (self.revoked, 401)):
            for text in list(known.values())[-1:]:
                assert self.ask("GET", "/jobs", authorization=f"Bearer {text}").status_code == status


def try_orders(count: int, *, shrink: bool = True) -> None:
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=count,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="ORDERS" not in os.environ,
            phases=list(Phase) if shrink else [Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_any_order_of_requests() -> None:
    try_orders(ORDERS)


# --- bugs that are put back on purpose: an order of requests finds them ------------------------------
def tokens_are_forgotten_at_a_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tokens, "take_up", lambda *_: None)


def who_was_offboarded_is_offboarded_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Device, "offboard", lambda self, forced: self.trigger(Device.Offboarded(forced=forced)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("put_back", "told"),
    [
        (tokens_are_forgotten_at_a_start, "assert 401 == 200"),
        (who_was_offboarded_is_offboarded_again, "assert 200 == 409"),
    ],
)
def test_a_bug_put_back_is_found(
    put_back: Callable[[pytest.MonkeyPatch], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back(monkeypatch)
    with pytest.raises(AssertionError, match=told):
        try_orders(50, shrink=False)
