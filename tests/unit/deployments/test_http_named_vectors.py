"""Named vectors over HTTP: written by name, searched by `using`, shown as they were asked for; absent ones stay absent."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

POINTS = "/collections/c/points"
QUERY = POINTS + "/query"
VECTORS = {
    "": {"size": 1, "distance": "Euclid"},
    "image": {"size": 2, "distance": "Euclid"},
    "title": {"size": 3, "distance": "Cosine"},
}
ALL = {"": [9], "image": [1, 2], "title": [0, 3, 4]}
SHOWN = {"": [9], "image": [1, 2], "title": [0, 0.6, 0.8]}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0"))
    assert client.call("PUT", "/collections/c", {"vectors": VECTORS}).result is True
    points = [
        {"id": 1, "vector": ALL},
        {"id": 2, "vector": {"image": [5, 5]}},
        {"id": 3, "vector": [7]},
        {"id": 4, "vector": {}},
    ]
    assert client.call("PUT", POINTS, {"points": points}).status == 200
    return client


def vectors_of(client: AsgiClient, *ids: int, wanted: object = True) -> list[Any]:
    found = client.call("POST", POINTS, {"ids": list(ids), "with_vector": wanted}).result
    return [point.get("vector") for point in found]


def found_ids(answer: dict[str, Any]) -> list[int]:
    return [point["id"] for point in answer["points"]]


def test_points_show_the_vectors_they_have(client: AsgiClient) -> None:
    assert vectors_of(client, 1, 2, 3, 4) == [SHOWN, {"image": [5, 5]}, {"": [7]}, {}]
    assert vectors_of(client, 1, 2, wanted=["title", "image"]) == [
        {"image": [1, 2], "title": [0, 0.6, 0.8]},
        {"image": [5, 5]},
    ]
    assert vectors_of(client, 1, wanted=[]) == vectors_of(client, 1, wanted=False) == [None]
    assert client.call("GET", POINTS + "/1").result["vector"] == SHOWN


def test_a_search_compares_the_vector_it_names(client: AsgiClient, cluster: FakeCluster) -> None:
    assert found_ids(client.call("POST", QUERY, {"query": [4, 4], "using": "image"}).result) == [2, 1]
    assert cluster.requests[-1].vector == "image"
    for using in ({}, {"using": ""}, {"using": None}):
        assert found_ids(client.call("POST", QUERY, {"query": [8], **using}).result) == [1, 3]
    hit = client.call("POST", QUERY, {"query": [0, 6, 8], "using": "title", "with_vector": ["image"]}).result[
        "points"
    ]
    assert [(point["id"], point["score"], point["vector"]) for point in hit] == [(1, 1.0, {"image": [1, 2]})]


def test_queries_of_a_batch_may_name_different_vectors(client: AsgiClient, cluster: FakeCluster) -> None:
    searches = [
        {"query": [1, 2], "using": "image", "limit": 1},
        {"query": [7], "limit": 1},
        {"query": [5, 5], "using": "image", "limit": 1},
        {"query": [0, 1, 1], "using": "title", "limit": 1, "with_vector": True},
    ]
    answers = client.call("POST", QUERY + "/batch", {"searches": searches}).result
    assert [found_ids(answer) for answer in answers] == [[1], [3], [2], [1]]
    assert answers[3]["points"][0]["vector"] == SHOWN
    assert sorted(request.vector for request in cluster.requests) == ["", "image", "title"]
    searches[2]["query"] = [5]
    refused = client.call("POST", QUERY + "/batch", {"searches": searches})
    assert (refused.status, refused.error) == (
        400,
        "searches[2].query: Vector dimension error: expected dim: 2, got 1",
    )


def test_columns_of_vectors_come_by_name(client: AsgiClient) -> None:
    batch = {"ids": [10, 11], "vectors": {"image": [[1, 1], [2, 2]], "": [[3], [4]]}}
    assert client.call("PUT", POINTS, {"batch": batch}).status == 200
    assert vectors_of(client, 10, 11) == [{"": [3], "image": [1, 1]}, {"": [4], "image": [2, 2]}]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"points": [{"id": 1, "vector": {"colour": [1]}}]},
            "points[0].vector: Not existing vector name error: colour",
        ),
        ({"points": [{"id": 1, "vector": {"image": [1]}}]}, "points[0].vector.image: Vector dimension error"),
        ({"points": [{"id": 1, "vector": {"image": [1, "x"]}}]}, "points[0].vector.image[1] is not a number"),
        (
            {"points": [{"id": 1, "vector": {}}, {"id": 2, "vector": {"image": [1, 1e39]}}]},
            "points[1].vector.image[1] is 1e+39",
        ),
        ({"points": [{"id": 1, "vector": {"image": None}}]}, "points[0].vector.image: a vector is a list of numbers"),
        (
            {"batch": {"ids": [1], "vectors": {"image": [[1, 2], [3, 4]]}}},
            "batch.vectors.image holds 2 items, batch.ids 1",
        ),
        ({"batch": {"ids": [1], "vectors": {"image": 7}}}, "batch.vectors.image is not a list of vectors: 7"),
        ({"batch": {"ids": [1], "vectors": {"image": [[1]]}}}, "batch.vectors.image[0]: Vector dimension error"),
        (
            {"batch": {"ids": [1], "vectors": {"colour": [[1]]}}},
            "batch.vectors: Not existing vector name error: colour",
        ),
    ],
)
def test_bad_vectors_are_named(client: AsgiClient, body: dict[str, Any], said: str) -> None:
    answer = client.call("PUT", POINTS, body)
    assert answer.status == 400
    assert said in answer.error
    assert vectors_of(client, 1) == [SHOWN]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"query": [1], "using": "colour"}, "Not existing vector name error: colour"),
        ({"query": [1], "using": "image"}, "query: Vector dimension error: expected dim: 2, got 1"),
        ({"query": [1], "with_vector": ["colour"]}, "Not existing vector name error: colour"),
        ({"query": [1], "with_vector": {"image": True}}, "with_vector is neither a bool nor a list of vector names"),
    ],
)
def test_bad_queries_are_named(client: AsgiClient, body: dict[str, Any], said: str) -> None:
    answer = client.call("POST", QUERY, body)
    assert (answer.status, said in answer.error) == (400, True), answer.error


@pytest.mark.parametrize("body", [{}, {"vectors": {}}, {"vectors": None}])
def test_a_collection_may_hold_payloads_alone(client: AsgiClient, body: dict[str, Any]) -> None:
    assert client.call("PUT", "/collections/notes", body).result is True
    points = [{"id": 1, "vector": [], "payload": {"a": 1}}, {"id": 2, "vector": {}, "payload": {"a": 2}}]
    assert client.call("PUT", "/collections/notes/points", {"points": points}).status == 200
    found = client.call("POST", "/collections/notes/points/scroll", {"with_vector": True}).result["points"]
    assert [(point["id"], point["payload"]) for point in found] == [(1, {"a": 1}), (2, {"a": 2})]
    refused = client.call("PUT", "/collections/notes/points", {"points": [{"id": 3, "vector": [0.5]}]})
    assert (refused.status, refused.error) == (400, "points[0].vector: Not existing vector name error: ")
    first = client.call("POST", "/collections/notes/points/query", {"limit": 1, "offset": 1, "with_payload": True})
    assert first.result["points"] == [{"id": 2, "payload": {"a": 2}, "version": 2, "score": 1.0}]
