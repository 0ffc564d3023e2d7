"""The service provider's side: jobs asked of others, and what comes back of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dms.adapters.executors.archive_opener import open_archive
from dms.adapters.executors.workspace_archive import check_archive
from dms.application.checkpoints.checkpoint_receiver import CheckpointReceiver
from dms.application.inputs.own_inputs import OwnInputs
from dms.application.jobs.service_provider import ServiceProvider, Timeouts
from dms.application.network.directory import Directory
from dms.application.ports.executor import ArchivedFile
from dms.application.results.results_receiver import ReceiverLimits, ResultsReceiver
from dms.domain.checkpoint import LARGEST_BYTES
from dms.long_work import long_work
from dms.wiring.base import LEAST_KEEP_DAYS, MIB, SECONDS_A_DAY, Base
from dms.wiring.files import build_outbox


def build_service_provider(
    base: Base, directory: Directory, receiver: CheckpointReceiver, results: ResultsReceiver
) -> ServiceProvider:
    job = base.settings.job
    timeouts = Timeouts(
        funding_window=job.funding_window,
        answer=job.answer_timeout,
        provider_grace=job.provider_grace,
        funding_check=base.settings.funding.timeout_seconds,
    )
    return ServiceProvider(
        base.event_log,
        base.device,
        directory,
        base.network,
        base.outputs,
        base.identity,
        base.funding,
        receiver,
        results,
        OwnInputs(base.event_log, base.exchange, build_outbox(base)),
        base.now,
        base.clock,
        timeouts,
        base.budgets,
        job.target_peer,
        base.settings.rest.max_unpaid_jobs,
    )


def build_checkpoint_receiver(base: Base) -> CheckpointReceiver:
    return CheckpointReceiver(
        base.event_log,
        base.network,
        base.checkpoint_files,
        base.exchange,
        _check_archive,
        base.now,
        grace_seconds=base.settings.job.provider_grace,
        max_bytes=base.settings.job.checkpoint_max_mb * MIB,
    )


def build_results_receiver(base: Base) -> ResultsReceiver:
    job = base.settings.job
    limits = ReceiverLimits(
        max_bytes=job.results_max_mb * MIB,
        fetch_seconds=LEAST_KEEP_DAYS * SECONDS_A_DAY,
        keep_seconds=job.results_keep_days * SECONDS_A_DAY,
    )
    return ResultsReceiver(
        base.event_log,
        base.network,
        base.result_files,
        base.checkpoint_files,
        base.exchange,
        _check_archive,
        base.now,
        limits,
        base.loops,
    )


async def _check_archive(archive: Path, max_bytes: int) -> None:
    """Raises ArchiveRefused."""
    await long_work(check_archive, archive, max_bytes)


async def open_kept_archive(archive: Path, into: Path) -> Sequence[ArchivedFile]:
    """Raises ArchiveRefused, ExecutionError; ExecutorUnavailable and DiskTrouble for want of disk. What is here was
    checked when it came: only its own size and the disk bound it."""
    return await long_work(open_archive, archive, into, LARGEST_BYTES)
