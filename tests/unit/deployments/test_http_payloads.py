"""Payloads over HTTP: set, overwritten, deleted and cleared, by ids and by filter."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

PAYLOAD = "/collections/c/points/payload"
WAITING = "?wait=true"
EVEN = {"must": {"key": "even", "match": {"value": True}}}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(points_per_request_max=5, payload_depth_max=4), "0"))
    client.call("PUT", "/collections/c", {"vectors": {"size": 1, "distance": "Dot"}})
    points = [{"id": n, "vector": [n], "payload": {"n": n, "even": n % 2 == 0}} for n in range(3)]
    assert client.call("PUT", "/collections/c/points", {"points": points}).status == 200
    return client


def payloads(client: AsgiClient) -> list[Any]:
    points = client.call("POST", "/collections/c/points/scroll", {}).result["points"]
    return [point["payload"] for point in points]


def test_set_merges_and_null_removes(client: AsgiClient) -> None:
    body = {"payload": {"n": None, "a": {"b": 1}}, "points": [0, 2, 0]}
    answer = client.call("POST", PAYLOAD + WAITING, body)
    assert answer.result == {"operation_id": 2, "status": "completed"}
    assert answer.json()["shoal"] == {"lsn": 2}
    assert payloads(client) == [{"even": True, "a": {"b": 1}}, {"n": 1, "even": False}, {"even": True, "a": {"b": 1}}]
    assert client.call("POST", PAYLOAD, {"payload": {"c": 2}, "filter": EVEN, "key": "a"}).status == 200
    assert payloads(client)[0] == payloads(client)[2] == {"even": True, "a": {"b": 1, "c": 2}}


def test_overwrite_delete_and_clear(client: AsgiClient) -> None:
    assert client.call("PUT", PAYLOAD, {"payload": {"x": [1, {"y": 2, "z": 3}]}, "filter": EVEN}).status == 200
    assert payloads(client)[0] == {"x": [1, {"y": 2, "z": 3}]}
    assert client.call("POST", f"{PAYLOAD}/delete", {"keys": ["x[].y", "n", "absent"], "filter": {}}).status == 200
    assert payloads(client) == [{"x": [1, {"z": 3}]}, {"even": False}, {"x": [1, {"z": 3}]}]
    assert client.call("POST", f"{PAYLOAD}/clear", {"points": [0]}).status == 200
    assert client.call("POST", f"{PAYLOAD}/clear", {"filter": {"must": {"is_empty": {"key": "x"}}}}).status == 200
    assert payloads(client) == [{}, {}, {"x": [1, {"z": 3}]}]


def test_of_ids_and_a_filter_the_ids_count(client: AsgiClient) -> None:
    body = {"payload": {"a": 1}, "points": [1], "filter": EVEN}
    assert client.call("POST", PAYLOAD, body).status == 200
    assert [("a" in payload) for payload in payloads(client)] == [False, True, False]


@pytest.mark.parametrize(
    ("method", "path", "rest"),
    [
        ("POST", PAYLOAD, {"payload": {"a": 1}}),
        ("PUT", PAYLOAD, {"payload": {"a": 1}}),
        ("POST", f"{PAYLOAD}/delete", {"keys": ["n"]}),
        ("POST", f"{PAYLOAD}/clear", {}),
    ],
)
def test_the_first_missing_point_is_told_after_the_rest_is_done(
    client: AsgiClient, method: str, path: str, rest: dict[str, Any]
) -> None:
    before = payloads(client)
    answer = client.call(method, path + WAITING, {**rest, "points": [0, 9, 2, 8]})
    assert answer.status == 404
    assert "No point with id 9 found" in answer.error
    assert [one == other for one, other in zip(before, payloads(client), strict=True)] == [False, True, False]
    answer = client.call(method, path, {**rest, "points": [9]})
    assert answer.result["status"] == "acknowledged", "who does not wait is not told"
    nobody = {"must": {"has_id": [9]}}
    assert client.call(method, path + WAITING, {**rest, "filter": nobody}).status == 200


@pytest.mark.parametrize(
    ("where", "body", "refusal"),
    [
        ("POST ", {"payload": {}}, (400, "No filter or points provided")),
        ("POST ", {"payload": {}, "points": []}, (400, "Empty update request")),
        ("POST ", {"payload": {}, "points": [], "filter": {}}, (400, "Empty update request")),
        ("POST ", {"payload": {}, "points": ["x"]}, (400, "points[0]: value 'x'")),
        ("POST ", {"payload": {}, "points": [0] * 6}, (422, "points_per_request_max is 5")),
        ("POST ", {"payload": {}, "filter": {"must": {"has_id": 0}}}, (400, "filter.must.has_id")),
        ("POST ", {"payload": {}, "points": [1], "filter": {"must": {"has_id": 0}}}, (400, "filter.must.has_id")),
        ("POST ", {"points": [0]}, (400, "payload: Field required")),
        ("POST ", {"payload": [], "points": [0]}, (400, "payload")),
        ("POST ", {"payload": {"a": [[[[]]]]}, "points": [0]}, (400, "payload is nested deeper")),
        ("POST ", {"payload": {"a": {"b": 1}}, "points": [0], "key": "a.b.c"}, (400, "below key 'a.b.c' is nested")),
        ("POST ", {"payload": {}, "points": [0], "key": "a.b.c.d"}, (400, "below key 'a.b.c.d' is nested deeper")),
        ("POST ", {"payload": {"a": 2**64}, "points": [0]}, (400, "payload can't be stored")),
        ("POST ", {"payload": {"a": float("inf")}, "points": [0]}, (400, "payload holds a number")),
        ("POST ", {"payload": {}, "points": [0], "key": "a b"}, (400, "key: 'a b' is no JSON path")),
        ("POST ", {"payload": {}, "points": [0], "shard_key": "a"}, (400, "`shard_key` is not supported")),
        ("POST ", {"payload": {}, "points": [0], "colour": 1}, (400, "unknown field `colour`")),
        ("PUT ", {"payload": {}, "points": [0], "key": "a"}, (400, "`key` is not supported")),
        ("PUT ", {"payload": {}, "points": []}, (400, "Empty update request")),
        ("POST /delete", {"points": [0]}, (400, "keys: Field required")),
        ("POST /delete", {"keys": ["a", "["], "points": [0]}, (400, "keys[1]: '[' is no JSON path")),
        ("POST /delete", {"keys": ["a"]}, (400, "No filter or points provided")),
        ("POST /clear", {}, (400, "exactly one of `points` and `filter`")),
        ("POST /clear", {"points": [0], "filter": {}}, (400, "exactly one of `points` and `filter`")),
        ("POST /clear", {"points": []}, (400, "Empty update request")),
    ],
)
def test_what_is_refused_changes_nothing(
    client: AsgiClient, cluster: FakeCluster, where: str, body: dict[str, Any], refusal: tuple[int, str]
) -> None:
    before = payloads(client)
    method, path = where.split(" ")
    answer = client.call(method, PAYLOAD + path, body)
    assert answer.status == refusal[0], answer.error
    assert refusal[1] in answer.error
    assert cluster.lsn == 1
    assert payloads(client) == before


def test_a_collection_that_is_not_there(client: AsgiClient) -> None:
    body = {"payload": {}, "points": [0], "keys": []}
    for method, path, fields in (
        ("POST", "", ("payload", "points")),
        ("PUT", "", ("payload", "points")),
        ("POST", "/delete", ("keys", "points")),
        ("POST", "/clear", ("points",)),
    ):
        answer = client.call(method, f"/collections/d/points/payload{path}", {name: body[name] for name in fields})
        assert answer.status == 404
