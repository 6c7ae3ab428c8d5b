"""What routers get: it survives JSON and pickling (Ray), and its versions only grow."""

from __future__ import annotations

import pickle

from cluster.shard_map import even_map
from cluster.state import ClusterState, CollectionState, ShardAddress, ShardState, version_of
from shards.distance import Distance
from shards.schema import CollectionSpec, VectorSpec

SPEC = CollectionSpec(vectors={"": VectorSpec(size=4, distance=Distance.COSINE)})


def make_state() -> ClusterState:
    shards = (
        ShardState(shard_id=0, node_id="n", address=ShardAddress(host="127.0.0.1", port=4711), incarnation="a"),
        ShardState(shard_id=1, node_id="n", problem="its folder is missing"),
    )
    words = CollectionState(name="words", uid="0" * 32, spec=SPEC, shard_map=even_map([0, 1], 1), status="ready")
    return ClusterState(version=version_of(3, 1), cluster_id="c", shards=shards, collections={"words": words})


def test_json_comes_back_equal() -> None:
    state = make_state()
    assert ClusterState.model_validate_json(state.model_dump_json()) == state


def test_pickling_comes_back_equal_also_after_use() -> None:
    state = make_state()
    state.collections["words"].shard_map.owners.sum()
    assert pickle.loads(pickle.dumps(state)) == state


def test_versions_grow_over_changes_and_boots() -> None:
    versions = [version_of(1, 0), version_of(1, 1), version_of(1, 2**32 - 1), version_of(2, 0), version_of(3, 7)]
    assert versions == sorted(set(versions))
    assert versions[0] > 0, "0 is what a router asks with that has seen nothing"
