"""What tests put in the place of parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dms.adapters.eventlog.recorder import LogRecorder
from dms.adapters.eventlog.sqlite import SQLiteRecorder
from dms.adapters.p2p.identity import Identity
from dms.application.ports.executor import Executor
from dms.application.ports.funding import FundingCheck
from dms.application.ports.machine import Hardware
from dms.application.ports.peers import Host
from dms.clock import machine_clock
from dms.daemon import Server
from dms.domain.run_time import Instant


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Overrides:
    """What tests put in the place of parts; None leaves the daemon's own. now: Unix time, microseconds; clock: of this
    machine, for the time of runs; executor: by the id of this node; recorder: of the log in that file."""

    now: Callable[[], int] = now_us
    clock: Callable[[], Instant] = machine_clock
    hardware: Hardware | None = None
    network: Callable[[Identity], Host] | None = None
    executor: Callable[[str], Executor] | None = None
    funding: FundingCheck | None = None
    recorder: Callable[[Path], LogRecorder] = SQLiteRecorder
    server: Server | None = None
