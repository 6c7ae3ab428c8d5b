"""Sealed segments: rows by key in both widths, living rows only, and k of them however many died."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shards import filter_plan
from shards import sealed as sealed_module
from shards.batch import PointBatch, concatenate
from shards.distance import Distance
from shards.hnsw import HnswGraph
from shards.index import SearchPlan, SegmentHits
from shards.point_ids import UUID_BASE, key_array, key_list, widen
from shards.sealed import SealedSegment, open_segment
from shards.segment_builder import BUILDING_SUFFIX, SegmentBuilder
from tests.shard_oracle import DIM, batch_of, spec_of, vectors_of

INTEGERS = [0, 5, 2**64 - 1, 17, 256]
UUIDS = [UUID_BASE, UUID_BASE + 5, UUID_BASE + (5 << 64), UUID_BASE + 2**128 - 1, UUID_BASE + 256]


def build(
    folder: Path, batch: PointBatch, distance: Distance = Distance.EUCLID, versions: list[int] | None = None
) -> SealedSegment:
    builder = SegmentBuilder(folder, spec_of(distance, batch.dim), len(batch))
    builder.add(batch)
    builder.finish(None if versions is None else np.array(versions, np.uint64))
    return open_segment(folder, 99)


@pytest.mark.parametrize("held", [INTEGERS, UUIDS, INTEGERS + UUIDS], ids=["integers", "uuids", "mixed"])
@pytest.mark.parametrize("asked", [INTEGERS, UUIDS, [*UUIDS, *INTEGERS, 6, UUID_BASE + 6]])
def test_rows_are_found_by_key_whatever_its_width(tmp_path: Path, held: list[int], asked: list[int]) -> None:
    segment = build(tmp_path / "segment", batch_of(held))
    expected = [held.index(key) if key in held else -1 for key in asked]
    assert segment.find(key_array(asked)).tolist() == expected
    assert segment.find(widen(key_array(asked))).tolist() == expected
    assert segment.find(key_array([])).tolist() == []
    rows = np.arange(len(held))
    assert key_list(segment.keys_of(rows)) == held
    assert sorted(key_list(segment.live_keys())) == sorted(held)


@pytest.mark.parametrize("extra", [[], [UUID_BASE + 1]], ids=["narrow", "wide"])
def test_of_equal_keys_the_last_row_lives(tmp_path: Path, extra: list[int]) -> None:
    batch = concatenate([batch_of([1, 2, *extra], 0), batch_of([2, 3], 1), batch_of([2], 2)])
    segment = build(tmp_path / "segment", batch)
    last = len(batch) - 1
    assert segment.find(key_array([1, 2, 3])).tolist() == [0, last, last - 1]
    assert (segment.row_count, segment.live_count) == (len(batch), len(batch) - 2)
    assert segment.payload(last) == b'{"v":[2,2]}'
    found = segment.search(batch_of([2], 0).vectors, SearchPlan(len(batch), 64))
    assert sorted(row for row in found.rows[0].tolist() if row >= 0) == sorted({*range(len(batch))} - {1, last - 2})


def test_dead_rows_are_found_neither_by_key_nor_by_vector(tmp_path: Path) -> None:
    segment = build(tmp_path / "segment", batch_of(range(40)))
    assert segment.dead is None
    segment.kill(segment.find(key_array([7, 9])))
    segment.kill(np.zeros(0, np.int64))
    assert segment.live_count == 38
    assert segment.dead is not None
    assert np.flatnonzero(segment.dead).tolist() == [7, 9]
    assert segment.find(key_array([7, 8])).tolist() == [-1, 8]
    found = segment.search(batch_of([7]).vectors, SearchPlan(10, 20))
    assert 7 not in found.rows
    assert (found.rows >= 0).all()
    assert "38 of 40 rows live" in repr(segment)


@pytest.mark.parametrize("distance", [Distance.EUCLID, Distance.COSINE, Distance.DOT, Distance.MANHATTAN])
@pytest.mark.parametrize("exact", [True, False])
def test_k_living_rows_are_found_where_nine_of_ten_are_dead(tmp_path: Path, distance: Distance, exact: bool) -> None:
    count, k = 300, 12
    batch = batch_of(range(count), distance=distance)
    segment = build(tmp_path / "segment", batch, distance)
    # The nearest ones die: the graph's candidates are all dead, which only a scan can make up for.
    living = np.argsort(segment.search(batch.vectors[:1], SearchPlan(count, count, exact=True)).rows[0])[-30:]
    segment.kill(np.setdiff1d(np.arange(count), living))
    queries = np.concatenate([batch.vectors[:1], vectors_of([7_000, 7_001], distance=distance)])
    found = segment.search(queries, SearchPlan(k, 16, exact))
    assert found.rows.shape == (3, k)
    assert set(found.rows.reshape(-1).tolist()) <= set(living.tolist())
    assert all(len(set(line)) == k for line in found.rows.tolist())
    exactly = segment.search(queries, SearchPlan(k, 16, exact=True))
    np.testing.assert_allclose(found.distances, exactly.distances, rtol=1e-4)


def test_fewer_living_than_asked_are_padded(tmp_path: Path) -> None:
    segment = build(tmp_path / "segment", batch_of(range(50)))
    segment.kill(np.arange(3, 50))
    found = segment.search(vectors_of([1, 2]), SearchPlan(10, 16))
    assert [sorted(line)[-3:] for line in found.rows.tolist()] == [[0, 1, 2]] * 2
    assert (found.rows[:, 3:] == -1).all()
    assert np.isinf(found.distances[:, 3:]).all()
    segment.kill(np.arange(3))
    assert (segment.search(vectors_of([1]), SearchPlan(10, 16)).rows == -1).all()


def test_a_query_that_the_graph_can_not_fill_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = build(tmp_path / "segment", batch_of(range(50)))
    queries = vectors_of([1, 2])
    expected = segment.search(queries, SearchPlan(5, 16, exact=True))
    real = HnswGraph.search

    def unfilled(graph: HnswGraph, asked: np.ndarray, ef: int) -> SegmentHits:
        found = real(graph, asked, ef)
        found.rows[-1], found.distances[-1] = -1, np.inf
        return SegmentHits(found.rows, found.distances)

    monkeypatch.setattr(HnswGraph, "search", unfilled)
    found = segment.search(queries, SearchPlan(5, 16))
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-5)


def test_small_segments_are_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = build(tmp_path / "segment", batch_of(range(50)))
    segment.exact_scan_bytes = 50 * DIM * 4
    monkeypatch.setattr(HnswGraph, "search", lambda *_: pytest.fail("the graph was asked"))
    assert segment.search(batch_of([4]).vectors, SearchPlan(3, 16)).rows[0, 0] == 4


def test_versions_are_the_rows_own_or_the_segments(tmp_path: Path) -> None:
    own = build(tmp_path / "own", batch_of([1, 2, 3]), versions=[5, 9, 7])
    assert own.versions_of(np.array([[2, 0]])).tolist() == [[7, 5]]
    attached = build(tmp_path / "attached", batch_of([1, 2, 3]))
    assert attached.versions_of(np.array([[2, 0]])).tolist() == [[99, 99]]


def test_contents_come_back(tmp_path: Path) -> None:
    batch = batch_of([4, 5, 6])
    segment = build(tmp_path / "segment", batch)
    taken = segment.take(np.array([2, 0]))
    assert (key_list(taken.keys), taken.payload(0), taken.payload(1)) == ([6, 4], b'{"v":[6,0]}', b'{"v":[4,0]}')
    np.testing.assert_array_equal(segment.vectors_of(np.array([1])), batch.vectors[1:2])
    assert segment.file_bytes == sum(
        path.stat().st_size for path in segment.folder.iterdir() if path.name != "segment.json"
    )


def test_restored_dead_rows_and_superseded_ones_are_counted_once(tmp_path: Path) -> None:
    batch = concatenate([batch_of([1, 2]), batch_of([1], 1)])
    segment = build(tmp_path / "segment", batch)
    segment.restore_dead(np.array([True, True, False]))
    assert segment.live_count == 1
    assert segment.dead is not None
    assert segment.dead.tolist() == [True, True, False]


def test_an_aborted_build_leaves_nothing(tmp_path: Path) -> None:
    builder = SegmentBuilder(tmp_path / "segment", spec_of(), 3)
    builder.add(batch_of([1]))
    assert (tmp_path / ("segment" + BUILDING_SUFFIX)).is_dir()
    builder.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_build_over_a_leftover_takes_its_place(tmp_path: Path) -> None:
    build(tmp_path / "segment", batch_of([1, 2]))
    assert build(tmp_path / "segment", batch_of([3])).find(key_array([1, 3])).tolist() == [-1, 0]


def test_widening_asks_the_graph_once_more_before_it_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = build(tmp_path / "segment", batch_of(range(200)))
    query = batch_of([0]).vectors
    nearest = segment.search(query, SearchPlan(200, 200, exact=True)).rows[0]
    segment.kill(nearest[:20])
    asked = []
    real = HnswGraph.search
    monkeypatch.setattr(filter_plan, "CANDIDATE_COST", 0.0)
    monkeypatch.setattr(HnswGraph, "search", lambda graph, q, ef: (asked.append(ef), real(graph, q, ef))[1])
    found = segment.search(query, SearchPlan(4, 16))
    assert asked == [16, 16 * sealed_module.WIDEN_FACTOR]
    assert (found.rows >= 0).all()
