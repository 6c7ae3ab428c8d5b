"""Fewer hits than were searched for are the first of them, whatever they are found in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.hits import Hits
from shards.index import SearchPlan, VectorIndex, pick
from shards.nearest import Want, nearest
from shards.point_ids import UUID_BASE, key_array, key_list
from tests.shard_oracle import batch_of, new_collection, upsert_op, vectors_of

QUERIES = vectors_of([7, 8])


def segments(folder: Path, first: int) -> list[VectorIndex]:
    collection = new_collection(folder)
    collection.apply(upsert_op(batch_of(range(first, first + 20))), 1)
    return collection.segments()


def found(hits: Hits, query: int, count: int) -> list[list[Any]]:
    assert hits.payloads is not None
    assert hits.vectors is not None
    start = query * hits.width
    return [
        hits.distances[query, :count].tolist(),
        key_list(hits.keys[query, :count]),
        hits.versions[query, :count].tolist(),
        hits.payloads[start : start + count],
        hits.vectors[query, :count].tolist(),
    ]


@pytest.mark.parametrize("segment_count", [1, 2])
@pytest.mark.parametrize("returned", [1, 3, 9, 10, 40])
def test_the_first_ones_are_returned(tmp_path: Path, segment_count: int, returned: int) -> None:
    parts = [one for number in range(segment_count) for one in segments(tmp_path / str(number), 100 * number)]
    want, plan = Want(payloads=True, vectors=True), SearchPlan(10, 20)
    whole = nearest(parts, QUERIES, plan, want)
    cut = nearest(parts, QUERIES, plan._replace(returned=returned), want)
    width = min(returned, 10)
    assert (cut.width, cut.counts.tolist()) == (width, [width] * len(QUERIES))
    for query in range(len(QUERIES)):
        assert found(cut, query, width) == found(whole, query, width)


@pytest.mark.parametrize("query_count", [1, 5])
@pytest.mark.parametrize("width", [0, 1, 4])
def test_values_are_picked_as_numpy_does(query_count: int, width: int) -> None:
    random = np.random.default_rng(query_count)
    values, places = random.random((query_count, 7)), random.integers(0, 7, (query_count, width))
    np.testing.assert_array_equal(pick(values, places), np.take_along_axis(values, places, axis=1))


def test_segments_with_integers_and_with_uuids_are_merged(tmp_path: Path) -> None:
    parts = []
    for number, first in enumerate((0, UUID_BASE)):
        collection = new_collection(tmp_path / str(number))
        collection.apply(upsert_op(batch_of(range(first, first + 3))), 5 + number)
        parts.append(collection.segments()[0])
    hits = nearest(parts, QUERIES, SearchPlan(10, 20), Want(payloads=True, vectors=True))
    assert hits.counts.tolist() == [6, 6]
    expected = {
        key: (5 + number, segment)
        for number, segment in enumerate(parts)
        for key in key_list(segment.keys_of(np.arange(3)))
    }
    for query in range(len(QUERIES)):
        distances, keys, versions, payloads, vectors = found(hits, query, 6)
        assert distances == sorted(distances)
        assert set(keys) == set(expected)
        for place, key in enumerate(keys):
            version, segment = expected[key]
            row = segment.find(key_array([key]))
            assert versions[place] == version
            assert payloads[place] == segment.payload(int(row[0]))
            assert vectors[place] == segment.vectors_of(row)[0].tolist()
