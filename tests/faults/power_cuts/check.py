"""What must hold of a disk after a power cut, whatever was lost of what was not synced."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from msgspec import Struct

from dms.adapters.eventlog.audit import check_signatures
from dms.adapters.eventlog.log import SQLiteEventLog
from dms.adapters.eventlog.mapper import LogStore
from dms.adapters.eventlog.recorder import LogRecorder
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.eventlog.verifier import Verifier
from dms.adapters.p2p.identity import verify_signature
from dms.adapters.views.sqlite import SQLiteViews
from dms.bootstrap import build
from dms.config import General, Job, Rest, Settings
from dms.domain.api_token import Role
from dms.domain.deployment import Deployment
from dms.domain.erasure import Erasure
from dms.domain.event import Recorded
from dms.domain.job import Job as JobAggregate
from dms.domain.retry import job_of
from dms.errors import DmsError
from dms.keys import ADDRESS_KEY, NODE_KEY, node_identity, token_key
from dms.offline import Audit
from dms.wiring.overrides import Overrides
from projections.all import all_projections
from tests.faults.power_cuts.images import Cut, RecordedDisk, write_image
from tests.faults.power_cuts.recording import Ledger, Recording
from tests.fixtures.local_peers import LOCAL
from tests.integration.http.node import FixedHardware

IMAGES_A_TASK = 100
MOST_EVENTS = 100_000


class Case(Struct, frozen=True, kw_only=True):
    """An image. daemon: a whole one is started on it."""

    role: str
    step: int
    cut: Cut
    seed: int
    daemon: bool = False


class Lost(AssertionError):
    """Something that must be there after a power cut is not."""


def sampled(recordings: Sequence[Recording], count: int, daemons: int, seed: int) -> list[Case]:
    """As many of each role, spread over all its steps; each kind of cut in turn."""
    random, cases, cuts = Random(seed), list[Case](), list(Cut)
    for recording in recordings:
        share, steps = count // len(recordings), len(recording.steps)
        for number in range(share):
            step = 1 + (number * steps + random.randrange(steps)) // share
            daemon = number % max(1, share * len(recordings) // max(1, daemons)) == 0
            cut = cuts[number % len(cuts)]
            cases.append(
                Case(role=recording.role, step=min(step, steps), cut=cut, seed=random.getrandbits(32), daemon=daemon)
            )
    return cases


def failures(recordings: Sequence[Recording], cases: Sequence[Case], folder: Path) -> Iterator[tuple[Case, str]]:
    """folder: for the images, one at a time."""
    for recording in recordings:
        disk = RecordedDisk()
        for case in sorted((c for c in cases if c.role == recording.role), key=lambda c: c.step):
            while disk.step < case.step:
                disk.take(recording.steps[disk.step])
            image = folder / f"{case.role}-{case.step}-{case.seed}"
            image.mkdir()
            write_image(image, disk.image(case.cut, Random(case.seed)), disk.folders)
            try:
                check(image, recording.ledger, case)
            except (Lost, DmsError) as error:
                yield case, f"{type(error).__name__}: {error}"
            shutil.rmtree(image)


def failures_beside(recordings: Sequence[Recording], cases: Sequence[Case], workers: int) -> Iterator[tuple[Case, str]]:
    """The same in processes of their own."""
    tasks = [cases[at : at + IMAGES_A_TASK] for at in range(0, len(cases), IMAGES_A_TASK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for found in pool.map(_failures, [recordings] * len(tasks), tasks):
            yield from found


def _failures(recordings: Sequence[Recording], cases: Sequence[Case]) -> list[tuple[Case, str]]:
    memory = Path("/dev/shm")  # images are many, and nothing waits for a disk here
    with TemporaryDirectory(prefix="dms-images-", dir=memory if memory.is_dir() else None) as folder:
        return list(failures(recordings, cases, Path(folder)))


def check(image: Path, ledger: Ledger, case: Case) -> None:
    """Raises Lost; DmsError when it can't be started on."""
    recorder = SQLiteRecorder(image / "events.db")
    try:
        list(Verifier(recorder).chain())
        Verifier(recorder).keys()
        Verifier(recorder).structure()
        list(check_signatures(LogStore(recorder), verify_signature))
        _check_told(recorder, ledger, case.step)
        _check_keys(image, recorder, ledger, case.step)
        events = list(LogStore(recorder).read(0, MOST_EVENTS))
        _check_archives(image, events)
        _check_erased(recorder, events)
    finally:
        recorder.close()
    asyncio.run(_start(image) if case.daemon else _fold(image))
    # An erasure that was on its way makes the views anew, once a daemon goes on with it.
    _check_as_an_auditor(image, views=bool(events) and (case.daemon or not _is_erasing(events)))


def _check_told(recorder: LogRecorder, ledger: Ledger, step: int) -> None:
    told = [one for one in ledger.told if one.step <= step]
    if told and recorder.head < told[-1].position:
        raise Lost(f"position {told[-1].position} was told at step {told[-1].step}, the log ends at {recorder.head}")
    if told and recorder.previous_hash(told[-1].position + 1).hex() != told[-1].link:
        raise Lost(f"position {told[-1].position} is another event than the one that was told")
    for at, stream in ledger.acknowledged:
        if at <= step and not recorder.read_stream(stream):
            raise Lost(f"{stream} was acknowledged at step {at}, and is not there")


