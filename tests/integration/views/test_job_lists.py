"""Lists of jobs: filters, orders, pages and totals are what a plain statement of them gives over the same jobs, now and
at any moment of the past."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.views.sqlite import SQLiteViews
from dms.domain.job import Job
from dms.errors import InvalidInput
from projections.base import KEY, Begins, Between, Condition, Contains, Views, fold
from projections.job_columns import COST, ntx, searchable
from projections.jobs import STATUSES, JobRow, Jobs
from tests.fixtures.histories import START, new_job
from tests.fixtures.worlds import IMAGES, PEERS, recorded_history

HOUR = 3_600_000_000  # microseconds
WORLDS, QUESTIONS = 8, 40
ORDERS = ("", "requested_at", "ended_at", "price", "status")


class Question(NamedTuple):
    """As a client asks it; offset and limit of the page."""

    status: tuple[str, ...] = ()
    role: str = ""
    peer: str = ""
    image: str = ""
    text: str = ""
    begins: str = ""
    since: int = 0
    until: int = 0
    order_by: str = ""
    downwards: bool = True
    offset: int = 0
    limit: int = 5


def question(chosen: random.Random, rows: Sequence[JobRow]) -> Question:
    def maybe(value: Any, nothing: Any) -> Any:
        return value if chosen.random() < 0.3 else nothing

    row = chosen.choice(rows) if rows else None
    return Question(
        status=maybe(tuple(chosen.sample(STATUSES, chosen.randint(1, 4))), ()),
        role=maybe(chosen.choice(["service provider", "compute provider"]), ""),
        peer=maybe(chosen.choice(PEERS), ""),
        image=maybe(chosen.choice([*IMAGES, "registry.example/*", "nothing*"]), ""),
        text=maybe(chosen.choice(["ml/TRAIN", "exit CODE", "peer3", "%", "no such thing"]), ""),
        begins=maybe(row.job_id[: chosen.randint(1, 36)] if row else "0", ""),
        since=maybe(row.requested_at if row else START, 0),
        until=maybe(row.requested_at if row else START, 0),
        order_by=chosen.choice(ORDERS),
        downwards=chosen.random() < 0.5,
        offset=maybe(chosen.randint(0, 30), 0),
        limit=chosen.randint(1, 12),
    )


# --- a plain statement of the same ---------------------------------------------------------------------
def fits(row: JobRow, asked: Question) -> bool:
    whole = "\n".join((row.job_id, row.image, row.peer, row.reason)).lower()
    beginning = asked.image.removesuffix("*")
    return (
        (not asked.status or row.status in asked.status)
        and asked.role in ("", row.role)
        and asked.peer in ("", row.peer)
        and (row.image.startswith(beginning) if asked.image.endswith("*") else asked.image in ("", row.image))
        and asked.text.lower() in whole
        and row.job_id.startswith(asked.begins)
        and (not asked.since or row.requested_at >= asked.since)
        and (not asked.until or row.requested_at < asked.until)
    )


def expected(rows: Sequence[JobRow], asked: Question) -> list[JobRow]:
    """On all pages, in order."""
    orders: dict[str, Any] = {
        "": lambda row: "",
        "requested_at": lambda row: row.requested_at,
        "ended_at": lambda row: row.ended_at,
        "price": lambda row: Decimal(row.price),
        "status": lambda row: row.status,
    }
    by = orders[asked.order_by]
    return sorted(
        (row for row in rows if fits(row, asked)), key=lambda row: (by(row), row.job_id), reverse=asked.downwards
    )


# --- the same, asked of the views ----------------------------------------------------------------------
def where(asked: Question) -> dict[str, Condition]:
    beginning = asked.image.removesuffix("*")
    found: dict[str, Condition] = {
        "status": asked.status,
        "role": asked.role,
        "peer": asked.peer,
        "image": Begins(beginning) if asked.image.endswith("*") else asked.image,
        "searched": Contains(searchable(asked.text)),
        KEY: Begins(asked.begins),
        "requested_at": Between(least=asked.since or None, below=asked.until or None),
    }
    return {column: condition for column, condition in found.items() if condition not in ((), "")}


async def check(views: Views, rows: Sequence[JobRow], asked: Question) -> None:
    wanted = expected(rows, asked)
    order: dict[str, Any] = {
        "where": where(asked),
        "newest_first": asked.downwards,
        "order_by": asked.order_by,
        "limit": asked.limit,
    }
    page = await views.page(Jobs(), offset=asked.offset, counted=True, **order)
    assert page.rows == wanted[asked.offset : asked.offset + asked.limit]
    assert page.total == len(wanted)
    followed, after = list[JobRow](), ""
    while after or not followed:
        page = await views.page(Jobs(), after=after, **order)
        followed += page.rows
        after = page.next
        if not after:
            break
    assert followed == wanted
    totals = await views.totals(Jobs(), ("status", "role"), where(asked), COST)
    assert {values: (jobs, ntx(*costs)) for values, (jobs, *costs) in totals.items()} == {
        (status, role): (len(group), plain(sum(Decimal(row.cost or 0) for row in group)))
        for (status, role), group in grouped(wanted).items()
    }


def grouped(rows: Sequence[JobRow]) -> dict[tuple[str, str], list[JobRow]]:
    found: dict[tuple[str, str], list[JobRow]] = {}
    for row in rows:
        found.setdefault((row.status, row.role), []).append(row)
    return found


def plain(amount: Decimal | int) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def world(folder: Path, seed: int, steps: int) -> AbstractAsyncContextManager[tuple[SQLiteEventLog, SQLiteViews]]:
    return recorded_history(folder, seed, steps, itertools.count(START, HOUR), [Jobs()])


async def ask_much(seed: int) -> None:
    chosen = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), seed, 600) as (log, views):
            events = await log.read(0, 1_000_000)
            for at in (log.head, *(chosen.randint(0, log.head) for _ in range(4))):
                rows: dict[str, JobRow] = {}
                fold(Jobs(), rows, events[:at])
                for _ in range(QUESTIONS):
                    asked = question(chosen, list(rows.values()))
                    await check(views.at(at), list(rows.values()), asked)
                    if at == log.head:
                        await check(views, list(rows.values()), asked)


@pytest.mark.slow
@settings(max_examples=WORLDS, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_a_list_is_what_a_plain_statement_of_it_gives(seed: int) -> None:
    asyncio.run(ask_much(seed))


async def test_an_unknown_column_and_a_made_up_place_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path, 3, 100) as (log, views):
        wrongs: list[dict[str, Any]] = [
            {"order_by": "colour"},
            {"where": {"1=1; --": "x"}},
            {"order_by": "requested_at", "after": "tomorrow~0199"},
            {"order_by": "price", "after": "0199"},
        ]
        for some in (views, views.at(log.head)):
            for wrong in wrongs:
                with pytest.raises(InvalidInput):
                    await some.page(Jobs(), limit=5, **wrong)


async def test_a_page_goes_on_where_it_ended_although_jobs_were_added_and_moved(tmp_path: Path) -> None:
    async with world(tmp_path, 4, 300) as (log, views):
        first = await views.page(Jobs(), limit=10, order_by="requested_at", newest_first=True)
        rest = await views.page(Jobs(), limit=1000, order_by="requested_at", newest_first=True, after=first.next)
        for row in rest.rows:
            if row.status == "awaiting" and (job := log.load(Job, row.job_id)) is not None:
                job.expire("not funded in time")
                await log.save(job)
        await asyncio.gather(*(log.save(new_job()) for _ in range(10)))
        await views.wait(log.head)
        again = await views.page(Jobs(), limit=1000, order_by="requested_at", newest_first=True, after=first.next)
        assert [row.job_id for row in again.rows] == [row.job_id for row in rest.rows]


async def test_a_moment_stays_as_it_was_while_its_jobs_go_on(tmp_path: Path) -> None:
    async with world(tmp_path, 6, 300) as (log, views):
        past = views.at(log.head)
        order: dict[str, Any] = {"limit": 1000, "order_by": "status", "counted": True}
        before = await past.page(Jobs(), **order)
        waiting = [row.job_id for row in before.rows if row.status == "awaiting"]
        assert waiting

        async def go_on() -> None:
            for job_id in waiting:
                job = log.load(Job, job_id)
                assert job is not None
                job.expire("not funded in time")
                await log.save(job)

        going_on = asyncio.ensure_future(go_on())
        while not going_on.done():
            assert await past.page(Jobs(), **order) == before
        await going_on
        await views.wait(log.head)
        assert await past.page(Jobs(), **order) == before
        assert await past.totals(Jobs(), ("status",), {}) == {
            (status,): (sum(row.status == status for row in before.rows),) for status in {r.status for r in before.rows}
        }
        now = await views.page(Jobs(), limit=1000, where={"status": "awaiting"})
        assert now.rows == []
