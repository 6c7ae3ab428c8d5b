"""Several writes in one request: every kind, their order, and that nothing is done unless all of them can be read."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

BATCH = "/collections/c/points/batch"
WAITING = "?wait=true"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(batch_max=9), "0"))
    client.call("PUT", "/collections/c", {"vectors": {"a": {"size": 1, "distance": "Dot"}}})
    return client


def change(client: AsgiClient, *operations: dict[str, Any], query: str = WAITING) -> list[Any]:
    answered = client.call("POST", BATCH + query, {"operations": list(operations)}).result
    assert isinstance(answered, list)
    return answered


def points(client: AsgiClient) -> list[Any]:
    found = client.call("POST", "/collections/c/points/scroll", {"with_vector": True}).result["points"]
    assert isinstance(found, list)
    return found


def upsert(*numbers: int) -> dict[str, Any]:
    return {"upsert": {"points": [{"id": n, "vector": {"a": [n]}, "payload": {"n": n}} for n in numbers]}}


def test_every_kind_sees_what_those_before_it_did(client: AsgiClient) -> None:
    answered = change(
        client,
        upsert(1, 2, 3),
        {"upsert": {"batch": {"ids": [3, 4], "vectors": {"a": [[8], [9]]}}, "update_mode": "insert_only"}},
        {"set_payload": {"payload": {"m": 1}, "filter": {"must": {"key": "n", "range": {"gte": 2}}}}},
        {"delete_payload": {"keys": ["n"], "filter": {"must": {"key": "m", "match": {"value": 1}}}}},
        {"overwrite_payload": {"payload": {"o": 1}, "points": [1]}},
        {"clear_payload": {"points": [3]}},
        {"update_vectors": {"points": [{"id": 1, "vector": {"a": [7]}}]}},
        {"delete_vectors": {"points": [2], "vector": ["a"]}},
        {"delete": {"filter": {"must": {"has_id": [4]}}}},
    )
    assert answered == [{"operation_id": number, "status": "completed"} for number in range(1, 10)]
    assert points(client) == [
        {"id": 1, "payload": {"o": 1}, "vector": {"a": [7]}},
        {"id": 2, "payload": {"m": 1}, "vector": {}},
        {"id": 3, "payload": {}, "vector": {"a": [3]}},
    ]


def test_no_operations_and_no_waiting(client: AsgiClient, cluster: FakeCluster) -> None:
    assert change(client) == []
    assert cluster.lsn == 0
    missing = {"clear_payload": {"points": [9]}}
    assert [one["status"] for one in change(client, upsert(1), missing, query="")] == ["acknowledged"] * 2


def test_what_fails_ends_the_batch_there(client: AsgiClient) -> None:
    missing = {"set_payload": {"payload": {"m": 1}, "points": [9, 1]}}
    answer = client.call("POST", BATCH + WAITING, {"operations": [upsert(1), missing, upsert(2)]})
    assert (answer.status, "No point with id 9 found" in answer.error) == (404, True)
    assert [(point["id"], point["payload"]) for point in points(client)] == [(1, {"n": 1, "m": 1})]


@pytest.mark.parametrize(
    ("operation", "status", "said"),
    [
        ({}, 400, "operations[1]: exactly one of upsert, delete"),
        ({"upsert": None}, 400, "operations[1]: exactly one of upsert, delete"),
        ({"delete": {"points": [1]}, **upsert(2)}, 400, "it has 2"),
        ({"rename": {}}, 400, "unknown field `operations[1].rename`"),
        ({"upsert": {}}, 400, "operations[1].upsert: Format error in JSON body: exactly one of `points` and `batch`"),
        ({"upsert": {"points": []}}, 400, "operations[1].upsert: Wrong input: Empty update request"),
        (
            {"upsert": {"points": [{"id": 1, "vector": {"a": [1, 2]}}]}},
            400,
            "operations[1].upsert: points[0].vector.a: Vector dimension error: expected dim: 1, got 2",
        ),
        ({"delete": {"filter": {"must": 1}}}, 400, "operations[1].delete: filter.must"),
        ({"delete": {"points": [], "filter": None}}, 400, "operations[1].delete: Wrong input: Empty update request"),
        ({"set_payload": {"payload": {}, "points": [1], "key": ""}}, 400, "operations[1].set_payload: Format error"),
        ({"set_payload": {"points": [1]}}, 400, "operations[1].set_payload.payload: Field required"),
        ({"delete_vectors": {"points": [1], "vector": []}}, 422, "operations[1].delete_vectors.vector: List should"),
        ({"update_vectors": {"points": [{"id": 1, "vector": {"b": [1]}}]}}, 400, "Not existing vector name error: b"),
        ({"delete": {"points": [1], "shard_key": "a"}}, 400, "`shard_key` is not supported"),
    ],
)
def test_one_bad_operation_refuses_all(
    client: AsgiClient, cluster: FakeCluster, operation: dict[str, Any], status: int, said: str
) -> None:
    answer = client.call("POST", BATCH, {"operations": [upsert(1), operation, upsert(2)]})
    assert (answer.status, said in answer.error) == (status, True), answer.error
    assert cluster.lsn == 0


def test_limits_and_names(client: AsgiClient, cluster: FakeCluster) -> None:
    answer = client.call("POST", BATCH, {"operations": [upsert(1)] * 10})
    assert (answer.status, "the limit batch_max is 9" in answer.error) == (422, True)
    assert client.call("POST", BATCH, {"operations": [], "ordering": "strong"}).status == 400
    assert client.call("POST", "/collections/d/points/batch", {"operations": []}).status == 404
    assert cluster.lsn == 0