def _check_keys(image: Path, recorder: LogRecorder, ledger: Ledger, step: int) -> None:
    found = node_identity(image / NODE_KEY, recorder, image).peer_id
    if step >= ledger.known_at and found != ledger.peer_id:
        raise Lost(f"it is {found} now, and was known as {ledger.peer_id}")
    was = (image / ADDRESS_KEY).exists()
    token_key(image / ADDRESS_KEY, recorder)
    if step >= ledger.known_at and not was:
        raise Lost("the key of the output logs' addresses is gone")


def _check_erased(recorder: SQLiteRecorder, events: Sequence[Recorded]) -> None:
    """A key that was destroyed does not come back."""
    scopes = {one.key: one.event.scopes for one in events if isinstance(one.event, Erasure.Requested)}
    done = {scope for one in events if isinstance(one.event, Erasure.Completed) for scope in scopes[one.key]}
    for _, scope, destroyed, *_ in recorder.key_rows():
        if scope in done and not destroyed:
            raise Lost(f"the key of {scope} is there again, which was erased")


def _check_archives(image: Path, events: Sequence[Recorded]) -> None:
    """What the log says to be there: checkpoints and results, with the digest that was recorded."""
    erased = {scope for one in events if isinstance(one.event, Erasure.Requested) for scope in one.event.scopes}
    wanted: dict[tuple[str, str], set[str]] = {}
    offered: dict[tuple[str, str], set[str]] = {}
    for one in events:
        key, event = one.key, one.event
        match event:
            case JobAggregate.ResultsReceived():
                wanted["received_results", event.name] = {event.sha256}
            case JobAggregate.ResultsRemoved():
                wanted.pop(("received_results", f"{key}.tar.gz"), None)
            case JobAggregate.CheckpointOffered():  # its archive comes before the event that it is here
                offered.setdefault(("received_checkpoints", f"{key}.tar.gz"), set()).add(event.sha256)
            case JobAggregate.CheckpointReceived():
                wanted["received_checkpoints", event.name] = {event.sha256}
            case Deployment.ResultsSaved():
                wanted["created_results", event.name] = {event.sha256}
            case Deployment.ResultsDelivered() | Deployment.ResultsDeleted():
                wanted.pop(("created_results", f"{key}.tar.gz"), None)
            case JobAggregate.ServiceRequested() if event.resume is not None:
                wanted["resumes/out", f"{key}.tar.gz"] = {event.resume.sha256}
            case JobAggregate.Completed() | JobAggregate.Failed() | JobAggregate.Expired():
                wanted.pop(("resumes/out", f"{key}.tar.gz"), None)
    for (folder, name), digests in wanted.items():
        path = image / folder / name
        if job_of(name.partition(".")[0]) in erased:
            continue
        if not path.is_file():
            raise Lost(f"{folder}/{name} is not there, which the log says to be")
        if hashlib.sha256(path.read_bytes()).hexdigest() not in digests | offered.get((folder, name), set()):
            raise Lost(f"{folder}/{name} is not what the log says")


async def _fold(image: Path) -> None:
    event_log = SQLiteEventLog(image / "events.db")
    await event_log.start()
    try:
        views = SQLiteViews(image / "views.db", event_log, all_projections())
        await views.start()
        await views.close()
    finally:
        await event_log.close()


async def _start(image: Path) -> None:
    """A whole daemon, which takes up what was open, and takes a command."""
    settings = Settings(
        general=General(data_dir=image, work_dir=image), rest=Rest(port=0), p2p=LOCAL,
        job=Job(executor="process", allow_process_for_peers=True),
    )  # fmt: skip
    daemon = await build(settings, Overrides(hardware=FixedHardware()))
    await daemon.start()
    try:
        if trouble := daemon.parts.event_log.trouble:
            raise Lost(f"it started, and says: {trouble}")
        await daemon.services.tokens.create("after-the-cut", Role.READ)
        async with asyncio.timeout(120):
            while await daemon._open_erasures():
                await asyncio.sleep(0.01)
            await daemon.parts.views.wait(daemon.services.log.head)  # an auditor asks for them next
    finally:
        await daemon.close()


def _is_erasing(events: Sequence[Recorded]) -> bool:
    ended = {one.key for one in events if isinstance(one.event, Erasure.Completed)}
    return any(isinstance(one.event, Erasure.Requested) and one.key not in ended for one in events)


def _check_as_an_auditor(image: Path, *, views: bool) -> None:
    audit = Audit(image / "events.db")
    try:
        names = list(audit.views()) if views else []
        if views and len(names) != len(all_projections()):
            raise Lost(f"of the views only {names} were made anew")
        for last in list(audit.outputs())[-1:]:
            if last.faults or last.not_here:
                raise Lost(f"sealed outputs: {last.not_here} are gone, {'; '.join(last.faults)}")
    finally:
        audit.close()
