"""Fewer hits than were searched for are the first of them, whatever they are found in."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.hits import Hits
from shards.index import SearchPlan, VectorIndex
from shards.nearest import Want, nearest
from shards.point_ids import key_list
from tests.shard_oracle import batch_of, new_collection, upsert_op, vectors_of

QUERIES = vectors_of([7, 8])


def segments(folder: Path, first: int) -> list[VectorIndex]:
    collection = new_collection(folder)
    collection.apply(upsert_op(batch_of(range(first, first + 20))), 1)
    return collection.segments()


def found(hits: Hits, query: int, count: int) -> list[object]:
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
