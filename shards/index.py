"""What a shard asks of a segment, whether it grows or is sealed."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from shards.batch import PointBatch, Vectors
from shards.filter_memo import Filtered
from shards.filter_query import FilterQuery
from shards.point_ids import KeyArray

T = TypeVar("T", bound=np.generic)

Rows = npt.NDArray[Any]
"""Row numbers within one segment, an integer dtype; -1 for none."""


class SegmentHits(NamedTuple):
    """rows (nq, width), nearest first, -1 where there is none; distances float32 (nq, width), +inf there.

    `is_full` promises that no row is -1, so that nobody has to count; without it there may or may not be one.
    """

    rows: Rows
    distances: npt.NDArray[np.float32]
    is_full: bool = False

    def picked(self, places: npt.NDArray[np.intp]) -> SegmentHits:
        """The hits at these places (nq, any) of each query."""
        return SegmentHits(pick(self.rows, places), pick(self.distances, places), self.is_full)


class SearchPlan(NamedTuple):
    """How to search: the k nearest, with `ef` candidates in a graph; `exact` measures every row. `vector`: the number of the
    one that is compared (shards/vector_layout.py). `filter`: only rows that match it count. `returned`: how many of the k
    are wanted, the nearest ones; 0 for all. What is searched is the same.
    """

    k: int
    ef: int
    exact: bool = False
    vector: int = 0
    filter: FilterQuery | None = None
    returned: int = 0


class VectorIndex(Filtered, Protocol):
    """A segment: rows of points, searched by vector and found by key. Rows never move; they only die."""

    @property
    def row_count(self) -> int:
        """Rows, the dead included."""

    @property
    def live_count(self) -> int:
        """Rows that count."""

    def snapshot(self) -> VectorIndex:
        """The rows that live now, for a search on another thread: what is added or dies later is not seen in it.

        Shares everything but one byte a row (none where no row has died).
        """

    def search(self, queries: Vectors, plan: SearchPlan) -> SegmentHits:
        """The nearest living rows that have the plan's vector, to each prepared query (nq, its size)."""

    def find(self, keys: KeyArray) -> Rows:
        """The living row of each key, -1 where the segment has none."""

    def is_live(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Whether each of the rows lives now."""

    def kill(self, rows: Rows) -> None:
        """Let living rows no longer count (deleted, or overwritten elsewhere)."""

    def keys_of(self, rows: Rows) -> KeyArray:
        """The keys of rows, any shape."""

    def versions_of(self, rows: Rows) -> npt.NDArray[np.uint64]:
        """The LSN of the last write of rows, any shape."""

    def vectors_of(self, rows: Rows) -> Vectors:
        """Copies of all stored vectors of rows, shape rows.shape + (row dim,)."""

    def payload(self, row: int) -> bytes:
        """The stored JSON bytes of one row, b"" for none."""

    def take(self, rows: Rows) -> PointBatch:
        """Copies of the given rows as a batch."""


def pick(values: npt.NDArray[T], places: npt.NDArray[np.intp]) -> npt.NDArray[T]:
    """values[q, places[q, i]] as (nq, any): np.take_along_axis, which takes ten times as long for a few dozen values."""
    flat = values.reshape(-1)
    if len(values) == 1:
        return flat[places]
    return flat[places + (np.arange(len(values)) * values.shape[1])[:, None]]


def live_rows(segment: VectorIndex) -> Rows:
    """The rows of a segment that live now, ascending."""
    return np.flatnonzero(segment.is_live(np.arange(segment.row_count)))
