"""Strangers choose names that never come to an answer: nothing waits for them but names below the same one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from dms import lookups
from dms.lookups import MOST_AT_ONCE, MOST_OF_ONE, InTrouble, LookUps, Turns

KNOWN = {"registry.example.org": ["93.184.216.34"], "also.example.net": ["93.184.216.35", "2606::1"]}


class Resolver:
    """Blocking, as the system's. A name that it does not know hangs until `answered`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answered = threading.Event()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host in KNOWN:
            return KNOWN[host]
        self.answered.wait()
        raise OSError("no such name")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(lookups, "system_addresses", made)
    monkeypatch.setattr(lookups, "LOOK_UP_SECONDS", 0.2)
    monkeypatch.setattr(lookups, "TROUBLE_SECONDS", 600.0)
    yield made
    made.answered.set()


async def fails(look_ups: LookUps, host: str) -> type[OSError]:
    try:
        await look_ups.addresses(host)
    except OSError as error:
        return type(error)
    pytest.fail(f"{host} was found")


async def test_names_that_hang_hold_up_no_others(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    look_ups = LookUps()
    hanging = [f"r{number}.slow.example" for number in range(200)]
    failed = await asyncio.gather(*(fails(look_ups, host) for host in hanging))
    assert set(failed) <= {TimeoutError, InTrouble}
    assert len(resolver.asked) == MOST_OF_ONE
    monkeypatch.setattr(lookups, "LOOK_UP_SECONDS", 60.0)
    assert await look_ups.addresses("registry.example.org") == ["93.184.216.34"]
    assert await look_ups.addresses("also.example.net") == ["93.184.216.35", "2606::1"]
    assert await fails(look_ups, "one.more.slow.example") is InTrouble
    assert len(resolver.asked) == MOST_OF_ONE + 2


async def test_all_of_them_together_are_few_however_many_have_hanging_names(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_ups = LookUps()
    before = threading.active_count()
    await asyncio.gather(*(fails(look_ups, f"r.slow{number}.example") for number in range(100)))
    assert len(resolver.asked) == MOST_AT_ONCE
    assert threading.active_count() - before <= MOST_AT_ONCE
    # Nobody waits for them any more, but their threads still do: they keep their turns until they end.
    assert await fails(look_ups, "registry.example.org") is TimeoutError
    resolver.answered.set()
    await until(lambda: threading.active_count() <= before)
    monkeypatch.setattr(lookups, "LOOK_UP_SECONDS", 60.0)
    assert await look_ups.addresses("registry.example.org") == ["93.184.216.34"]


async def test_a_name_is_tried_again_after_a_while(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "TROUBLE_SECONDS", 0.0)
    look_ups = LookUps()
    assert await fails(look_ups, "a.slow.example") is TimeoutError
    resolver.answered.set()
    monkeypatch.setattr(lookups, "LOOK_UP_SECONDS", 60.0)
    assert await fails(look_ups, "a.slow.example") is OSError


async def test_a_caller_who_leaves_brings_no_name_into_trouble(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LOOK_UP_SECONDS", 60.0)
    look_ups = LookUps()
    leaving = asyncio.create_task(look_ups.addresses("a.example.com"))
    await until(lambda: bool(resolver.asked))
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    monkeypatch.setattr(lookups, "LOOK_UP_SECONDS", 0.2)
    assert await fails(look_ups, "b.example.com") is TimeoutError  # it had its turn


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0", "93.184.216.34"])
async def test_an_address_is_not_looked_up(resolver: Resolver, host: str) -> None:
    assert await LookUps().addresses(host) == [host]
    assert resolver.asked == []


async def test_addresses_are_nobodys_below_one_another() -> None:
    turns = Turns(most=3, of_one=1)
    async with asyncio.timeout(60):
        for host in ("10.1.0.1", "10.2.0.1", "0.1"):
            await turns.begin(host)


async def until(probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not probe():
            await asyncio.sleep(0.01)  # another thread's end
