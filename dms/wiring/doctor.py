"""The examination of this machine, by the daemon or without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dms.adapters.hardware.nvidia import NvidiaGpus
from dms.adapters.hardware.probe import HardwareProbe
from dms.adapters.hardware.probed import ProbedHardware
from dms.adapters.service.machine import Machine
from dms.application.device.doctor import Doctor
from dms.application.device.sandbox import LoneSandbox, SandboxWatch
from dms.config import Settings
from dms.keys import ADDRESS_KEY, NODE_KEY
from dms.wiring.base import Base
from dms.wiring.engine import build_executor
from dms.wiring.overrides import now_us


def build_doctor(base: Base, sandbox: SandboxWatch) -> Doctor:
    return Doctor(base.executor, _machine_of(base.settings), sandbox, lambda: base.network.listen_addresses, base.now)


def _machine_of(settings: Settings) -> Machine:
    data_dir, work_dir = settings.general.data_dir, settings.general.work_dir
    named = [Path(settings.general.key_passphrase_file)] if settings.general.key_passphrase_file else []
    return Machine(
        {"the event log": data_dir, "the node's key": work_dir}, (work_dir / NODE_KEY, data_dir / ADDRESS_KEY, *named)
    )


@asynccontextmanager
async def doctor_alone(settings: Settings) -> AsyncIterator[Doctor]:
    """Of a DMS that does not run: nothing is recorded. Raises ConfigError."""
    capacity = await asyncio.to_thread(ProbedHardware(HardwareProbe(), NvidiaGpus()).capacity)
    executor = build_executor(settings, "nunet-doctor", capacity)
    try:
        yield Doctor(executor, _machine_of(settings), LoneSandbox(executor), None, now_us)
    finally:
        await executor.close()
