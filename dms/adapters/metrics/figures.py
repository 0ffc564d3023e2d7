"""What /metrics shows. Gauges are read when they are asked for; counters and histograms count from the
start of the process, as Prometheus expects, by following the log."""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from dms.adapters.metrics.histogram import Histogram
from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.ports.operations import Relay
from dms.application.ports.peers import PeerNetwork
from dms.domain.deployment import Deployment
from dms.domain.event import Recorded
from dms.domain.job import Job
from dms.domain.resources import Resources
from dms.errors import LogUnavailable
from projections.base import LiveViews
from projections.capacity import OWN, Capacity, CapacityRow
from projections.jobs import OPEN_STATUSES, Jobs

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
JOB_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600, 3 * 24 * 3600)
SP, CP = "service provider", "compute provider"
_ENDS: dict[str, tuple[str, str]] = {
    Job.Completed.TOPIC: (SP, "completed"),
    Job.Failed.TOPIC: (SP, "failed"),
    Job.Expired.TOPIC: (SP, "expired"),
    Deployment.Rejected.TOPIC: (CP, "rejected"),
    Deployment.Failed.TOPIC: (CP, "failed"),
    Deployment.Stopped.TOPIC: (CP, "stopped"),
    Deployment.ContainerExited.TOPIC: (CP, "exited"),
}
RELAY_STATES = ("connecting", "connected", "refused")


