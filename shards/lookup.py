"""Points by their ids, over the segments of one collection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shards.batch import make_batch
from shards.index import VectorIndex
from shards.nearest import Want
from shards.point_ids import KeyArray, key_array, same_width
from shards.records import Records


def look_up(segments: Sequence[VectorIndex], keys: KeyArray, want: Want) -> Records:
    """Those of the points that exist, each once, in no particular order. Cost: a search by key in every segment."""
    wanted = np.unique(keys)
    found = [(segment, rows[rows >= 0]) for segment in segments for rows in [segment.find(wanted)]]
    found = [(segment, rows) for segment, rows in found if len(rows)]
    if not found:
        return Records(np.zeros(0, np.uint64), make_batch(key_array([]), np.zeros((0, 0), np.float32), []))
    vectors = [segment.vectors_of(rows) for segment, rows in found] if want.vectors else []
    batch = make_batch(
        np.concatenate(same_width(segment.keys_of(rows) for segment, rows in found)),
        np.concatenate(vectors) if vectors else np.zeros((sum(len(rows) for _, rows in found), 0), np.float32),
        [segment.payload(row) if want.payloads else b"" for segment, rows in found for row in rows.tolist()],
    )
    return Records(np.concatenate([segment.versions_of(rows) for segment, rows in found]), batch)
