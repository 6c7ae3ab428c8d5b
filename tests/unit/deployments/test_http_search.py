"""Searches over HTTP: forms of a query, parameters, batches, and what is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

QUERY = "/collections/c/points/query"
TEXT_ID = "936da01f-9abd-4d9d-80c7-02af85c822a8"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    """Points 1 to 5 at (n, 0), and a UUID at (6, 0); Euclid."""
    limits = LimitSettings(k_max=100, ef_max=50, batch_max=4, hits_per_request_max=150)
    client = AsgiClient(HttpApp(cluster, limits, "0"))
    client.call("PUT", "/collections/c", {"vectors": {"size": 2, "distance": "Euclid"}})
    points: list[dict[str, Any]] = [
        {"id": n, "vector": [n, 0], "payload": {"n": n, "o": {"p": n}}} for n in range(1, 6)
    ]
    points.append({"id": TEXT_ID, "vector": [6, 0]})
    assert client.call("PUT", "/collections/c/points", {"points": points}).status == 200
    return client


def ids(points: list[dict[str, Any]]) -> list[Any]:
    return [point["id"] for point in points]


@pytest.mark.parametrize("query", [[0, 0], [0.0, 0.5e-9], {"nearest": [0, 0]}])
def test_forms_of_a_vector(client: AsgiClient, query: object) -> None:
    found = client.call("POST", QUERY, {"query": query, "limit": 2, "using": ""})
    assert found.result == {"points": [{"id": 1, "version": 1, "score": 1.0}, {"id": 2, "version": 1, "score": 2.0}]}
    assert found.json()["shoal"] == {"coverage": 1.0}


def test_a_query_of_null_is_none(client: AsgiClient) -> None:
    without = client.call("POST", QUERY, {"limit": 2}).result
    assert ids(without["points"]) == [1, 2]
    assert client.call("POST", QUERY, {"query": None, "limit": 2}).result == without
    batch = {"searches": [{"query": None, "limit": 2}, {"query": {"nearest": [0, 0]}, "limit": 1}]}
    first, second = client.call("POST", f"{QUERY}/batch", batch).result
    assert first == without
    assert ids(second["points"]) == [1]


def test_defaults(client: AsgiClient, cluster: FakeCluster) -> None:
    assert ids(client.call("POST", QUERY, {"query": [0, 0]}).result["points"]) == [1, 2, 3, 4, 5, TEXT_ID]
    request = cluster.requests[-1]
    assert (request.k, request.offset, request.ef, request.exact, request.score_threshold) == (
        10,
        0,
        None,
        False,
        None,
    )
    assert (request.with_payload, request.with_vectors) == (False, False)
    assert request.vectors.dtype == np.float32


def test_parameters_reach_the_cluster(client: AsgiClient, cluster: FakeCluster) -> None:
    body = {
        "query": [0, 0], "limit": 3, "offset": 1, "score_threshold": 4, "with_payload": ["n"], "with_vector": True,
        "params": {"hnsw_ef": 50, "exact": True, "quantization": None, "indexed_only": False},
        "filter": None, "prefetch": None, "lookup_from": None, "shard_key": None, "using": None,
    }  # fmt: skip
    # The threshold's direction turns: a distance of exactly 4 still passes, and point 1 is skipped.
    assert ids(client.call("POST", QUERY, body).result["points"]) == [2, 3, 4]
    request = cluster.requests[-1]
    assert (request.k, request.offset, request.ef, request.exact, request.score_threshold) == (3, 1, 50, True, 4.0)
    assert (request.with_payload, request.with_vectors) == (True, True)


def test_payloads_and_vectors(client: AsgiClient) -> None:
    def first(**rest: object) -> dict[str, Any]:
        found = client.call("POST", QUERY, {"query": [1, 0], "limit": 1, **rest}).result["points"][0]
        del found["id"], found["version"], found["score"]
        assert isinstance(found, dict)
        return found

    assert first() == first(with_payload=False, with_vector=False) == first(with_vector=[]) == {}
    assert first(with_payload=True) == {"payload": {"n": 1, "o": {"p": 1}}}
    assert first(with_payload=["o.p"]) == {"payload": {"o": {"p": 1}}}
    assert first(with_payload={"exclude": ["o"]}) == {"payload": {"n": 1}}
    assert first(with_vector=True) == first(with_vectors=True) == first(with_vector=[""]) == {"vector": [1, 0]}
    assert client.call("POST", QUERY, {"query": [6, 0], "limit": 1, "with_payload": True}).result == {
        "points": [{"id": TEXT_ID, "version": 1, "score": 0.0, "payload": {}}]
    }


def test_cosine_scores_descend(client: AsgiClient) -> None:
    client.call("PUT", "/collections/d", {"vectors": {"size": 2, "distance": "Cosine"}})
    points = [{"id": 1, "vector": [3, 0]}, {"id": 2, "vector": [1, 1]}, {"id": 3, "vector": [0, 5]}]
    client.call("PUT", "/collections/d/points", {"points": points})
    body = {"query": [2, 0], "score_threshold": 0.5}
    found = client.call("POST", "/collections/d/points/query", body).result["points"]
    assert ids(found) == [1, 2]
    assert [point["score"] for point in found] == pytest.approx([1.0, 0.5**0.5])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"query": 7}, "by point id"),
        ({"query": TEXT_ID}, "by point id"),
        ({"query": {"nearest": 7}}, "by point id"),
        ({"query": {"recommend": {"positive": [1]}}}, "recommend"),
        ({"query": {"discover": {}}}, "discover"),
        ({"query": {"context": []}}, "context"),
        ({"query": {"order_by": "n"}}, "order_by"),
        ({"query": {"fusion": "rrf"}}, "fusion"),
        ({"query": {"formula": {}}}, "formula"),
        ({"query": {"sample": "random"}}, "sample"),
        ({"query": {"nearest": [0, 0], "mmr": {"diversity": 0.5}}}, "mmr"),
        ({"query": {"indices": [1], "values": [1.0]}}, "sparse vectors"),
        ({"query": [[0, 0]]}, "multivectors"),
        ({"query": {"text": "sea", "model": "m"}}, "inference"),
        ({"query": [0, 0], "prefetch": [{"query": [0, 0]}]}, "`prefetch`"),
        ({"query": [0, 0], "lookup_from": {"collection": "d"}}, "`lookup_from`"),
        ({"query": [0, 0], "shard_key": 0}, "`shard_key`"),
    ],
)
def test_missing_features_are_refused_by_name(
    client: AsgiClient, cluster: FakeCluster, body: dict[str, Any], named: str
) -> None:
    answer = client.call("POST", QUERY, body)
    assert answer.status == 400
    assert named in answer.error
    assert "not supported" in answer.error
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"query": [1]}, 400, "query: Vector dimension error: expected dim: 2, got 1"),
        ({"query": []}, 400, "expected dim: 2, got 0"),
        ({"query": [0, "x"]}, 400, "query[1] is not a number: 'x'"),
        ({"query": [0, True]}, 400, "query[1] is not a number"),
        ({"query": [0, float("inf")]}, 400, "query[1] is inf"),
        ({"query": [0, -1e39]}, 400, "query[1] is -1e+39"),
        ({"query": {"nearest": [0, None]}}, 400, "query[1]"),
        ({"query": {"nearest": [0, 0], "x": 1}}, 400, "unknown field `x`"),
        ({"query": {"close": [0, 0]}}, 400, "query: a vector is a list of numbers"),
        ({"query": False}, 400, "query: a vector is a list of numbers"),
        ({"query": [0, 0], "using": "image"}, 400, "Not existing vector name error: image"),
        ({"query": [0, 0], "with_vector": ["image"]}, 400, "Not existing vector name error: image"),
        ({"query": [0, 0], "with_vector": 1}, 400, "with_vector"),
        ({"query": [0, 0], "with_payload": "n"}, 400, "with_payload"),
        ({"query": [0, 0], "limit": 0}, 422, "limit"),
        ({"query": [0, 0], "limit": -3}, 422, "limit"),
        ({"query": [0, 0], "limit": 1.5}, 400, "limit"),
        ({"query": [0, 0], "limit": "3"}, 400, "limit"),
        ({"query": [0, 0], "limit": 99, "offset": 2}, 422, "k_max is 100"),
        ({"query": [0, 0], "limit": 10**40}, 422, "k_max is 100"),
        ({"query": [0, 0], "offset": -1}, 422, "offset"),
        ({"query": [0, 0], "params": {"hnsw_ef": 51}}, 422, "ef_max is 50"),
        ({"query": [0, 0], "params": {"hnsw_ef": 0}}, 422, "hnsw_ef"),
        ({"query": [0, 0], "params": {"fast": True}}, 400, "unknown field `params.fast`"),
        ({"query": [0, 0], "score_threshold": "x"}, 400, "score_threshold"),
        ({"query": [0, 0], "score_threshold": float("nan")}, 400, "score_threshold"),
        ({"query": [0, 0], "colour": 1}, 400, "unknown field `colour`"),
    ],
)
def test_bad_queries(client: AsgiClient, cluster: FakeCluster, body: dict[str, Any], status: int, said: str) -> None:
    answer = client.call("POST", QUERY, body)
    assert answer.status == status
    assert said in answer.error
    assert cluster.requests == []


def test_a_missing_collection(client: AsgiClient) -> None:
    answer = client.call("POST", "/collections/x/points/query", {"query": [0, 0]})
    assert (answer.status, answer.error) == (404, "Not found: Collection `x` doesn't exist!")


def test_a_batch_groups_equal_queries_and_keeps_the_order(client: AsgiClient, cluster: FakeCluster) -> None:
    searches: list[dict[str, Any]] = [
        {"query": [0, 0], "limit": 1},
        {"query": [9, 0], "limit": 2, "with_payload": True},
        {"query": {"nearest": [3, 0]}, "limit": 1},
        {"query": [4.1, 0], "limit": 2, "with_payload": ["n"]},
    ]
    result = client.call("POST", f"{QUERY}/batch", {"searches": searches}).result
    assert [ids(answer["points"]) for answer in result] == [[1], [TEXT_ID, 5], [3], [4, 5]]
    assert [point["payload"] for point in result[3]["points"]] == [{"n": 4}, {"n": 5}]
    assert "payload" not in result[0]["points"][0]
    assert [len(request.vectors) for request in cluster.requests] == [2, 2]
    single = [client.call("POST", QUERY, search).result for search in searches]
    assert result == single


def test_rows_of_a_batch_may_be_of_different_length(client: AsgiClient) -> None:
    searches = [{"query": [n, 0], "score_threshold": 1.5, "with_payload": ["n"]} for n in (0, 3, 50)]
    result = client.call("POST", f"{QUERY}/batch", {"searches": searches}).result
    assert [[point["payload"]["n"] for point in answer["points"]] for answer in result] == [[1], [3, 2, 4], []]


def test_batches_that_are_refused(client: AsgiClient, cluster: FakeCluster) -> None:
    one = {"query": [0, 0]}
    for searches, status, said in (
        ([one] * 5, 422, "batch_max is 4"),
        ([one | {"limit": 80}] * 2, 422, "hits_per_request_max is 150"),
        ([one, {"query": [0]}], 400, "searches[1].query: Vector dimension error"),
        ([one, {"query": [0, "x"]}], 400, "query[1] is not a number"),
        ([one, {"query": 5}], 400, "by point id"),
        ([one, one | {"colour": 1}], 400, "unknown field `searches[1].colour`"),
    ):
        answer = client.call("POST", f"{QUERY}/batch", {"searches": searches})
        assert answer.status == status
        assert said in answer.error
    assert cluster.requests == []
    assert client.call("POST", f"{QUERY}/batch", {"searches": []}).result == []
    assert client.call("POST", "/collections/x/points/query/batch", {"searches": []}).status == 404


def test_the_older_search(client: AsgiClient) -> None:
    path = "/collections/c/points/search"
    for vector in ([0, 0], {"name": "", "vector": [0, 0]}):
        found = client.call("POST", path, {"vector": vector, "limit": 2, "with_payload": ["n"]}).result
        assert found == [
            {"id": n, "version": 1, "score": float(n), "payload": {"n": n}} for n in (1, 2)
        ]  # fmt: skip
    assert client.call("POST", path, {"vector": [0, 0]}).status == 400
    named = client.call("POST", path, {"vector": {"name": "image", "vector": [0, 0]}, "limit": 1})
    assert "Not existing vector name error: image" in named.error


IS_EVEN = {"must": {"key": "even", "match": {"value": True}}}


@pytest.mark.parametrize("where", [{}, {"must": []}, IS_EVEN, {"must_not": IS_EVEN}])
def test_filters_reach_every_form_of_a_search(
    client: AsgiClient, cluster: FakeCluster, where: dict[str, Any]
) -> None:
    points = [{"id": n, "vector": [n, 0], "payload": {"even": n % 2 == 0}} for n in range(10, 16)]
    cluster.points["c"].clear()
    assert client.call("PUT", "/collections/c/points", {"points": points}).status == 200
    wanted = [
        n for n in range(10, 16) if not where.get("must", where.get("must_not")) or n % 2 == ("must_not" in where)
    ]
    body = {"query": [0, 0], "filter": where}
    found = client.call("POST", QUERY, body).result["points"]
    assert sorted(point["id"] for point in found) == wanted
    legacy = client.call("POST", "/collections/c/points/search", {"vector": [0, 0], "filter": where, "limit": 10})
    assert [point["id"] for point in legacy.result] == [point["id"] for point in found]
    searches = [body, {"query": [0, 0]}, {"query": [1, 0], "filter": where}]
    answers = client.call("POST", f"{QUERY}/batch", {"searches": searches}).result
    assert [len(answer["points"]) for answer in answers] == [len(wanted), 6, len(wanted)]


def test_queries_with_equal_filters_leave_as_one(client: AsgiClient, cluster: FakeCluster) -> None:
    searches = [{"query": [n, 0], "filter": IS_EVEN if n else {}} for n in range(3)]
    client.call("POST", f"{QUERY}/batch", {"searches": searches})
    assert sorted(len(request.vectors) for request in cluster.requests) == [1, 2]


def test_bad_filters_say_where(client: AsgiClient, cluster: FakeCluster) -> None:
    bad = {"query": [0, 0], "filter": {"must": [{"key": "a", "range": {"gt": "soon"}}]}}
    for path, body, said in (
        (QUERY, bad, "filter.must[0].range.gt: a number, or a date"),
        (f"{QUERY}/batch", {"searches": [{"query": [0, 0]}, bad]}, "searches[1].filter.must[0].range.gt"),
        (QUERY, {"query": [0, 0], "filter": {"must": {"nested": {"key": "a"}}}}, "filter.must.nested.filter"),
    ):
        answer = client.call("POST", path, body)
        assert (answer.status, said in answer.error) == (400, True), answer.error
    assert cluster.requests == []
