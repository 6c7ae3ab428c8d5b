"""Collections over HTTP: create, describe, list, delete, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from shards.errors import ShardUnavailable
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

PLAIN = {"size": 4, "distance": "Cosine"}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    return AsgiClient(HttpApp(cluster, LimitSettings(), "0"))


def test_a_collection_comes_and_goes(client: AsgiClient) -> None:
    assert client.call("GET", "/collections/words/exists").result == {"exists": False}
    assert client.call("PUT", "/collections/words", {"vectors": PLAIN}).result is True
    assert client.call("GET", "/collections/words/exists").result == {"exists": True}
    assert client.call("GET", "/collections").result == {"collections": [{"name": "words"}]}
    assert client.call("DELETE", "/collections/words").result is True
    assert client.call("DELETE", "/collections/words").result is False
    missing = client.call("GET", "/collections/words")
    assert (missing.status, missing.error) == (404, "Not found: Collection `words` doesn't exist!")


def test_a_collection_that_exists_is_a_conflict(client: AsgiClient) -> None:
    client.call("PUT", "/collections/words", {"vectors": PLAIN})
    again = client.call("PUT", "/collections/words", {"vectors": PLAIN})
    assert (again.status, again.error) == (409, "Wrong input: Collection `words` already exists!")


def test_description_has_what_clients_need(client: AsgiClient) -> None:
    body = {"vectors": {"": PLAIN | {"hnsw_config": {"m": 24}}}, "hnsw_config": {"m": 8, "ef_construct": 99}}
    client.call("PUT", "/collections/words", body)
    client.call("PUT", "/collections/words/points", {"points": [{"id": 1, "vector": [1, 2, 3, 4]}]})
    found = client.call("GET", "/collections/words").result
    assert (found["status"], found["optimizer_status"], found["payload_schema"]) == ("green", "ok", {})
    assert (found["points_count"], found["segments_count"], found["indexed_vectors_count"]) == (1, 1, 0)
    assert found["config"]["params"]["vectors"] == PLAIN | {"hnsw_config": {"m": 24}}
    assert found["config"]["params"]["shard_number"] == 1
    assert found["config"]["hnsw_config"]["m"] == 8  # what a vector does not say, the collection does
    assert found["config"]["hnsw_config"]["ef_construct"] == 99


def test_named_vectors_are_described_by_name(client: AsgiClient, cluster: FakeCluster) -> None:
    vectors = {"title": PLAIN, "image": {"size": 2, "distance": "Dot", "hnsw_config": {"m": 4}}}
    assert client.call("PUT", "/collections/words", {"vectors": vectors}).result is True
    spec = cluster.collection("words").spec
    assert [spec.hnsw_of(column).m for column in spec.layout.columns] == [4, 16]
    found = client.call("GET", "/collections/words").result["config"]["params"]["vectors"]
    assert found == vectors
    many = client.call("PUT", "/collections/many", {"vectors": {str(number): PLAIN for number in range(65)}})
    assert many.status == 422
    assert "64 vectors at most, not 65" in many.error


def test_configuration_that_changes_no_answer_is_accepted(client: AsgiClient) -> None:
    body = {
        "vectors": PLAIN | {"on_disk": True, "datatype": "float32", "quantization_config": None},
        "optimizers_config": {"indexing_threshold": 0},
        "wal_config": {"wal_capacity_mb": 1},
        "on_disk_payload": True,
        "replication_factor": 2,
        "shard_number": 1,
        "sparse_vectors": None,
        "strict_mode_config": {"enabled": False},
        "hnsw_config": {"full_scan_threshold": 1, "on_disk": True},
    }
    assert client.call("PUT", "/collections/words", body).result is True


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"vectors": PLAIN, "sparse_vectors": {"text": {}}}, "sparse vector"),
        ({"vectors": PLAIN | {"multivector_config": {"comparator": "max_sim"}}}, "multivector"),
        ({"vectors": PLAIN, "quantization_config": {"scalar": {"type": "int8"}}}, "quantization"),
        ({"vectors": PLAIN | {"quantization_config": {"binary": {}}}}, "quantization"),
        ({"vectors": PLAIN | {"datatype": "uint8"}}, "datatype"),
        ({"vectors": {"image": PLAIN | {"datatype": "uint8"}}}, "vectors.image.datatype"),
        ({"vectors": PLAIN, "sharding_method": "custom"}, "sharding_method"),
        ({"vectors": PLAIN, "strict_mode_config": {"enabled": True}}, "strict mode"),
    ],
)
def test_missing_features_are_refused_by_name(
    client: AsgiClient, cluster: FakeCluster, body: dict[str, Any], named: str
) -> None:
    answer = client.call("PUT", "/collections/words", body)
    assert answer.status == 400
    assert named in answer.error
    assert "not supported" in answer.error
    assert cluster.held == {}


@pytest.mark.parametrize(
    ("body", "status", "place"),
    [
        ({"vectors": {"size": 0, "distance": "Dot"}}, 422, "size"),
        ({"vectors": {"size": 70_000, "distance": "Dot"}}, 422, "size"),
        ({"vectors": {"size": 4, "distance": "Hamming"}}, 422, "distance"),
        ({"vectors": {"size": "4", "distance": "Dot"}}, 400, "size"),
        ({"vectors": {"size": 4}}, 400, "distance"),
        ({"vectors": PLAIN, "hnsw_config": {"m": 0}}, 422, "m: "),
        ({"vectors": PLAIN, "hnsw_config": {"ef_construct": 0}}, 422, "ef_construct"),
        ({"vectors": PLAIN, "shard_number": 0}, 422, "shard_number"),
        ({"vectors": PLAIN, "shard_number": 10**30}, 422, "shard_number"),
        ({"vectors": PLAIN, "colour": "red"}, 400, "unknown field `colour`"),
    ],
)
def test_bad_values_name_their_place(client: AsgiClient, body: dict[str, Any], status: int, place: str) -> None:
    answer = client.call("PUT", "/collections/words", body)
    assert answer.status == status
    assert place in answer.error


@pytest.mark.parametrize(
    ("name", "status"),
    [("a" * 255, 200), ("a" * 256, 422), ("a%00b", 400), ("a%0Ab", 400), ("a%5Cb", 400), ("..", 400), ("a:b", 400),
     ("%FF", 400), ("caf%C3%A9 %E6%B5%B7", 200), ("a%2Fb", 404)],
)  # fmt: skip
def test_names(client: AsgiClient, name: str, status: int) -> None:
    assert client.call("PUT", f"/collections/{name}", {"vectors": PLAIN}).status == status


CLOSED = {"state": "closed", "timeouts_in_row": 0, "failed_fraction": 0.0, "opened_count": 0, "reason": ""}


def test_cluster_lists_shards(client: AsgiClient, cluster: FakeCluster) -> None:
    client.call("PUT", "/collections/words", {"vectors": PLAIN})
    whole = client.call("GET", "/cluster").result
    assert whole["status"] == "disabled"
    assert whole["shoal"]["shards"] == [
        {"id": 0, "address": "127.0.0.1:7", "problem": None, "breaker": CLOSED, "collections": ["words"]}
    ]
    admission = whole["shoal"]["router"]["admission"]
    assert (admission["level"], admission["factor"], admission["held_max"]) == ("normal", 1.0, 320)
    assert admission["counts"]["admitted"] == 0
    for _ in range(5):
        cluster.guarded.on_timeout(0.0)
    (shard,) = client.call("GET", "/cluster").result["shoal"]["shards"]
    assert (shard["breaker"]["state"], shard["breaker"]["opened_count"]) == ("open", 1)
    one = client.call("GET", "/collections/words/cluster").result
    assert one["local_shards"] == [{"shard_id": 0, "points_count": 0, "state": "Active"}]
    assert one["shoal"]["shards"][0]["address"] == "127.0.0.1:7"
    assert one["shoal"]["shards"][0]["memory"] == {"shard": {"used_bytes": 7}}
    cluster.problem = ShardUnavailable("shard 0 is away")
    away = client.call("GET", "/collections/words/cluster").result
    assert away["shoal"]["problem"] == "shard 0 is away"
    assert away["shoal"]["shards"][0]["memory"] is None
