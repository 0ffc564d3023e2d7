"""Sends the spans of jobs that have ended to an OpenTelemetry collector (OTLP over HTTP, protobuf).

A subscriber of the log with its own position, kept in a file: a collector that is away delays spans and
loses none, a crash at worst sends the same ones again. What is sent where is set by the standard
OTEL_* variables, which OpenTelemetry's SDK reads by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from dms.application.loops import Loop, Loops
from dms.application.ports.event_log import EventLog
from dms.application.records.spans import ENDS, Span, spans
from dms.backoff import Backoff
from dms.disk import write_file
from dms.domain.event import Recorded

log = logging.getLogger(__name__)

STREAM_EVENTS = 10_000  # of a longer history only so many are looked at
RETRY_SECONDS = (1.0, 60.0)
KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "server": SpanKind.SERVER}
NANOSECONDS = 1000  # in a microsecond


class Tracer:
    """`start`, then it works until `close`."""

    def __init__(
        self,
        event_log: EventLog,
        peer_id: str,
        state: Path,
        exporter: SpanExporter | None = None,
        loops: Loops | None = None,
    ) -> None:
        """state: a file of its own. exporter: OTLP over HTTP, as OTEL_* says, unless given."""
        self._log, self._state = event_log, state
        self._exporter = exporter or OTLPSpanExporter()
        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        own = {"service.version": version("nunet-dms"), "service.instance.id": peer_id}
        self._resource = Resource.create(own if named else own | {"service.name": "nunet-dms"})
        self._scope = InstrumentationScope("dms", version("nunet-dms"))
        self.position = 0
        self._loops = loops or Loops()
        self._following: Loop | None = None

    async def start(self) -> None:
        """The first time: with what happens from now on."""
        saved = await asyncio.to_thread(self._load)
        self.position = saved if saved is not None and saved <= self._log.head else self._log.head
        self._following = self._loops.start("traces", self._run)

    async def close(self) -> None:
        if self._following is not None:
            await self._following.close()
        await asyncio.to_thread(self._exporter.shutdown)

    async def _run(self) -> None:
        async with aclosing(self._log.subscribe(self.position, topics=ENDS)) as batches:
            async for batch in batches:
                await self._send(batch)

    async def _send(self, ends: Sequence[Recorded]) -> None:
        made: list[Span] = []
        for end in ends:
            events = await self._log.read(0, STREAM_EVENTS, stream=end.originator_id)
            try:
                made += spans(events)
            except Exception:  # one job must not keep the spans of all others
                log.exception("no spans of %s", end.originator_id, extra={"action": "span_failed"})
        if made:
            await self._export([self._readable(span) for span in made])
        self.position = ends[-1].position
        await asyncio.to_thread(self._save, self.position)

    async def _export(self, readable: list[ReadableSpan]) -> None:
        """Until the collector has taken them."""
        backoff = Backoff(*RETRY_SECONDS)
        while await asyncio.to_thread(self._exporter.export, readable) is not SpanExportResult.SUCCESS:
            log.warning("spans wait: the collector does not take them", extra={"action": "traces_wait"})
            await asyncio.sleep(backoff.next())

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            context=self._context(span.trace_id, span.span_id, remote=False),
            parent=self._context(span.trace_id, span.parent, remote=span.kind == "server") if span.parent else None,
            resource=self._resource,
            attributes=span.attributes,
            events=[
                SpanEvent(moment.topic, {"dms.position": moment.position}, moment.time * NANOSECONDS)
                for moment in span.moments
            ],
            kind=KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
            start_time=span.start * NANOSECONDS,
            end_time=span.end * NANOSECONDS,
            instrumentation_scope=self._scope,
        )

    @staticmethod
    def _context(trace_id: bytes, span_id: bytes, *, remote: bool) -> SpanContext:
        return SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), remote, TraceFlags(TraceFlags.SAMPLED))

    def _load(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self._state.read_text())
        return None

    def _save(self, position: int) -> None:
        """Losing the newest only sends spans again, so no fsync."""
        write_file(self._state, b"%d\n" % position, durable=False)
