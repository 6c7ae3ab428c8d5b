"""The shard map's shape, its JSON, and how it splits a few known keys."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from cluster.shard_map import ShardMap, even_map
from cluster.slots import SLOT_COUNT, slots_of
from shards.errors import InvalidRequest
from shards.point_ids import key_array


def test_an_even_map_of_three() -> None:
    assert even_map([4, 0, 7], epoch=2).runs == ((4, 1366), (0, 1365), (7, 1365))


def test_json_is_small_and_comes_back_equal() -> None:
    shard_map = even_map([0, 1], epoch=1)
    assert shard_map.owners.shape == (SLOT_COUNT,)
    text = shard_map.model_dump_json()
    assert text == '{"epoch":1,"runs":[[0,2048],[1,2048]]}'
    assert ShardMap.model_validate_json(text) == shard_map


def test_a_map_never_changes() -> None:
    shard_map = even_map([0, 1], epoch=1)
    with pytest.raises(ValidationError, match="frozen"):
        shard_map.epoch = 2
    with pytest.raises(ValueError, match="read-only"):
        shard_map.owners[0] = 1


@pytest.mark.parametrize("shard_ids", [[], [1, 1], list(range(SLOT_COUNT + 1))])
def test_impossible_shards_are_refused(shard_ids: list[int]) -> None:
    with pytest.raises(InvalidRequest, match="needs 1 to 4096 different shards"):
        even_map(shard_ids, epoch=1)


@pytest.mark.parametrize("runs", [[], [[0, 4095]], [[0, 4097]], [[0, 0], [1, 4096]], [[-1, 4096]], [[65536, 4096]]])
def test_runs_that_do_not_cover_every_slot_are_refused(runs: list[list[int]]) -> None:
    with pytest.raises(ValidationError):
        ShardMap.model_validate({"epoch": 1, "runs": runs})


def test_one_key_goes_to_the_owner_of_its_slot() -> None:
    shard_map = even_map([3, 5], epoch=1)
    for key in range(50):
        keys = key_array([key])
        [(shard_id, rows)] = shard_map.split_by_shard(keys).items()
        assert shard_id == shard_map.owners[slots_of(keys)[0]]
        assert rows.tolist() == [0]


def test_no_keys_no_parts() -> None:
    assert even_map([0, 1], epoch=1).split_by_shard(key_array([])) == {}


def test_one_shard_takes_all_rows() -> None:
    parts = even_map([9], epoch=1).split_by_shard(key_array([5, 6, 7]))
    assert {shard_id: rows.tolist() for shard_id, rows in parts.items()} == {9: [0, 1, 2]}


def test_integers_spread_within_five_percent() -> None:
    parts = even_map(range(4), epoch=1).split_by_shard(np.arange(100_000, dtype=np.uint64))
    assert all(abs(len(rows) - 25_000) < 1_250 for rows in parts.values())
