"""Which rows of a segment match a filter, remembered: a row never changes, so what was found out once stays true.

Only that rows die is left to the caller. A growing segment's answer is carried on with its new rows. Filters that name ids
are not kept: an id is found where its row lives. Used by the loop and by search threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from shards.filter_query import FilterQuery
from shards.filters.evaluation import RowFilter, Searched
from shards.filters.rowsets import rows_in

FILTERS_KEPT = 16
"""The filters of a segment that were used last: one byte a row each."""

Mask = npt.NDArray[np.bool_]


class FilterMemo:
    """One segment's."""

    def __init__(self) -> None:
        self._masks: OrderedDict[bytes, Mask] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def byte_count(self) -> int:
        """What it holds."""
        with self._lock:
            return sum(map(len, self._masks.values()))

    def mask(self, query: FilterQuery, searched: Searched) -> Mask:
        """Which rows match, bool (rows,), the dead among them. Not to be written to."""
        row_count = searched.row_count
        with self._lock:
            known = self._masks.get(query.encoded)
            if known is not None:
                self._masks.move_to_end(query.encoded)
        if known is not None and len(known) >= row_count:
            return known[:row_count]
        mask = np.zeros(row_count, np.bool_)
        done = 0
        if known is not None:
            done = len(known)
            mask[:done] = known
        found = RowFilter(query.node, searched, BitMap(range(done, row_count))).matching()
        mask[rows_in(found)] = True
        if not query.names_ids:
            with self._lock:
                self._masks[query.encoded] = mask
                self._masks.move_to_end(query.encoded)
                while len(self._masks) > FILTERS_KEPT:
                    self._masks.popitem(last=False)
        return mask
