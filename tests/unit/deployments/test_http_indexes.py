"""Payload indexes over HTTP: every kind, with its options; how they are shown; what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.requests import CollectionStatistics
from deployments.http_app import HttpApp
from deployments.http_indexes import payload_schema
from deployments.limits import LimitSettings
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

INDEX = "/collections/c/index"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(name_length_max=12), "0"))
    client.call("PUT", "/collections/c", {"vectors": {"size": 1, "distance": "Dot"}})
    points = [{"id": n, "vector": [n], "payload": {"n": n} if n else {}} for n in range(3)]
    assert client.call("PUT", "/collections/c/points", {"points": points}).status == 200
    return client


def schema(client: AsgiClient) -> Any:
    return client.call("GET", "/collections/c").result["payload_schema"]


@pytest.mark.parametrize("kind", list(FieldKind))
def test_every_kind_by_its_name(client: AsgiClient, cluster: FakeCluster, kind: FieldKind) -> None:
    answer = client.call("PUT", f"{INDEX}?wait=true", {"field_name": "n", "field_schema": kind.value})
    assert answer.result == {"operation_id": 0, "status": "completed"}
    assert cluster.fields["c"] == {"n": FieldSchema(kind=kind)}
    assert schema(client) == {"n": {"data_type": kind.value, "points": 2}}


@pytest.mark.parametrize(
    "given",
    [
        {"type": "keyword", "is_tenant": True, "prefix": True, "on_disk": True},
        {"type": "integer", "lookup": True, "range": False, "is_principal": True, "memory": "cold"},
        {"type": "float", "is_principal": True, "enable_hnsw": False},
        {"type": "bool", "on_disk": False},
        {"type": "datetime", "is_principal": False},
        {"type": "uuid", "is_tenant": True},
        {"type": "geo", "memory": "pinned"},
        {
            "type": "text",
            "tokenizer": "word",
            "min_token_len": 2,
            "max_token_len": 20,
            "lowercase": True,
            "phrase_matching": True,
            "ascii_folding": False,
            "scoring": False,
        },
    ],
)
def test_options_are_kept_and_shown(client: AsgiClient, cluster: FakeCluster, given: dict[str, Any]) -> None:
    assert client.call("PUT", INDEX, {"field_name": "n", "field_schema": given}).result["status"] == "acknowledged"
    assert schema(client) == {"n": {"data_type": given["type"], "params": given, "points": 2}}
    assert cluster.fields["c"]["n"].is_tenant is given.get("is_tenant", False)


def test_options_that_are_null_are_none(client: AsgiClient) -> None:
    given = {"type": "text", "tokenizer": None, "stemmer": None, "on_disk": None}
    assert client.call("PUT", INDEX, {"field_name": "n", "field_schema": given}).status == 200
    assert schema(client) == {"n": {"data_type": "text", "points": 2}}


def test_a_field_has_one_name_and_goes_again(client: AsgiClient, cluster: FakeCluster) -> None:
    for name in ('"n"', "n", 'a."b/c d"'):
        assert client.call("PUT", INDEX, {"field_name": name, "field_schema": "keyword"}).status == 200
    assert list(cluster.fields["c"]) == ["n", 'a."b/c d"']
    answer = client.call("DELETE", f'{INDEX}/a."b%2Fc%20d"?wait=true')
    assert answer.result == {"operation_id": 0, "status": "completed"}
    assert client.call("DELETE", f"{INDEX}/absent").status == 200
    assert list(cluster.fields["c"]) == ["n"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"field_name": "n"}, 400, "field_schema: one of keyword, integer"),
        ({"field_name": "n", "field_schema": None}, 400, "field_schema: one of keyword, integer"),
        ({"field_name": "n", "field_schema": "number"}, 400, "got 'number'"),
        ({"field_name": "n", "field_schema": {"on_disk": True}}, 400, "got None"),
        ({"field_name": "n", "field_schema": ["keyword"]}, 400, "field_schema: one of keyword, integer"),
        ({"field_name": "n", "field_schema": {"type": "geo", "lookup": True}}, 400, "unknown field `lookup`"),
        ({"field_name": "n", "field_schema": {"type": "bool", "on_disk": "yes"}}, 400, "on_disk"),
        ({"field_name": "n", "field_schema": {"type": "text", "min_token_len": -1}}, 422, "min_token_len"),
        ({"field_name": "n", "field_schema": {"type": "text", "tokenizer": "prefix"}}, 400, "`tokenizer` of a text"),
        ({"field_name": "n", "field_schema": {"type": "text", "lowercase": False}}, 400, "`lowercase`"),
        ({"field_name": "n", "field_schema": {"type": "text", "ascii_folding": True}}, 400, "`ascii_folding`"),
        ({"field_name": "n", "field_schema": {"type": "text", "stopwords": "english"}}, 400, "`stopwords`"),
        ({"field_name": "n", "field_schema": {"type": "text", "stemmer": {"type": "none"}}}, 400, "`stemmer`"),
        ({"field_name": "n", "field_schema": {"type": "text", "scoring": True}}, 400, "`scoring`"),
        ({"field_name": "n", "field_schema": {"type": "integer", "nested": "n"}}, 400, "`nested` of an index"),
        ({"field_name": "a b", "field_schema": "geo"}, 400, "field_name: 'a b' is no JSON path"),
        ({"field_name": "n" * 13, "field_schema": "geo"}, 422, "13 characters; the limit name_length_max is 12"),
        ({"field_name": 1, "field_schema": "geo"}, 400, "field_name"),
        ({"field_schema": "geo"}, 400, "field_name: Field required"),
        ({"field_name": "n", "field_schema": "geo", "on_disk": True}, 400, "unknown field `on_disk`"),
    ],
)
def test_bad_indexes(client: AsgiClient, cluster: FakeCluster, body: dict[str, Any], status: int, said: str) -> None:
    answer = client.call("PUT", INDEX, body)
    assert (answer.status, said in answer.error) == (status, True), answer.error
    assert cluster.fields["c"] == {}


def test_paths_and_collections_that_are_not_there(client: AsgiClient) -> None:
    body = {"field_name": "n", "field_schema": "geo"}
    assert client.call("PUT", "/collections/d/index", body).status == 404
    assert client.call("DELETE", "/collections/d/index/n").status == 404
    assert client.call("DELETE", f"{INDEX}/a..b").status == 400
    assert client.call("DELETE", INDEX).status == 405
    assert client.call("GET", f"{INDEX}/n").status == 405


def test_points_are_summed_over_shards() -> None:
    def shard(number: int, **points: int) -> CollectionStatistics:
        schema = {"kind": "keyword", "is_tenant": True}
        fields = {name: {"schema": schema, "points": count} for name, count in points.items()}
        return CollectionStatistics(number, 9, 1, 0, 0, fields=fields)

    params = {"type": "keyword", "is_tenant": True}
    assert payload_schema([shard(0, a=3), shard(1, a=4, b=1), shard(2)]) == {
        "a": {"data_type": "keyword", "params": params, "points": 7},
        "b": {"data_type": "keyword", "params": params, "points": 1},
    }
