"""/metrics and /telemetry: parsed by Prometheus' own reader, and by the client's models, they say what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from qdrant_client.http.models import TelemetryData

from cluster.search_times import PHASES
from deployments import http_metrics
from deployments.http_app import COLLECTION_ROUTES, POINT_ROUTE, ROUTES, HttpApp
from deployments.http_client import ClusterClient
from deployments.limits import LimitSettings
from deployments.metric_sources import Source
from shards.errors import ShardUnavailable
from tests.http_server import serving_cluster
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    """With one point in one collection."""
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "9.9.9"))
    client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
    client.call("PUT", "/collections/words/points", {"points": [{"id": 1, "vector": [1, 2]}]})
    return client


def scraped(client: AsgiClient) -> dict[str, list[tuple[dict[str, str], float]]]:
    answer = client.call("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.body.decode())


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    families = text_string_to_metric_families(text)
    found: dict[str, list[Any]] = {}
    for family in families:
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_requests_are_counted_by_route_and_status(client: AsgiClient) -> None:
    for _ in range(3):
        client.call("GET", "/collections/words/points/1")
    client.call("GET", "/collections/words/points/2")
    client.call("GET", "/collections/words/points/1/2")
    client.call("BREW", "/collections/words")
    counted = {
        (labels["method"], labels["route"], labels["status"]): value
        for labels, value in scraped(client)["shoal_http_requests_total"]
    }
    assert counted == {
        ("PUT", "/collections/{collection}", "200"): 1,
        ("PUT", "/collections/{collection}/points", "200"): 1,
        ("GET", "/collections/{collection}/points/{id}", "200"): 3,
        ("GET", "/collections/{collection}/points/{id}", "404"): 1,
        ("OTHER", "other", "404"): 1,
        ("OTHER", "other", "405"): 1,
    }
    assert len({labels["router"] for labels, _ in scraped(client)["shoal_http_request_seconds_count"]}) == 1


def test_collections_and_shards_are_described(client: AsgiClient, cluster: FakeCluster) -> None:
    found = scraped(client)
    assert found["shoal_info"][0][0]["version"] == "9.9.9"
    assert found["shoal_collections"] == [({}, 1)]
    assert found["shoal_collection_points"] == [({"collection": "words"}, 1)]
    assert found["shoal_collections_unreported"] == [({}, 0)]
    assert found["shoal_shard_up"] == [({"shard": "0"}, 1)]
    assert found["shoal_shard_memory_used_bytes"] == [({"shard": "0"}, 7)]
    assert "shoal_shard_memory_limit_bytes" not in found
    (admitted,) = found["shoal_admission_admitted_total"]
    assert admitted[1] == 1
    assert {labels["reason"]: value for labels, value in found["shoal_admission_refused_total"]} == {
        "full": 0,
        "late": 0,
        **{f"rate_{kind}": 0 for kind in ("system", "tenant", "key")},
    }
    assert [(labels["shard"], value) for labels, value in found["shoal_shard_breaker_open"]] == [("0", 0)]


def test_what_does_not_answer_is_left_out_and_said(client: AsgiClient, cluster: FakeCluster) -> None:
    cluster.problem = ShardUnavailable("away")
    found = scraped(client)
    assert "shoal_collection_points" not in found
    assert found["shoal_collections_unreported"] == [({}, 1)]


def test_names_are_escaped(cluster: FakeCluster) -> None:
    client = AsgiClient(HttpApp(cluster, LimitSettings(), 'a"b\\c\nd'))
    assert scraped(client)["shoal_info"][0][0]["version"] == 'a"b\\c\nd'


def test_searches_are_told_by_phase_and_shard(tmp_path: Path) -> None:
    with serving_cluster(tmp_path, shard_count=2) as url, ClusterClient(url) as client:
        client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
        for number in range(3):  # different ones: a kept answer has no phases
            client.call("POST", "/collections/words/points/query", {"query": [1.0, number]})
        client.call("POST", "/collections/words/points/query/batch", {"searches": [{"query": [1.0, 3.0]}] * 5})
        with urlopen(f"{url}/metrics") as answer:
            found = samples(answer.read().decode())
    phases = {labels["phase"]: value for labels, value in found["shoal_search_phase_seconds_count"]}
    assert phases == dict.fromkeys(PHASES, 4)
    assert all(value > 0 for _, value in found["shoal_search_phase_seconds_sum"])
    assert {labels["shard"]: value for labels, value in found["shoal_shard_search_seconds_count"]} == {"0": 4, "1": 4}
    whole = sum(
        value for labels, value in found["shoal_http_request_seconds_sum"] if labels["route"].count("points/query")
    )
    parts = sum(value for _, value in found["shoal_search_phase_seconds_sum"])
    assert 0.9 * whole < parts <= whole
    assert [labels["le"] for labels, _ in found["shoal_search_phase_seconds_bucket"]].count("+Inf") == len(PHASES)


def test_what_others_count_is_shown_by_a_source(client: AsgiClient) -> None:
    assert isinstance(client.app, HttpApp)
    sources = client.app.observed.sources
    sources.add(Source("shoal_things_total", "counter", "Things.", lambda: 3))
    sources.add(Source("shoal_kinds", "gauge", "Kinds.", lambda: {"a": 1, "b": 2}, "kind"))
    sources.add(Source("shoal_broken", "gauge", "Fails.", lambda: 1 / 0))
    found = scraped(client)
    assert [value for _, value in found["shoal_things_total"]] == [3]
    assert {labels["kind"]: value for labels, value in found["shoal_kinds"]} == {"a": 1, "b": 2}
    assert "shoal_broken" not in found
    with pytest.raises(AssertionError, match="already"):
        sources.add(Source("shoal_kinds", "gauge", "Kinds.", lambda: 0))


def test_collections_beyond_the_cap_have_no_label(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_metrics, "COLLECTIONS_MAX", 2)
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0"))
    for name in ("a", "b", "c"):
        client.call("PUT", f"/collections/{name}", {"vectors": {"size": 2, "distance": "Dot"}})
    client.call("PUT", "/collections/c/points", {"points": [{"id": 1, "vector": [1, 2]}]})
    found = scraped(client)
    assert [labels["collection"] for labels, _ in found["shoal_collection_points"]] == ["c", "a"]
    assert found["shoal_shard_points"] == [({"shard": "0"}, 1)]


def test_telemetry_is_what_clients_read(client: AsgiClient) -> None:
    client.call("GET", "/collections/words/points/2")
    telemetry = TelemetryData.model_validate(client.call("GET", "/telemetry").result)
    assert telemetry.collections.number_of_collections == 1
    assert telemetry.app is not None
    assert telemetry.app.name == "shoal"
    assert telemetry.requests is not None
    responses = telemetry.requests.rest.responses
    assert responses["PUT /collections/{collection}"]["200"].count == 1
    assert responses["GET /collections/{collection}/points/{id}"]["404"].count == 1


def test_a_handler_has_one_route() -> None:
    """It is counted by its handler."""
    tables = [*ROUTES.values(), *COLLECTION_ROUTES.values(), POINT_ROUTE]
    handlers = [handler for methods in tables for handler in methods.values()]
    assert len(set(handlers)) == len(handlers)
