"""Whatever the shards: every slot has one owner, parts are even, and a split loses, doubles or reorders no row."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.shard_map import SHARD_ID_MAX, ShardMap, even_map
from cluster.slots import SLOT_COUNT, slots_of
from shards.point_ids import INTEGER_MAX, UUID_BASE, key_array

shard_id_lists = st.lists(st.integers(0, SHARD_ID_MAX), min_size=1, max_size=40, unique=True)
keys = st.integers(0, INTEGER_MAX) | st.integers(0, 2**128 - 1).map(lambda bits: UUID_BASE + bits)


@given(shard_id_lists, st.integers(1, 2**40))
def test_an_even_map_is_even_and_survives_json(shard_ids: list[int], epoch: int) -> None:
    shard_map = even_map(shard_ids, epoch)
    owners, slot_counts = np.unique(shard_map.owners, return_counts=True)
    assert owners.tolist() == sorted(shard_ids) == list(shard_map.shard_ids)
    assert slot_counts.sum() == SLOT_COUNT
    assert slot_counts.max() - slot_counts.min() <= 1
    assert ShardMap.model_validate_json(shard_map.model_dump_json()) == shard_map


@given(shard_id_lists, st.lists(keys, max_size=60))
def test_a_split_is_a_partition_by_owner_in_order(shard_ids: list[int], wanted: list[int]) -> None:
    shard_map = even_map(shard_ids, epoch=1)
    array = key_array(wanted)
    parts = shard_map.split_by_shard(array)
    owners = shard_map.owners[slots_of(array)]
    expected = {owner: np.flatnonzero(owners == owner).tolist() for owner in set(owners.tolist())}
    assert {shard_id: rows.tolist() for shard_id, rows in parts.items()} == expected
