"""Points over HTTP: both forms of upsert, retrieve, delete, count, and requests that must change nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient, Response
from tests.unit.deployments.fake_cluster import FakeCluster

POINTS = "/collections/c/points"
TEXT_ID = "936da01f-9abd-4d9d-80c7-02af85c822a8"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(points_per_request_max=20, payload_depth_max=4), "0"))
    assert client.call("PUT", "/collections/c", {"vectors": {"size": 2, "distance": "Euclid"}}).result is True
    return client


def upsert(client: AsgiClient, *points: dict[str, Any]) -> Response:
    return client.call("PUT", POINTS, {"points": list(points)})


def retrieve(client: AsgiClient, *ids: object, **rest: object) -> list[dict[str, Any]]:
    found = client.call("POST", POINTS, {"ids": list(ids), **rest}).result
    assert isinstance(found, list)
    return found


def test_points_come_back_as_they_were_put(client: AsgiClient) -> None:
    payload = {"word": "Meer", "n": -(2**63), "m": 2**64 - 1, "f": 0.1, "none": None, "list": [1, {"a": True}]}
    points = [{"id": 2**64 - 1, "vector": [1, 2.5], "payload": payload}, {"id": TEXT_ID, "vector": {"": [3, 4]}}]
    answer = client.call("PUT", f"{POINTS}?wait=true", {"points": points})
    assert answer.result == {"operation_id": 1, "status": "completed"}
    assert answer.json()["shoal"] == {"lsn": 1}
    assert retrieve(client, TEXT_ID.upper(), 5, 2**64 - 1, with_vector=True) == [
        {"id": TEXT_ID, "payload": {}, "vector": [3, 4]},
        {"id": 2**64 - 1, "payload": payload, "vector": [1, 2.5]},
    ]
    assert retrieve(client, TEXT_ID, with_payload=False) == [{"id": TEXT_ID}]


def test_without_wait_a_write_is_acknowledged(client: AsgiClient) -> None:
    assert upsert(client, {"id": 1, "vector": [1, 2]}).result["status"] == "acknowledged"
    refused = client.call("PUT", f"{POINTS}?wait=1", {"points": []})
    assert refused.status == 400


def test_batch_form(client: AsgiClient) -> None:
    batch = {"ids": [1, TEXT_ID], "vectors": [[1, 2], [3, 4]], "payloads": [{"a": 1}, None]}
    assert client.call("PUT", POINTS, {"batch": batch}).result["operation_id"] == 1
    assert [point["payload"] for point in retrieve(client, 1, TEXT_ID)] == [{"a": 1}, {}]
    assert client.call("PUT", POINTS, {"batch": {"ids": [3], "vectors": {"": [[5, 6]]}}}).status == 200
    assert retrieve(client, 3, with_vector=[""])[0]["vector"] == [5, 6]


def test_of_an_id_that_occurs_twice_the_last_counts(client: AsgiClient, cluster: FakeCluster) -> None:
    upsert(
        client,
        {"id": 7, "vector": [1, 1], "payload": {"n": 1}},
        {"id": 8, "vector": [2, 2]},
        {"id": 7, "vector": [3, 3], "payload": {"n": 3}},
        {"id": TEXT_ID, "vector": [4, 4]},
        {"id": UUID(TEXT_ID).hex, "vector": [5, 5]},
    )
    assert len(cluster.points["c"]) == 3
    found = retrieve(client, 7, 8, TEXT_ID, with_vector=True)
    assert [point["vector"] for point in found] == [[3, 3], [2, 2], [5, 5]]
    assert found[0]["payload"] == {"n": 3}


GOOD = {"id": 1, "vector": [1, 2]}


@pytest.mark.parametrize(
    ("point", "status", "said"),
    [
        ({"id": -1, "vector": [1, 2]}, 400, "points[1].id: value -1 is not a valid point ID"),
        ({"id": 2**64, "vector": [1, 2]}, 400, "points[1].id"),
        ({"id": True, "vector": [1, 2]}, 400, "points[1].id"),
        ({"id": 1.0, "vector": [1, 2]}, 400, "points[1].id"),
        ({"id": "word", "vector": [1, 2]}, 400, "points[1].id: value 'word'"),
        ({"id": [1], "vector": [1, 2]}, 400, "points[1].id"),
        ({"id": 2, "vector": [1, 2, 3]}, 400, "points[1].vector: Vector dimension error: expected dim: 2, got 3"),
        ({"id": 2, "vector": []}, 400, "expected dim: 2, got 0"),
        ({"id": 2, "vector": [1, "2"]}, 400, "points[1].vector[1] is not a number"),
        ({"id": 2, "vector": [1, True]}, 400, "points[1].vector[1] is not a number"),
        ({"id": 2, "vector": [1, None]}, 400, "points[1].vector[1] is not a number"),
        ({"id": 2, "vector": [1, 1e39]}, 400, "points[1].vector[1] is 1e+39"),
        ({"id": 2, "vector": [1, 10**400]}, 400, "points[1].vector[1]"),
        ({"id": 2, "vector": [1, float("nan")]}, 400, "points[1].vector[1] is nan"),
        ({"id": 2, "vector": "[1, 2]"}, 400, "points[1].vector: a vector is a list of numbers"),
        ({"id": 2, "vector": None}, 400, "points[1].vector"),
        ({"id": 2}, 400, "points[1].vector: Field required"),
        ({"id": 2, "vector": {"": [1, 2, 3]}}, 400, "expected dim: 2, got 3"),
        ({"id": 2, "vector": {"image": [1, 2]}}, 400, "Not existing vector name error: image"),
        (
            {"id": 2, "vector": {"": [1, 2], "a{}b": [1, 2]}},
            400,
            "points[1].vector: Not existing vector name error: a{}b",
        ),
        ({"id": 2, "vector": [[1, 2], [3, 4]]}, 400, "multivectors are not supported"),
        ({"id": 2, "vector": {"indices": [1], "values": [2.0]}}, 400, "sparse vectors are not supported"),
        ({"id": 2, "vector": {"": {"indices": [1], "values": [2.0]}}}, 400, "sparse vectors are not supported"),
        ({"id": 2, "vector": {"text": "sea", "model": "m"}}, 400, "inference"),
        ({"id": 2, "vector": [1, 2], "payload": []}, 400, "points[1].payload"),
        ({"id": 2, "vector": [1, 2], "payload": "x"}, 400, "points[1].payload"),
        ({"id": 2, "vector": [1, 2], "payload": {"n": 2**64}}, 400, "points[1].payload can't be stored"),
        ({"id": 2, "vector": [1, 2], "payload": {"n": [float("inf")]}}, 400, "points[1].payload holds a number"),
        ({"id": 2, "vector": [1, 2], "payload": {"a": [[[[]]]]}}, 400, "points[1].payload is nested deeper"),
        ({"id": 2, "vector": [1, 2], "colour": 1}, 400, "unknown field `points[1].colour`"),
    ],
)
def test_one_bad_point_refuses_the_whole_request(
    client: AsgiClient, cluster: FakeCluster, point: dict[str, Any], status: int, said: str
) -> None:
    answer = upsert(client, GOOD, point)
    assert answer.status == status
    assert said in answer.error
    assert cluster.points["c"] == {}


def test_numbers_too_large_for_json_are_refused(client: AsgiClient, cluster: FakeCluster) -> None:
    for text in (b'{"points": [{"id": 1, "vector": [1, 1e999]}]}', b'{"points": [{"id": 1, "vector": [NaN, 1]}]}'):
        assert client.call("PUT", POINTS, text).status == 400
    body = b'{"points": [{"id": 1, "vector": [1, 1], "payload": {"a": {"b": -1e999}}}]}'
    assert client.call("PUT", POINTS, body).status == 400
    assert cluster.points["c"] == {}


def test_payload_depth_at_the_limit_passes(client: AsgiClient) -> None:
    payload = {"a": [[[1]]], "b": [[[2]]], "c": None}
    assert upsert(client, {"id": 1, "vector": [1, 2], "payload": payload}).status == 200
    assert retrieve(client, 1)[0]["payload"] == payload


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "exactly one of `points` and `batch`"),
        ({"points": [], "batch": {"ids": [], "vectors": []}}, "exactly one"),
        ({"batch": {"ids": [1, 2], "vectors": [[1, 2]]}}, "batch.vectors holds 1 items, batch.ids 2"),
        ({"batch": {"ids": [1], "vectors": [[1, 2]], "payloads": []}}, "batch.payloads holds 0 items"),
        (
            {"batch": {"ids": [1], "vectors": [[1]]}},
            "batch.vectors[0]: Vector dimension error: expected dim: 2, got 1",
        ),
        ({"batch": {"ids": [1], "vectors": [[1, "x"]]}}, "batch.vectors[0][1] is not a number"),
        ({"batch": {"ids": [1], "vectors": {"image": [[1, 2]]}}}, "Not existing vector name error: image"),
        ({"batch": {"ids": ["x"], "vectors": [[1, 2]]}}, "batch.ids[0]"),
        ({"points": [GOOD], "update_filter": {"must": [{"has_id": 1}]}}, "update_filter.must[0].has_id: a list"),
        ({"points": [GOOD], "update_mode": "insert"}, "update_mode: Input should be 'upsert', 'insert_only' or"),
        ({"points": []}, "Empty update request"),
        ({"batch": {"ids": [], "vectors": []}}, "Empty update request"),
        ({"points": [], "shard_key": "a"}, "`shard_key` is not supported"),
    ],
)
def test_bad_upserts(client: AsgiClient, cluster: FakeCluster, body: dict[str, Any], said: str) -> None:
    answer = client.call("PUT", POINTS, body)
    assert answer.status == 400
    assert said in answer.error
    assert cluster.lsn == 0


def test_a_missing_collection_is_told_before_what_is_wrong_with_points(client: AsgiClient) -> None:
    assert client.call("PUT", "/collections/missing/points", {"points": []}).status == 404


def test_upserts_under_a_condition(client: AsgiClient) -> None:
    upsert(client, {"id": 1, "vector": [1, 0], "payload": {"n": 1}}, {"id": 2, "vector": [2, 0], "payload": {"n": 2}})

    def put(**condition: object) -> dict[int, list[float]]:
        points = [{"id": number, "vector": [9, 9], "payload": {"n": 9}} for number in (1, 2, 3)]
        assert client.call("PUT", POINTS, {"points": points, **condition}).status == 200
        found = retrieve(client, 1, 2, 3, with_vector=True)
        return {point["id"]: point["vector"] for point in found}

    assert put(update_mode="insert_only") == {1: [1, 0], 2: [2, 0], 3: [9, 9]}
    client.call("POST", f"{POINTS}/delete", {"points": [3]})
    only_two = {"must": {"key": "n", "match": {"value": 2}}}
    assert put(update_mode="update_only", update_filter=only_two) == {1: [1, 0], 2: [9, 9]}
    assert put(update_filter=only_two) == {1: [1, 0], 2: [9, 9], 3: [9, 9]}
    assert put(update_mode="upsert") == {1: [9, 9], 2: [9, 9], 3: [9, 9]}


def test_too_many_points_name_the_limit(client: AsgiClient) -> None:
    for path, body in (
        (POINTS, {"ids": list(range(21))}),
        (f"{POINTS}/delete", {"points": list(range(21))}),
    ):
        answer = client.call("POST", path, body)
        assert answer.status == 422
        assert "points_per_request_max is 20" in answer.error


def test_get_one_point(client: AsgiClient) -> None:
    upsert(client, {"id": 5, "vector": [1, 2], "payload": {"a": 1}}, {"id": TEXT_ID, "vector": [3, 4]})
    assert client.call("GET", f"{POINTS}/5").result == {"id": 5, "payload": {"a": 1}, "vector": [1, 2]}
    assert client.call("GET", f"{POINTS}/{TEXT_ID}").result["id"] == TEXT_ID
    assert client.call("GET", f"{POINTS}/6").status == 404
    for bad in ("x", "-1", "99999999999999999999999999", "%C2%B2", "1.0"):
        assert client.call("GET", f"{POINTS}/{bad}").status == 400


def test_delete_and_count(client: AsgiClient, cluster: FakeCluster) -> None:
    upsert(client, *({"id": number, "vector": [number, 0]} for number in range(5)))
    count = f"{POINTS}/count"
    assert client.call("POST", count, {"exact": True}).result == {"count": 5}
    assert client.call("POST", f"{POINTS}/delete?wait=true", {"points": [1, 3, 3, 99]}).result == {
        "operation_id": 2,
        "status": "completed",
    }
    assert client.call("POST", count, {"exact": False, "filter": None}).result == {"count": 3}
    assert client.call("POST", count).result == {"count": 3}
    assert client.call("POST", count, {"filter": {"must_not": {"has_id": [0]}}}).result == {"count": 2}
    for path, body, said in (
        (f"{POINTS}/delete", {}, "exactly one of `points` and `filter`"),
        (f"{POINTS}/delete", {"points": [0], "filter": {}}, "exactly one of `points` and `filter`"),
        (f"{POINTS}/delete", {"points": [], "filter": None}, "Empty update request"),
        (f"{POINTS}/delete", {"points": [0, "x"]}, "points[1]"),
        (f"{POINTS}/delete", {"filter": {"most": []}}, "filter.most: this key is not known"),
        (count, {"filter": {"must": [{"key": "a"}]}}, "filter.must[0]: exactly one of match"),
    ):
        answer = client.call("POST", path, body)
        assert answer.status == 400
        assert said in answer.error
    assert len(cluster.points["c"]) == 3


def test_deletes_by_filter(client: AsgiClient, cluster: FakeCluster) -> None:
    upsert(client, *({"id": number, "vector": [number, 0], "payload": {"n": number}} for number in range(5)))
    assert (
        client.call("POST", f"{POINTS}/delete", {"filter": {"must": {"key": "n", "range": {"gte": 3}}}}).status == 200
    )
    assert list(cluster.points["c"]) == [0, 1, 2]
    assert client.call("POST", f"{POINTS}/delete", {"filter": {}}).status == 200
    assert cluster.points["c"] == {}


def test_vectors_keep_every_bit_of_a_float32(client: AsgiClient) -> None:
    wanted = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    upsert(client, *({"id": row, "vector": vector.tolist()} for row, vector in enumerate(wanted)))
    answer = client.call("POST", POINTS, {"ids": list(range(20)), "with_vector": True})
    found = np.array([point["vector"] for point in json.loads(answer.body)["result"]], np.float32)
    np.testing.assert_array_equal(found, wanted)
