"""Searches with a filter find what brute force finds among the matching points, whatever plan is chosen, whatever died."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards import sealing
from shards.batch import make_batch
from shards.collection import ShardCollection
from shards.compaction import Merge
from shards.field_schema import FieldSchema
from shards.filter_memo import BYTES_A_ROW_MAX, matching
from shards.filter_query import filter_query
from shards.filters.indexes import FieldKind
from shards.growing import GrowingSegment
from shards.index import SearchPlan
from shards.log_frame import LogOp
from shards.nearest import Want
from shards.payload_indexes import build_indexes, missing_fields, write_fields
from shards.point_ids import key_array, key_list
from shards.settings import ShardSettings
from tests.shard_oracle import DIM, delete_op, new_collection, reopened, upsert_op, vectors_of

COUNT = 3_000
SETTINGS = ShardSettings(seal_bytes=64 * 1024, exact_scan_bytes=0)
QUERIES = vectors_of(range(900_000, 900_008))
FILTERS = {
    0.5: b'{"must":{"key":"half","match":{"value":true}}}',
    0.1: b'{"must":{"key":"tenth","match":{"value":3}}}',
    0.01: b'{"must":{"key":"n","range":{"gte":1000,"lt":1030}}}',
    0.001: b'{"must":{"has_id":[5,17,2999,999999]}}',
    0.0: b'{"must":{"key":"nobody","match":{"value":"x"}}}',
    0.9: b'{"must_not":{"key":"tenth","match":{"value":3}}}',
}
FIELDS = {
    "half": FieldSchema(kind=FieldKind.BOOL),
    "tenth": FieldSchema(kind=FieldKind.INTEGER),
    "n": FieldSchema(kind=FieldKind.INTEGER),
}


def batch(first: int, count: int) -> LogOp:
    keys = range(first, first + count)
    payloads = [b'{"half":%s,"tenth":%d,"n":%d}' % (b"true" if n % 2 else b"false", n % 10, n) for n in keys]
    return upsert_op(make_batch(key_array(keys), vectors_of(keys), payloads))


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    """One graph of most points with some dead rows, a growing segment with the rest."""
    made = new_collection(tmp_path / "c", SETTINGS)
    made.commit([batch(0, 2_800)], 1)
    sealing.seal_all(made)
    made.commit([batch(2_800, 200), batch(50, 20), delete_op(range(100, 130))], 1)
    return made


def matching_keys(encoded: bytes) -> set[int]:
    living = set(range(COUNT)) - set(range(100, 130))
    fits = {
        FILTERS[0.5]: lambda n: n % 2 == 1,
        FILTERS[0.1]: lambda n: n % 10 == 3,
        FILTERS[0.01]: lambda n: 1000 <= n < 1030,
        FILTERS[0.001]: lambda n: n in (5, 17, 2999),
        FILTERS[0.0]: lambda n: False,
        FILTERS[0.9]: lambda n: n % 10 != 3,
    }[encoded]
    return {n for n in living if fits(n)}


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("encoded", FILTERS.values(), ids=[str(share) for share in FILTERS])
@pytest.mark.parametrize("exact", [False, True])
def test_the_nearest_matching_points_are_found(
    collection: ShardCollection, encoded: bytes, declared: bool, exact: bool
) -> None:
    if declared:
        collection.fields = FIELDS
        for segment in collection.sealed:
            kinds = missing_fields(segment, FIELDS)
            segment.indexes = build_indexes(collection.folder, segment, kinds, collection.disk)
    wanted = sorted(matching_keys(encoded))
    plan = SearchPlan(10, 64, exact, filter=filter_query(encoded))
    for _ in range(2):  # the second time from memory
        hits = collection.search(QUERIES, plan, Want())
        assert hits.counts.tolist() == [min(10, len(wanted))] * len(QUERIES)
        recalls = []
        for number, query in enumerate(QUERIES):
            found = key_list(hits.keys[number, : hits.counts[number]])
            assert set(found) <= set(wanted)
            if wanted:
                distances = ((vectors_of(wanted) - query) ** 2).sum(axis=1)
                nearest = {wanted[place] for place in np.argsort(distances)[:10]}
                recalls.append(len(nearest & set(found)) / len(nearest))
        if exact or len(wanted) < 400:
            assert set(recalls) <= {1.0}
        elif recalls:
            assert np.mean(recalls) > 0.9


def test_what_is_written_or_deleted_is_seen_at_once(collection: ShardCollection) -> None:
    query = filter_query(FILTERS[0.1])

    def count() -> int:
        return sum(int(matching(segment, query).sum()) for segment in collection.segments())

    assert count() == 300 - 3
    collection.commit([delete_op([13, 2_803])], 1)
    assert count() == 300 - 5
    collection.commit([batch(13, 1), batch(3_003, 1)], 1)
    assert count() == 300 - 3


def test_a_filter_that_is_correlated_with_the_query_finds_its_points(tmp_path: Path) -> None:
    """Half of all points match, and all of those are far from the query."""
    made = new_collection(tmp_path / "c", SETTINGS)
    vectors = vectors_of(range(2_000))
    vectors[1_000:] += 50
    payloads = [b'{"far":%s}' % (b"true" if n >= 1_000 else b"false") for n in range(2_000)]
    made.commit([upsert_op(make_batch(key_array(range(2_000)), vectors, payloads))], 1)
    sealing.seal_all(made)
    query = filter_query(b'{"must":{"key":"far","match":{"value":true}}}')
    hits = made.search(vectors_of([7]), SearchPlan(10, 16, filter=query), Want())
    assert hits.counts.tolist() == [10]
    assert min(key_list(hits.keys[0])) >= 1_000


def test_indexes_survive_seals_merges_and_restarts(collection: ShardCollection, tmp_path: Path) -> None:
    write_fields(collection.folder, FIELDS, collection.disk)
    collection.fields = FIELDS
    sealing.seal_all(collection)
    assert missing_fields(collection.sealed[-1], FIELDS) == {}
    assert len(missing_fields(collection.sealed[0], FIELDS)) == 3, "it was sealed before they were declared"
    base, part = (segment.name for segment in collection.sealed)
    sealing.install(collection, sealing.compact(collection, Merge(base, (part,), "test"), "merged"))
    for _ in range(2):
        sealing.record(collection, sealing.plan_manifest(collection))
    again = reopened(tmp_path / "c", SETTINGS)
    assert again.fields == FIELDS
    (segment,) = again.sealed
    assert missing_fields(segment, FIELDS) == {}
    hits = again.search(QUERIES[:1], SearchPlan(10, 64, filter=filter_query(FILTERS[0.1])), Want())
    assert set(key_list(hits.keys[0])) <= matching_keys(FILTERS[0.1])
    assert [path.name for path in (again.folder / "indexes").iterdir()] == [segment.name]


def test_a_damaged_index_is_done_without(collection: ShardCollection, tmp_path: Path) -> None:
    write_fields(collection.folder, FIELDS, collection.disk)
    collection.fields = FIELDS
    sealing.seal_all(collection)
    files = sorted((collection.folder / "indexes" / collection.sealed[-1].name).iterdir())
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    files[1].write_bytes(b"")
    again = reopened(tmp_path / "c", SETTINGS)
    assert len(missing_fields(again.sealed[-1], FIELDS)) == 2
    assert DIM == again.dim


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_remembered_of_many_filters_is_bounded_and_the_newest_stay(
    collection: ShardCollection, exact: bool
) -> None:
    (segment,) = collection.sealed
    rows_max = BYTES_A_ROW_MAX * segment.row_count
    gathered_max = 2 * segment.row_count * DIM * 4
    plans = []
    for first in range(600):
        encoded = b'{"must":{"key":"n","range":{"gte":%d,"lt":%d}}}' % (first, first + 200)
        plans.append(SearchPlan(10, 64, exact, filter=filter_query(encoded)))
        collection.search(QUERIES[:1], plans[-1], Want())
        held = [known.byte_count for known in segment.memo._known.values()]
        gathered = sum(known.gathered_bytes for known in segment.memo._known.values())
        assert sum(held[:-1]) <= rows_max
        assert gathered <= gathered_max
    assert plans[-1].filter is not None
    assert plans[-1].filter.encoded in segment.memo._known
    assert len(segment.memo._known) >= 10, "there is room for some"


def test_filters_that_come_again_look_at_new_points_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty filters that divide a growing segment's points among them: what is known of one is kept for the others' sake."""
    growing = new_collection(tmp_path / "c", SETTINGS)
    plans = [
        SearchPlan(10, 64, filter=filter_query(b'{"must":{"key":"n","range":{"gte":%d,"lt":%d}}}' % (n, n + 10)))
        for n in range(0, 300, 10)
    ]
    looked_at: list[int] = []
    payload = GrowingSegment.payload
    monkeypatch.setattr(
        GrowingSegment, "payload", lambda segment, row: (looked_at.append(row), payload(segment, row))[1]
    )
    for round_number in range(20):
        first = 300 if round_number else 0
        growing.commit([batch(first + 3 * round_number, 3 if round_number else 300)], 1)
        looked_at.clear()
        for plan in plans:
            growing.search(QUERIES[:1], plan, Want())
        assert len(looked_at) == len(plans) * (3 if round_number else 300)
