"""Spans: which, how they belong together, what is sampled, and that nothing is there where nobody wants them."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from threading import Thread

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cluster.scope import Scope
from cluster.search_times import PHASES, FanOutTimes, SearchTimes
from deployments import tracing
from deployments.http_app import HttpApp
from deployments.http_message import Headers, Reply, Request
from deployments.limits import LimitSettings
from deployments.log_settings import LogSettings, TracingSettings
from deployments.observability import ObserveSettings
from deployments.router_parts import RouterParts
from deployments.tracing import Tracing, check_installed, start_tracing
from shards.errors import InvalidRequest
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

ROUTE = "POST /collections/{collection}/points/query"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    def __init__(self, sample_fraction: float) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.exporter), sample_fraction, {"service.instance.id": "r1"})

    def record(self, headers: Headers = (), status: int = 200) -> list[ReadableSpan]:
        """The spans of a search of two shards that took 13 s."""
        fan_out = FanOutTimes(began=13.0)
        fan_out.sent = 15.0
        fan_out.shards = [(1, 16.0), (0, 19.0)]
        request = Request(Scope("words"), "", b"", b"", 10.0, named="words", headers=headers)
        request.times = SearchTimes(12.0, fan_out, answered=19.5, merged=20.5)
        self.tracing.record(request, Reply(b"", status), ROUTE, 23.0)
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def traced() -> Iterator[Traced]:
    found = Traced(1.0)
    yield found
    found.tracing.close()


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_search_is_a_tree_of_spans(traced: Traced) -> None:
    spans = traced.record()
    by_name = {span.name: span for span in spans}
    whole = by_name[ROUTE]
    assert (whole.kind, whole.parent) == (SpanKind.SERVER, None)
    assert dict(whole.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/collections/{collection}/points/query",
        "http.response.status_code": 200,
        "db.collection.name": "words",
    }
    assert whole.resource.attributes["service.name"] == "shoal"
    assert [seconds(by_name[name]) for name in PHASES] == pytest.approx([2, 1, 2, 4.5, 1, 2.5], abs=1e-6)
    assert seconds(whole) == pytest.approx(13, abs=1e-6)
    for name in PHASES:
        parent = by_name[name].parent
        assert parent is not None
        assert parent.span_id == whole.context.span_id
    shards = {(span.attributes or {})["shoal.shard"]: seconds(span) for span in spans if span.name == "shard"}
    assert shards == pytest.approx({1: 3.0, 0: 6.0})


def test_a_caller_s_trace_is_continued(traced: Traced) -> None:
    spans = traced.record([(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())])
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    parent = spans[-1].parent
    assert parent is not None
    assert f"{parent.span_id:016x}" == PARENT


@pytest.mark.parametrize("headers", [[], [(b"traceparent", f"00-{TRACE}-{PARENT}-00".encode())]])
def test_what_is_not_sampled_leaves_nothing(headers: Headers) -> None:
    assert Traced(0.0).record(headers) == []


def test_a_caller_may_have_its_request_sampled() -> None:
    assert len(Traced(0.0).record([(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())])) == 1 + len(PHASES) + 2


def test_a_broken_header_begins_a_new_trace(traced: Traced) -> None:
    assert traced.record([(b"traceparent", b"\xff nonsense")])[-1].parent is None


def test_a_failure_is_marked(traced: Traced) -> None:
    assert traced.record(status=503)[-1].status.status_code is StatusCode.ERROR


def test_nobody_who_wants_no_traces_has_any() -> None:
    assert start_tracing(TracingSettings(), "r1", "0") is None


def test_missing_packages_are_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name == tracing.EXPORTER else ModuleSpec(name, None)

    monkeypatch.setattr(tracing, "find_spec", find)
    check_installed(TracingSettings())
    with pytest.raises(InvalidRequest, match=r"pip install 'shoal-cluster\[tracing\]'"):
        check_installed(TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces"))


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """The endpoint of a collector, and the bodies that it was sent."""
    sent: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", sent
        server.shutdown()
        thread.join()


def test_an_application_sends_its_spans(collector: tuple[str, list[bytes]]) -> None:
    endpoint, sent = collector
    settings = ObserveSettings(LogSettings(), TracingSettings(endpoint=endpoint, sample_fraction=1))
    app = HttpApp(FakeCluster(), LimitSettings(), "0", None, RouterParts(observe=settings))
    assert AsgiClient(app).call("GET", "/healthz").status == 200
    assert app.observed.tracing is not None
    app.observed.tracing.close()
    assert b"GET /healthz" in b"".join(sent)
