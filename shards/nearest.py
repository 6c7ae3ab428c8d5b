"""Search over the segments of one collection: each is asked, the nearest of all are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.batch import Vectors
from shards.hits import Hits, no_hits
from shards.index import SearchPlan, SegmentHits, VectorIndex
from shards.point_ids import key_array, key_list


class Want(NamedTuple):
    """What an answer carries beside ids, versions and distances."""

    payloads: bool = False
    vectors: bool = False


def nearest(segments: Sequence[VectorIndex], queries: Vectors, plan: SearchPlan, want: Want) -> Hits:
    """The k nearest living points of all segments to each prepared query (nq, size of the plan's vector), or as many of them
    as the plan wants returned.

    A point lives in one segment only (a newer version killed the older rows), so nothing is found twice.
    """
    parts = [(segment, segment.search(queries, plan)) for segment in segments if segment.live_count]
    if not parts:
        return no_hits(len(queries), want.payloads, queries.shape[1] if want.vectors else None)
    if len(parts) == 1:
        (segment, found) = parts[0]
        return _hits_of_one(segment, _first(found, plan.returned), want)
    return _hits_of_many(parts, min(plan.returned or plan.k, plan.k), want)


def _first(found: SegmentHits, count: int) -> SegmentHits:
    """The nearest ones; 0 for all."""
    if not count or count >= found.rows.shape[1]:
        return found
    return SegmentHits(found.rows[:, :count], found.distances[:, :count], found.is_full)


def _hits_of_one(segment: VectorIndex, found: SegmentHits, want: Want) -> Hits:
    rows, distances, _ = found
    counts = _counts(found)
    keys, versions = segment.keys_of(rows), segment.versions_of(rows)
    flat = rows.reshape(-1).tolist()
    payloads = [b"" if row < 0 else segment.payload(row) for row in flat] if want.payloads else None
    return Hits(counts, distances, keys, versions, payloads, segment.vectors_of(rows) if want.vectors else None)


def _hits_of_many(parts: list[tuple[VectorIndex, SegmentHits]], k: int, want: Want) -> Hits:
    rows = np.concatenate([found.rows for _, found in parts], axis=1)
    distances = np.concatenate([found.distances for _, found in parts], axis=1)
    source = np.repeat(np.arange(len(parts)), [found.rows.shape[1] for _, found in parts])
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    rows, distances = np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)
    source = source[order]
    counts = _counts(SegmentHits(rows, distances))
    keys = np.zeros(rows.shape, object)
    versions = np.zeros(rows.shape, np.uint64)
    payloads = np.full(rows.shape, b"", object)
    vectors = None
    for number, (segment, _) in enumerate(parts):
        here = (source == number) & (rows >= 0)
        if not here.any():
            continue
        picked = rows[here]
        keys[here] = key_list(segment.keys_of(picked))
        versions[here] = segment.versions_of(picked)
        if want.payloads:
            payloads[here] = [segment.payload(row) for row in picked.tolist()]
        if want.vectors:
            picked_vectors = segment.vectors_of(picked)
            if vectors is None:
                vectors = np.zeros((*rows.shape, picked_vectors.shape[1]), np.float32)
            vectors[here] = picked_vectors
    if want.vectors and vectors is None:  # no query found anything
        vectors = np.zeros((*rows.shape, 0), np.float32)
    found_payloads = payloads.reshape(-1).tolist() if want.payloads else None
    return Hits(
        counts, distances, key_array(keys.reshape(-1).tolist()).reshape(rows.shape), versions, found_payloads, vectors
    )


def _counts(found: SegmentHits) -> npt.NDArray[np.int32]:
    if found.is_full:
        counts = np.empty(len(found.rows), np.int32)
        counts.fill(found.rows.shape[1])
        return counts
    return (found.rows >= 0).sum(axis=1, dtype=np.int32)
