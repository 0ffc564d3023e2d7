"""The compute provider's side: which jobs are taken, their inputs, checkpoints and results."""

from __future__ import annotations

from dms.application.checkpoints.checkpoint_keeper import CheckpointKeeper, CheckpointTimes
from dms.application.deployments.compute_provider import ComputeProvider
from dms.application.inputs.input_fetcher import InputFetcher, Pace
from dms.application.inputs.input_keeper import InputKeeper
from dms.application.payments.funding import PatientCheck
from dms.application.results.results_keeper import ResultLimits, ResultsKeeper
from dms.config import Settings
from dms.domain.stranger_limits import StrangerLimits
from dms.wiring.base import LEAST_KEEP_DAYS, MIB, SECONDS_A_DAY, Base


def build_compute_provider(base: Base) -> ComputeProvider:
    settings = base.settings
    patient = PatientCheck(base.funding, settings.funding.timeout_seconds, base.now)
    return ComputeProvider(
        base.event_log,
        base.device,
        base.executor,
        base.outputs,
        base.identity,
        _build_checkpoint_keeper(base),
        _build_input_keeper(base),
        _build_results_keeper(base),
        base.clock,
        base.refusals,
        base.budgets,
        base.acquaintances,
        confined=base.executor.name == "docker",
        run_unconfined_for_peers=settings.job.allow_process_for_peers,
        funding=patient if settings.funding.check != "trust" else None,
        strangers=_stranger_limits(settings),
        loops=base.loops,
    )


def _stranger_limits(settings: Settings) -> StrangerLimits:
    strangers = settings.strangers
    return StrangerLimits(
        max_minutes=strangers.max_minutes,
        max_cpu_mhz=strangers.max_cpu_mhz,
        max_memory_mb=strangers.max_memory_mb,
        max_jobs=strangers.max_jobs,
        max_share_percent=strangers.max_share,
        trusts_payments=strangers.trust_payments,
    )


def _build_input_keeper(base: Base) -> InputKeeper:
    job = base.settings.job
    fetcher = InputFetcher(base.web, base.exchange, base.input_files, Pace(patience_seconds=job.input_patience))
    return InputKeeper(base.event_log, base.executor, base.web, fetcher, base.input_files, job.input_max_mb * MIB)


def _build_checkpoint_keeper(base: Base) -> CheckpointKeeper:
    job = base.settings.job
    times = CheckpointTimes(
        interval_seconds=job.log_update_interval * 60,
        keep_seconds=job.cleanup_interval * SECONDS_A_DAY,
        max_bytes=job.checkpoint_max_mb * MIB,
    )
    return CheckpointKeeper(
        base.event_log, base.executor, base.checkpoint_files, base.exchange, base.now, times, base.loops
    )


def _build_results_keeper(base: Base) -> ResultsKeeper:
    job = base.settings.job
    limits = ResultLimits(
        max_bytes=job.results_max_mb * MIB, keep_seconds=max(job.cleanup_interval, LEAST_KEEP_DAYS) * SECONDS_A_DAY
    )
    return ResultsKeeper(base.event_log, base.executor, base.result_files, base.exchange, base.now, limits, base.loops)
