"""The growing segment: the newest points, in memory, searched exactly.

Everything in it is in the log too, so a crash loses nothing. Its room is fixed when it is made: rows are written
behind the last, in place, and never moved, so that a snapshot that another thread searches while rows are added reads
only rows that were whole when it was taken.
"""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards.batch import PointBatch, Vectors, make_batch
from shards.filter_memo import FilterMemo, matches_of
from shards.filters.indexes import FieldKinds, GrowingIndexes, Indexes
from shards.filters.rowsets import rowset_of_mask
from shards.index import Rows, SearchPlan, SegmentHits
from shards.memory import LARGE_KEY, GrowingSize
from shards.point_ids import NARROW, KeyArray, key_array, key_list
from shards.scan import scan, scan_rows
from shards.vector_layout import VectorLayout

ROW_COUNT_MIN = 64
"""Room for so many rows, however wide they are."""


DIM_OF_NONE = 64
"""Rows without a vector count like this: they have keys and payloads."""


def rows_that_fit(vector_bytes: int, dim: int) -> int:
    """How many rows a growing segment of `vector_bytes` holds."""
    return max(ROW_COUNT_MIN, vector_bytes // (4 * (dim or DIM_OF_NONE)))


class GrowingSegment:
    """Points in arrival order; an overwrite is a new row, and the old one dies."""

    def __init__(self, capacity: int, layout: VectorLayout, fields: FieldKinds | None = None) -> None:
        self.capacity = capacity
        self._layout = layout
        self.row_count = 0
        self.dead_count = 0
        self._vectors = np.empty((capacity, layout.dim), np.float32)
        self._versions = np.empty(capacity, np.uint64)
        self._alive = np.zeros(capacity, np.bool_)
        self._keys: list[int] = []
        self._payloads: list[bytes] = []
        self._row_of_key: dict[int, int] = {}
        self._with_gaps: set[int] = set()
        """Numbers of the vectors that not every row has."""
        self._fields = fields or {}
        self._indexes = GrowingIndexes(self._fields)
        self._memo = FilterMemo()
        self._large_key_count = 0
        self._document_count = 0
        self._payload_bytes = 0

    def __repr__(self) -> str:
        return f"<GrowingSegment {self.live_count} of {self.row_count} rows live, room for {self.capacity}>"

    @property
    def live_count(self) -> int:
        return self.row_count - self.dead_count

    @property
    def memory_size(self) -> GrowingSize:
        """What the memory model has to know."""
        return GrowingSize(
            dim=self._vectors.shape[1],
            capacity=self.capacity,
            row_count=self.row_count,
            live_count=self.live_count,
            large_key_count=self._large_key_count,
            document_count=self._document_count,
            payload_bytes=self._payload_bytes,
        )

    def has_room_for(self, count: int) -> bool:
        return self.row_count + count <= self.capacity

    def append(self, batch: PointBatch, lsn: int) -> None:
        """Add points that were written at `lsn`. The batch must fit; of a key that comes twice the last row lives."""
        start, end = self.row_count, self.row_count + len(batch)
        assert end <= self.capacity, "the shard makes room before it appends"
        self._vectors[start:end] = batch.vectors
        self._versions[start:end] = lsn
        self._alive[start:end] = True
        keys = key_list(batch.keys)
        self._keys += keys
        self._payloads += [batch.payload(row) for row in range(len(batch))]
        for row, key in enumerate(keys, start):
            older = self._row_of_key.get(key)
            if older is not None:
                self._alive[older] = False
                self.dead_count += 1
            self._row_of_key[key] = row
        self._with_gaps.update(
            number for number, column in enumerate(self._layout.columns) if column.missing(batch.vectors) is not None
        )
        self._indexes.append(self._payloads[start:end])
        self._weigh(batch)
        self.row_count = end  # last: a concurrent search sees whole rows only

    def snapshot(self) -> GrowingSegment:
        view = copy.copy(self)  # rows behind `row_count` may be written later: they are not this view's
        view._alive = self._alive[: self.row_count].copy()
        return view

    def _weigh(self, batch: PointBatch) -> None:
        if batch.keys.dtype != NARROW:
            self._large_key_count += len(batch)
        elif len(batch):
            self._large_key_count += int((batch.keys >= LARGE_KEY).sum())
        self._document_count += int(np.count_nonzero(np.diff(batch.payload_offsets)))
        self._payload_bytes += len(batch.payloads)

    def search(self, queries: Vectors, plan: SearchPlan) -> SegmentHits:
        """See VectorIndex. Every row that counts is measured."""
        count, column = self.row_count, self._layout.columns[plan.vector]
        matrix, alive = column.of(self._vectors[:count]), self._alive[:count] if self.dead_count else None
        if plan.vector in self._with_gaps and (gaps := column.missing(self._vectors[:count])) is not None:
            alive = ~gaps if alive is None else alive & ~gaps
        if plan.filter is None:
            return scan(matrix, queries, plan.k, column.distance, alive)
        rows = matches_of(self, plan.filter).rows
        return scan_rows(matrix, rows if alive is None else rows[alive[rows]], queries, plan.k, column.distance)

    @property
    def indexes(self) -> Indexes:
        return self._indexes.current

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        return self._alive[: self.row_count]

    @property
    def memo(self) -> FilterMemo:
        return self._memo

    @property
    def fields(self) -> FieldKinds:
        """The payload fields that are indexed. Those that are set are indexed from now on, for the rows that are there too."""
        return self._fields

    @fields.setter
    def fields(self, fields: FieldKinds) -> None:
        self._fields, self._indexes = fields, GrowingIndexes(fields)
        self._indexes.append(self._payloads)

    def find(self, keys: KeyArray) -> Rows:
        """See VectorIndex."""
        found = [self._row_of_key.get(key, -1) for key in key_list(keys)]
        if found and max(found) >= self.row_count:  # of a snapshot: overwritten since
            found = [
                row if row < self.row_count else self._older_row(key)
                for key, row in zip(key_list(keys), found, strict=True)
            ]
        return np.array(found, np.int64)

    def _older_row(self, key: int) -> int:
        rows = (row for row in range(self.row_count - 1, -1, -1) if self._keys[row] == key and self._alive[row])
        return next(rows, -1)

    @property
    def vector_rows(self) -> dict[str, BitMap | None]:
        """See Filtered."""
        having: dict[str, BitMap | None] = {}
        for number, column in enumerate(self._layout.columns):
            gaps = column.missing(self._vectors[: self.row_count]) if number in self._with_gaps else None
            having[column.name] = None if gaps is None else rowset_of_mask(~gaps)
        return having

    def kill(self, rows: Rows) -> None:
        for row in rows.tolist():
            del self._row_of_key[self._keys[row]]
        self._alive[rows] = False
        self.dead_count += len(rows)

    def keys_of(self, rows: Rows) -> KeyArray:
        return key_array([self._keys[row] for row in rows.reshape(-1).tolist()]).reshape(rows.shape)

    def versions_of(self, rows: Rows) -> npt.NDArray[np.uint64]:
        return self._versions[rows]

    def vectors_of(self, rows: Rows) -> Vectors:
        return self._vectors[rows]

    def payload(self, row: int) -> bytes:
        return self._payloads[row]

    def is_live(self, rows: Rows) -> npt.NDArray[np.bool_]:
        live: npt.NDArray[np.bool_] = self._alive[rows]
        return live

    def take(self, rows: Rows) -> PointBatch:
        return make_batch(self.keys_of(rows), self._vectors[rows], [self._payloads[row] for row in rows.tolist()])
