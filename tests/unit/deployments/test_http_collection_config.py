"""What a collection was given that changes no answer is shown again, and what would change graphs is refused."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

PLAIN = {"size": 4, "distance": "Cosine"}
GIVEN = {
    "vectors": PLAIN | {"on_disk": True, "memory": "cold", "datatype": "float32", "hnsw_config": {"m": 8}},
    "optimizers_config": {"indexing_threshold": 0, "deleted_threshold": 0.5, "max_optimization_threads": "auto"},
    "wal_config": {"wal_capacity_mb": 1},
    "on_disk_payload": False,
    "payload": {"memory": "cached"},
    "id_tracker": {"memory": "pinned"},
    "replication_factor": 2,
    "write_consistency_factor": 3,
    "shard_number": 1,
    "strict_mode_config": {"enabled": False, "max_query_limit": 7, "sparse_config": {"a": {"max_length": 3}}},
    "hnsw_config": {"m": 16, "ef_construct": 50, "full_scan_threshold": 1, "on_disk": True, "payload_m": 4},
    "metadata": {"model": {"name": "a", "dim": 4}, "null": None},
}


@pytest.fixture
def client() -> AsgiClient:
    return AsgiClient(HttpApp(FakeCluster(), LimitSettings(), "0"))


def shown(client: AsgiClient) -> Any:
    return client.call("GET", "/collections/words").result["config"]


def test_what_was_given_is_shown(client: AsgiClient) -> None:
    assert client.call("PUT", "/collections/words", GIVEN).result is True
    config = shown(client)
    assert config["params"] == {
        "vectors": GIVEN["vectors"],
        "shard_number": 1,
        "replication_factor": 2,
        "write_consistency_factor": 3,
        "on_disk_payload": False,
        "payload": {"memory": "cached"},
        "id_tracker": {"memory": "pinned"},
    }
    for key, value in {
        "m": 16,
        "ef_construct": 50,
        "full_scan_threshold": 1,
        "on_disk": True,
        "payload_m": 4,
    }.items():
        assert config["hnsw_config"][key] == value
    assert config["optimizer_config"] == {
        "default_segment_number": 0, "flush_interval_sec": 5,
        "indexing_threshold": 0, "deleted_threshold": 0.5, "max_optimization_threads": "auto",
    }  # fmt: skip
    assert config["wal_config"] == {"wal_capacity_mb": 1, "wal_segments_ahead": 0}
    assert config["strict_mode_config"] == GIVEN["strict_mode_config"]
    assert config["metadata"] == GIVEN["metadata"]


def test_without_settings_nothing_is_shown_of_them(client: AsgiClient) -> None:
    client.call("PUT", "/collections/words", {"vectors": {"": PLAIN}, "optimizers_config": {}})
    config = shown(client)
    assert config["params"]["vectors"] == PLAIN
    assert not config.keys() & {"metadata", "strict_mode_config"}


def test_a_change_is_merged(client: AsgiClient) -> None:
    client.call("PUT", "/collections/words", GIVEN)
    before = shown(client)
    change = {
        "vectors": {"": {"on_disk": False, "hnsw_config": {"m": 8, "full_scan_threshold": 5}}},
        "optimizers_config": {"indexing_threshold": 9},
        "params": {"read_fan_out_factor": 1, "payload": {"memory": "cold"}},
        "hnsw_config": {"m": 16, "ef_construct": 50, "on_disk": False},
        "strict_mode_config": {"max_timeout": 5},
        "metadata": {"model": {"name": "b"}, "null": None, "new": 1},
    }
    assert client.call("PATCH", "/collections/words", change).result is True
    config = shown(client)
    vector = config["params"]["vectors"]
    assert (vector["on_disk"], vector["memory"]) == (False, "cold")
    assert vector["hnsw_config"] == {"m": 8, "full_scan_threshold": 5}
    assert config["optimizer_config"] == before["optimizer_config"] | {"indexing_threshold": 9}
    assert (config["params"]["read_fan_out_factor"], config["params"]["payload"]) == (1, {"memory": "cold"})
    assert config["hnsw_config"] == before["hnsw_config"] | {"on_disk": False}
    assert config["strict_mode_config"] == before["strict_mode_config"] | {"max_timeout": 5}
    assert config["metadata"] == {"model": {"name": "b"}, "new": 1}
    assert client.call("PATCH", "/collections/words", {}).result is True
    assert shown(client) == config


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"hnsw_config": {"m": 9}}, 400, "`hnsw_config.m` can't be changed, it is 16"),
        ({"hnsw_config": {"ef_construct": 51}}, 400, "`hnsw_config.ef_construct` can't be changed, it is 50"),
        ({"vectors": {"": {"hnsw_config": {"m": 9}}}}, 400, "hnsw_config.m` can't be changed, it is 8"),
        ({"vectors": {"image": {"on_disk": True}}}, 400, "Not existing vector name error: image"),
        ({"quantization_config": {"scalar": {"type": "int8"}}}, 400, "quantization"),
        ({"vectors": {"": {"quantization_config": {"binary": {}}}}}, 400, "quantization"),
        ({"sparse_vectors": {"text": {}}}, 400, "sparse vector"),
        ({"strict_mode_config": {"enabled": True}}, 400, "strict mode"),
        ({"shard_number": 3}, 400, "unknown field `shard_number`"),
        ({"vectors": {"": {"size": 3}}}, 400, "size"),
        ({"optimizers_config": {"indexing_threshold": -1}}, 422, "indexing_threshold"),
        ({"optimizers_config": {"indexing_threshold": "1"}}, 400, "indexing_threshold"),
        ({"optimizers_config": {"colour": 1}}, 400, "colour"),
        ({"params": {"replication_factor": 0}}, 422, "replication_factor"),
        ({"params": {"payload": {"memory": "warm"}}}, 400, "memory"),
        ({"metadata": [1]}, 400, "metadata"),
        ({"metadata": {"a": "x" * 70_000}}, 422, "SETTINGS_BYTES_MAX"),
        (b'{"metadata": {"a": %b}}' % (b"[" * 40 + b"]" * 40), 400, "SETTINGS_DEPTH_MAX"),
        (b'{"metadata": {"a": NaN}}', 400, "NaN"),
        (b'{"metadata": {"a": 1e999}}', 400, ""),
        (b'{"metadata": {"a": 99999999999999999999}}', 400, "64 bits"),
        (b'{"metadata": {"a": "\\ud800"}}', 400, ""),
    ],
)
def test_what_is_refused_changes_nothing(client: AsgiClient, change: Any, status: int, text: str) -> None:
    client.call("PUT", "/collections/words", GIVEN)
    before = shown(client)
    answer = client.call("PATCH", "/collections/words", change)
    assert answer.status == status
    assert text in answer.error
    assert shown(client) == before


def test_a_creation_is_checked_alike(client: AsgiClient) -> None:
    answer = client.call("PUT", "/collections/words", {"vectors": PLAIN, "metadata": {"a": "x" * 70_000}})
    assert (answer.status, "SETTINGS_BYTES_MAX" in answer.error) == (422, True)
    answer = client.call("PUT", "/collections/words", {"vectors": PLAIN, "optimizers_config": {"colour": 1}})
    assert (answer.status, "colour" in answer.error) == (400, True)
    assert client.call("GET", "/collections/words/exists").result == {"exists": False}


def test_a_collection_that_is_not_there_is_not_found(client: AsgiClient) -> None:
    answer = client.call("PATCH", "/collections/words", {"metadata": {}})
    assert (answer.status, answer.error) == (404, "Not found: Collection `words` doesn't exist!")
