"""A collection on one shard: a search sees what was applied, a point lives in one segment, a bad op is never logged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards import sealing
from shards.batch import concatenate, encode_batch, make_batch
from shards.collection import ShardCollection
from shards.distance import Distance
from shards.errors import BadVector, Corrupt, DimensionMismatch
from shards.index import SearchPlan
from shards.log_frame import LogOp, OpKind
from shards.nearest import Want
from shards.point_ids import UUID_BASE, key_array, key_list
from tests.shard_oracle import (
    DIM,
    SMALL,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    check_search,
    delete_op,
    new_collection,
    spec_of,
    upsert_op,
    vectors_of,
)

KEYS = [3, UUID_BASE + 256, 9, 2**64 - 1]
QUERIES = vectors_of([1, 2, 3])


def stay(_: ShardCollection) -> None:
    """The rows stay in the growing segment."""


def freeze(collection: ShardCollection) -> None:
    collection.freeze(collection.wal.last_lsn)


PLACES = pytest.mark.parametrize("move", [stay, freeze, sealing.seal_all], ids=["growing", "frozen", "sealed"])
"""Where the older rows are when a write comes."""

Move = Callable[[ShardCollection], None]


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    return new_collection(tmp_path / "c")


def log_bytes(collection: ShardCollection) -> int:
    return sum(path.stat().st_size for path in (collection.folder / "wal").iterdir())


@pytest.mark.parametrize("distance", list(Distance))
def test_a_search_sees_what_was_applied(tmp_path: Path, distance: Distance) -> None:
    collection = new_collection(tmp_path / "c", spec=spec_of(distance))
    oracle = Oracle()
    queries = vectors_of([1, 2, 3], distance=distance)
    check_same(collection, oracle, queries)
    for move in (freeze, sealing.seal_all, stay):
        first_key = 100 * collection.wal.next_lsn
        batch = batch_of([*range(first_key, first_key + 20), UUID_BASE + first_key], distance=distance)
        oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
        check_same(collection, oracle, queries)
        move(collection)
        check_same(collection, oracle, queries)
        check_search(collection, oracle, queries, SearchPlan(5, 64))


def test_the_ops_of_a_commit_have_lsns_in_their_order(collection: ShardCollection) -> None:
    ops = [upsert_op(batch_of([key]), bytes([key]) * 16) for key in (1, 2, 3)]
    assert collection.commit(ops[:1], 1) == 1
    assert collection.commit(ops[1:], 1) == 2
    records = collection.retrieve(key_array([1, 2, 3]), Want())
    assert dict(zip(key_list(records.batch.keys), records.versions.tolist(), strict=True)) == {1: 1, 2: 2, 3: 3}
    assert [collection.history.lsn_of(op.op_id) for op in ops] == [1, 2, 3]
    assert collection.history.lsn_of(b"x" * 16) is None


@PLACES
def test_an_overwrite_kills_the_older_rows_wherever_they_are(collection: ShardCollection, move: Move) -> None:
    oracle = Oracle()
    for version, keys in enumerate((KEYS, KEYS[:2], [KEYS[1], 77])):
        batch = batch_of(keys, version)
        oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
        check_same(collection, oracle, QUERIES)
        move(collection)
        check_same(collection, oracle, QUERIES)


@PLACES
def test_a_deleted_point_is_gone_and_may_come_again(collection: ShardCollection, move: Move) -> None:
    oracle = Oracle()
    batch = batch_of(KEYS)
    oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
    move(collection)
    gone = [KEYS[1], KEYS[2], 12345]
    collection.commit([delete_op([*gone, KEYS[1]])], 1)
    oracle.delete(gone)
    check_same(collection, oracle, QUERIES)
    collection.commit([delete_op(gone)], 1)
    check_same(collection, oracle, QUERIES)
    move(collection)
    again = batch_of([KEYS[1]], version=5)
    oracle.upsert(again, collection.commit([upsert_op(again)], 1))
    check_same(collection, oracle, QUERIES)


@PLACES
def test_of_a_key_twice_in_an_upsert_the_last_lives(collection: ShardCollection, move: Move) -> None:
    collection.commit([upsert_op(batch_of([1, 2]))], 1)
    move(collection)
    batch = concatenate([batch_of([1, 3], 1), batch_of([1], 2)])
    oracle = Oracle()
    oracle.upsert(batch_of([2]), 1)
    oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
    check_same(collection, oracle, QUERIES)


def test_retrieving_gives_each_point_once_with_what_was_asked_for(collection: ShardCollection) -> None:
    collection.commit([upsert_op(batch_of([1, 2]))], 1)
    freeze(collection)
    collection.commit([upsert_op(batch_of([UUID_BASE]))], 1)
    asked = key_array([UUID_BASE, 1, 1, 5, UUID_BASE])
    bare = collection.retrieve(asked, Want()).batch
    assert sorted(key_list(bare.keys)) == [1, UUID_BASE]
    assert (bare.dim, [bare.payload(row) for row in range(2)]) == (0, [b"", b""])
    whole = collection.retrieve(asked, Want(payloads=True, vectors=True)).batch
    row = key_list(whole.keys).index(1)
    assert whole.payload(row) == b'{"v":[1,0]}'
    np.testing.assert_array_equal(whole.vectors[row], batch_of([1]).vectors[0])
    assert len(collection.retrieve(key_array([6, UUID_BASE + 6]), Want(payloads=True)).batch) == 0
    assert len(collection.retrieve(key_array([]), Want()).batch) == 0


def test_a_full_growing_segment_is_frozen_and_still_searched(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c", SMALL, spec_of(dim=WIDE_DIM))
    oracle = Oracle()
    for first_key in range(0, 160, 40):  # 64 rows fit: each batch but the first has to freeze the one before
        batch = batch_of(range(first_key, first_key + 40), dim=WIDE_DIM)
        oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
    assert [frozen.through_lsn for frozen in collection.frozen] == [1, 2, 3]
    assert [segment.row_count for segment in collection.segments()] == [40] * 4
    check_same(collection, oracle, vectors_of([1, 2], WIDE_DIM))


def test_a_batch_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c", SMALL, spec_of(dim=WIDE_DIM))
    batch = batch_of(range(200), dim=WIDE_DIM)
    oracle = Oracle()
    oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
    assert collection.frozen == [], "an empty growing segment needs no graph"
    check_same(collection, oracle, vectors_of([1], WIDE_DIM))


def test_freezing_starts_a_log_file_and_nothing_is_frozen_twice(collection: ShardCollection) -> None:
    freeze(collection)
    assert collection.frozen == []
    collection.commit([upsert_op(batch_of([1]))], 1)
    freeze(collection)
    freeze(collection)
    assert [frozen.growing.row_count for frozen in collection.frozen] == [1]
    collection.commit([upsert_op(batch_of([2]))], 1)
    assert len(list((collection.folder / "wal").glob("wal-*.log"))) == 2


def test_segments_taken_once_do_not_change_under_a_search(collection: ShardCollection) -> None:
    collection.commit([upsert_op(batch_of([1]))], 1)
    held = collection.segments()
    freeze(collection)
    collection.commit([upsert_op(batch_of([2]))], 1)
    assert [segment.live_count for segment in held] == [1]
    assert [segment.live_count for segment in collection.segments()] == [1, 1]


def test_what_dies_while_a_graph_is_built_stays_dead(collection: ShardCollection) -> None:
    oracle = Oracle()
    batch = batch_of(range(10))
    oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
    freeze(collection)
    collection.commit([delete_op([0])], 1)
    oracle.delete([0])
    built = sealing.build(collection, collection.frozen[0])
    newer = batch_of([1], version=1)
    oracle.upsert(newer, collection.commit([upsert_op(newer)], 1))
    collection.commit([delete_op([2])], 1)
    oracle.delete([2])
    sealing.install(collection, built)
    assert ([segment.row_count for segment in collection.sealed], collection.frozen) == ([9], [])
    check_same(collection, oracle, QUERIES)


def test_a_frozen_segment_whose_every_row_died_leaves_no_segment(collection: ShardCollection) -> None:
    collection.commit([upsert_op(batch_of([1, 2]))], 1)
    freeze(collection)
    collection.commit([delete_op([1, 2])], 1)
    sealing.seal_all(collection)
    assert (collection.sealed, collection.frozen, collection.count()) == ([], [], 0)
    assert list((collection.folder / "segments").iterdir()) == []


def test_sealing_drops_the_log_that_two_manifests_do_without(collection: ShardCollection) -> None:
    collection.commit([upsert_op(batch_of([1]))], 1)
    for key in range(2, 6):
        freeze(collection)
        collection.commit([upsert_op(batch_of([key]))], 1)
        sealing.install(collection, sealing.build(collection, collection.frozen[0]))
        sealing.record(collection, sealing.plan_manifest(collection))
    starts = sorted(int(path.stem.removeprefix("wal-")) for path in (collection.folder / "wal").glob("wal-*"))
    assert starts == [4, 5], "the newest manifest covers LSN 4, the one before it only LSN 3"
    assert len(list(collection.folder.glob("manifest-*.json"))) == 2


def nan_in_row_1() -> bytes:
    batch = batch_of([1, 2])
    batch.vectors[1, 3] = np.nan
    return encode_batch(batch)


def infinity() -> bytes:
    return encode_batch(make_batch(key_array([1]), np.full((1, DIM), -np.inf, np.float32), [b""]))


@pytest.mark.parametrize(
    ("kind", "body", "error", "reason"),
    [
        (OpKind.UPSERT, encode_batch(batch_of([1], dim=DIM + 1)), DimensionMismatch, f"expected dim: {DIM}, got 9"),
        (OpKind.UPSERT, nan_in_row_1(), BadVector, "vector 1 of an upsert"),
        (OpKind.UPSERT, infinity(), BadVector, "vector 0 of an upsert"),
        (OpKind.UPSERT, encode_batch(batch_of([1]))[:-1], Corrupt, "point batch"),
        (OpKind.DELETE, bytes(delete_op([1, 2]).body)[:-1], Corrupt, "key list"),
    ],
    ids=["dimension", "NaN", "infinity", "cut upsert", "cut delete"],
)
def test_a_bad_op_keeps_its_whole_commit_out_of_the_log(
    collection: ShardCollection, kind: OpKind, body: bytes, error: type[Exception], reason: str
) -> None:
    collection.commit([upsert_op(batch_of([1]))], 1)
    before = log_bytes(collection)
    with pytest.raises(error, match=reason):
        collection.commit([upsert_op(batch_of([5])), LogOp(kind, b"b" * 16, body)], 1)
    assert (log_bytes(collection), collection.wal.last_lsn, collection.count()) == (before, 1, 1)
    assert collection.history.lsn_of(b"b" * 16) is None
    assert collection.commit([upsert_op(batch_of([5]))], 1) == 2


def test_it_says_what_it_holds(collection: ShardCollection) -> None:
    collection.commit([upsert_op(batch_of([1, 2]))], 1)
    sealing.seal_all(collection)
    assert "2 points, 2 segments" in repr(collection)
    assert "next LSN 2" in repr(collection)
