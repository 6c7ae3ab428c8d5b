"""The growing segment: the last write of a key lives, rows never move."""

from __future__ import annotations

import numpy as np
import pytest

from shards.batch import concatenate
from shards.growing import ROW_COUNT_MIN, GrowingSegment, rows_that_fit
from shards.index import SearchPlan, live_rows
from shards.point_ids import UUID_BASE, key_array, key_list
from tests.shard_oracle import batch_of, spec_of

KEYS = [3, UUID_BASE + 5, 9]


@pytest.fixture
def segment() -> GrowingSegment:
    growing = GrowingSegment(10, spec_of().layout)
    growing.append(batch_of(KEYS), 7)
    return growing


def nearest_key(segment: GrowingSegment, key: int, version: int) -> int:
    found = segment.search(batch_of([key], version).vectors, SearchPlan(1, 1))
    return key_list(segment.keys_of(found.rows))[0]


def test_points_are_found_by_key_and_by_vector(segment: GrowingSegment) -> None:
    assert segment.find(key_array([9, 4, 3, UUID_BASE + 5])).tolist() == [2, -1, 0, 1]
    assert [nearest_key(segment, key, 0) for key in KEYS] == KEYS
    assert segment.payload(2) == b'{"v":[9,0]}'
    assert segment.versions_of(np.array([0, 2])).tolist() == [7, 7]
    assert (segment.row_count, segment.live_count) == (3, 3)


def test_an_overwrite_kills_the_older_row(segment: GrowingSegment) -> None:
    segment.append(batch_of([9], version=1), 8)
    assert (segment.row_count, segment.live_count) == (4, 3)
    rows = segment.find(key_array([9]))
    assert rows.tolist() == [3]
    assert segment.versions_of(rows).tolist() == [8]
    found = segment.search(batch_of([9], 0).vectors, SearchPlan(4, 1))
    assert sorted(found.rows[0].tolist()) == [-1, 0, 1, 3]
    assert live_rows(segment).tolist() == [0, 1, 3]


def test_of_a_key_twice_in_a_batch_the_last_row_lives() -> None:
    segment = GrowingSegment(10, spec_of().layout)
    segment.append(concatenate([batch_of([1, 2], 0), batch_of([1], 1)]), 1)
    assert segment.live_count == 2
    assert segment.payload(int(segment.find(key_array([1]))[0])) == b'{"v":[1,1]}'


def test_a_killed_row_is_gone_and_its_key_may_come_again(segment: GrowingSegment) -> None:
    segment.kill(segment.find(key_array([3])))
    assert segment.find(key_array([3])).tolist() == [-1]
    assert segment.live_count == 2
    assert nearest_key(segment, 3, 0) != 3
    segment.append(batch_of([3], 2), 9)
    assert segment.find(key_array([3])).tolist() == [3]
    assert segment.live_count == 3


def test_room(segment: GrowingSegment) -> None:
    assert segment.has_room_for(7)
    assert not segment.has_room_for(8)
    with pytest.raises(AssertionError):
        segment.append(batch_of(range(20, 28)), 8)
    assert rows_that_fit(4096, 8) == 128
    assert rows_that_fit(4096, 4096) == ROW_COUNT_MIN


def test_take_copies(segment: GrowingSegment) -> None:
    taken = segment.take(np.array([2, 0]))
    assert key_list(taken.keys) == [9, 3]
    assert [taken.payload(0), taken.payload(1)] == [b'{"v":[9,0]}', b'{"v":[3,0]}']
    assert not np.shares_memory(taken.vectors, segment._vectors)
    assert "3 of 3 rows live" in repr(segment)
