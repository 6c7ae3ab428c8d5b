"""The memory model: by value where hnswlib's and Python's own figures are known, by comparison where they are not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from shards.batch import make_batch
from shards.growing import GrowingSegment
from shards.memory import (
    GRAPH_FIXED_BYTES,
    LARGE_KEY,
    CollectionPlan,
    CollectionSize,
    GraphKind,
    GraphSize,
    GrowingSize,
    MemoryParts,
    SealedSize,
    dict_bytes,
    freed_by_sealing,
    graph_bytes,
    growing_parts,
    history_bytes,
    parts_of,
    predict,
    sealed_parts,
    total_of,
)
from shards.point_ids import UUID_BASE, key_array
from tests.shard_oracle import DIM, batch_of, spec_of

EMPTY = GrowingSize(
    dim=8, capacity=64, row_count=0, live_count=0, large_key_count=0, document_count=0, payload_bytes=0
)
KIND = GraphKind(dim=50, m=16)
PLAN = CollectionPlan(point_count=100_000, dim=50, graphs=(KIND,), payload_bytes=200, growing_capacity=20_000)


@pytest.mark.parametrize("count", [0, 1, 5, 6, 100, 171, 10_000, 43_690, 43_691, 100_000])
def test_a_dict_is_as_large_as_python_says(count: int) -> None:
    real = sys.getsizeof({key: key for key in range(count)})
    assert abs(real - dict_bytes(count)) < 200, "but for the object's own head"


def test_a_graph_has_a_fixed_part_a_part_for_its_room_and_a_part_for_its_rows() -> None:
    assert graph_bytes(50, 16, 0) == GRAPH_FIXED_BYTES
    empty, full = graph_bytes(50, 16, 10_000, 0), graph_bytes(50, 16, 10_000)
    assert empty - GRAPH_FIXED_BYTES == 10_000 * (132 + 200 + 16 + 44)
    assert 45 < (full - empty) / 10_000 < 55
    assert graph_bytes(50, 0, 10_000) == 0, "no graph"


def test_a_growing_segment_tells_the_model_what_it_holds() -> None:
    segment = GrowingSegment(64, spec_of().layout)
    assert segment.memory_size == EMPTY._replace(dim=DIM)
    segment.append(batch_of([1, 2, 3]), 1)
    segment.append(batch_of([3, 4], version=1), 2)
    size = segment.memory_size
    assert (size.row_count, size.live_count, size.document_count) == (5, 4, 5)
    assert size.payload_bytes == sum(
        len(b'{"v":[%d,%d]}' % pair) for pair in [(1, 0), (2, 0), (3, 0), (3, 1), (4, 1)]
    )


def test_large_keys_and_missing_payloads_are_told_apart() -> None:
    segment = GrowingSegment(64, spec_of().layout)
    vectors = np.zeros((2, DIM), np.float32)
    for keys, payloads in (([1, LARGE_KEY], [b"", b"{}"]), ([UUID_BASE, UUID_BASE + 1], [b"", b""])):
        segment.append(make_batch(key_array(keys), vectors, payloads), 1)
    segment.append(make_batch(key_array([]), vectors[:0], []), 1)
    size = segment.memory_size
    assert (size.row_count, size.large_key_count, size.document_count, size.payload_bytes) == (4, 3, 1, 2)


def test_arrays_count_from_the_start_and_rows_as_they_come() -> None:
    empty, some = (
        growing_parts(EMPTY),
        growing_parts(EMPTY._replace(row_count=10, document_count=10, payload_bytes=99)),
    )
    assert empty.growing == some.growing == 64 * (4 * 8 + 8)
    assert empty.bitmaps == some.bitmaps == 64
    assert some.ids > empty.ids
    assert (empty.payloads, some.payloads) == (0, 10 * 9 + 10 * 41 + 99)


def test_dead_rows_of_a_sealed_segment_cost_a_bitmap() -> None:
    graph = GraphSize(dim=8, m=4, capacity=1_100, row_count=1_000)
    size = SealedSize((graph,), row_count=1_000, named_row_count=0, has_dead=False)
    whole, with_dead = sealed_parts(size, 2), sealed_parts(size._replace(has_dead=True), 2)
    assert with_dead.total - whole.total == with_dead.bitmaps == 1_000
    assert whole.scratch == 2 * 2 * 1_100
    assert sealed_parts(size._replace(graphs=()), 2).graphs == 0, "Manhattan: exact search alone"
    two = sealed_parts(size._replace(graphs=(graph, graph), named_row_count=10), 2)
    assert (two.graphs, two.scratch, two.bitmaps) == (2 * whole.graphs, 2 * whole.scratch, 80)


def test_a_frozen_segment_counts_until_its_graph_is_there_and_so_does_the_graph() -> None:
    full = EMPTY._replace(row_count=64, live_count=64)
    size = CollectionSize(EMPTY, (), (), 0, 2, (GraphKind(8, 4),))
    alone, with_frozen = parts_of(size), parts_of(size._replace(frozen=(full, full)))
    assert alone.building == 0
    assert with_frozen.building > graph_bytes(8, 4, 64), "one is built at a time"
    assert with_frozen.growing == 3 * alone.growing


def test_a_prediction_is_one_graph_and_a_full_growing_segment() -> None:
    parts = predict(PLAN)
    assert parts.graphs == graph_bytes(50, 16, 100_000)
    assert parts.payloads > 20_000 * 200
    assert predict(PLAN._replace(point_count=0)).graphs == 0
    assert predict(PLAN._replace(graphs=())).graphs == 0
    assert predict(PLAN._replace(payload_bytes=0)).payloads < parts.payloads - 20_000 * 200
    grown = [predict(PLAN._replace(point_count=count)).total for count in (0, 1, 1_000, 30_000, 10**6)]
    assert grown == sorted(grown)


def test_sealing_frees_the_dead_and_payloads_and_costs_a_graph() -> None:
    full = EMPTY._replace(capacity=20_000, row_count=20_000, live_count=20_000)
    assert freed_by_sealing(full, [KIND]) < 0, "short rows take less than their graph"
    assert freed_by_sealing(full._replace(document_count=20_000, payload_bytes=20_000 * 1_000), [KIND]) > 0
    parts = growing_parts(full)
    assert freed_by_sealing(full._replace(live_count=0), [KIND]) == parts.ids + parts.payloads
    assert freed_by_sealing(EMPTY, [KIND]) < 1_000


def test_the_history_is_bounded_and_empty_at_first() -> None:
    assert history_bytes(0) == 0
    assert 150 < history_bytes(65_536) / 65_536 < 200


def test_parts_add_up() -> None:
    assert total_of([]) == MemoryParts()
    both = total_of([MemoryParts(graphs=1, ids=2), MemoryParts(graphs=10, objects=5)])
    assert both == MemoryParts(graphs=11, ids=2, objects=5)
    assert both.to_json()["total"] == both.total == 18
