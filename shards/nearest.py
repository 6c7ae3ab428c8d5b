"""Search over the segments of one collection: each is asked, the nearest of all are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.batch import Vectors
from shards.hits import Hits, no_hits
from shards.index import Rows, SearchPlan, SegmentHits, VectorIndex, pick
from shards.point_ids import same_width


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
    widths = [part.rows.shape[1] for _, part in parts]
    found = SegmentHits(
        np.concatenate([part.rows for _, part in parts], axis=1),
        np.concatenate([part.distances for _, part in parts], axis=1),
        all(part.is_full for _, part in parts),
    )
    order = np.argsort(found.distances, axis=1, kind="stable")[:, :k]
    rows, distances, _ = picked = found.picked(order)
    source = np.repeat(np.arange(len(parts)), widths)[order]
    keys = np.concatenate(same_width(segment.keys_of(part.rows) for segment, part in parts), axis=1)
    versions = np.concatenate([segment.versions_of(part.rows) for segment, part in parts], axis=1)
    payloads = None
    if want.payloads:
        segments = [segment for segment, _ in parts]
        places = zip(source.reshape(-1).tolist(), rows.reshape(-1).tolist(), strict=True)
        payloads = [b"" if row < 0 else segments[number].payload(row) for number, row in places]
    vectors = _vectors_of(parts, source, rows) if want.vectors else None
    return Hits(_counts(picked), distances, pick(keys, order), pick(versions, order), payloads, vectors)


def _vectors_of(parts: list[tuple[VectorIndex, SegmentHits]], source: Rows, rows: Rows) -> Vectors:
    """Of the rows (nq, k) of the segments with the numbers `source` (nq, k): float32 (nq, k, row dim), 0 for none."""
    dim = parts[0][0].vectors_of(rows[:0]).shape[-1]
    vectors = np.zeros((*rows.shape, dim), np.float32)
    for number, (segment, _) in enumerate(parts):
        here = (source == number) & (rows >= 0)
        if here.any():
            vectors[here] = segment.vectors_of(rows[here])
    return vectors


def _counts(found: SegmentHits) -> npt.NDArray[np.int32]:
    if found.is_full:
        counts = np.empty(len(found.rows), np.int32)
        counts.fill(found.rows.shape[1])
        return counts
    return (found.rows >= 0).sum(axis=1, dtype=np.int32)
