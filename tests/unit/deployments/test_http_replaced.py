"""Requests whose collection is deleted and made again while they are under way: refused, and the new one is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.scope import Named
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

POINT = {"id": 1, "vector": [3, 4]}
REQUESTS: list[tuple[str, str, Any, str]] = [
    ("PUT", "points", {"points": [POINT]}, "upsert"),
    ("PUT", "points/vectors", {"points": [POINT]}, "update_vectors"),
    ("POST", "points/payload", {"payload": {"n": 1}, "points": [1]}, "change"),
    ("POST", "points/delete", {"points": [1]}, "delete"),
    ("POST", "points/batch", {"operations": [{"upsert": {"points": [POINT]}}]}, "upsert"),
    ("POST", "points/query", {"query": [3, 4]}, "search"),
    ("POST", "points/query", {}, "scroll"),
    ("POST", "points/query/batch", {"searches": [{"query": [3, 4]}]}, "search"),
    ("POST", "points", {"ids": [1]}, "retrieve"),
    ("GET", "points/1", None, "retrieve"),
    ("POST", "points/scroll", {}, "scroll"),
    ("POST", "points/count", {}, "count"),
    ("GET", "", None, "statistics"),
    ("PUT", "index", {"field_name": "n", "field_schema": "integer"}, "create_index"),
]


@pytest.mark.parametrize("name", ["c", "alias"])
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: " ".join(one[:2]))
def test_a_request_never_goes_on_with_another_collection(
    monkeypatch: pytest.MonkeyPatch, request_: tuple[str, str, Any, str], name: str
) -> None:
    method, path, body, call = request_
    cluster = FakeCluster()
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0"))
    spec = {"vectors": {"size": 2, "distance": "Cosine"}}
    assert client.call("PUT", "/collections/c", spec).result is True
    client.call("PUT", "/collections/c/points", {"points": [POINT]})
    cluster.aliases["alias"] = "c"
    plain = getattr(cluster, call)

    async def replaced_before(about: Named, *rest: Any) -> Any:
        held, points = cluster.held.pop("c"), cluster.points.pop("c")
        await cluster.create_collection("c", held.spec, None, 1.0)
        cluster.points["c"] = dict(points)
        return await plain(about, *rest)

    monkeypatch.setattr(cluster, call, replaced_before)
    answer = client.call(method, f"/collections/{name}/{path}".rstrip("/"), body)
    assert answer.status == 409
    assert "`c` was deleted and made again" in answer.error
    assert [(key, point.version) for key, point in cluster.points["c"].items()] == [(1, 1)]
    assert cluster.fields["c"] == {}
