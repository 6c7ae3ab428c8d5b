"""Vectors of points that exist, written and taken away over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

VECTORS = "/collections/c/points/vectors"
WAITING = "?wait=true"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(points_per_request_max=5), "0"))
    parameters = {"image": {"size": 2, "distance": "Cosine"}, "text": {"size": 1, "distance": "Dot"}}
    client.call("PUT", "/collections/c", {"vectors": parameters})
    points = [
        {"id": 1, "vector": {"image": [1, 0], "text": [1]}, "payload": {"n": 1}},
        {"id": 2, "vector": {"image": [0, 1]}, "payload": {"n": 2}},
    ]
    assert client.call("PUT", "/collections/c/points", {"points": points}).status == 200
    return client


def vectors(client: AsgiClient) -> dict[int, Any]:
    points = client.call("POST", "/collections/c/points/scroll", {"with_vector": True}).result["points"]
    assert [point["payload"] for point in points] == [{"n": point["id"]} for point in points]
    return {point["id"]: point["vector"] for point in points}


def test_only_the_named_vectors_are_replaced(client: AsgiClient) -> None:
    points = [{"id": 1, "vector": {"text": [5]}}, {"id": 2, "vector": {"image": [3, 4], "text": [6]}}]
    answer = client.call("PUT", VECTORS + WAITING, {"points": points})
    assert answer.result == {"operation_id": 2, "status": "completed"}
    found = vectors(client)
    assert found[1] == {"image": [1, 0], "text": [5]}
    assert found[2] == {"image": [pytest.approx(0.6), pytest.approx(0.8)], "text": [6]}


def test_of_an_id_that_occurs_twice_each_vectors_last_value_counts(client: AsgiClient) -> None:
    points: list[dict[str, Any]] = [
        {"id": 2, "vector": {"text": [1]}},
        {"id": 1, "vector": {"text": [2], "image": [0, 1]}},
        {"id": 2, "vector": {"image": [1, 0]}},
        {"id": 1, "vector": {"text": [3]}},
        {"id": 2, "vector": {}},
    ]
    assert client.call("PUT", VECTORS, {"points": points}).status == 200
    assert vectors(client) == {1: {"image": [0, 1], "text": [3]}, 2: {"image": [1, 0], "text": [1]}}


def test_a_condition_passes_points_over(client: AsgiClient) -> None:
    points = [{"id": number, "vector": {"text": [9]}} for number in (1, 2)]
    body = {"points": points, "update_filter": {"must": {"has_vector": "text"}}}
    assert client.call("PUT", VECTORS + WAITING, body).status == 200
    assert vectors(client) == {1: {"image": [1, 0], "text": [9]}, 2: {"image": [0, 1]}}


def test_vectors_go(client: AsgiClient) -> None:
    body = {"points": [2, 1], "vector": ["text", "text"]}
    assert client.call("POST", f"{VECTORS}/delete{WAITING}", body).status == 200
    assert vectors(client) == {1: {"image": [1, 0]}, 2: {"image": [0, 1]}}
    by_filter = {"filter": {"must": {"key": "n", "match": {"value": 1}}}, "vector": ["text", "image"]}
    assert client.call("POST", f"{VECTORS}/delete", by_filter).status == 200
    assert vectors(client) == {1: {}, 2: {"image": [0, 1]}}
    found = client.call("POST", "/collections/c/points/query", {"query": [1, 0], "using": "image"}).result["points"]
    assert [point["id"] for point in found] == [2]


def test_the_first_missing_point_is_told_after_the_rest_is_done(client: AsgiClient) -> None:
    points = [{"id": number, "vector": {"text": [7]}} for number in (9, 1, 8)]
    answer = client.call("PUT", VECTORS + WAITING, {"points": points})
    assert (answer.status, "No point with id 9 found" in answer.error) == (404, True)
    assert vectors(client)[1]["text"] == [7]
    answer = client.call("POST", f"{VECTORS}/delete{WAITING}", {"points": [8, 1, 9], "vector": ["text"]})
    assert (answer.status, "No point with id 8 found" in answer.error) == (404, True)
    assert vectors(client)[1] == {"image": [1, 0]}


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("", {"points": []}, (422, "points: List should have at least 1 item")),
        ("", {"points": [{"id": 1, "vector": {"text": [1, 2]}}]}, (400, "expected dim: 1, got 2")),
        ("", {"points": [{"id": 1, "vector": [1, 2]}]}, (400, "points[0].vector: Not existing vector name error")),
        ("", {"points": [{"id": 1, "vector": {"sound": [1]}}]}, (400, "Not existing vector name error: sound")),
        ("", {"points": [{"id": 1}]}, (400, "points[0].vector: Field required")),
        ("", {"points": [{"id": "x", "vector": {}}]}, (400, "points[0].id: value 'x'")),
        ("", {"points": [{"id": 1, "vector": {}, "payload": {}}]}, (400, "unknown field `points[0].payload`")),
        ("", {"points": [{"id": n, "vector": {}} for n in range(6)]}, (422, "points_per_request_max is 5")),
        ("", {"points": [{"id": 1, "vector": {}}], "update_filter": {"a": 1}}, (400, "update_filter.a: this key")),
        ("", {"points": [{"id": 1, "vector": {}}], "shard_key": "a"}, (400, "`shard_key` is not supported")),
        ("/delete", {"points": [1], "vector": []}, (422, "vector: List should have at least 1 item")),
        ("/delete", {"points": [1]}, (400, "vector: Field required")),
        ("/delete", {"points": [1], "vector": ["sound"]}, (400, "Not existing vector name error: sound")),
        ("/delete", {"points": [], "vector": ["sound"]}, (400, "Empty update request")),
        ("/delete", {"vector": ["text"]}, (400, "No filter or points provided")),
    ],
)
def test_what_is_refused_changes_nothing(
    client: AsgiClient, cluster: FakeCluster, path: str, body: dict[str, Any], refusal: tuple[int, str]
) -> None:
    answer = client.call("POST" if path else "PUT", VECTORS + path, body)
    assert answer.status == refusal[0], answer.error
    assert refusal[1] in answer.error
    assert cluster.lsn == 1