class Figures(Collector):
    """Implements application.ports.operations.Metrics. `start`, then `render` when asked."""

    def __init__(
        self,
        event_log: EventLog,
        views: LiveViews,
        network: PeerNetwork,
        relay: Relay | None,
        files: Sequence[Path],
        ready: Callable[[], str | None],
        hindrance: Callable[[], str],
        refused: Mapping[tuple[str, str], int],
        loops: Loops | None = None,
    ) -> None:
        """files: of the event log. hindrance: why the device can run no jobs just now; empty when it can.
        refused: how often peers asked for more than their budgets: by kind, and by "known" or "stranger"."""
        self._log, self._views, self._network = event_log, views, network
        self._relay, self._files, self._ready, self._hindrance = relay, files, ready, hindrance
        self._refused = refused
        self._appended, self._commits, self._batches = Histogram(SECONDS), Histogram(SECONDS), Histogram(EVENTS)
        self._durations = {role: Histogram(JOB_SECONDS) for role in (SP, CP)}
        self._topics: Counter[str] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._position = 0
        self._own: CapacityRow | None = None
        self._open: Mapping[tuple[Any, ...], int] = {}
        self._known = 0
        self._readers: Mapping[str, int] = {}
        self._clients: Mapping[str, int] = {}
        self._loops = loops or Loops()
        self._following: Loop | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def start(self) -> None:
        self._position = self._log.head
        self._following = self._loops.start("metrics", self._follow)

    async def close(self) -> None:
        if self._following is not None:
            await self._following.close()

    def committed(self, events: int, commit_seconds: float, oldest_seconds: float) -> None:
        """Called by the log for each commit. oldest_seconds: from the first command's save to its answer."""
        self._batches.observe(events)
        self._commits.observe(commit_seconds)
        self._appended.observe(oldest_seconds)

    async def render(self, accept: str, readers: Mapping[str, int], clients: Mapping[str, int]) -> tuple[bytes, str]:
        self._readers, self._clients = readers, clients
        with suppress(LogUnavailable):  # what was read last is shown until the views are there again
            self._own = await self._views.get(Capacity(), OWN)
            still_open = {"status": ("requested", *OPEN_STATUSES)}
            totals = await self._views.totals(Jobs(), ("status", "role"), still_open)
            self._open = {values: jobs for values, (jobs,) in totals.items()}
            ((known,),) = (await self._views.totals(Capacity(), (), {})).values()
            self._known = known - (self._own is not None)
        encode, content_type = exposition.choose_encoder(accept)
        return encode(self._registry), content_type

    async def _follow(self) -> None:
        async with aclosing(self._log.subscribe(self._position)) as batches:
            async for batch in batches:
                for recorded in batch:
                    self._count(recorded)

    def _count(self, recorded: Recorded) -> None:
        self._position = recorded.position
        self._topics[recorded.topic] += 1
        end = _ENDS.get(recorded.topic)
        if end is None:
            return
        self._ended[end] += 1
        seconds = getattr(recorded.event, "duration_seconds", 0.0)
        if seconds:
            self._durations[end[0]].observe(seconds)

    # --- what is shown ---------------------------------------------------------------------------------
    def collect(self) -> Iterator[Metric]:
        yield from self._about()
        yield from self._jobs()
        yield from self._eventlog()
        yield from self._subscribers()
        yield from self._relayed()
        yield from self._around()
        yield from self._background()
        yield from self._capacity()

    def _about(self) -> Iterator[Metric]:
        info = {"version": version("nunet-dms"), "python": platform.python_version(), "peer_id": self._network.peer_id}
        yield _gauge("dms_build_info", "Version, Python and peer id; always 1.", [(info, 1)])
        yield _gauge("dms_ready", "1 when the DMS serves, 0 while it can't.", [({}, float(self._ready() is None))])

    def _jobs(self) -> Iterator[Metric]:
        statuses = ("requested", *OPEN_STATUSES)
        rows = [
            ({"role": role, "state": status}, self._open.get((status, role), 0))
            for role in (SP, CP)
            for status in statuses
        ]
        yield _gauge("dms_jobs_open", "Jobs that have not ended, by state.", rows)
        ended = [
            ({"role": role, "outcome": outcome}, self._ended[role, outcome])
            for role, outcome in sorted(set(_ENDS.values()))
        ]
        yield _counter("dms_jobs_ended", "Jobs that ended since the start.", ended)
        durations = HistogramMetricFamily(
            "dms_job_duration_seconds", "Run time of the jobs that ended.", labels=["role"]
        )
        for role, histogram in self._durations.items():
            durations.add_metric([role], histogram.buckets(), histogram.sum)
        yield durations

    def _eventlog(self) -> Iterator[Metric]:
        yield _gauge("dms_eventlog_head_position", "Position of the newest event.", [({}, self._log.head)])
        size = sum(path.stat().st_size for path in self._files if path.exists())
        yield _gauge("dms_eventlog_size_bytes", "Size of the event log's files.", [({}, size)])
        topics = [({"topic": topic}, count) for topic, count in sorted(self._topics.items())]
        yield _counter("dms_events", "Events appended since the start.", topics)
        yield _histogram(
            "dms_eventlog_append_seconds",
            "From a command's save to its answer, for the one that waited longest for each commit.",
            self._appended,
        )
        yield _histogram("dms_eventlog_commit_seconds", "Time of the commits, with their fsync.", self._commits)
        yield _histogram("dms_eventlog_batch_events", "Events in a commit.", self._batches)

    def _subscribers(self) -> Iterator[Metric]:
        positions = {f"view {name}": position for name, position in self._views.positions().items()}
        positions |= {**self._readers, "metrics": self._position}
        if self._relay is not None:
            positions["nats"] = self._relay.status.position
        head = self._log.head
        rows = [({"subscriber": name}, max(0, head - position)) for name, position in sorted(positions.items())]
        yield _gauge("dms_subscriber_lag_events", "How far a subscriber is behind the newest event.", rows)

    def _relayed(self) -> Iterator[Metric]:
        status = self._relay.status if self._relay is not None else None
        states = [({"state": state}, float(status is not None and status.state == state)) for state in RELAY_STATES]
        states.append(({"state": "off"}, float(status is None)))
        yield _gauge("dms_relay_state", "The NATS relay's state; 1 for the one it is in.", states)
        behind = self._log.head - status.position if status is not None else 0
        yield _gauge("dms_relay_backlog_events", "Events that NATS has not confirmed yet.", [({}, max(0, behind))])

    def _around(self) -> Iterator[Metric]:
        yield _gauge("dms_peers_connected", "Connected peers.", [({}, len(self._network.peers()))])
        refused = [({"kind": kind, "of": of}, count) for (kind, of), count in sorted(self._refused.items())]
        yield _counter("dms_over_budget", "What peers asked for beyond their budgets, and did not get.", refused)
        connections = self._network.refused_connections()
        yield _counter("dms_connections_refused", "Connections refused before a handshake.", [({}, connections)])
        yield _gauge("dms_providers_known", "Compute providers known, this device apart.", [({}, self._known)])
        rows = [({"kind": kind}, count) for kind, count in sorted(self._clients.items())]
        yield _gauge("dms_clients_connected", "Open websockets, and streams of events or output.", rows)

    def _background(self) -> Iterator[Metric]:
        works = {loop.name: float(loop.trouble is None) for loop in self._loops}
        rows = [({"loop": name}, value) for name, value in sorted(works.items())]
        yield _gauge("dms_loop_works", "1 while a part that works in the background does.", rows)
        deaths = [({"loop": name}, float(self._loops.deaths[name])) for name in sorted(works)]
        yield _counter("dms_loop_failures", "How often one of them ended and was begun again.", deaths)
        yield _gauge("dms_tasks", "Tasks of the event loop.", [({}, float(len(asyncio.all_tasks())))])
        left_out = self._views.left_out()
        views = [
            ({"view": name}, float(left_out[name].events if name in left_out else 0))
            for name in sorted(self._views.positions())
        ]
        yield _gauge("dms_view_left_out_events", "Events that a view could not take in.", views)

    def _capacity(self) -> Iterator[Metric]:
        own = self._own
        nothing = Resources()
        amounts = {
            "offered": own.onboarded if own else nothing,
            "reserved": own.reserved if own else nothing,
            "free": own.free if own else nothing,
        }
        for name, unit, field in (
            ("cpu_mhz", "CPU of this device, in MHz.", "cpu_mhz"),
            ("memory_bytes", "Memory of this device.", "memory_mb"),
            ("vram_bytes", "GPU memory of this device.", "vram_mb"),
        ):
            factor = 1 if name == "cpu_mhz" else 1024 * 1024
            rows = [({"of": of}, getattr(amount, field) * factor) for of, amount in amounts.items()]
            yield _gauge(f"dms_capacity_{name}", f"{unit} Offered to the network, reserved by jobs, free.", rows)
        online = float(own is not None and own.online and not self._hindrance())
        yield _gauge("dms_device_online", "1 when this device is onboarded and takes jobs.", [({}, online)])


Rows = Sequence[tuple[Mapping[str, str], float]]


def _gauge(name: str, text: str, rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(rows[0][0]) if rows else [])
    for labels, value in rows:
        family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, text: str, rows: Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=list(rows[0][0]) if rows else [])
    for labels, value in rows:
        family.add_metric(list(labels.values()), value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric([], histogram.buckets(), histogram.sum)
    return family
