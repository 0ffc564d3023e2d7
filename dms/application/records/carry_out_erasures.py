"""Carries out what was decided to be erased: destroys the keys of the jobs, transfers and the like that tell of a
person, and removes outputs, checkpoints, inputs and received files. Each step is safe to repeat: a crash is a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dms.application.checkpoints.checkpoint_files import CheckpointFiles
from dms.application.device.refusals import Refusals
from dms.application.files.user_files import Inbox
from dms.application.inputs.input_files import InputFiles
from dms.application.loops import said
from dms.application.ports.event_log import EventLog, ViewStore
from dms.application.ports.outputs import OutputStore
from dms.application.reactors import News, Reactor
from dms.application.records.personal import personal_texts
from dms.application.records.redaction import black_out, forms
from dms.application.results.result_files import ResultFiles
from dms.domain.deployment import Deployment
from dms.domain.device import Device
from dms.domain.directory import Provider
from dms.domain.erasure import Erasure
from dms.domain.sealing import ERASED, streams_of
from dms.domain.transfer import Direction, Transfer
from dms.errors import Unavailable
from dms.long_work import long_work

log = logging.getLogger(__name__)

PAGE = 2000
SHORTEST_WORD = 6  # shorter texts are not blacked out in the DMS's own log: they say nothing by themselves

Done = tuple[int, int]
"""(keys destroyed, files removed)"""


class CarryOutErasures(Reactor[Erasure]):
    name = "erasures"
    kind = Erasure

    def __init__(
        self,
        event_log: EventLog,
        views: ViewStore,
        outputs: OutputStore,
        checkpoints: CheckpointFiles,
        results: ResultFiles,
        inputs: InputFiles,
        inbox: Inbox,
        refusals: Refusals,
        data_dir: Path,
    ) -> None:
        self._log, self._views, self._outputs = event_log, views, outputs
        self._checkpoints, self._results, self._inputs = checkpoints, results, inputs
        self._inbox, self._refusals, self._data_dir = inbox, refusals, data_dir
        self._at_work = asyncio.Lock()  # all of them rewrite the same files
        self._first: dict[str, asyncio.Future[Done]] = {}
        self._removed: Counter[str] = Counter()  # files, by erasures that are not done yet

    @contextmanager
    def first_try(self, erasure_id: str) -> Iterator[asyncio.Future[Done]]:
        """What the first try comes to, or Unavailable, for who decides it; it goes on also when nobody waits."""
        self._first[erasure_id] = asyncio.get_running_loop().create_future()
        try:
            yield self._first[erasure_id]
        finally:
            self._first.pop(erasure_id).cancel()

    def due(self, aggregate: Erasure) -> bool:
        return not aggregate.completed

    async def react(self, aggregate: Erasure, news: News) -> None:
        try:
            async with self._at_work:
                done = await self._carry_out(aggregate)
        except OSError as error:
            self._failed(aggregate, error)
            raise Unavailable(f"{error.filename}: {error.strerror}") from error
        except Exception as error:
            self._failed(aggregate, error)
            raise
        if (first := self._first.get(aggregate.key)) is not None and not first.done():
            first.set_result(done)

    async def give_up(self, aggregate: Erasure, error: Exception) -> None:
        """It stays decided, and stays to be seen as not done: the next start tries again."""

    def _failed(self, erasure: Erasure, error: Exception) -> None:
        first = self._first.get(erasure.key)
        if first is not None and not first.done():
            text = f"erasure {erasure.key} is decided and not done yet, it is tried again: {said(error)}"
            first.set_exception(Unavailable(text))
            first.exception()  # seen: a caller that went away is not an error of its own

    async def _carry_out(self, erasure: Erasure) -> Done:
        """What needs the keys comes before their end."""
        words: set[str] = set()
        for scope in erasure.scopes:
            words |= await self._words(scope)
            self._removed[erasure.key] += await self._remove_files(scope)
        logs = sorted(self._data_dir.glob("dms.log*"))
        long_ones = [word for word in words if len(word) >= SHORTEST_WORD]
        self._refusals.forget({*erasure.scopes, *long_ones})
        await long_work(black_out, logs, forms(long_ones))
        keys = await self._log.destroy_seal_keys(erasure.scopes)
        await self._views.renew()
        erasure = self._log.load(Erasure, erasure.key) or erasure  # anew after a failed write
        files = self._removed[erasure.key]
        erasure.complete(keys, files)
        await self._log.save(erasure)
        del self._removed[erasure.key]
        log.info("erasure %s is done: %d keys destroyed, %d files removed", erasure.key, keys, files)
        return keys, files

    async def _words(self, scope: str) -> set[str]:
        """The personal texts under the scope's key."""
        found: set[str] = set()
        for stream in streams_of(scope):
            after = 0
            while page := await self._log.read(after, PAGE, stream=stream):
                for recorded in page:
                    found.update(personal_texts(recorded))
                after = page[-1].position
        return found - {ERASED}

    async def _remove_files(self, scope: str) -> int:
        kind, _, key = scope.partition("-")
        if kind == Transfer.KIND:
            transfer = self._log.load(Transfer, key)
            return await asyncio.to_thread(self._remove_received, transfer) if transfer else 0
        if kind in (Provider.KIND, Device.KIND):
            return 0
        count = int(await self._outputs.drop(scope))
        where = self._checkpoints
        paths = (where.created(scope), where.received(scope), where.resume_out(scope), where.resume_in(scope))
        count += sum(path.exists() for path in paths)
        await asyncio.to_thread(where.drop, *paths, where.incoming(scope))
        results = self._results
        count += sum(path.exists() for path in (results.created(scope), results.received(scope)))
        await asyncio.to_thread(results.drop_of, scope)
        return count + await asyncio.to_thread(self._remove_inputs, scope)

    def _remove_inputs(self, scope: str) -> int:
        """Those that were kept for other jobs that ask for the same, too."""
        deployment = self._log.load(Deployment, scope)
        if deployment is None or deployment.request is None:
            return 0
        self._inputs.forget(scope)
        peer = deployment.service_provider
        return sum(self._inputs.drop(one.source(peer), one.sha256) for one in deployment.request.params.inputs)

    def _remove_received(self, transfer: Transfer) -> int:
        self._inbox.forget(transfer.key)
        if transfer.direction is not Direction.IN or transfer.saved_as in ("", ERASED):
            return 0
        return int(self._inbox.discard(transfer.saved_as))
