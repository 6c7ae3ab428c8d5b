"""Points by their ids, over the segments of one collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shards.batch import make_batch
from shards.filter_memo import rows_matching
from shards.filter_query import FilterQuery
from shards.index import VectorIndex
from shards.nearest import Want
from shards.point_ids import KeyArray, key_array, same_width
from shards.records import Records


class Which(NamedTuple):
    """Which points are meant among those with some ids: those that match, or, if `inverted`, those that don't."""

    filter: FilterQuery
    inverted: bool = False


def look_up(segments: Sequence[VectorIndex], keys: KeyArray, want: Want, which: Which | None = None) -> Records:
    """Those of the points that exist (and are meant), each once, in no particular order. Cost: a search by key in every
    segment.
    """
    wanted = np.unique(keys)
    found = [(segment, rows[rows >= 0]) for segment in segments for rows in [segment.find(wanted)]]
    found = [(segment, rows) for segment, rows in found if len(rows)]
    if which is not None:
        found = [
            (segment, rows[rows_matching(segment, which.filter, rows) != which.inverted]) for segment, rows in found
        ]
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
