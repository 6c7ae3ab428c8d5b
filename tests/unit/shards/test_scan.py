"""Exact search against a plain sort of plainly computed distances."""

from __future__ import annotations

import numpy as np
import pytest

from shards import scan as scan_module
from shards.distance import Distance
from shards.scan import scan, scan_rows, smallest
from tests.shard_oracle import vectors_of

COUNT = 50


def plain_distances(matrix: np.ndarray, query: np.ndarray, distance: Distance) -> np.ndarray:
    matrix, query = matrix.astype(np.float64), query.astype(np.float64)
    if distance is Distance.EUCLID:
        return ((matrix - query) ** 2).sum(axis=1)
    if distance is Distance.MANHATTAN:
        return np.abs(matrix - query).sum(axis=1)
    return 1.0 - matrix @ query


@pytest.mark.parametrize("distance", list(Distance))
@pytest.mark.parametrize("k", [1, 7, COUNT, COUNT + 9])
@pytest.mark.parametrize("dead_count", [0, 20, 45, COUNT])
def test_nearest_living_rows_in_order(distance: Distance, k: int, dead_count: int) -> None:
    matrix = vectors_of(range(COUNT), distance=distance)
    queries = vectors_of(range(100, 103), distance=distance)
    alive = np.ones(COUNT, np.bool_)
    alive[np.random.default_rng(1).permutation(COUNT)[:dead_count]] = False
    found = scan(matrix, queries, k, distance, alive if dead_count else None)
    width, living = min(k, COUNT), COUNT - dead_count
    assert found.rows.shape == found.distances.shape == (3, width)
    for number, query in enumerate(queries):
        measured = plain_distances(matrix, query, distance)
        expected = [row for row in np.argsort(measured) if alive[row]][:width]
        assert found.rows[number].tolist() == expected + [-1] * (width - min(width, living))
        np.testing.assert_allclose(found.distances[number, : len(expected)], measured[expected], rtol=1e-4, atol=1e-5)
        assert np.isinf(found.distances[number, len(expected) :]).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, queries = vectors_of(range(COUNT)), vectors_of([200])
    whole = scan(matrix, queries, 10, Distance.EUCLID, None)
    monkeypatch.setattr(scan_module, "BLOCK_BYTES", 7 * 8 * 4)
    in_blocks = scan(matrix, queries, 10, Distance.EUCLID, None)
    np.testing.assert_array_equal(in_blocks.rows, whole.rows)
    np.testing.assert_array_equal(in_blocks.distances, whole.distances)


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_smallest(k: int) -> None:
    values = np.array([3, 1, 2, 1, 9], np.float32)
    assert values[smallest(values, k)].tolist() == sorted(values.tolist())[:k]


@pytest.mark.parametrize("count", [1, 300, 5_000, 20_000])
@pytest.mark.parametrize("k", [1, 10, 50])
@pytest.mark.parametrize("kind", ["random", "equal", "few different", "mostly infinite", "ascending"])
def test_the_smallest_values_are_found_however_they_are_spread(count: int, k: int, kind: str) -> None:
    random = np.random.default_rng(count + k)
    values = random.random(count).astype(np.float32)
    if kind == "equal":
        values[:] = 3
    elif kind == "few different":
        values = random.integers(0, 3, count).astype(np.float32)
    elif kind == "mostly infinite":
        values[random.random(count) < 0.99] = np.inf
    elif kind == "ascending":
        values.sort()
    found = smallest(values, k)
    assert len(set(found.tolist())) == len(found) == (count if k >= count else k)
    np.testing.assert_array_equal(values[found], np.sort(values)[: len(found)])


@pytest.mark.parametrize("living_count", [0, 1, 5, 20, COUNT])
def test_rows_by_their_numbers_are_the_same_as_by_a_mask(living_count: int) -> None:
    matrix, queries = vectors_of(range(COUNT)), vectors_of([200, 201])
    living = np.sort(np.random.default_rng(2).permutation(COUNT)[:living_count])
    alive = np.zeros(COUNT, np.bool_)
    alive[living] = True
    by_numbers = scan_rows(matrix, living, queries, 10, Distance.EUCLID)
    by_mask = scan(matrix, queries, 10, Distance.EUCLID, alive)
    np.testing.assert_array_equal(by_numbers.rows, by_mask.rows)
    np.testing.assert_array_equal(by_numbers.distances, by_mask.distances)
    assert set(by_numbers.rows[by_numbers.rows >= 0].tolist()) <= set(living.tolist())
