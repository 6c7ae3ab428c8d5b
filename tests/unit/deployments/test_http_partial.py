"""Partial answers over HTTP: only for who asks for them by a header, and told by shard and reason."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cluster.requests import MissingShard
from deployments.cache_counts import CacheCounts
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from deployments.result_cache import ResultCache
from deployments.router_parts import RouterParts
from tests.unit.deployments.asgi_client import AsgiClient, Response
from tests.unit.deployments.fake_cluster import FakeCluster

POINTS = "/collections/c/points"
AWAY = MissingShard(3, "shard_unavailable: shard 3 is not running")
PARTIAL = {"coverage": 0.75, "missing": [{"shard": 3, "reason": AWAY.reason}]}
READS = [
    ("/query", {"query": [0, 0]}),
    ("/query", {}),
    ("/search", {"vector": [0, 0], "limit": 3}),
    ("/query/batch", {"searches": [{"query": [0, 0]}, {"query": [1, 0], "limit": 2}, {}]}),
    ("/scroll", {}),
    ("/scroll", {"order_by": "n"}),
    ("/count", {}),
]


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0"))
    client.call("PUT", "/collections/c", {"vectors": {"size": 2, "distance": "Euclid"}})
    points = [{"id": n, "vector": [n, 0], "payload": {"n": n}} for n in range(1, 6)]
    assert client.call("PUT", POINTS, {"points": points}).status == 200
    return client


def ask(client: AsgiClient, path: str, body: Any, min_coverage: str | None = None) -> Response:
    client.headers = {} if min_coverage is None else {"Shoal-Min-Coverage": min_coverage}
    return client.call("POST", POINTS + path, body)


@pytest.mark.parametrize(("path", "body"), READS)
def test_who_asks_for_less_gets_it_and_hears_what_is_missing(
    client: AsgiClient, cluster: FakeCluster, path: str, body: Any
) -> None:
    whole = ask(client, path, body).result
    cluster.missing = (AWAY,)
    answer = ask(client, path, body, "0.75")
    assert (answer.result, answer.json()["shoal"]) == (whole, PARTIAL)


@pytest.mark.parametrize(("path", "body"), READS)
def test_without_the_header_and_below_it_there_is_no_answer(
    client: AsgiClient, cluster: FakeCluster, path: str, body: Any
) -> None:
    cluster.missing = (AWAY,)
    for min_coverage in (None, "1", "0.8"):
        answer = ask(client, path, body, min_coverage)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "coverage 0.75" in answer.error


@pytest.mark.parametrize("path", ["/query", "/search", "/query/batch"])
def test_a_whole_answer_says_so_with_and_without_the_header(client: AsgiClient, path: str) -> None:
    body = dict(READS[2:4])[path] if path != "/query" else {"query": [0, 0]}
    for min_coverage in (None, "0", "0.5"):
        assert ask(client, path, body, min_coverage).json()["shoal"] == {"coverage": 1.0}


@pytest.mark.parametrize("text", ["half", "-0.1", "1.01", "nan", "inf", "1e400"])
def test_what_is_no_fraction_is_refused(client: AsgiClient, cluster: FakeCluster, text: str) -> None:
    for path, body in READS:
        answer = ask(client, path, body, text)
        assert answer.status == 400
        assert "shoal-min-coverage" in answer.error


def test_what_became_of_requests_is_a_metric(client: AsgiClient, cluster: FakeCluster) -> None:
    cluster.gather_counts.partial_answers, cluster.gather_counts.hedges_won = 3, 2
    told = client.call("GET", "/metrics").body.decode()
    assert 'shoal_partial_answers_total{router="' in told
    assert 'shoal_hedges_total{outcome="won",router="' in told


def test_who_takes_less_passes_the_cache_by(cluster: FakeCluster) -> None:
    """What is kept is whole, and checking it may take as long as a shard that is away."""

    class Never:
        counts = CacheCounts()

        async def answer(self, arrival: Any, read: Any) -> Any:
            raise AssertionError("the cache was asked")

    parts = RouterParts(cache=cast(ResultCache, Never()))
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0", parts=parts))
    client.call("PUT", "/collections/c", {"vectors": {"size": 2, "distance": "Euclid"}})
    cluster.missing = (AWAY,)
    assert ask(client, "/query", {"query": [0, 0]}, "0.5").json()["shoal"] == PARTIAL
