"""OpenTelemetry spans of a router's requests, where `tracing.endpoint` names a collector.

Spans are made when a request is over, from the moments that were taken anyway (cluster/search_times.py): a span for the
request, one for each phase of a search, one for each shard's answer within `gather`. So a router without tracing pays for
one comparison a request, and one with it pays most for what is sampled. A `traceparent` header (W3C) is continued, and
its flag decides about sampling; without it `tracing.sample_fraction` of the requests are sampled.

The packages are an extra: `pip install 'shoal-cluster[tracing]'`. Export runs on a thread of the SDK; what a collector that is
away can't take is dropped by it.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

from cluster.search_times import PHASES, phase_seconds
from deployments.http_message import Reply, Request
from deployments.log_settings import TracingSettings
from shards.errors import InvalidRequest

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

EXPORTER = "opentelemetry.exporter.otlp.proto.http"


def check_installed(settings: TracingSettings) -> None:
    """Raises InvalidRequest where traces are wanted and the packages that send them are missing."""
    if settings.endpoint is None:
        return
    try:
        is_there = find_spec("opentelemetry.sdk") is not None and find_spec(EXPORTER) is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise InvalidRequest(
            f"tracing.endpoint is {settings.endpoint}, but the packages that send traces are not installed: "
            "pip install 'shoal-cluster[tracing]'"
        )


def start_tracing(settings: TracingSettings, router: str, version: str) -> Tracing | None:
    """Send spans to the endpoint; None where there is none. Raises InvalidRequest as `check_installed`."""
    if settings.endpoint is None:
        return None
    check_installed(settings)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint))
    return Tracing(exporter, settings.sample_fraction, {"service.instance.id": router, "service.version": version})


class Tracing:
    """One per router. `about`: attributes of all of its spans."""

    def __init__(self, processor: SpanProcessor, sample_fraction: float, about: dict[str, str]) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_fraction)),
            resource=Resource.create({"service.name": "shoal", **about}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("shoal")
        self._propagator = TraceContextTextMapPropagator()

    def record(self, request: Request, reply: Reply, route: str, ended: float) -> None:
        """The spans of a request whose reply is made; `ended` is a perf_counter value."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        clock = _Clock(time.time_ns(), perf_counter())
        method, _, path = route.partition(" ")
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "http.route": path,
            "http.response.status_code": reply.status,
        }
        if request.collection.name:
            attributes["db.collection.name"] = request.collection.name
        span = self._tracer.start_span(
            route, self._parent(request), SpanKind.SERVER, attributes, start_time=clock.ns(request.started)
        )
        if span.is_recording():
            if reply.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            self._record_search(span, request, clock, ended)
        span.end(clock.ns(ended))

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def _parent(self, request: Request) -> Context | None:
        given = request.header(b"traceparent")
        if not given:
            return None
        carrier = {
            "traceparent": given.decode("latin-1"),
            "tracestate": request.header(b"tracestate").decode("latin-1"),
        }
        return self._propagator.extract(carrier)

    def _record_search(self, whole: Span, request: Request, clock: _Clock, ended: float) -> None:
        from opentelemetry.trace import set_span_in_context

        times = request.times
        if times is None:
            return
        inside, at = set_span_in_context(whole), request.started
        phases = phase_seconds(request.started, times, ended, request.waited_s)
        for name, seconds in zip(PHASES, phases, strict=True):
            span = self._tracer.start_span(name, inside, start_time=clock.ns(at))
            if name == "gather":
                for shard_id, answered in times.fan_out.shards:
                    shard = self._tracer.start_span(
                        "shard", set_span_in_context(span), start_time=clock.ns(times.fan_out.began)
                    )
                    shard.set_attribute("shoal.shard", shard_id)
                    shard.end(clock.ns(answered))
            at += seconds
            span.end(clock.ns(at))


class _Clock:
    """perf_counter values as nanoseconds since 1970."""

    def __init__(self, now_ns: int, now: float) -> None:
        self._now_ns = now_ns
        self._now = now

    def ns(self, at: float) -> int:
        return self._now_ns - int((self._now - at) * 1e9)
