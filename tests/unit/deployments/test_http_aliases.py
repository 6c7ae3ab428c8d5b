"""Aliases over HTTP: what they stand for, what they don't, and that one request means one collection."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.requests import PointCount, UpsertCondition, WriteReceipt
from cluster.scope import Scope
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from shards.batch import PointBatch
from shards.errors import NotFound
from tests.unit.deployments.asgi_client import AsgiClient, Response
from tests.unit.deployments.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    """With the collections `old` (2 components) and `new` (3), and the alias `live` of `old`."""
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0"))
    for name, size in (("old", 2), ("new", 3)):
        client.call("PUT", f"/collections/{name}", {"vectors": {"size": size, "distance": "Dot"}})
    assert change(client, {"create_alias": {"alias_name": "live", "collection_name": "old"}}).result is True
    return client


def change(client: AsgiClient, *actions: Any) -> Response:
    return client.call("POST", "/collections/aliases", {"actions": actions})


def listed(client: AsgiClient, path: str = "/aliases") -> dict[str, str]:
    return {item["alias_name"]: item["collection_name"] for item in client.call("GET", path).result["aliases"]}


MOVE = {"create_alias": {"alias_name": "live", "collection_name": "new"}}


def test_aliases_are_listed(client: AsgiClient) -> None:
    change(client, {"create_alias": {"alias_name": "also", "collection_name": "new"}})
    assert listed(client) == {"live": "old", "also": "new"}
    assert listed(client, "/collections/old/aliases") == {"live": "old"}
    assert listed(client, "/collections/live/aliases") == listed(client, "/collections/nothing/aliases") == {}
    names = [item["name"] for item in client.call("GET", "/collections").result["collections"]]
    assert names == ["new", "old"]


def test_an_alias_stands_for_its_collection(client: AsgiClient) -> None:
    points = [{"id": 1, "vector": [1, 2], "payload": {"a": 1}}]
    assert client.call("PUT", "/collections/live/points", {"points": points}).status == 200
    for name in ("old", "live"):
        assert client.call("GET", f"/collections/{name}/points/1").result["payload"] == {"a": 1}
        assert client.call("POST", f"/collections/{name}/points/count", {}).result == {"count": 1}
        query = {"query": [1, 1], "limit": 1}
        assert client.call("POST", f"/collections/{name}/points/query", query).result["points"][0]["id"] == 1
    assert client.call("GET", "/collections/live/exists").result == {"exists": True}
    assert client.call("GET", "/collections/live").result["config"]["params"]["vectors"]["size"] == 2
    assert client.call("GET", "/collections/live/cluster").result["shard_count"] == 1
    assert client.call("PATCH", "/collections/live", {"metadata": {"a": 1}}).result is True
    assert client.call("GET", "/collections/old").result["config"]["metadata"] == {"a": 1}


def test_moving_an_alias_is_one_request(client: AsgiClient) -> None:
    assert change(client, {"delete_alias": {"alias_name": "live"}}, MOVE).result is True
    assert client.call("GET", "/collections/live").result["config"]["params"]["vectors"]["size"] == 3
    rename = {"rename_alias": {"old_alias_name": "live", "new_alias_name": "shown"}}
    assert change(client, rename).result is True
    assert listed(client) == {"shown": "new"}
    assert change(client).result is True


def test_an_alias_is_no_collection_to_make_or_delete(client: AsgiClient) -> None:
    made = client.call("PUT", "/collections/live", {"vectors": {"size": 2, "distance": "Dot"}})
    assert made.status == 400
    assert client.call("DELETE", "/collections/live").result is False
    assert listed(client) == {"live": "old"}
    assert client.call("DELETE", "/collections/old").result is True
    assert listed(client) == {}
    missing = client.call("POST", "/collections/live/points/count", {})
    assert (missing.status, missing.error) == (404, "Not found: Collection `live` doesn't exist!")


@pytest.mark.parametrize(
    ("action", "status", "text"),
    [
        ({"create_alias": {"alias_name": "a", "collection_name": "no"}}, 404,
         "Not found: Collection `no` doesn't exist!"),
        ({"create_alias": {"alias_name": "new", "collection_name": "old"}}, 409,
         "Wrong input: Collection `new` already exists!"),
        ({"rename_alias": {"old_alias_name": "no", "new_alias_name": "a"}}, 404, "Alias `no`"),
        ({"rename_alias": {"old_alias_name": "live", "new_alias_name": "new"}}, 409, "already exists!"),
        ({"create_alias": {"alias_name": "a/b", "collection_name": "old"}}, 400, "cannot contain '/'"),
        ({"create_alias": {"alias_name": "", "collection_name": "old"}}, 400, "''"),
        ({"create_alias": {"alias_name": "a" * 256, "collection_name": "old"}}, 422, "name_length_max"),
        ({"rename_alias": {"old_alias_name": "live", "new_alias_name": "a" * 256}}, 422, "name_length_max"),
        ({}, 400, "actions[1]: exactly one"),
        ({"delete_alias": {"alias_name": "live"}, "rename_alias": None}, 200, ""),
        ({"delete_alias": {"alias_name": "live"}, **MOVE}, 400, "actions[1]: exactly one"),
        ({"delete_alias": {"alias_name": "live", "x": 1}}, 400, "unknown field"),
        ({"drop_alias": {"alias_name": "live"}}, 400, "unknown field"),
        ({"create_alias": {"alias_name": "live"}}, 400, "collection_name"),
    ],
)  # fmt: skip
def test_what_is_refused_changes_nothing(client: AsgiClient, action: Any, status: int, text: str) -> None:
    answer = change(client, MOVE, action)
    assert answer.status == status
    if status != 200:
        assert text in answer.error
        assert listed(client) == {"live": "old"}


def test_a_collection_may_be_called_aliases(client: AsgiClient) -> None:
    assert client.call("PUT", "/collections/aliases", {"vectors": {"size": 2, "distance": "Dot"}}).result is True
    assert client.call("GET", "/collections/aliases").result["points_count"] == 0
    assert change(client, {"create_alias": {"alias_name": "a", "collection_name": "aliases"}}).result is True
    assert listed(client, "/collections/aliases/aliases") == {"a": "aliases"}
    assert client.call("DELETE", "/collections/aliases").result is True


def test_a_write_goes_to_the_collection_that_it_was_prepared_for(client: AsgiClient, cluster: FakeCluster) -> None:
    """Even if the alias moves meanwhile: the other collection may have another distance, or size."""
    plain, names = cluster.upsert, []

    async def upsert(about: Scope, batch: PointBatch, deadline_s: float, condition: UpsertCondition) -> WriteReceipt:
        cluster.aliases["live"] = "new"
        names.append(about.name)
        return await plain(about, batch, deadline_s, condition)

    cluster.upsert = upsert  # type: ignore[method-assign]
    body = {"points": [{"id": 1, "vector": [1, 2]}]}
    assert client.call("PUT", "/collections/live/points", body).status == 200
    assert names == ["old"]


def test_a_request_that_finds_its_collection_gone_follows_the_alias(client: AsgiClient, cluster: FakeCluster) -> None:
    """What a router meets that learns of a move and of the deletion after it only as its request fails."""

    async def count(about: Scope, deadline_s: float, encoded_filter: bytes, min_coverage: float) -> PointCount:
        if about.name == "old":
            cluster.aliases["live"] = "new"
            raise NotFound("Not found: Collection `old` doesn't exist!")
        return PointCount(7)

    cluster.count = count  # type: ignore[method-assign]
    assert client.call("POST", "/collections/live/points/count", {}).result == {"count": 7}
    missing = client.call("POST", "/collections/old/points/count", {})
    assert (missing.status, missing.error) == (404, "Not found: Collection `old` doesn't exist!")


def test_a_write_that_misses_a_point_is_not_repeated_elsewhere(client: AsgiClient, cluster: FakeCluster) -> None:
    plain, names = cluster.change, []

    async def change_points(about: Scope, *rest: Any) -> WriteReceipt:
        cluster.aliases["live"] = "new"
        names.append(about.name)
        return await plain(about, *rest)

    cluster.change = change_points  # type: ignore[method-assign]
    answer = client.call("POST", "/collections/live/points/payload/clear?wait=true", {"points": [1]})
    assert (answer.status, "No point with id 1 found" in answer.error) == (404, True)
    assert names == ["old"]


def test_a_name_that_another_router_made_is_found_at_once(client: AsgiClient, cluster: FakeCluster) -> None:
    cluster.unseen = {"fresh": "old"}
    assert client.call("GET", "/collections/fresh/exists").result == {"exists": True}
    cluster.unseen = {"fresher": "old"}
    assert client.call("PUT", "/collections/fresher/points", {"points": [{"id": 1, "vector": [1, 2]}]}).status == 200
