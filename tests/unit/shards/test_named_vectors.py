"""Several vectors a point: one graph each, over the points that have it, through seals, merges, loads and damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards import sealing
from shards.bulk import BulkSession
from shards.collection import ShardCollection
from shards.compaction import Merge
from shards.index import SearchPlan
from shards.memory import parts_of, predict
from shards.memory_account import plan_of, size_of
from shards.nearest import Want
from shards.point_ids import key_array
from shards.recall_probe import measure_recall
from shards.segment_check import check_segment
from shards.segment_files import GRAPHS
from tests.shard_oracle import (
    NAMED,
    SMALL,
    WIDE_DIM,
    Oracle,
    check_same,
    check_search,
    delete_op,
    named_batch_of,
    new_collection,
    reopened,
    upsert_op,
    vectors_of,
)

QUERIES = vectors_of([1, 2], WIDE_DIM)


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def collection(tmp_path: Path, oracle: Oracle) -> ShardCollection:
    """Two sealed segments, dead rows in both, and a growing one."""
    made = new_collection(tmp_path / "c", SMALL, NAMED)
    for first_key, version in ((0, 0), (60, 0), (30, 1)):
        batch = named_batch_of(range(first_key, first_key + 60), version)
        oracle.upsert(batch, made.commit([upsert_op(batch)], 1))
        if version == 0:
            sealing.seal_all(made)
    made.commit([delete_op([2, 3, 65])], 1)
    oracle.delete([2, 3, 65])
    return made


def check(collection: ShardCollection, oracle: Oracle) -> None:
    check_same(collection, oracle, QUERIES)
    for number in range(3):
        check_search(collection, oracle, QUERIES, SearchPlan(5, 32, vector=number))


def test_every_vector_finds_the_points_that_have_it(
    collection: ShardCollection, oracle: Oracle, tmp_path: Path
) -> None:
    check(collection, oracle)
    sizes = [len(oracle.distances(column.of(QUERIES[0]), column)) for column in NAMED.layout.columns]
    assert len({len(oracle.points), *sizes}) > 1, "some points lack some vectors"
    sealing.seal_all(collection)
    check(collection, oracle)
    check(reopened(tmp_path / "c", SMALL), oracle)


def test_a_merge_adds_to_copies_of_all_graphs(collection: ShardCollection, oracle: Oracle, tmp_path: Path) -> None:
    sealing.seal_all(collection)
    base, *parts = (segment.name for segment in collection.sealed)
    for merge in (Merge(base, tuple(parts), "test"), Merge(None, ("merged",), "test")):
        sealing.install(collection, sealing.compact(collection, merge, "merged" if merge.base else "anew"))
        sealing.record(collection, sealing.plan_manifest(collection))
        check(collection, oracle)
    (segment,) = collection.sealed
    assert [graph is not None for graph in segment.graphs] == [True, True, False], "Manhattan has none"
    assert segment.row_count == len(oracle.points)
    assert not check_segment(segment.folder).contradictions
    check(reopened(tmp_path / "c", SMALL), oracle)


@pytest.mark.parametrize("damaged", [GRAPHS[0], GRAPHS[1]])
def test_a_damaged_graph_is_done_without_and_the_others_are_used(
    collection: ShardCollection, oracle: Oracle, tmp_path: Path, damaged: str
) -> None:
    path = collection.sealed[0].folder / damaged
    collection.wal.close()
    path.write_bytes(path.read_bytes()[:-1])
    again = reopened(tmp_path / "c", SMALL)
    assert [damage.file for damage in again.sealed[0].damages] == [damaged]
    assert sum(graph is None for graph in again.sealed[0].graphs) == 2
    check(again, oracle)


def test_a_load_brings_all_vectors(collection: ShardCollection, oracle: Oracle) -> None:
    load = BulkSession(collection, b"s" * 16, 50)
    batch = named_batch_of(range(100, 150), 3)
    load.add(batch)
    load.prepare()
    oracle.upsert(batch, collection.commit([load.attach_op()], 1))
    load.close()
    check(collection, oracle)


def test_a_vector_that_no_point_has_is_found_by_nobody(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c", SMALL, NAMED)
    rows = named_batch_of(range(1, 4)).vectors.copy()
    image = NAMED.layout.columns[1]
    image.of(rows)[:] = np.nan
    batch = named_batch_of(range(1, 4))
    collection.commit([upsert_op(type(batch)(batch.keys, rows, batch.payload_offsets, batch.payloads))], 1)
    for _ in range(2):
        hits = collection.search(np.ones((1, image.size), np.float32), SearchPlan(3, 3, vector=1), Want())
        assert hits.counts.tolist() == [0]
        assert collection.count() == 3
        sealing.seal_all(collection)
    assert collection.sealed[0].graphs[1] is None
    assert GRAPHS[1] not in collection.sealed[0].header.files
    reopened(tmp_path / "c", SMALL)


def test_memory_counts_every_graph(collection: ShardCollection) -> None:
    allocated, predicted = parts_of(size_of(collection)), predict(plan_of(collection))
    assert allocated.graphs > 2 * 2 * 65_536 * 40, "two segments, two graphs each"
    assert predicted.graphs > 2 * 65_536 * 40


def test_the_probe_measures_the_vector_that_was_asked_for(collection: ShardCollection) -> None:
    sealing.seal_all(collection)
    query = np.ascontiguousarray(NAMED.layout.columns[1].of(QUERIES[:1]))
    assert measure_recall(collection.snapshot(), query, SearchPlan(10, 400, vector=1)) == 1.0


def test_records_hold_every_vector(collection: ShardCollection, oracle: Oracle) -> None:
    found = collection.retrieve(key_array([40]), Want(vectors=True))
    np.testing.assert_array_equal(found.batch.vectors[0], oracle.points[40].vector)


def test_points_may_have_no_vectors_at_all(tmp_path: Path) -> None:
    from shards.batch import make_batch
    from shards.schema import CollectionSpec

    collection = new_collection(tmp_path / "c", SMALL, CollectionSpec(vectors={}))
    batch = make_batch(key_array(range(300)), np.zeros((300, 0), np.float32), [b'{"n":1}'] * 300)
    collection.commit([upsert_op(batch)], 1)
    sealing.seal_all(collection)
    collection.commit([delete_op([5])], 1)
    again = reopened(tmp_path / "c", SMALL)
    assert again.count() == 299
    assert again.retrieve(key_array([7]), Want(True, True)).batch.payload(0) == b'{"n":1}'
    assert not check_segment(again.sealed[0].folder).contradictions
