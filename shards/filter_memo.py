"""Which rows of a segment match a filter, remembered: a row never changes, so what was found out once stays true.

Only that rows die is left to whoever asks. A growing segment's answer is carried on with its new rows. Filters that name ids
are not kept: an id is found where its row lives. Used by the loop and by search threads at once: each step on the dict is
one that the interpreter does not interrupt, and two threads that find out the same keep either answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards.filter_query import FilterQuery
from shards.filters.evaluation import RowFilter, Searched, SegmentRows
from shards.filters.indexes import Indexes
from shards.filters.rowsets import rows_in

FILTERS_KEPT = 16
"""The filters of a segment that were used last: one byte a row each."""

Mask = npt.NDArray[np.bool_]


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


def matching(segment: Filtered, query: FilterQuery) -> Mask:
    """Which living rows match, bool (row_count,). Payloads are read where no index tells, and not a second time."""
    mask = segment.memo.mask(query, Searched(segment, segment.indexes, segment.vector_rows))
    return mask if segment.alive is None else mask & segment.alive


class FilterMemo:
    """One segment's."""

    def __init__(self) -> None:
        self._masks: dict[bytes, Mask] = {}

    @property
    def byte_count(self) -> int:
        """What it holds."""
        return sum(map(len, list(self._masks.values())))

    def mask(self, query: FilterQuery, searched: Searched) -> Mask:
        """Which rows match, bool (rows,), the dead among them. Not to be written to."""
        row_count = searched.row_count
        known = self._masks.pop(query.encoded, None)  # and back, behind the others: it is the one that was used last
        if known is not None and len(known) >= row_count:
            self._masks[query.encoded] = known
            return known[:row_count]
        done = 0 if known is None else len(known)
        mask = np.zeros(row_count, np.bool_)
        if known is not None:
            mask[:done] = known
        found = RowFilter(query.node, searched, BitMap(range(done, row_count))).matching()
        mask[rows_in(found)] = True
        if not query.names_ids:
            self._masks[query.encoded] = mask
            for forgotten in list(self._masks)[:-FILTERS_KEPT]:
                self._masks.pop(forgotten, None)
        return mask
