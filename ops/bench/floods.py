"""`python -m ops.bench floods [KIND ...]`: strangers flood a node for a minute with each kind of thing that it takes of
them. What its log and its memory grow by stands beside what docs/peers.md allows, and what an honest peer waits for an
answer beside two seconds. FLOOD_SECONDS: another time. Ends with 1 when one of them is over its bound.

The node, the strangers and the honest peer are a process each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from dms.adapters.p2p.identity import Identity
from dms.application.tasks import cancelled
from dms.config import Strangers
from tests.fixtures.flood_kinds import FLOODS, served
from tests.fixtures.floods import Peer, Target, submitted, victim
from tests.integration.cancellation.world import OFFER

MIB = 2**20
FLOOD_SECONDS = float(os.environ.get("FLOOD_SECONDS", "60"))
QUIET_SECONDS = min(10.0, FLOOD_SECONDS)
MOST_WAIT_SECONDS = 2.0
MOST_MEMORY = 128 * MIB
"""Advertisements that strangers pass on may take 32 MiB of memory as they came, and about twice as much in our own
terms; the rest of it is what Python keeps of what was in flight at once."""
START_SECONDS = 120.0
COLUMNS = (
    "flood", "log grew, MiB", "may grow", "memory grew, MiB", "honest in quiet: median, ms", "longest",
    "meanwhile: median, ms", "longest", "",
)  # fmt: skip


class Begin(msgspec.Struct):
    """To the victim: send a job to that provider."""

    peer_id: str
    addresses: tuple[str, ...]


class Found(NamedTuple):
    """Bytes, and seconds."""

    log: int
    most_log: float
    memory: int
    quiet: float
    longest_quiet: float
    median: float
    longest: float

    @property
    def is_fine(self) -> bool:
        return self.log <= self.most_log and self.memory <= MOST_MEMORY and self.longest <= MOST_WAIT_SECONDS


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One that runs this module, and ends once its standard input does."""
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.bench.floods", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert made.stdin is not None
    try:
        yield made
    finally:
        made.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await made.wait()
        if made.returncode is None:
            made.kill()


async def measure(kind: str, folder: Path, seconds: float) -> Found:
    known, data = Identity.generate(), folder / "victim"
    async with process("victim", kind, str(data), known.peer_id) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        target = msgspec.json.decode(await node.stdout.readline(), type=Target)
        honest = Peer(target, known)
        await honest.start()
        try:
            quiet = await served(honest, min(QUIET_SECONDS, seconds))
            memory, log = psutil.Process(node.pid).memory_info().rss, log_bytes(data)
            async with process("flood", kind, str(folder), msgspec.json.encode(target).decode()) as strangers:
                passing = asyncio.create_task(_pass_on(strangers, node))
                waits = await served(honest, seconds)
                grown = psutil.Process(node.pid).memory_info().rss - memory
                assert strangers.returncode is None, "the flood ended early"
                await cancelled(passing)
            most = FLOODS[kind].most_bytes(seconds)
            return Found(log_bytes(data) - log, most, grown, median(quiet), max(quiet), median(waits), max(waits))
        finally:
            await honest.close()


async def _pass_on(strangers: asyncio.subprocess.Process, node: asyncio.subprocess.Process) -> None:
    assert strangers.stdout is not None
    assert node.stdin is not None
    async for line in strangers.stdout:
        node.stdin.write(line)


def log_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("events.db*"))


# --- the other processes ---------------------------------------------------------------------------------
async def _be_victim(kind: str, folder: str, known: str) -> None:
    flood = FLOODS[kind]
    async with victim(Path(folder), known=known, strangers=Strangers(trust_payments=flood.trusting)) as node:
        if flood.trusting:
            await node.services.device.onboard(OFFER)
        print(msgspec.json.encode(Target.of(node)).decode(), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            wanted = msgspec.json.decode(line, type=Begin)
            node.parts.host.add_addresses(wanted.peer_id, wanted.addresses)
            await submitted(node, wanted.peer_id)


async def _flood(kind: str, folder: str, target: str) -> None:
    async def begin(peer_id: str, addresses: tuple[str, ...]) -> None:
        print(msgspec.json.encode(Begin(peer_id, addresses)).decode(), flush=True)

    where = msgspec.json.decode(target, type=Target)
    flooding = asyncio.create_task(FLOODS[kind].run(where, Path(folder), begin))
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait((flooding, told), return_when=asyncio.FIRST_COMPLETED)
    await cancelled(flooding)


# --- the command -----------------------------------------------------------------------------------------
def main(kinds: Sequence[str]) -> int:
    if unknown := set(kinds) - FLOODS.keys():
        print(f"error: no flood {', '.join(unknown)}; there are {', '.join(FLOODS)}", file=sys.stderr)
        return 2
    table = Table(*COLUMNS, title=f"{FLOOD_SECONDS:g} s of each")
    fine = True
    for kind in kinds or FLOODS:
        print(f"{kind} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(measure(kind, Path(folder), FLOOD_SECONDS))
        fine = fine and found.is_fine
        sizes = (f"{found.log / MIB:.1f}", f"{found.most_log / MIB:.1f}", f"{found.memory / MIB:.0f}")
        waits = (found.quiet, found.longest_quiet, found.median, found.longest)
        verdict = "within its bounds" if found.is_fine else "OVER A BOUND"
        table.add_row(kind, *sizes, *(f"{wait * 1000:.0f}" for wait in waits), verdict)
    Console(width=140).print(table)
    return 0 if fine else 1


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    asyncio.run({"victim": _be_victim, "flood": _flood}[role](*rest))
