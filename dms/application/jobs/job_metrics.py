"""What jobs print as figures, read from their output when somebody asks, and from then on only what came since."""

from __future__ import annotations

import asyncio

from dms.application.jobs.job_outputs import JobOutputs
from dms.domain.metrics import Metrics
from dms.recent import Recent

MOST_JOBS = 64  # of which it is remembered how far they were read
LINES_A_READ = 1_000


class _Reading:
    def __init__(self) -> None:
        self.seq = 0
        self.metrics = Metrics()
        self.lock = asyncio.Lock()


class JobMetrics:
    def __init__(self, outputs: JobOutputs) -> None:
        self._outputs = outputs
        self._readings: Recent[str, _Reading] = Recent(MOST_JOBS)

    async def of(self, job_id: str) -> Metrics:
        """Of all lines that are here now, of a job that this node asked for or runs."""
        reading = self._readings.get(job_id) or _Reading()
        self._readings[job_id] = reading
        async with reading.lock:
            if await self._outputs.last(job_id) < reading.seq:  # erased, or fetched anew
                reading.seq, reading.metrics = 0, Metrics()
            while lines := await self._outputs.read(job_id, reading.seq, LINES_A_READ):
                reading.metrics.take((line.text, line.time_ns) for line in lines)
                reading.seq = lines[-1].seq
                await asyncio.sleep(0)  # a long output must not keep the loop to itself
        return reading.metrics
