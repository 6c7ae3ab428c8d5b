"""Which rows of a segment match a filter, remembered: a row never changes, so what was found out once stays true.

Only that rows die is left to whoever asks. A growing segment's answer is carried on with its new rows. Filters that name ids
are not kept: an id is found where its row lives. Where few rows match, their vectors are kept together, too: measuring 20,000
rows that lie side by side takes a fifth of the time that it takes to collect them first.

Used by the loop and by search threads at once: each step on a dict is one that the interpreter does not interrupt, and two
threads that find out the same keep either answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards.filter_query import FilterQuery
from shards.filters.evaluation import RowFilter, Searched, SegmentRows
from shards.filters.indexes import Indexes
from shards.filters.rowsets import rows_in

BYTES_A_ROW_MAX = 16
"""What row numbers and masks may take, for each row of the segment: those of the filters that were used last."""
GATHERED_BYTES_MAX = 64 * 1024 * 1024
"""What collected vectors may take, and not more than twice the segment's own: they are counted (shards/memory.py)."""

KEPT_FRACTION = 0.75
"""How much of what may be held stays when it was too much: then that is not to be added up at every new filter."""

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Filtered(SegmentRows, Protocol):
    """What is asked of a segment."""

    @property
    def alive(self) -> Mask | None:
        """Which rows live, bool (row_count,); None: all."""

    @property
    def indexes(self) -> Indexes:
        """Payload indexes, by field; of fewer rows than there are, perhaps."""

    @property
    def vector_rows(self) -> Mapping[str, BitMap | None]:
        """The rows that have each vector, None for all."""

    @property
    def memo(self) -> FilterMemo:
        """What is known of filters already."""


@dataclass(slots=True)
class Matches:
    """The rows of a segment's first `row_count` that match, the dead among them, ascending. Arrays are not written to."""

    row_count: int
    rows: Rows
    gathered: dict[int, Floats] = field(default_factory=dict)
    """The rows' vectors (len(rows), size), by the number of the vector."""
    _mask: Mask | None = None

    @property
    def mask(self) -> Mask:
        """The same as bool (row_count,)."""
        if self._mask is None:
            mask = np.zeros(self.row_count, np.bool_)
            mask[self.rows] = True
            self._mask = mask
        return self._mask

    @property
    def byte_count(self) -> int:
        """Without what is gathered."""
        return self.rows.nbytes + (0 if self._mask is None else self._mask.nbytes)

    @property
    def gathered_bytes(self) -> int:
        return sum(vectors.nbytes for vectors in list(self.gathered.values()))


def matching(segment: Filtered, query: FilterQuery) -> Mask:
    """Which living rows match, bool (row_count,). Payloads are read where no index tells, and not a second time."""
    mask = matches_of(segment, query).mask
    return mask if segment.alive is None else mask & segment.alive


def rows_matching(segment: Filtered, query: FilterQuery, rows: Rows) -> Mask:
    """Which of some living rows match, bool (len(rows),). For few of them: no mask of the whole segment is made."""
    known = matches_of(segment, query).rows
    places = np.searchsorted(known, rows)
    is_known = places < len(known)
    is_known[is_known] = known[places[is_known]] == rows[is_known]
    return is_known


def matches_of(segment: Filtered, query: FilterQuery) -> Matches:
    """The rows that match, dead or alive."""
    return segment.memo.matches(query, Searched(segment, segment.indexes, segment.vector_rows))


class FilterMemo:
    """One segment's."""

    def __init__(self) -> None:
        self._known: dict[bytes, Matches] = {}
        # At least what is held, until it is added up; two threads that add at once may lose one's part until then.
        self._bytes_at_most = self._gathered_at_most = 0

    @property
    def byte_count(self) -> int:
        """What it holds."""
        return sum(known.byte_count + known.gathered_bytes for known in list(self._known.values()))

    def matches(self, query: FilterQuery, searched: Searched) -> Matches:
        """The rows that match, among those that there are now."""
        row_count = searched.row_count
        known = self._known.pop(query.encoded, None)  # and back, behind the others: it is the one that was used last
        if known is not None and known.row_count >= row_count:
            self._known[query.encoded] = known
            if known.row_count == row_count:
                return known
            return Matches(row_count, known.rows[: int(np.searchsorted(known.rows, row_count))])
        done = 0 if known is None else known.row_count
        found = RowFilter(query.node, searched, BitMap(range(done, row_count))).matching()
        rows = rows_in(found).astype(np.int64)
        matches = Matches(row_count, rows if known is None else np.concatenate([known.rows, rows]))
        if not query.names_ids:
            self._known[query.encoded] = matches
            self._bytes_at_most += rows.nbytes + row_count  # with the mask that it may get
            if self._bytes_at_most > BYTES_A_ROW_MAX * row_count:
                self._forget(int(KEPT_FRACTION * BYTES_A_ROW_MAX * row_count))
        return matches

    def gather(self, matches: Matches, number: int, matrix: Floats) -> Floats:
        """The vectors of the matching rows, side by side; `matrix` (rows, size) has them all. Kept where that is worth it."""
        vectors = matches.gathered.get(number)
        if vectors is None:
            vectors = np.ascontiguousarray(matrix[matches.rows])
            byte_count_max = min(GATHERED_BYTES_MAX, 2 * matrix.nbytes)
            if vectors.nbytes <= byte_count_max // 4:
                matches.gathered[number] = vectors
                self._gathered_at_most += vectors.nbytes
                if self._gathered_at_most > byte_count_max:
                    self._let_go(int(KEPT_FRACTION * byte_count_max), matches)
        return vectors

    def _forget(self, byte_count_max: int) -> None:
        """What was used longest ago, but the newest stays."""
        oldest_first: list[tuple[bytes, Matches]] = list(self._known.items())
        left = sum(known.byte_count for _, known in oldest_first)
        for encoded, known in oldest_first[:-1]:
            if left <= byte_count_max:
                break
            left -= known.byte_count
            self._known.pop(encoded, None)
        self._bytes_at_most = left

    def _let_go(self, byte_count_max: int, newest: Any) -> None:
        """Of gathered vectors."""
        oldest_first = list(self._known.values())
        left = sum(known.gathered_bytes for known in oldest_first)
        for known in oldest_first:
            if left <= byte_count_max:
                break
            if known is not newest:
                left -= known.gathered_bytes
                known.gathered.clear()
        self._gathered_at_most = left
